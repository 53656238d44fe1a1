"""LeRobot's data sets, versions 2.1 and 3.0: Parquet tables, and MP4 videos or PNG pictures.

Which frame of a video belongs to a row: an episode's stretch of the video begins at its
`from_timestamp` (0 where a file holds one episode). Where it holds as many frames as the episode
has rows, they belong together one by one, whatever the rows' timestamps say. Otherwise each row
takes the frame nearest to frame / fps, or to its timestamp where that fits better, and a note
says so. LeRobot itself takes the frame nearest to the timestamp, at most 0.1 ms away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import (
    TEXT_BYTES,
    TEXT_KEY,
    ActionDim,
    ActionSpec,
    ConfigError,
    DataError,
    IntArray,
    ObsKey,
    ObsSpec,
    cut,
)
from ..checks.finding import Finding
from ..episodes import (
    ACTION,
    TIMESTAMP,
    check_choice,
    content_hash,
    count_steps,
    extra_key,
    is_extra,
    lengths_of,
    list_arrays,
    list_extras,
)
from ..kinds import decide_key, explain_key, read_key
from .files import hash_file
from .foreign_data import ReadOptions
from .lerobot_checks import Match, Misfit, StoredNumbers, check_files, explain_misfit
from .lerobot_episodes import Episodes, Span, read_episodes
from .lerobot_info import (
    INSTRUCTION,
    STRUCTURE,
    TASK_INDEX,
    TRUE_TIME,
    Feature,
    Info,
    name_feature,
    read_info,
)
from .parquet_tables import decode_picture
from .video_reader import Videos

DRIFT_S = 1e-4
"""LeRobot's own tolerance."""
MOST_LISTED = 8


@dataclass(frozen=True)
class Meaning:
    """Which features are taken, under which names."""

    features: Mapping[str, Feature]
    """Our name -> their feature; without timestamp and instruction."""
    action_spec: ActionSpec
    obs_spec: ObsSpec
    task: str
    texts: NDArray[np.uint8] | None
    """The words of every task, (tasks, TEXT_BYTES), where there is more than one."""
    notes: tuple[str, ...]


class LeRobotData:
    """A data set of LeRobot; rows are read, and frames decoded, when asked for."""

    def __init__(self, info: Info, episodes: Episodes, meaning: Meaning, fps: float) -> None:
        """Use `open_lerobot`."""
        self.path = info.root
        if info.version == "v3.0":
            self.format = "lerobot-v3"
        else:
            self.format = "lerobot-v2.1"
        self.fps, self.task = fps, meaning.task
        self.action_spec, self.obs_spec = meaning.action_spec, meaning.obs_spec
        self.episode_ends: IntArray = episodes.ends
        self._lengths = lengths_of(episodes.ends)
        extras = list_extras((*meaning.features, TIMESTAMP))
        self.keys = (*meaning.obs_spec.keys, ACTION, *extras)
        self._info = info
        self._episodes = episodes
        self._meaning = meaning
        self._videos = Videos()
        self._matches: dict[tuple[str, int], IntArray] = {}
        numbers = {
            key: feature
            for key, feature in meaning.features.items()
            if feature.is_number and not is_extra(key)
        }
        self._stored = StoredNumbers(info, episodes, numbers)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was decided while opening; times and frame counts of every episode are compared."""
        found = [*self._episodes.notes, *self._meaning.notes]
        declared = self._info.episodes
        if declared is not None and declared != len(self.episode_ends):
            found.append(
                f"meta/info.json counts {declared} episodes, there are {len(self.episode_ends)}"
            )
        found.extend(self._note_drift())
        for name in self._cameras():
            found.extend(_shorten_list([each.said for each in self._misfits if each.key == name]))
        return tuple(found)

    def check_files(self) -> Iterable[Finding]:
        """Videos, tables and lists that do not fit each other; no frame is decoded."""
        return check_files(self._info, self._episodes, self._misfits)

    def stored_statistics(self) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Those of states and actions over all episodes; DataError where they are damaged."""
        return self._stored.whole

    def episode_statistics(self, number: int) -> Mapping[str, Mapping[str, NDArray[Any]]]:
        """Those of one episode."""
        return self._stored.of_episode(number)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where it is unknown or damaged."""
        check_choice(key, self.keys)
        start, stop = max(start, 0), min(stop, count_steps(self))
        if key == TIMESTAMP:
            return self._read_times(start, stop)
        if key == INSTRUCTION and self._meaning.texts is not None:
            return self._read_texts(self._meaning.texts, start, stop)
        feature = self._meaning.features[key]
        if feature.dtype == "video":
            return self._read_frames(key, start, stop)
        if feature.dtype == "image":
            return self._read_pictures(key, start, stop)
        return self._read_numbers(key, feature, start, stop)

    def content_hash(self) -> str:
        """Hex digest of the numbers and of the bytes of the files that hold pictures."""
        digest = hashlib.sha256(content_hash(self, images=False).encode())
        files: dict[Path, None] = {}
        for feature in self._meaning.features.values():
            if feature.dtype == "video":
                spans = self._episodes.spans[feature.name]
                files.update(dict.fromkeys(span.path for span in spans))
            if feature.dtype == "image":
                tables = self._episodes.tables.files
                files.update(dict.fromkeys(file.path for file in tables))
        for path in files:
            hash_file(path, digest)
        return digest.hexdigest()

    def close(self) -> None:
        """Close the videos."""
        self._videos.close()

    def _read_numbers(self, key: str, feature: Feature, start: int, stop: int) -> NDArray[Any]:
        values = self._episodes.tables.numbers(feature.name, _row_shape(feature), start, stop)
        if is_extra(key):
            return values.reshape(len(values)).astype(extra_key(key).dtype, copy=False)
        if key == ACTION:
            actions = values.reshape(len(values), self.action_spec.width)
            return actions.astype(np.float32, copy=False)
        spec = self.obs_spec.keys[key]
        if spec.kind == "image":
            return read_key(key, values, spec)
        return values.reshape(len(values), *spec.shape).astype(spec.dtype, copy=False)

    def _read_times(self, start: int, stop: int) -> NDArray[np.float64]:
        """Seconds as recorded; where they are frame / fps in float32, frame / fps in float64."""
        column = TIMESTAMP
        if TRUE_TIME in self._info.features:
            column = TRUE_TIME
        recorded = self._episodes.tables.numbers(column, (), start, stop).astype(np.float64)
        nominal = self._nominal_times(start, stop)
        same = nominal.astype(np.float32) == recorded.astype(np.float32)
        if column == TIMESTAMP:
            recorded[same] = nominal[same]
        return recorded

    def _nominal_times(self, start: int, stop: int) -> NDArray[np.float64]:
        """frame / fps of every step, from its episode's beginning."""
        steps = np.arange(start, stop)
        number = np.searchsorted(self.episode_ends, steps, side="right")
        begins = self.episode_ends - self._lengths
        return (steps - begins[number]) / self._info.fps

    def _read_texts(self, texts: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.uint8]:
        numbers = self._episodes.tables.numbers(TASK_INDEX, (), start, stop).astype(np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(texts):
            raise DataError(
                f"{self.path}: task_index goes from {numbers.min()} to {numbers.max()}; there are "
                f"{len(texts)} tasks"
            )
        return texts[numbers]

    def _read_pictures(self, key: str, start: int, stop: int) -> NDArray[np.uint8]:
        shape = self.obs_spec.keys[key].shape
        name = self._meaning.features[key].name
        found = np.empty((stop - start, *shape), np.uint8)
        for place, raw in enumerate(self._episodes.tables.files_in(name, start, stop)):
            found[place] = decode_picture(raw, shape, f"{self.path}: {name}")
        return found

    def _read_frames(self, key: str, start: int, stop: int) -> NDArray[np.uint8]:
        shape = self.obs_spec.keys[key].shape
        parts: list[NDArray[np.uint8]] = []
        number = int(np.searchsorted(self.episode_ends, start, side="right"))
        while start < stop:
            end = int(self.episode_ends[number])
            first = end - self._length(number)
            last = min(stop, end)
            frames = self._match(key, number)[start - first : last - first]
            path = self._span(key, number).path
            parts.append(self._videos.frames(path, frames, shape))
            start, number = last, number + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, *shape), np.uint8), *parts])

    def _match(self, key: str, number: int) -> IntArray:
        """The frame of its video that each row of an episode has, (n,)."""
        place = (key, number)
        if place not in self._matches:
            self._matches[place] = self._compare(key, number).frames
        return self._matches[place]

    def _compare(self, key: str, number: int) -> Match:
        """The frames of an episode's rows; DataError where its video is missing or damaged."""
        span = self._span(key, number)
        index = self._videos.index(span.path)
        half = 0.5 / self._info.fps
        first = int(np.searchsorted(index.times, span.start - half))
        last = len(index)
        if span.stop is not None:
            last = int(np.searchsorted(index.times, span.stop - half))
        length = self._length(number)
        lost = int(((index.lost >= first) & (index.lost < last)).sum())
        if last - first == length:
            return Match(np.arange(first, last), length, 0.0, lost)
        if last <= first:
            raise DataError(
                f"{span.path} has no frame after {span.start:g} s, where episode {number} begins; "
                f"it has {len(index):,} frames"
            )
        end = int(self.episode_ends[number])
        nominal = np.arange(length) / self._info.fps
        times = index.times[first:last] - span.start
        best, distance = _pick_nearest(times, nominal)
        recorded = self._read_times(end - length, end)
        by_time, other = _pick_nearest(times, recorded)
        if other < distance:
            best, distance = by_time, other
        return Match(best + first, last - first, distance, lost)

    def _cameras(self) -> list[str]:
        """Keys whose pictures are videos."""
        features = self._meaning.features
        return [key for key, feature in features.items() if feature.dtype == "video"]

    @cached_property
    def _misfits(self) -> list[Misfit]:
        """Episodes with other numbers of frames than of rows, and those that cannot be opened."""
        found: list[Misfit] = []
        for key in self._cameras():
            for number in range(len(self.episode_ends)):
                try:
                    match = self._compare(key, number)
                except DataError as error:
                    said = f"{key} of episode {number} cannot be read: {error}"
                    found.append(Misfit(key, number, said, True))
                    continue
                misfit = explain_misfit(key, number, self._length(number), match, self._info.fps)
                if misfit is not None:
                    found.append(misfit)
        return found

    def _note_drift(self) -> list[str]:
        """How far the recorded times are from frame / fps, per episode."""
        drifts: list[float] = []
        for number, end in enumerate(self.episode_ends.tolist()):
            times = self._read_times(end - self._length(number), end)
            nominal = np.arange(len(times)) / self._info.fps
            drifts.append(float(np.abs(times - nominal).max()))
        drifted = [number for number, drift in enumerate(drifts) if not drift <= DRIFT_S]
        if not drifted:
            return []
        said = [f"{number}: {drifts[number]:.3f} s" for number in drifted[:MOST_LISTED]]
        if len(drifted) > MOST_LISTED:
            said.append(f"and {len(drifted) - MOST_LISTED} more")
        worst = int(np.argmax(drifts))
        return [
            f"the recorded times of {len(drifted)} of {len(drifts)} episodes leave frame / fps by "
            f"more than {DRIFT_S * 1e3:g} ms, at most by {drifts[worst]:.3f} s in episode {worst} "
            f"({', '.join(said)}): kept as they are; a policy trained on rows takes them for "
            f"{self.fps:g} a second unless they are resampled"
        ]

    def _span(self, key: str, number: int) -> Span:
        return self._episodes.spans[self._meaning.features[key].name][number]

    def _length(self, number: int) -> int:
        return int(self._lengths[number])


def open_lerobot(path: Path, options: ReadOptions) -> LeRobotData:
    """Open a folder with `meta/info.json`.

    Raises DataError where it is damaged or of a version that is not read, and ConfigError for
    wrong options.
    """
    info = read_info(path)
    notes: list[str] = []
    features = _choose_features(info, options, notes)
    cameras = [feature.name for feature in features.values() if feature.dtype == "video"]
    episodes = read_episodes(info, cameras)
    action_spec = _make_action_spec(info, features, notes)
    keys: dict[str, ObsKey] = {}
    for name, feature in features.items():
        if name != ACTION and not is_extra(name):
            keys[name] = _make_key(name, feature, options, notes)
    task, texts = _decide_task(info, episodes, options, notes)
    if texts is not None:
        keys[INSTRUCTION] = TEXT_KEY
    if not keys:
        raise ConfigError(f"no observation is left of {path}; it has {', '.join(info.features)}")
    obs_spec = ObsSpec(keys)
    list_arrays(action_spec, obs_spec)
    meaning = Meaning(features, action_spec, obs_spec, task, texts, tuple(notes))
    return LeRobotData(info, episodes, meaning, options.fps or info.fps)


def _choose_features(info: Info, options: ReadOptions, notes: list[str]) -> dict[str, Feature]:
    """Our names with the features that they stand for."""
    if options.keys is not None:
        chosen: dict[str, Feature] = {}
        for name, theirs in options.keys.items():
            if theirs not in info.features:
                raise ConfigError(
                    f"{info.root} has no feature {theirs!r}; it has {', '.join(info.features)}"
                )
            chosen[name] = info.features[theirs]
    else:
        chosen = _name_features(info, notes)
    taken: dict[str, Feature] = {}
    for name, feature in chosen.items():
        if feature.is_picture and not options.images:
            notes.append(f"left out the pictures {feature.name}: images=true takes them")
        elif feature.is_picture and feature.depth:
            notes.append(f"left out {feature.name}: distances packed into video are not read")
        elif feature.is_picture or feature.is_number:
            taken[name] = feature
        else:
            notes.append(f"left out {feature.name}: {feature.dtype} is not read")
    if ACTION not in taken:
        raise DataError(
            f"{info.root} has no feature 'action'; give keys=action:NAME,..., NAME one of "
            f"{', '.join(info.features)}"
        )
    return taken


def _name_features(info: Info, notes: list[str]) -> dict[str, Feature]:
    """Every feature whose name says what it is."""
    chosen: dict[str, Feature] = {}
    for theirs, feature in info.features.items():
        if theirs in STRUCTURE or theirs == TRUE_TIME:
            continue
        name = name_feature(theirs)
        if not name:
            notes.append(f"left out {theirs}: keys=NAME:{theirs},... takes it")
            continue
        if name in chosen:
            name = theirs
        chosen[name] = feature
    return chosen


def _make_action_spec(info: Info, features: Mapping[str, Feature], notes: list[str]) -> ActionSpec:
    feature = features[ACTION]
    if len(feature.shape) != 1 or not feature.is_number:
        raise DataError(
            f"{info.where}: {feature.name} is {feature.dtype} of shape {feature.shape}; actions "
            "are a row of numbers"
        )
    if feature.mark is not None:
        try:
            spec = ActionSpec.from_json(feature.mark.get("dims"))  # type: ignore[arg-type]
        except ConfigError as problem:
            raise DataError(f"{info.where}: {feature.name}: {problem}") from problem
        if spec.width == feature.shape[0]:
            return spec
    if feature.names:
        return ActionSpec(tuple(ActionDim(name) for name in feature.names))
    notes.append(f"{feature.name} has no names for its numbers: action_0, action_1, ...")
    return ActionSpec.plain(feature.shape[0])


def _make_key(name: str, feature: Feature, options: ReadOptions, notes: list[str]) -> ObsKey:
    """What an observation is; a key that hotstart wrote is what it was."""
    if feature.is_picture:
        key = decide_key(name, feature.shape, np.dtype(np.uint8), "image")
        if feature.mark is not None and feature.mark.get("shape") == [*key.shape[:2], 1]:
            return ObsKey((*key.shape[:2], 1), "uint8", "image")
        return key
    dtype = np.dtype(feature.dtype)
    kinds = options.kinds or {}
    if feature.mark is not None and name not in kinds:
        return _read_mark(feature, feature.mark)
    key = decide_key(name, feature.shape, dtype, kinds.get(name))
    if said := explain_key(name, feature.shape, dtype, key):
        notes.append(said)
    return key


def _read_mark(feature: Feature, mark: Mapping[str, Any]) -> ObsKey:
    """The key that hotstart wrote; DataError where it does not fit the column."""
    try:
        spec = ObsSpec.from_json({"key": dict(mark)}).keys["key"]
    except (ConfigError, TypeError) as problem:
        raise DataError(f"{feature.name}: {problem}") from problem
    if int(np.prod(spec.shape)) != int(np.prod(feature.shape)) or spec.dtype != feature.dtype:
        raise DataError(
            f"{feature.name} is {feature.dtype} {feature.shape}, and says that it is "
            f"{spec.dtype} {spec.shape}"
        )
    return spec


def _decide_task(
    info: Info, episodes: Episodes, options: ReadOptions, notes: list[str]
) -> tuple[str, NDArray[np.uint8] | None]:
    """One task for all, or the words of every task."""
    if options.task:
        return options.task, None
    task = ""
    column = info.features.get(TASK_INDEX)
    if column is not None and column.mark is not None:
        task = str(column.mark.get("task", ""))
    elif len(episodes.used_tasks) <= 1:
        return next(iter(episodes.used_tasks), ""), None
    texts = _pack_texts(episodes.tasks, notes)
    listed = cut("; ".join(episodes.used_tasks), 200)
    notes.append(f"{len(episodes.used_tasks)} tasks become the key 'instruction': {listed}")
    return task, texts


def _pack_texts(tasks: Sequence[str], notes: list[str]) -> NDArray[np.uint8]:
    """The words of every task (tasks, TEXT_BYTES), long ones cut."""
    texts = np.zeros((len(tasks), TEXT_BYTES), np.uint8)
    cuts = 0
    for number, task in enumerate(tasks):
        raw = task.encode()
        cuts += len(raw) > TEXT_BYTES
        kept = raw[:TEXT_BYTES].decode(errors="ignore").encode()
        texts[number, : len(kept)] = np.frombuffer(kept, np.uint8)
    if cuts:
        notes.append(f"{cuts} instructions are cut to {TEXT_BYTES} bytes")
    return texts


def _pick_nearest(
    times: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[IntArray, float]:
    """The number of the nearest time for each wanted one, and the largest distance [s]."""
    after = np.searchsorted(times, wanted).clip(1, max(len(times) - 1, 1))
    if len(times) == 1:
        after = np.ones(len(wanted), np.int64)
        times = np.concatenate([times, times])
    before = after - 1
    nearer = np.abs(times[before] - wanted) <= np.abs(times[after] - wanted)
    best = np.where(nearer, before, after).astype(np.int64)
    return best, float(np.abs(times[best] - wanted).max(initial=0.0))


def _row_shape(feature: Feature) -> tuple[int, ...]:
    """The shape of a step in the tables: one number stands alone."""
    if feature.shape == (1,):
        return ()
    return feature.shape


def _shorten_list(said: list[str]) -> list[str]:
    """The first few of many notes."""
    if len(said) <= MOST_LISTED:
        return said
    return [*said[:MOST_LISTED], f"and {len(said) - MOST_LISTED} more of these"]
