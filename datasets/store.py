"""The data set on disk: a Zarr v3 group with `data/<key>` (time first, episodes joined) and
`meta/episode_ends`.

Appending is atomic. The numbers are written first, the episode's end last, and zarr's LocalStore
writes every file under another name and renames it; so after a kill the episode is there or it is
not. What lies beyond the last end belongs to no
episode: it is not read, and the next append writes over it. One process may append at a time;
others may read. What is on disk may come from somebody else: it is read within limits, and only
DataError is raised.
"""

from __future__ import annotations

import math
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from ..spec import ActionSpec, DataError, IntArray, ObsKey, ObsSpec, cut, shorten
from .arrays import Arrays as Arrays
from .arrays import check_fps
from .episodes import (
    EXTRAS,
    TIMESTAMP,
    check_choice,
    check_episode,
    content_hash,
    episode_slice,
    expected_arrays,
    lengths_of,
)
from .episodes import Dataset as Dataset
from .foreign import refuse_foreign
from .formats.files import FolderFiles, check_inflation
from .formats.zarr_reader import ChunkCache, ZarrArray, is_array, open_array, read_object
from .locks import Hold, hold

VERSION = 1
UNFINISHED = -1
"""Fill value of `meta/episode_ends`: an entry that has been made room for but not written."""
ENDS_PER_CHUNK = 16384
IMAGES_PER_CHUNK = 8
BYTES_PER_CHUNK = 1 << 18
KEEP_ZEROS = {"array.write_empty_chunks": True}
"""Chunks of zeros are written too, so that a chunk that is not there means loss."""


class Store:
    """Episodes of demonstrations in a folder; `create` makes one, `open` opens one, `append`
    adds an episode.
    """

    def __init__(self, path: Path, attrs: Mapping[str, Any]) -> None:
        """Use `Store.create` or `Store.open`."""
        self.path = path
        self.attrs: dict[str, Any] = dict(attrs)
        self._files = FolderFiles(path)
        self._hold: Hold | None = None
        self._writable: dict[str, zarr.Array[Any]] = {}
        self._forget_read()
        with _refuse_wrong_attributes(path):
            self.fps = check_fps(self.attrs["fps"])
            self.task = _check_text(self.attrs, "task")
            self.attrs["source"] = _check_text(self.attrs, "source")
            if not isinstance(self.attrs.setdefault("options", None), dict | None):
                raise DataError(
                    f"options are {shorten(self.attrs['options'])}; they must be a JSON object or "
                    f"null"
                )
            self.action_spec = ActionSpec.from_json(self.attrs["action_spec"])
            self.obs_spec = ObsSpec.from_json(self.attrs["obs_spec"])
            self._wanted = expected_arrays(self.action_spec, self.obs_spec)
        self._ends = self._read_ends()
        self._extras = tuple(name for name in EXTRAS if is_array(self._files, f"data/{name}"))
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
        """Make an empty store at `path`; `options` are those of the environment that the episodes
        come from, plain values.

        Raises DataError when something is there already, and for specifications that cannot be
        stored.
        """
        path = Path(path)
        if path.exists():
            raise DataError(
                f"{path} is there already: open it with Store.open to append, choose another path, "
                f"or delete it"
            )
        wanted = expected_arrays(action_spec, obs_spec)
        attrs = {
            "version": VERSION,
            "fps": check_fps(fps),
            "task": task,
            "source": source,
            "options": None if options is None else dict(options),
        }
        attrs |= {"action_spec": action_spec.to_json(), "obs_spec": obs_spec.to_json()}
        making = path.with_name(
            path.name + ".creating"
        )  # renamed when whole: no half-made store is ever seen
        with hold(path, shared=True), refuse_full_disk(f"{path} cannot be made"):
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

        Raises DataError when nothing is there, when it is something else or of a newer hotstart,
        and when parts are lost.
        """
        path = Path(path)
        store = cls(path, _read_attributes(path))
        store._check_whole()
        return store

    def __len__(self) -> int:
        if len(self._ends):
            return int(self._ends[-1])
        return 0

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
        """The steps start..stop of one key; DataError where the disk no longer holds what was
        written.
        """
        check_choice(key, self.keys)
        try:
            return self._array(f"data/{key}")[start : min(stop, len(self))]
        except DataError as error:
            raise DataError(
                f"{error}: data/{key} is damaged between steps {start} and {stop}; {_MEND}"
            ) from error

    def rows_per_chunk(self, key: str) -> int:
        """Steps of one key that are compressed together."""
        return self._array(f"data/{key}").chunks[0]

    def chunk(self, key: str, number: int) -> NDArray[Any]:
        """The steps of one chunk of a key, (rows, ...), those beyond the end included; may be asked
        from several threads.

        Read and decoded without zarr, whose bookkeeping takes nine times as long as the decoding
        (BENCHMARKS.md). Raises DataError where it is missing or damaged.
        """
        array = self._array(f"data/{key}")
        return array.chunk((number, *[0] * (array.ndim - 1)))

    def episode(self, number: int) -> dict[str, NDArray[Any]]:
        """All keys of one episode, each (n, ...); negative numbers count from the end."""
        steps = episode_slice(self._ends, number)
        return {key: self.rows(key, steps.start, steps.stop) for key in self.keys}

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends: the data set's identity, written
        into checkpoints.
        """
        return content_hash(self)

    def append(self, episode: Mapping[str, NDArray[Any]]) -> None:
        """Add one episode: the observation's keys and `action`, each (n, ...); perhaps `reward`,
        `success` and `timestamp` [s].

        Raises DataError, before anything is written, when the episode does not fit the
        specifications.
        """
        self.extend([episode])

    def extend(self, episodes: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Add several episodes at once, which is faster than one by one; after a kill all of them
        are there or none.

        Raises DataError as `append` does.
        """
        if not episodes:
            return
        first = len(self._ends)
        checked = []
        for i, episode in enumerate(episodes):
            checked.append(check_episode(episode, self._wanted, first + i, self.fps))
        self._take_lock()
        with refuse_full_disk(
            f"{self.path}: the new episodes cannot be written; the {first} finished ones are kept"
        ):
            self._write_episodes(checked)

    def _write_episodes(self, checked: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Write numbers first, ends last; whatever ends this in between leaves the finished
        episodes as they are.
        """
        first = len(self._ends)
        self._settle_extras(checked)
        if not self._swept:
            self._sweep()
        self._swept = False  # a write that fails leaves half a file behind
        ends = len(self) + np.cumsum([len(episode[TIMESTAMP]) for episode in checked]).astype(
            np.int64
        )
        for key in self.keys:
            _write(
                self._writable_array(f"data/{key}"),
                np.concatenate([episode[key] for episode in checked]),
                len(self),
            )
        _write(self._writable_array("meta/episode_ends"), ends, first)
        self._swept = True
        self._ends = np.append(self._ends, ends)
        self._forget_read()

    def release(self) -> None:
        """Let other processes append; done by itself when the store is no longer used or the
        process ends.
        """
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _take_lock(self) -> None:
        """Lock the store for this process from the first append on; DataError where it has
        grown since it was opened.
        """
        if self._hold is None:
            held = hold(self.path, shared=True)
            self._hold = held
            weakref.finalize(self, held.release)
        self._forget_read()
        if not np.array_equal(self._read_ends(), self._ends):
            raise DataError(
                f"{self.path} has been appended to by somebody else since it was opened: open it "
                f"again with Store.open"
            )

    @property
    def _group(self) -> zarr.Group:
        """The group, opened for writing."""
        return zarr.open_group(str(self.path), mode="r+", zarr_format=3)

    def _writable_array(self, name: str) -> zarr.Array[Any]:
        """One array of the group, opened once for writing."""
        if name not in self._writable:
            with zarr.config.set(KEEP_ZEROS):  # zarr fixes this when an array is opened
                try:
                    self._writable[name] = cast("zarr.Array[Any]", self._group[name])
                except (
                    KeyError,
                    TypeError,
                    ValueError,
                ) as error:  # zarr is stricter than our reader
                    raise DataError(
                        f"{self.path}: {name} cannot be written ({cut(str(error))}); {_MEND}"
                    ) from error
        return self._writable[name]

    def _array(self, name: str) -> ZarrArray:
        """One array, opened once for reading; a chunk of numbers that is not there is a loss."""
        if name not in self._read:
            self._read[name] = open_array(
                self._files, name, self._cache, fills=not name.startswith("data/")
            )
        return self._read[name]

    def _forget_read(self) -> None:
        """Open arrays anew when they are read next: they have grown."""
        self._read: dict[str, ZarrArray] = {}
        self._cache = ChunkCache()

    def _settle_extras(self, episodes: Sequence[Mapping[str, Any]]) -> None:
        """The first episode decides which extras the store holds; DataError when a later one
        differs.
        """
        first = len(self._ends)
        if first:
            wanted = set(self._extras)
        else:
            wanted = set(episodes[0]) & set(EXTRAS)
        for number, episode in enumerate(episodes, first):
            if (given := set(episode) & set(EXTRAS)) != wanted:
                raise DataError(
                    f"episode {number} has the extras {sorted(given)}, the other episodes have "
                    f"{sorted(wanted)}"
                )
        for name in set(self._extras) - wanted:  # left over from an append that was cut off
            del self._group[f"data/{name}"]
            self._writable.pop(f"data/{name}", None)
        for name in wanted - set(self._extras):
            _create_array(self._group, name, ObsKey((), str(EXTRAS[name])))
        self._extras = tuple(name for name in EXTRAS if name in wanted)

    def _sweep(self) -> None:
        """Remove the half-written files of an append that was cut off."""
        for part in self.path.rglob("*.partial"):
            part.unlink()
        self._swept = True

    def _check_whole(self) -> None:
        """Raise DataError unless every array reaches to the last end and all its chunks are
        there.
        """
        steps = len(self)
        for name in (*self._wanted, TIMESTAMP):
            if not is_array(self._files, f"data/{name}"):
                raise DataError(f"{self.path}: data/{name} is missing; {_MEND}")
        for name in self.keys:
            self._check_array(name, self._wanted.get(name) or ObsKey((), str(EXTRAS[name])))
            array = self._array(f"data/{name}")
            if array.shape[0] < steps:
                raise DataError(
                    f"{self.path}: data/{name} has {array.shape[0]} steps, but the episodes need "
                    f"{steps}; {_MEND}"
                )
            for chunk in range(math.ceil(steps / array.chunks[0])):
                place = array.layout.name_chunk((chunk, *[0] * (array.ndim - 1)))
                if not array.sizes.get(place):
                    raise DataError(
                        f"{self.path}: data/{name}/{place} is missing or empty; {_MEND}"
                    )
        arrays = [self._array(f"data/{name}") for name in self.keys]
        check_inflation(
            str(self.path),
            sum(map(_used_bytes, arrays)),
            sum(sum(array.sizes.values()) for array in arrays),
        )

    def _check_array(self, name: str, key: ObsKey) -> None:
        """Raise DataError unless an array is what the specification says, in codecs that are
        read, its rows in one piece.
        """
        array = self._array(f"data/{name}")
        whole_rows = tuple(max(size, 1) for size in key.shape)
        if (
            array.shape[1:] != tuple(key.shape)
            or array.dtype != np.dtype(key.dtype)
            or array.chunks[1:] != whole_rows
        ):
            raise DataError(
                f"{self.path}: data/{name} holds {array.dtype} {array.shape[1:]} in chunks of "
                f"{array.chunks}, the "
                f"specification says {key.dtype} {shorten(key.shape)}; {_MEND}"
            )
        assert array.stages is not None  # looks at the codecs

    def _read_ends(self) -> IntArray:
        """The ends up to the first that was never written; DataError where the file is damaged
        or, with its episodes, gone.
        """
        array = self._array("meta/episode_ends")
        if array.ndim != 1 or array.dtype != np.int64:
            raise DataError(
                f"{self.path}: meta/episode_ends holds {array.dtype} {array.shape}; {_MEND}"
            )
        try:
            ends = array[:]
        except DataError as error:
            raise DataError(f"{error}: meta/episode_ends is damaged; {_MEND}") from error
        unfinished = np.flatnonzero(ends == UNFINISHED)
        if len(unfinished):
            finished = ends[: unfinished[0]]
        else:
            finished = ends
        unknown = (ends[len(finished) :] != UNFINISHED).any()
        if unknown or (np.diff(finished, prepend=0) <= 0).any() or _has_lost_ends(array):
            raise DataError(
                f"{self.path}: meta/episode_ends does not increase or has lost a part; {_MEND}"
            )
        return finished


_MEND = "the copy is not whole: copy, download or convert the data set again"


@contextmanager
def refuse_full_disk(what: str) -> Iterator[None]:
    """Raise DataError with `what` in front where the system refuses to write: a full disk, a
    read-only one, no permission.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{what} ({cut(str(error))})") from error


@contextmanager
def _refuse_wrong_attributes(path: Path) -> Iterator[None]:
    """Raise DataError where the attributes are not those of a store."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}/zarr.json: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path}/zarr.json has wrong attributes ({cut(str(error))}); {_MEND}"
        ) from error


def _check_text(attrs: Mapping[str, Any], name: str) -> str:
    text = attrs.get(name, "")
    if not isinstance(text, str):
        raise DataError(f"{name} is {shorten(text)}; it must be text")
    return text


def _used_bytes(array: ZarrArray) -> int:
    """Bytes of an array's chunks when decoded."""
    return len(array.sizes) * array.layout.chunk_bytes


def _codec() -> ZstdCodec:
    """Lossless, with a checksum, so that damage is noticed; neighbouring frames share a chunk
    and compress together.
    """
    return ZstdCodec(level=3, checksum=True)


def _create_array(group: zarr.Group, name: str, key: ObsKey) -> None:
    """An empty array data/<name>, (0, ...)."""
    row_bytes = np.dtype(key.dtype).itemsize * math.prod(key.shape)
    if key.kind == "image":
        rows = IMAGES_PER_CHUNK
    else:
        rows = max(BYTES_PER_CHUNK // max(row_bytes, 1), 1)
    chunks = (rows, *(max(size, 1) for size in key.shape))
    group.create_array(
        f"data/{name}", shape=(0, *key.shape), chunks=chunks, dtype=key.dtype, compressors=_codec()
    )


def _create_ends(group: zarr.Group) -> None:
    """meta/episode_ends with one unfinished entry: so its first chunk is always on disk, and
    its loss is noticed.
    """
    chunks = {"chunks": (ENDS_PER_CHUNK,), "fill_value": UNFINISHED, "compressors": _codec()}
    with zarr.config.set(KEEP_ZEROS):
        ends = group.create_array("meta/episode_ends", shape=(1,), dtype="int64", **chunks)
        ends[:] = UNFINISHED


def _write(array: zarr.Array[Any], values: NDArray[Any], start: int) -> None:
    """Make the array end at start + n and put the values there."""
    array.resize((start + len(values), *array.shape[1:]))
    array[start:] = values


def _read_attributes(path: Path) -> dict[str, Any]:
    """The store's attributes; DataError unless it is one that this version of hotstart can read."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist; make a data set with `hotstart collect`, `hotstart data "
            f"convert` or Store.create"
        )
    refuse_foreign(path)
    if (path / ".zgroup").exists() or path.suffix in (".zip", ".npz"):
        raise DataError(
            f"{path} is another format's data set; `hotstart data convert {path} TARGET` makes a "
            f"store of it"
        )
    try:
        root = read_object(FolderFiles(path), "zarr.json")
    except DataError as error:
        raise DataError(
            f"{path} is not a hotstart data set ({error}); give the folder that holds zarr.json, "
            f"data/ and meta/"
        ) from error
    attributes = root.get("attributes")
    if isinstance(attributes, dict):
        attrs = attributes
    else:
        attrs = {}
    version = attrs.get("version")
    has_ends = is_array(FolderFiles(path), "meta/episode_ends")
    if type(version) is not int or "action_spec" not in attrs or not has_ends:
        raise DataError(
            f"{path} is a Zarr group, but not a hotstart data set: version, action_spec or "
            f"meta/episode_ends is missing"
        )
    if version > VERSION:
        raise DataError(
            f"{path} has format {version}, this hotstart reads up to {VERSION}: update hotstart"
        )
    return attrs


def _has_lost_ends(array: ZarrArray) -> bool:
    """Whether a chunk of ends is gone that episodes stand in; the last of several may not have
    been written yet.
    """
    certain = range(max(array.layout.grid[0] - 1, 1))
    return any(array.layout.name_chunk((chunk,)) not in array.sizes for chunk in certain)
