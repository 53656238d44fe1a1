"""MCAP files and rosbag2 as data sets, by a mapping of topics to keys.

Each file is read through once for the times and the numbers; pictures stay on disk and are
decoded when their rows are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...spec import (
    TEXT_KEY,
    ActionDim,
    ActionSpec,
    ConfigError,
    DataError,
    IntArray,
    ObsKey,
    ObsPart,
    ObsSpec,
    shorten,
    text_to_bytes,
)
from ..episodes import ACTION, MADE, TIMESTAMP, check_choice, count_steps
from ..resampling import FloatArray, How, Part, find_newest, resample_numbers
from .bag_episodes import plan_episodes
from .bag_mapping import Mapping, Source, read_mapping
from .bag_storage import list_recordings
from .bag_tracks import Recording, Track
from .files import check_memory, hash_file
from .foreign_data import ReadOptions
from .pictures import Picture, decode_message

MATRIX_UNIT = "of the rotation matrix"
HOWS: dict[str, How] = {
    "quaternion_xyzw": "quaternion",
    "quaternion_wxyz": "quaternion",
    "rotation_vector": "rotation_vector",
    "rotation_6d": "rotation_6d",
    "angle": "angle",
}
POSE_NAMES = ("x", "y", "z")


class BagData:
    """Recordings as a data set at a fixed rate; numbers lie in memory, pictures on disk."""

    def __init__(self, path: Path, mapping: Mapping, format: str, task: str) -> None:
        """Read through every recording at the path; DataError where one is damaged."""
        self.path, self.format = path, format
        self.task = task
        self.fps = float(mapping.fps)
        self._mapping = mapping
        self._recordings: list[Recording] = []
        self._numbers: dict[str, list[NDArray[Any]]] = {}
        self._places: dict[str, list[IntArray]] = {}
        ends: list[int] = []
        notes: list[str] = []
        for inner, files in list_recordings(path):
            recording = Recording(inner, files, mapping)
            self._recordings.append(recording)
            plan = plan_episodes(recording, mapping)
            notes += plan.notes
            for grid in plan.grids:
                self._add_episode(recording, grid)
                ends.append(len(grid))
        self.notes: Sequence[str] = notes
        self.episode_ends: IntArray = np.cumsum(ends).astype(np.int64)
        self._arrays: dict[str, NDArray[Any]] = {}
        for key, parts in self._numbers.items():
            self._arrays[key] = np.concatenate(parts)
        self._pictures = {key: np.concatenate(parts) for key, parts in self._places.items()}
        self.action_spec = self._make_action_spec()
        self.obs_spec = self._make_obs_spec()
        extras = [key for key in self._arrays if key == TIMESTAMP or key.startswith(MADE)]
        self.keys = (*self.obs_spec.keys, ACTION, *extras)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; pictures are decoded, each once."""
        check_choice(key, self.keys)
        if key in self._arrays:
            return self._arrays[key][start:stop].copy()
        places = self._pictures[key][start:stop]
        shape = self.obs_spec.keys[key].shape
        found = np.empty((len(places), *shape), np.uint8)
        check_memory(f"{self.path}: {key}", found.nbytes)
        for row, place in enumerate(places):
            if row and (place == places[row - 1]).all():
                found[row] = found[row - 1]
            else:
                found[row] = self._decode(key, place, shape)
        return found

    def content_hash(self) -> str:
        """Hex digest of the files and of the mapping."""
        digest = hashlib.sha256(repr(replace(self._mapping, text="")).encode())
        for recording in self._recordings:
            for bag in recording.files:
                hash_file(bag.path, digest)
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files."""
        for recording in self._recordings:
            recording.close()

    def _add_episode(self, recording: Recording, grid: FloatArray) -> None:
        """Lay every key of a recording on a grid of times [s]."""
        self._add(TIMESTAMP, np.arange(len(grid)) / self.fps)
        for key, sources in self._mapping.keys().items():
            first = recording.tracks[sources[0]]
            if sources[0].kind == "image":
                newest = find_newest(first.times, grid)
                number = np.full((len(grid), 1), len(self._recordings) - 1)
                places = np.concatenate([number, first.values[newest]], axis=1)
                self._places.setdefault(key, []).append(places)
                self._add(f"{MADE}{key}", first.times[newest] - grid[0])
            elif sources[0].kind == "text":
                self._add(key, _lay_text(first, grid))
            else:
                tracks = [recording.tracks[source] for source in sources]
                self._add(key, _lay_numbers(tracks, grid, key))

    def _add(self, key: str, values: NDArray[Any]) -> None:
        parts = self._numbers.setdefault(key, [])
        if parts and parts[0].shape[1:] != values.shape[1:]:
            raise DataError(
                f"{self.path}: {key} has {values.shape[1:]} numbers in one recording and "
                f"{parts[0].shape[1:]} in another"
            )
        parts.append(values)

    def _decode(self, key: str, place: IntArray, shape: tuple[int, ...] | None) -> Picture:
        """The picture at a place (4,): the recording's number, the file's, and where in it."""
        recording = self._recordings[int(place[0])]
        topic = self._mapping.observation[key][0].topic
        where = f"{recording.path}: a picture of {topic}"
        picture = decode_message(recording.read_message(topic, place[1:]), where)
        if shape is not None and picture.shape != tuple(shape):
            raise DataError(f"{where} is {picture.shape}, the first one {tuple(shape)}")
        return picture

    def _make_action_spec(self) -> ActionSpec:
        width = self._arrays[ACTION].shape[1]
        dims: list[ActionDim] = []
        for source, tracks in self._pair_tracks(ACTION):
            dims += _make_dims(source, tracks.values.shape[1])
        assert len(dims) == width
        return ActionSpec(tuple(dims))

    def _make_obs_spec(self) -> ObsSpec:
        keys: dict[str, ObsKey] = {}
        for key, sources in self._mapping.observation.items():
            if sources[0].kind == "image":
                picture = self._decode(key, self._pictures[key][0], None)
                keys[key] = ObsKey(picture.shape, "uint8", "image")
            elif sources[0].kind == "text":
                keys[key] = TEXT_KEY
            else:
                parts: list[ObsPart] = []
                for source, track in self._pair_tracks(key):
                    parts += _make_parts(source, track.values.shape[1])
                keys[key] = ObsKey(self._arrays[key].shape[1:], parts=tuple(parts))
        return ObsSpec(keys)

    def _pair_tracks(self, key: str) -> list[tuple[Source, Track]]:
        """The sources of a key with their tracks in the first recording."""
        tracks = self._recordings[0].tracks
        return [(source, tracks[source]) for source in self._mapping.keys()[key]]


def open_mcap(path: Path, options: ReadOptions) -> BagData:
    """Open an MCAP file, or a folder of them, by the mapping of the options."""
    return _open(path, options, "mcap")


def open_rosbag2(path: Path, options: ReadOptions) -> BagData:
    """Open a rosbag2, or a folder of them, by the mapping of the options."""
    return _open(path, options, "rosbag2")


def _open(path: Path, options: ReadOptions, format: str) -> BagData:
    """Raises ConfigError without a mapping, and DataError where a recording is damaged."""
    if options.mapping is None:
        raise ConfigError(
            f"{path} holds topics; which of them are observations and actions? draft a mapping "
            f"with hotstart data inspect {path} out=mapping.yaml, and give mapping=mapping.yaml"
        )
    mapping = read_mapping(options.mapping)
    if options.fps:
        mapping = replace(mapping, fps=options.fps)
    if not options.images:
        mapping = replace(mapping, observation=_drop_images(mapping))
    return BagData(path, mapping, format, options.task or mapping.task)


def _drop_images(mapping: Mapping) -> dict[str, tuple[Source, ...]]:
    kept: dict[str, tuple[Source, ...]] = {}
    for key, sources in mapping.observation.items():
        if sources[0].kind != "image":
            kept[key] = sources
    if not kept:
        raise ConfigError("without images no observation is left; take them with images=true")
    return kept


def _lay_numbers(tracks: Sequence[Track], grid: FloatArray, key: str) -> NDArray[np.float32]:
    """The numbers of some tracks at the times of a grid, side by side, (n, D)."""
    columns: list[NDArray[Any]] = []
    for track in tracks:
        source = track.source
        assert isinstance(source, Source)
        part = Part(track.values.shape[1], _find_how(source))
        if not np.isfinite(track.values).all():
            raise DataError(f"{key}: {source.topic} holds numbers that are not finite")
        values = resample_numbers(track.times, track.values, grid, [part])
        if source.kind == "rotation" and part.how == "quaternion":
            values = _write_quaternions(values, source, key)
        columns.append(values)
    return np.concatenate(columns, axis=1).astype(np.float32)


def _find_how(source: Source) -> How:
    if source.hold or source.kind == "discrete":
        return "hold"
    if source.kind == "rotation":
        return HOWS[source.rotation]
    return "linear"


def _write_quaternions(values: NDArray[Any], source: Source, key: str) -> NDArray[Any]:
    """Quaternions as xyzw of length 1 with w >= 0; those of an action as rotation vectors."""
    if source.rotation == "quaternion_wxyz":
        values = np.roll(values, -1, axis=1)
    turns = Rotation.from_quat(values)
    if key == ACTION:
        return turns.as_rotvec()
    return turns.as_quat(canonical=True)


def _lay_text(track: Track, grid: FloatArray) -> NDArray[np.uint8]:
    """The newest text at each time, (n, bytes)."""
    newest = find_newest(track.times, grid)
    rows = np.empty((len(grid), *TEXT_KEY.shape), np.uint8)
    for row, place in enumerate(newest):
        text = track.values[place]
        if not isinstance(text, str):
            raise DataError(f"{track.source.topic}: {shorten(text)} is no text")
        rows[row] = text_to_bytes(text)
    return rows


def _make_dims(source: Source, width: int) -> list[ActionDim]:
    """What the numbers of an action's source mean."""
    kind = "continuous"
    unit = source.unit
    if source.kind == "discrete":
        kind = "discrete"
    elif source.kind == "rotation" and source.rotation != "angle":
        kind = "rotation"
        if source.rotation == "rotation_6d":
            unit = MATRIX_UNIT
        else:
            unit, width = "rad", 3
    return [ActionDim(name, unit, kind) for name in _list_names(source, width)]


def _make_parts(source: Source, width: int) -> list[ObsPart]:
    """What the numbers of an observation's source mean."""
    if source.kind == "rotation" and source.rotation.startswith("quaternion"):
        return [ObsPart(_list_names(source, 1)[0], 4, "quaternion")]
    if source.names == POSE_NAMES:
        return [ObsPart("position", 3, "position")]
    return [ObsPart(name) for name in _list_names(source, width)]


def _list_names(source: Source, width: int) -> list[str]:
    """The names of the mapping, else those of the joints, else the topic's with numbers."""
    names = list(source.names or source.joints)
    if len(names) == width:
        return names
    if source.names and source.kind != "rotation":
        raise ConfigError(f"{source.topic}: {len(names)} names for {width} numbers: {names}")
    stem = source.topic.strip("/").replace("/", "_") or "number"
    if width == 1:
        return [stem]
    return [f"{stem}_{number}" for number in range(width)]
