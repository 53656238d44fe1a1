"""Reads Diffusion Policy's ReplayBuffer: `data/<key>` with time first, and `meta/episode_ends`.

It is a Zarr folder, a zip or an npz. The format came with 2303.04137 and is shared by UMI and
others. It holds no rate, no names and no units.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, IntArray, cut, shorten
from ..episodes import check_choice, check_keys, episode_slice
from ..foreign import refuse_foreign
from .files import AGAIN, Files, FolderFiles, ZipFiles, check_inflation
from .npz_reader import read_npz
from .zarr_reader import ChunkCache, ZarrArray, is_array, open_array, read_object

Episode = dict[str, NDArray[Any]]
ATTRIBUTES = ".zattrs"


@dataclass(frozen=True)
class ReplayBuffer:
    """A replay buffer that is read piece by piece: its images may not fit into memory."""

    path: Path
    arrays: Mapping[str, NDArray[Any] | ZarrArray]  # (N, ...)
    episode_ends: IntArray  # (E,)
    unread: Mapping[str, DataError] = field(default_factory=dict)
    """Keys that cannot be read, and why."""
    notes: Sequence[str] = ()
    """What the user should be told about the reading."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the group says beside its arrays (`.zattrs`); Diffusion Policy says nothing."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names below `data/`."""
        return tuple(self.arrays)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of one step of a key."""
        check_choice(key, self.arrays)
        return tuple(self.arrays[key].shape[1:])

    def dtype(self, key: str) -> np.dtype[Any]:
        """Type of a key's numbers."""
        check_choice(key, self.arrays)
        return np.dtype(self.arrays[key].dtype)

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where the file is damaged."""
        self.check_readable([key])
        return np.asarray(self.arrays[key][start:stop])

    def check_readable(self, keys: Iterable[str]) -> None:
        """Raise DataError for a key that is not there, or packed in a way that is not read.

        No chunk is opened.
        """
        for key in keys:
            if key in self.unread:
                raise self.unread[key]
            check_choice(key, self.arrays)
            array = self.arrays[key]
            if isinstance(array, ZarrArray):
                array.check_readable()

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, int(self.episode_ends[-1]))

    def episode(self, number: int, keys: tuple[str, ...]) -> Episode:
        """Some keys of one episode, each (n, ...)."""
        steps = episode_slice(self.episode_ends, number)
        return {key: self.rows(key, steps.start, steps.stop) for key in keys}


def read_replay_buffer(path: str | Path) -> ReplayBuffer:
    """Open a `.zarr` folder, a `.zip` that holds one, or an `.npz` with the same keys.

    In a zip the folder may lie at the root or deeper. An npz holds `episode_ends` beside the keys.
    Raises DataError when nothing is there, the file is damaged, or `episode_ends` is missing, does
    not increase or disagrees with the lengths.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; `hotstart data download pusht` fetches Push-T's")
    refuse_foreign(path)
    if path.suffix == ".npz":
        buffer = _read_npz(path)
    else:
        buffer = _read_zarr(path)
    check_keys([*buffer.arrays, *buffer.unread])
    ends = buffer.episode_ends
    _check_ends(path, ends)
    for key, array in buffer.arrays.items():
        if array.ndim == 0 or array.shape[0] != ends[-1]:
            raise DataError(
                f"{path}: {cut(key)!r} has shape {array.shape}, "
                f"but the episodes end at step {ends[-1]}; {AGAIN}"
            )
    return replace(buffer, episode_ends=ends.astype(np.int64))


def _check_ends(path: Path, ends: NDArray[Any]) -> None:
    """Refuse ends that are not whole, increasing numbers above 0."""
    if ends.ndim != 1 or len(ends) == 0 or ends.dtype.kind not in "iu":
        raise DataError(
            f"{path}: episode_ends is {ends.dtype} of shape {ends.shape}; "
            "it must hold one whole number per episode"
        )
    wrong = np.flatnonzero(np.diff(ends.astype(np.int64), prepend=0) <= 0)
    if len(wrong):
        raise DataError(
            f"{path}: episode_ends[{wrong[0]}] is {ends[wrong[0]]}, not above the one before: "
            "ends must increase"
        )


def _read_npz(path: Path) -> ReplayBuffer:
    """The arrays of an npz; its ends are not checked yet."""
    arrays, unread = read_npz(path)
    if "episode_ends" not in arrays:
        raise unread.get("episode_ends") or DataError(
            f"{path} has no episode_ends, only {shorten(list(arrays))}; "
            "it must say where each episode ends"
        )
    ends = arrays.pop("episode_ends")
    return ReplayBuffer(path, arrays, ends, unread)


def _read_zarr(path: Path) -> ReplayBuffer:
    """The arrays below `data/`; the ends are not checked yet."""
    files = _find_buffer(path)
    if not is_array(files, "meta/episode_ends") or not files.folders("data"):
        raise DataError(
            f"{path} has no meta/episode_ends or no data/: "
            "it is not a replay buffer, or not a whole one"
        )
    cache = ChunkCache()
    ends = open_array(files, "meta/episode_ends", cache, fills=False)
    arrays: dict[str, ZarrArray] = {}
    unread: dict[str, DataError] = {}
    notes: list[str] = []
    for name in files.folders("data"):
        try:
            if is_array(files, f"data/{name}"):
                arrays[name] = open_array(files, f"data/{name}", cache)
            else:
                notes.append(f"data/{cut(name)} is a group, not an array: it is left out")
        except DataError as error:
            unread[name] = error
    declared = ends.nbytes
    stored = sum(ends.sizes.values())
    for name, array in arrays.items():
        declared += array.nbytes
        stored += sum(array.sizes.values())
        if array.unstored:
            notes.append(_describe_unstored(name, array))
    check_inflation(str(path), declared, stored)
    ends.check_readable()
    attributes = {}
    if files.size(ATTRIBUTES) is not None:
        attributes = read_object(files, ATTRIBUTES)
    return ReplayBuffer(path, arrays, ends[:], unread, notes, attributes)


def _describe_unstored(name: str, array: ZarrArray) -> str:
    count = math.prod(array.metadata.grid)
    return (
        f"{array.unstored} of {count} chunks of {cut(name)!r} are not stored: "
        f"they are read as the fill value {array.metadata.fill}, as Zarr's specification says; "
        "if the copy may not be whole, copy it again"
    )


def _find_buffer(path: Path) -> Files:
    """The folder that has `data` and `meta`: the root of the folder or zip, or one below it."""
    if path.is_dir():
        for pattern in ("meta/episode_ends", "*/meta/episode_ends", "*/*/meta/episode_ends"):
            for found in sorted(path.glob(pattern)):
                return FolderFiles(found.parent.parent)
        return FolderFiles(path)
    packed = ZipFiles(path)
    packed.prefix = find_prefix(packed.names())
    return packed


def find_prefix(names: list[str]) -> str:
    """Where in a zip the replay buffer lies: "" or a folder that ends in "/"."""
    ends = "meta/episode_ends/"
    for name in names:
        if ends in name and "__MACOSX" not in name:
            return name.split(ends)[0]
    return ""
