"""The data set on disk: open, create, read, append; `store_format` says how it lies there.

Appending is atomic. The numbers are written first, the episode's end last, and zarr's LocalStore
writes every file under another name and renames it. So after a kill the episode is there or it is
not. What lies beyond the last end belongs to no episode: it is not read, and the next append writes
over it. One process may append at a time; others may read.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from ..spec import ActionSpec, DataError, IntArray, ObsSpec, cut, shorten
from .arrays import check_fps
from .durable import DurableFiles
from .episodes import (
    EXTRAS,
    MADE,
    TIMESTAMP,
    check_array_of,
    check_choice,
    check_episode,
    content_hash,
    episode_slice,
    extra_key,
    lengths_of,
    list_arrays,
    list_extras,
)
from .formats.files import FolderFiles
from .formats.zarr_reader import ChunkCache, ZarrArray, is_array, open_array
from .locks import Hold, hold
from .store_format import (
    KEEP_ZEROS,
    MEND,
    UNFINISHED,
    VERSION,
    check_array,
    check_store_size,
    check_text,
    create_array,
    create_group,
    read_attributes,
    read_ends,
    refuse_wrong_attributes,
    write_rows,
)


class Store:
    """Episodes of demonstrations in a folder.

    `create` makes a store, `open` opens one, `append` adds an episode.
    """

    def __init__(self, path: Path, attrs: Mapping[str, Any], durable: bool = False) -> None:
        """Use `Store.create` or `Store.open`."""
        self.path = path
        self.durable = durable
        self.attrs: dict[str, Any] = dict(attrs)
        self._files = FolderFiles(path)
        self._hold: Hold | None = None
        self._writable: dict[str, zarr.Array[Any]] = {}
        self._forget_read()
        with refuse_wrong_attributes(path):
            self.fps = check_fps(self.attrs["fps"])
            self.task = check_text(self.attrs, "task")
            self.attrs["source"] = check_text(self.attrs, "source")
            options = self.attrs.setdefault("options", None)
            if not isinstance(options, dict | None):
                raise DataError(
                    f"options are {shorten(options)}; they must be a JSON object or null"
                )
            self.action_spec = ActionSpec.from_json(self.attrs["action_spec"])
            self.obs_spec = ObsSpec.from_json(self.attrs["obs_spec"])
            self._wanted = list_arrays(self.action_spec, self.obs_spec)
        self._ends = read_ends(self._array("meta/episode_ends"))
        self._extras = self._find_extras()
        self._swept = False
        self._ahead: dict[str, int] = {}

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
        """Make an empty store at `path`.

        `fps` is the steps per second. `options` are those of the environment that the episodes come
        from, plain values. Raises DataError when something is there already, and for specifications
        that cannot be stored.
        """
        path = Path(path)
        if path.exists():
            raise DataError(
                f"{path} is there already: open it with Store.open to append, "
                "choose another path, or delete it"
            )
        keys = {**list_arrays(action_spec, obs_spec), TIMESTAMP: extra_key(TIMESTAMP)}
        attrs: dict[str, Any] = {
            "version": VERSION,
            "fps": check_fps(fps),
            "task": task,
            "source": source,
            "options": None,
            "action_spec": action_spec.to_json(),
            "obs_spec": obs_spec.to_json(),
        }
        if options is not None:
            attrs["options"] = dict(options)
        # Renamed when whole: no half-made store is ever seen.
        making = path.with_name(path.name + ".creating")
        with hold(path, shared=True), refuse_full_disk(f"{path} cannot be made"):
            shutil.rmtree(making, ignore_errors=True)
            create_group(making, attrs, keys)
            making.rename(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, durable: bool = False) -> Store:
        """Open a store with every finished episode.

        What a `durable` one has appended outlives a power cut too; appending is slower then. Raises
        DataError when nothing is there, when it is something else or of a newer hotstart, and when
        parts are lost.
        """
        path = Path(path)
        store = cls(path, read_attributes(path), durable)
        store._check_whole()
        return store

    def __len__(self) -> int:
        if len(self._ends):
            return int(self._ends[-1])
        return 0

    @property
    def episode_ends(self) -> IntArray:
        """First step after each episode, (E,) int64, to be read only."""
        ends = self._ends.view()
        ends.flags.writeable = False  # no copy: loops over episodes ask for it each time
        return ends

    @property
    def lengths(self) -> IntArray:
        """Steps per episode, (E,) int64."""
        return lengths_of(self._ends)

    @property
    def keys(self) -> tuple[str, ...]:
        """Observation keys in the order of the specification, then `action` and the extras."""
        return (*self._wanted, *self._extras)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...), read from disk; DataError as `rows`."""
        return self.rows(key, 0, len(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key, (stop - start, ...), in its dtype of the specification.

        Steps are counted over all episodes; those beyond the last one are left out. Raises
        DataError for an unknown key, and where the disk no longer holds what was written.
        """
        check_choice(key, self.keys)
        try:
            return self._array(f"data/{key}")[start : min(stop, len(self))]
        except DataError as error:
            raise DataError(
                f"{error}: data/{key} is damaged between steps {start} and {stop}; {MEND}"
            ) from error

    def rows_per_chunk(self, key: str) -> int:
        """Steps of one key that are compressed together."""
        return self._array(f"data/{key}").chunks[0]

    def chunk(self, key: str, number: int) -> NDArray[Any]:
        """The steps of one chunk of a key, (rows, ...), those beyond the end included.

        May be asked from several threads. Read and decoded without zarr, whose bookkeeping takes
        most of the time (docs/notebook/2026-11-26-right-results-and-safe-doors.md). Raises
        DataError where the chunk is missing or damaged.
        """
        array = self._array(f"data/{key}")
        return array.chunk((number, *[0] * (array.ndim - 1)))

    def episode(self, number: int) -> dict[str, NDArray[Any]]:
        """All keys of one episode, each (n, ...); negative numbers count from the end.

        Raises DataError where there is no such episode, and as `rows` does.
        """
        steps = episode_slice(self._ends, number)
        return {key: self.rows(key, steps.start, steps.stop) for key in self.keys}

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends; it is written into checkpoints."""
        return content_hash(self)

    def append(self, episode: Mapping[str, NDArray[Any] | str]) -> None:
        """Add one episode: the observation's keys and `action`, each (n, ...).

        An instruction may be one text. The episode may hold the extras too: see `episodes.EXTRAS`.
        Keys that `write_ahead` has written are left out. Raises DataError, before anything is
        written, when it does not fit the specifications.
        """
        self.extend([episode])

    def write_ahead(self, key: str, values: NDArray[Any]) -> None:
        """Write the next steps (n, ...) of an episode that is still going on.

        They belong to no episode, and nobody reads them, before `append` adds the other keys. A
        number of steps that is a multiple of `rows_per_chunk` is written fastest. Raises DataError
        for another shape or dtype, and where the disk is full.
        """
        check_choice(key, tuple(self._wanted))
        if not self._ahead:
            self._take_lock()
        checked = check_array_of(key, values, self._wanted[key], len(self._ends))
        start = len(self) + self._ahead.get(key, 0)
        with self._refuse_full_disk():
            write_rows(self._writable_array(f"data/{key}"), checked, start)
        self._ahead[key] = self._ahead.get(key, 0) + len(checked)

    def drop_ahead(self) -> None:
        """Forget what was written ahead: its episode is given up."""
        self._ahead = {}

    def drop_last(self) -> None:
        """Take the newest episode back; DataError where there is none, or the disk refuses."""
        if not len(self._ends):
            raise DataError(f"{self.path} has no episode to drop")
        self._take_lock()
        self._ahead = {}
        left = self._ends[:-1]
        with self._refuse_full_disk():
            unfinished = np.array([UNFINISHED], np.int64)
            write_rows(self._writable_array("meta/episode_ends"), unfinished, len(left))
        self._ends = left
        self._forget_read()

    def extend(self, episodes: Sequence[Mapping[str, NDArray[Any] | str]]) -> None:
        """Add several episodes at once, which is faster than one by one.

        After a kill all of them are there or none. Raises DataError as `append` does.
        """
        if not episodes:
            return
        first = len(self._ends)
        checked: list[dict[str, NDArray[Any]]] = []
        for i, episode in enumerate(episodes):
            checked.append(check_episode(episode, self._wanted, first + i, self.fps, self._ahead))
        self._check_ahead(len(checked[0][TIMESTAMP]))
        self._take_lock()
        with self._refuse_full_disk():
            self._write_episodes(checked)
        self._ahead = {}

    def _check_ahead(self, steps: int) -> None:
        """Raise DataError unless what was written ahead has as many steps as the rest."""
        for key, written in self._ahead.items():
            if written != steps:
                raise DataError(
                    f"{written} steps of {key!r} were written ahead, but the episode has {steps}"
                )

    def _refuse_full_disk(self) -> AbstractContextManager[None]:
        return refuse_full_disk(
            f"{self.path}: the new episodes cannot be written; "
            f"the {len(self._ends)} finished ones are kept"
        )

    def _write_episodes(self, checked: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Write numbers first, ends last.

        Whatever ends this in between leaves the finished episodes as they are.
        """
        self._settle_extras(checked)
        if not self._swept:
            self._sweep()
        self._swept = False  # a write that fails leaves half a file behind
        lengths = [len(episode[TIMESTAMP]) for episode in checked]
        ends = len(self) + np.cumsum(lengths).astype(np.int64)
        for key in self.keys:
            if key in self._ahead:
                continue
            values = np.concatenate([episode[key] for episode in checked])
            write_rows(self._writable_array(f"data/{key}"), values, len(self))
        write_rows(self._writable_array("meta/episode_ends"), ends, len(self._ends))
        self._swept = True
        self._ends = np.append(self._ends, ends)
        self._forget_read()

    def release(self) -> None:
        """Let other processes append.

        Done by itself when the store is no longer used or the process ends.
        """
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _take_lock(self) -> None:
        """Lock the store for this process from the first append on.

        Raises DataError where it has grown since it was opened.
        """
        if self._hold is None:
            held = hold(self.path, shared=True)
            self._hold = held
            weakref.finalize(self, held.release)
        self._forget_read()
        if not np.array_equal(read_ends(self._array("meta/episode_ends")), self._ends):
            raise DataError(
                f"{self.path} has been appended to by somebody else since it was opened: "
                "open it again with Store.open"
            )

    @property
    def _group(self) -> zarr.Group:
        """The group, opened for writing."""
        files: str | DurableFiles = str(self.path)
        if self.durable:
            files = DurableFiles(self.path)
        return zarr.open_group(files, mode="r+", zarr_format=3)

    def _writable_array(self, name: str) -> zarr.Array[Any]:
        """One array of the group, opened once for writing."""
        if name not in self._writable:
            try:
                with zarr.config.set(KEEP_ZEROS):  # zarr fixes this when an array is opened
                    self._writable[name] = cast("zarr.Array[Any]", self._group[name])
            except (KeyError, TypeError, ValueError) as error:  # zarr is stricter than our reader
                raise DataError(
                    f"{self.path}: {name} cannot be written ({cut(str(error))}); {MEND}"
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
        """The first episode decides which extras the store holds.

        Raises DataError when a later one differs.
        """
        first = len(self._ends)
        if first:
            wanted = set(self._extras)
        else:
            wanted = set(list_extras(episodes[0]))
        for number, episode in enumerate(episodes, first):
            given = set(list_extras(episode))
            if given != wanted:
                raise DataError(
                    f"episode {number} has the extras {sorted(given)}, "
                    f"the other episodes have {sorted(wanted)}"
                )
        for name in set(self._extras) - wanted:  # left over from an append that was cut off
            del self._group[f"data/{name}"]
            self._writable.pop(f"data/{name}", None)
        for name in wanted - set(self._extras):
            create_array(self._group, name, extra_key(name))
        self._extras = tuple(list_extras(wanted))

    def _find_extras(self) -> tuple[str, ...]:
        """The extras that are on disk."""
        names = [*EXTRAS, *(f"{MADE}{key}" for key in self.obs_spec.keys)]
        return tuple(list_extras(n for n in names if is_array(self._files, f"data/{n}")))

    def _sweep(self) -> None:
        """Remove the half-written files of an append that was cut off."""
        for part in self.path.rglob("*.partial"):
            part.unlink()
        self._swept = True

    def _check_whole(self) -> None:
        """Raise DataError unless every array reaches to the last end with all its chunks."""
        for name in (*self._wanted, TIMESTAMP):
            if not is_array(self._files, f"data/{name}"):
                raise DataError(f"{self.path}: data/{name} is missing; {MEND}")
        arrays: list[ZarrArray] = []
        for name in self.keys:
            array = self._array(f"data/{name}")
            check_array(array, self._wanted.get(name) or extra_key(name), len(self))
            arrays.append(array)
        check_store_size(self.path, arrays)


@contextmanager
def refuse_full_disk(what: str) -> Iterator[None]:
    """Raise DataError, beginning with `what`, where the system refuses to write.

    Reasons are a full disk, a read-only one, or missing permission.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{what} ({cut(str(error))})") from error
