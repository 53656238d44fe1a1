"""The data set on disk: a Zarr v3 group with `data/<key>` (time first, episodes joined) and `meta/episode_ends`.

Appending is atomic. The numbers are written first, the episode's end last, and zarr's LocalStore writes every file under
another name and renames it; so after a kill the episode is there or it is not. What lies beyond the last end belongs to no
episode: it is not read, and the next append writes over it. One process may append at a time; others may read.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from ..spec import ActionSpec, DataError, IntArray, ObsKey, ObsSpec
from .arrays import Arrays as Arrays
from .arrays import check_fps
from .episodes import EXTRAS, TIMESTAMP, check_choice, check_episode, content_hash, episode_slice, expected_arrays, lengths_of
from .episodes import Dataset as Dataset

VERSION = 1
UNFINISHED = -1
"""Fill value of `meta/episode_ends`: an entry that has been made room for but not written."""
ENDS_PER_CHUNK = 16384
IMAGES_PER_CHUNK = 8
BYTES_PER_CHUNK = 1 << 18
KEEP_ZEROS = {"array.write_empty_chunks": True}
"""Chunks of zeros are written too, so that a chunk that is not there means loss."""


class Store:
    """Episodes of demonstrations in a folder; `create` makes one, `open` opens one, `append` adds an episode."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        """Use `Store.create` or `Store.open`."""
        self.path = path
        self._group = group
        self._opened: dict[str, zarr.Array[Any]] = {}
        self.attrs: dict[str, Any] = dict(group.attrs)
        self.fps = float(self.attrs["fps"])
        self.task = str(self.attrs["task"])
        self.action_spec = ActionSpec.from_json(self.attrs["action_spec"])
        self.obs_spec = ObsSpec.from_json(self.attrs["obs_spec"])
        self._wanted = expected_arrays(self.action_spec, self.obs_spec)
        self._ends = _read_ends(path, self._array("meta/episode_ends"))
        self._extras = tuple(name for name in EXTRAS if f"data/{name}" in group)
        self._swept = False

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        fps: float,
        action_spec: ActionSpec,
        obs_spec: ObsSpec,
        task: str = "",
        source: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> Store:
        """Make an empty store at `path`; `options` are those of the environment that the episodes come from, plain values.

        Raises DataError when something is there already, and for specifications that cannot be stored.
        """
        path = Path(path)
        if path.exists():
            raise DataError(f"{path} is there already: open it with Store.open to append, choose another path, or delete it")
        wanted = expected_arrays(action_spec, obs_spec)
        attrs = {
            "version": VERSION,
            "fps": check_fps(fps),
            "task": task,
            "source": source,
            "options": None if options is None else dict(options),
        }
        attrs |= {"action_spec": action_spec.to_json(), "obs_spec": obs_spec.to_json()}
        making = path.with_name(path.name + ".creating")  # renamed when whole: no half-made store is ever seen
        shutil.rmtree(making, ignore_errors=True)
        group = zarr.open_group(str(making), mode="w-", zarr_format=3, attributes=attrs)
        for name, key in {**wanted, TIMESTAMP: ObsKey((), "float64")}.items():
            _create_array(group, name, key)
        _create_ends(group)
        making.rename(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store with every finished episode.

        Raises DataError when nothing is there, when it is something else or of a newer hotstart, and when parts are lost.
        """
        path = Path(path)
        store = cls(path, _open_group(path))
        store._check_whole()
        return store

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def episode_ends(self) -> IntArray:
        """First step after each episode, (E,) int64."""
        return self._ends.copy()

    @property
    def lengths(self) -> IntArray:
        """Steps per episode, (E,) int64."""
        return lengths_of(self._ends)

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys in the order of the specification, then `action` and the extras."""
        return (*self._wanted, *self._extras)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...), read from disk."""
        return self.rows(key, 0, len(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where the disk no longer holds what was written."""
        check_choice(key, self.keys)
        try:
            return np.asarray(self._array(f"data/{key}")[start : min(stop, len(self))])
        except (RuntimeError, ValueError, OSError) as error:  # zarr and its codecs raise all three on damaged chunks
            raise DataError(
                f"{self.path}: data/{key} is damaged between steps {start} and {stop} ({error}); {_MEND}"
            ) from error

    def rows_per_chunk(self, key: str) -> int:
        """Steps of one key that are compressed together."""
        return int(self._array(f"data/{key}").chunks[0])

    def chunk(self, key: str, number: int) -> NDArray[Any]:
        """The steps of one chunk of a key, (rows, ...), those beyond the end included; DataError where it is damaged.

        Read and decoded without zarr, whose bookkeeping takes nine times as long as the decoding (BENCHMARKS.md).
        """
        array = self._array(f"data/{key}")
        place = self.path.joinpath("data", key, "c", str(number), *["0"] * (array.ndim - 1))
        try:
            plain = _DECODER.decode(place.read_bytes())
            return np.frombuffer(plain, array.dtype).reshape(array.chunks)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{place} is missing or damaged ({error}); {_MEND}") from error

    def episode(self, number: int) -> dict[str, NDArray[Any]]:
        """All keys of one episode, each (n, ...); negative numbers count from the end."""
        steps = episode_slice(self._ends, number)
        return {key: self.rows(key, steps.start, steps.stop) for key in self.keys}

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends: the data set's identity, written into checkpoints."""
        return content_hash(self)

    def append(self, episode: Mapping[str, NDArray[Any]]) -> None:
        """Add one episode: the observation's keys and `action`, each (n, ...); perhaps `reward`, `success` and `timestamp` [s].

        Raises DataError, before anything is written, when the episode does not fit the specifications.
        """
        self.extend([episode])

    def extend(self, episodes: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Add several episodes at once, which is faster than one by one; after a kill all of them are there or none.

        Raises DataError as `append` does.
        """
        if not episodes:
            return
        first = len(self._ends)
        checked = [check_episode(episode, self._wanted, first + i, self.fps) for i, episode in enumerate(episodes)]
        self._settle_extras(checked)
        if not self._swept:
            self._sweep()
        ends = len(self) + np.cumsum([len(episode[TIMESTAMP]) for episode in checked]).astype(np.int64)
        for key in self.keys:
            _write(self._array(f"data/{key}"), np.concatenate([episode[key] for episode in checked]), len(self))
        _write(self._array("meta/episode_ends"), ends, first)
        self._ends = np.append(self._ends, ends)

    def _array(self, name: str) -> zarr.Array[Any]:
        """One array of the group, opened once."""
        if name not in self._opened:
            with zarr.config.set(KEEP_ZEROS):  # zarr fixes this when an array is opened
                self._opened[name] = cast("zarr.Array[Any]", self._group[name])
        return self._opened[name]

    def _settle_extras(self, episodes: Sequence[Mapping[str, Any]]) -> None:
        """The first episode decides which extras the store holds; DataError when a later one differs."""
        first = len(self._ends)
        wanted = set(self._extras) if first else set(episodes[0]) & set(EXTRAS)
        for number, episode in enumerate(episodes, first):
            if (given := set(episode) & set(EXTRAS)) != wanted:
                raise DataError(f"episode {number} has the extras {sorted(given)}, the other episodes have {sorted(wanted)}")
        for name in set(self._extras) - wanted:  # left over from an append that was cut off
            del self._group[f"data/{name}"]
            self._opened.pop(f"data/{name}", None)
        for name in wanted - set(self._extras):
            _create_array(self._group, name, ObsKey((), str(EXTRAS[name])))
        self._extras = tuple(name for name in EXTRAS if name in wanted)

    def _sweep(self) -> None:
        """Remove the half-written files of an append that was cut off."""
        for part in self.path.rglob("*.partial"):
            part.unlink()
        self._swept = True

    def _check_whole(self) -> None:
        """Raise DataError unless every array reaches to the last end and all its chunks are there."""
        steps = len(self)
        for name in (*self._wanted, TIMESTAMP):
            if f"data/{name}" not in self._group:
                raise DataError(f"{self.path}: data/{name} is missing; {_MEND}")
        for name in self.keys:
            array = self._array(f"data/{name}")
            if array.shape[0] < steps:
                raise DataError(f"{self.path}: data/{name} has {array.shape[0]} steps, but the episodes need {steps}; {_MEND}")
            for chunk in range(math.ceil(steps / array.chunks[0])):
                place = self.path.joinpath("data", name, "c", str(chunk), *["0"] * (array.ndim - 1))
                if not place.is_file() or place.stat().st_size == 0:
                    raise DataError(f"{self.path}: {place.relative_to(self.path)} is missing or empty; {_MEND}")


_DECODER = numcodecs.Zstd(checksum=True)
_MEND = "the copy is not whole: copy, download or convert the data set again"


def _codec() -> ZstdCodec:
    """Lossless, with a checksum, so that damage is noticed; neighbouring frames share a chunk and compress together."""
    return ZstdCodec(level=3, checksum=True)


def _create_array(group: zarr.Group, name: str, key: ObsKey) -> None:
    """An empty array data/<name>, (0, ...)."""
    row_bytes = np.dtype(key.dtype).itemsize * math.prod(key.shape)
    rows = IMAGES_PER_CHUNK if key.kind == "image" else max(BYTES_PER_CHUNK // max(row_bytes, 1), 1)
    chunks = (rows, *(max(size, 1) for size in key.shape))
    group.create_array(f"data/{name}", shape=(0, *key.shape), chunks=chunks, dtype=key.dtype, compressors=_codec())


def _create_ends(group: zarr.Group) -> None:
    """meta/episode_ends with one unfinished entry: so its first chunk is always on disk, and its loss is noticed."""
    chunks = {"chunks": (ENDS_PER_CHUNK,), "fill_value": UNFINISHED, "compressors": _codec()}
    with zarr.config.set(KEEP_ZEROS):
        ends = group.create_array("meta/episode_ends", shape=(1,), dtype="int64", **chunks)
        ends[:] = UNFINISHED


def _write(array: zarr.Array[Any], values: NDArray[Any], start: int) -> None:
    """Make the array end at start + n and put the values there."""
    array.resize((start + len(values), *array.shape[1:]))
    array[start:] = values


def _open_group(path: Path) -> zarr.Group:
    """The store's group; DataError unless it is one that this version of hotstart can read."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist; make a data set with `hotstart collect`, `hotstart data convert` or Store.create"
        )
    if (path / ".zgroup").exists() or path.suffix in (".zip", ".npz", ".hdf5", ".h5"):
        raise DataError(f"{path} is another format's data set; `hotstart data convert {path} TARGET` makes a store of it")
    try:
        group = zarr.open_group(str(path), mode="r+", zarr_format=3)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a hotstart data set ({error}); give the folder that holds zarr.json, data/ and meta/"
        ) from error
    version = group.attrs.get("version")
    if not isinstance(version, int) or "action_spec" not in group.attrs or "meta/episode_ends" not in group:
        raise DataError(
            f"{path} is a Zarr group, but not a hotstart data set: version, action_spec or meta/episode_ends is missing"
        )
    if version > VERSION:
        raise DataError(f"{path} has format {version}, this hotstart reads up to {VERSION}: update hotstart")
    return group


def _read_ends(path: Path, array: zarr.Array[Any]) -> IntArray:
    """The ends up to the first that was never written; DataError where the file is damaged or, with its episodes, gone."""
    try:
        ends = np.asarray(array[:], np.int64)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{path}: meta/episode_ends is damaged ({error}); {_MEND}") from error
    unfinished = np.flatnonzero(ends == UNFINISHED)
    finished = ends[: unfinished[0]] if len(unfinished) else ends
    if (ends[len(finished) :] != UNFINISHED).any() or (np.diff(finished, prepend=0) <= 0).any() or _lost(path, ends):
        raise DataError(f"{path}: meta/episode_ends does not increase or has lost a part; {_MEND}")
    return finished


def _lost(path: Path, ends: IntArray) -> bool:
    """Whether a chunk of ends is gone that episodes stand in; the last of several may not have been written yet."""
    chunks = max(math.ceil(len(ends) / ENDS_PER_CHUNK) - 1, 1)
    return any(not (path / "meta" / "episode_ends" / "c" / str(chunk)).is_file() for chunk in range(chunks))
