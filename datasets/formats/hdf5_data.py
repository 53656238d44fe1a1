"""A data set of HDF5 arrays: one array per key and episode, read when asked for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...spec import (
    TEXT_KEY,
    ActionSpec,
    ConfigError,
    DataError,
    IntArray,
    ObsKey,
    ObsSpec,
    cut,
    text_to_bytes,
)
from ..arrays import check_fps
from ..checks.finding import Finding
from ..episodes import (
    ACTION,
    BLOCK_ROWS,
    EXTRAS,
    MADE,
    check_choice,
    check_keys,
    content_hash,
    count_steps,
    extra_key,
    is_extra,
    list_arrays,
    list_extras,
)
from ..kinds import decide_key, may_be_picture, read_key
from .files import AGAIN
from .foreign_data import ReadOptions
from .hdf5_files import FilePool, Hdf5Array

INSTRUCTION = "instruction"
JPEG_HEAD = b"\xff\xd8\xff"
MOST_PIXELS = 64 << 20
"""Pixels of one compressed picture."""


class Column(Protocol):
    """One key of one episode."""

    def __len__(self) -> int:
        """Steps of the episode."""
        ...

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one step."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop, (stop - start, *row)."""
        ...

    def raw(self, start: int, stop: int) -> NDArray[Any]:
        """What lies in the file of these steps, for the content's hash."""
        ...


@dataclass(frozen=True)
class Numbers:
    """The steps of an array after the first `skip`; `length` of them."""

    array: Hdf5Array
    length: int
    skip: int = 0
    flip: bool = False
    """Whether pictures are stored with the last line first."""

    def __len__(self) -> int:
        return self.length

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one step."""
        return self.array.row

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""
        return self.array.dtype

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop."""
        found = self.raw(start, stop)
        if self.flip:
            return found[:, ::-1]
        return found

    def raw(self, start: int, stop: int) -> NDArray[Any]:
        """The same as it is stored."""
        stop = min(stop, self.length)
        return self.array.rows(start + self.skip, stop + self.skip)


@dataclass(frozen=True)
class Jpegs:
    """Pictures as JPEG, one a row: bytes of any length, or of one length filled up with zeros."""

    array: Hdf5Array
    length: int
    row: tuple[int, ...]
    skip: int = 0
    swap: bool = False
    """Whether the first and the last channel are exchanged."""
    dtype: np.dtype[Any] = field(default=np.dtype(np.uint8))

    def __len__(self) -> int:
        return self.length

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """The pictures start..stop, decoded."""
        found = np.empty((max(min(stop, self.length) - start, 0), *self.row), np.uint8)
        for number in range(len(found)):
            at = start + self.skip + number
            picture = decode_jpeg(self.array, at)
            if picture.shape != self.row:
                raise DataError(
                    f"{self.array.file.path}/{self.array.name}[{at}] is a picture of "
                    f"{picture.shape}; the first one is {self.row}"
                )
            found[number] = picture
        if self.swap:
            return found[..., ::-1]
        return found

    def raw(self, start: int, stop: int) -> NDArray[Any]:
        """The files' bytes in a row."""
        packed = b"".join(read_jpeg(self.array, at + self.skip) for at in range(start, stop))
        return np.frombuffer(packed, np.uint8)


@dataclass(frozen=True)
class Words:
    """One instruction for every step of an episode."""

    text: str
    length: int

    def __len__(self) -> int:
        return self.length

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one step."""
        return TEXT_KEY.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Bytes."""
        return np.dtype(TEXT_KEY.dtype)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """The words once a step."""
        return np.tile(text_to_bytes(self.text), (max(min(stop, self.length) - start, 0), 1))

    def raw(self, start: int, stop: int) -> NDArray[Any]:
        """The same."""
        return self.rows(start, stop)


def read_jpeg(array: Hdf5Array, at: int) -> bytes:
    """The bytes of one picture."""
    row = array.rows(at, at + 1)
    if array.holds == "bytes":
        return bytes(np.asarray(row[0], np.uint8))
    return row.tobytes()


def decode_jpeg(array: Hdf5Array, at: int) -> NDArray[np.uint8]:
    """One picture, (height, width, channels); DataError where it is none."""
    from PIL import Image

    where = f"{array.file.path}/{array.name}[{at}]"
    try:
        with Image.open(io.BytesIO(read_jpeg(array, at)), formats=["JPEG", "PNG"]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise DataError(f"{where} is a picture of more than {MOST_PIXELS:,} pixels")
            if picture.mode not in ("L", "RGB"):
                raise DataError(f"{where} is a picture of mode {picture.mode}; RGB is read")
            decoded = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise DataError(f"{where} is no whole picture ({cut(str(problem), 200)})") from problem
    if decoded.ndim == 2:
        return decoded[..., None]
    return decoded


Episode = dict[str, Column]


class Hdf5Data:
    """Episodes of columns as a data set: rows are read from the files when asked for."""

    def __init__(
        self,
        path: Path,
        format: str,
        episodes: Sequence[Episode],
        fps: float,
        task: str,
        action_spec: ActionSpec,
        obs_spec: ObsSpec,
        notes: Sequence[str],
        pool: FilePool,
    ) -> None:
        """The first episode says which keys there are; DataError where another differs."""
        self.path, self.format = path, format
        self.fps, self.task = check_fps(fps), task
        self.action_spec, self.obs_spec = action_spec, obs_spec
        self.notes = tuple(notes)
        self.keys = (*obs_spec.keys, ACTION, *list_extras(episodes[0]))
        self.env_args = ""
        """How the environment was made, as the format's own JSON; empty where it holds none."""
        self.masks: Mapping[str, Sequence[int]] = {}
        """Named parts of the data set: the numbers of their episodes."""
        self.faults: Sequence[Finding] = ()
        """What the format found wrong with its own counts."""
        lengths = [_check_columns(path, n, each, episodes[0]) for n, each in enumerate(episodes)]
        self.episode_ends: IntArray = np.cumsum(lengths).astype(np.int64)
        self._episodes, self._pool = episodes, pool

    def check_files(self) -> Sequence[Finding]:
        """Counts in the files that are not those of their arrays."""
        return self.faults

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where it is unknown or damaged."""
        check_choice(key, self.keys)
        spec = self.obs_spec.keys.get(key)
        parts: list[NDArray[Any]] = []
        for column, first, last in self._cut(key, start, min(stop, count_steps(self))):
            parts.append(self._convert(key, spec, column.rows(first, last)))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts)

    def _cut(self, key: str, start: int, stop: int) -> list[tuple[Column, int, int]]:
        """The columns that hold the steps start..stop, with the steps within each."""
        number = int(np.searchsorted(self.episode_ends, start, "right"))
        number = min(number, len(self._episodes) - 1)
        found: list[tuple[Column, int, int]] = []
        while not found or (number < len(self._episodes) and self._first(number) < stop):
            first = self._first(number)
            column = self._episodes[number][key]
            found.append((column, max(start - first, 0), min(stop - first, len(column))))
            number += 1
        return found

    def _first(self, number: int) -> int:
        if number:
            return int(self.episode_ends[number - 1])
        return 0

    def _convert(self, key: str, spec: ObsKey | None, values: NDArray[Any]) -> NDArray[Any]:
        """Numbers of a key in the shape and dtype of the specification."""
        if spec is not None:
            return read_key(key, values, spec).astype(spec.dtype, copy=False)
        if key == ACTION:
            shaped = values.reshape(len(values), self.action_spec.width)
            return shaped.astype(np.float32, copy=False)
        return values.reshape(len(values)).astype(extra_key(key).dtype, copy=False)

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends; no compressed picture is decoded."""
        digest = hashlib.sha256(content_hash(self, images=False).encode())
        for key, spec in self.obs_spec.keys.items():
            if spec.kind != "image":
                continue
            digest.update(f"{key} {spec.shape} ".encode())
            for episode in self._episodes:
                column = episode[key]
                for start in range(0, len(column), BLOCK_ROWS // 64):
                    block = column.raw(start, min(start + BLOCK_ROWS // 64, len(column)))
                    digest.update(np.ascontiguousarray(block).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files."""
        self._pool.close()


def _check_columns(path: Path, number: int, episode: Episode, first: Episode) -> int:
    """The steps of an episode; DataError where it differs from the first, or within itself."""
    if set(episode) != set(first):
        raise DataError(
            f"{path}: episode {number} holds {cut(str(sorted(episode)))}, the first one "
            f"{cut(str(sorted(first)))}; take the keys that all have: keys=action:NAME,..."
        )
    steps = len(episode[ACTION])
    for key, column in episode.items():
        if len(column) != steps or column.row != first[key].row:
            raise DataError(
                f"{path}: {key!r} of episode {number} has {len(column)} steps of shape "
                f"{column.row}; {steps} of shape {first[key].row} are wanted; {AGAIN}"
            )
        if column.dtype.kind != first[key].dtype.kind:
            raise DataError(f"{path}: {key!r} is {column.dtype} in episode {number}; {AGAIN}")
    if steps == 0:
        raise DataError(f"{path}: episode {number} has no steps; leave it out")
    return steps


@dataclass(frozen=True)
class Taken:
    """Which columns of an episode are taken, and as what."""

    obs_spec: ObsSpec
    action_spec: ActionSpec
    left_out: tuple[str, ...]
    """Keys that are not taken."""
    notes: tuple[str, ...]


def take_columns(path: Path, episode: Episode, options: ReadOptions) -> Taken:
    """What the columns of the first episode are, as `kinds.decide_key` says.

    Pictures are taken where wanted, and only those of bytes: floats of pictures are depths more
    often than not. Raises DataError for columns that cannot be stored, and ConfigError for options
    that fit none of them.
    """
    check_keys(list(episode))
    kinds = options.kinds or {}
    specs: dict[str, ObsKey] = {}
    left_out: list[str] = []
    notes: list[str] = []
    for name, column in episode.items():
        if name == ACTION:
            continue
        if is_extra(name):
            _check_extra(path, name, column)
        elif isinstance(column, Words):
            specs[name] = TEXT_KEY
        elif why := _why_not(name, column, options):
            left_out.append(name)
            notes.append(f"left out {name!r}: {why}")
        else:
            specs[name] = decide_key(name, column.row, column.dtype, kinds.get(name))
    _check_kinds(options, specs)
    if not specs:
        raise ConfigError(f"{path}: no observation is left; name one with keys=, or images=true")
    action_spec = ActionSpec.plain(_action_width(path, episode[ACTION]))
    list_arrays(action_spec, ObsSpec(specs))
    return Taken(ObsSpec(specs), action_spec, tuple(left_out), tuple(notes))


def _why_not(name: str, column: Column, options: ReadOptions) -> str:
    """Why a column is not taken; empty for one that is."""
    if name in (options.kinds or {}) or not may_be_picture(column.row, column.dtype):
        return ""
    if len(column.row) >= 3 and not options.images:
        return "a picture; images=true takes it"
    if len(column.row) >= 3 and column.dtype != np.uint8:
        return f"{column.dtype} of shape {column.row}; kinds={name}:state takes it as numbers"
    return ""


def _check_kinds(options: ReadOptions, specs: Mapping[str, ObsKey]) -> None:
    for name in options.kinds or {}:
        if name not in specs:
            raise ConfigError(f"kinds names {name!r}, which is not taken; taken are {list(specs)}")


def _check_extra(path: Path, name: str, column: Column) -> None:
    if column.row not in ((), (1,)) or column.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: {name!r} is {column.dtype} with steps of shape {column.row}; it must be one "
            f"number a step ({', '.join(EXTRAS)} and {MADE}... are)"
        )


def _action_width(path: Path, column: Column) -> int:
    """A of actions (N, A), or (N,) for one number; DataError for anything else."""
    if column.row == () and column.dtype.kind in "fiu":
        return 1
    if len(column.row) != 1 or column.row[0] == 0 or column.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: the actions are {column.dtype} with steps of shape {column.row}; "
            "they must be numbers (N, A)"
        )
    return column.row[0]


def join_episodes(
    path: Path,
    format: str,
    episodes: Sequence[Episode],
    taken: Taken,
    fps: float,
    task: str,
    notes: Sequence[str],
    pool: FilePool,
) -> Hdf5Data:
    """The episodes as a data set, without the keys that are not taken."""
    for name in taken.left_out:
        for episode in episodes:
            episode.pop(name, None)
    said = (*notes, *taken.notes)
    return Hdf5Data(
        path, format, episodes, fps, task, taken.action_spec, taken.obs_spec, said, pool
    )


def require_fps(fps: float | None) -> float:
    """The rate; ConfigError where neither the format nor the options say it."""
    if not fps:
        raise ConfigError(
            "this data does not say how many steps a second has; give it, for instance fps=20"
        )
    return fps


def choose_names(options: ReadOptions, name_arrays: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Our names to theirs: those of the options, else what `name_arrays` finds.

    Raises ConfigError where none of them is the action.
    """
    named = dict(options.keys or name_arrays())
    if ACTION not in named:
        raise ConfigError(
            f"which array holds the actions? give keys={ACTION}:NAME,...; named are {list(named)}"
        )
    return named


def make_column(array: Hdf5Array, skip: int = 0, drop: int = 0, swap: bool = False) -> Column:
    """An array of a file as a column: numbers, or the pictures of JPEGs one a row.

    The first `skip` steps and the last `drop` ones are not taken. `swap` exchanges the channels of
    JPEGs. Raises DataError for text and for single numbers.
    """
    if array.holds == "text" or not array.shape or len(array) <= skip + drop:
        raise DataError(
            f"{array.file.path}/{array.name} has shape {array.shape} and holds {array.holds}; "
            "numbers or pictures are wanted, time first"
        )
    length = len(array) - skip - drop
    if not _holds_jpegs(array):
        return Numbers(array, length, skip)
    return Jpegs(array, length, decode_jpeg(array, 0).shape, skip, swap)


def _holds_jpegs(array: Hdf5Array) -> bool:
    """Whether the rows are compressed pictures."""
    if array.holds == "bytes":
        return True
    if len(array.row) != 1 or array.dtype != np.uint8:
        return False
    return read_jpeg(array, 0).startswith(JPEG_HEAD)
