"""How a store lies on disk: its attributes, its empty arrays, and the checks of what is read back.

A store is a Zarr v3 group with `data/<key>` (time first, episodes joined) and `meta/episode_ends`.
What is on disk may come from somebody else, so every read is checked and raises DataError alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from ..spec import DataError, IntArray, ObsKey, cut, shorten
from .foreign import refuse_foreign
from .formats.files import FolderFiles, check_inflation
from .formats.zarr_reader import ZarrArray, is_array, read_object

VERSION = 1
UNFINISHED = -1
"""Fill value of `meta/episode_ends`: an entry that has been made room for but not written."""
ENDS_PER_CHUNK = 16384
IMAGES_PER_CHUNK = 8
BYTES_PER_CHUNK = 1 << 18
KEEP_ZEROS = {"array.write_empty_chunks": True}
"""Chunks of zeros are written too, so that a chunk that is not there means loss."""
MEND = "the copy is not whole: copy, download or convert the data set again"


def create_group(path: Path, attributes: Mapping[str, Any], keys: Mapping[str, ObsKey]) -> None:
    """A new store without episodes: a group with attributes, data/<key>, and the ends."""
    group = zarr.open_group(str(path), mode="w-", zarr_format=3, attributes=dict(attributes))
    for name, key in keys.items():
        create_array(group, name, key)
    _create_ends(group)


def create_array(group: zarr.Group, name: str, key: ObsKey) -> None:
    """An empty array data/<name>, (0, ...)."""
    row_bytes = np.dtype(key.dtype).itemsize * math.prod(key.shape)
    if key.kind == "image":
        rows = IMAGES_PER_CHUNK
    else:
        rows = max(BYTES_PER_CHUNK // max(row_bytes, 1), 1)
    group.create_array(
        f"data/{name}",
        shape=(0, *key.shape),
        chunks=(rows, *_row_chunks(key)),
        dtype=key.dtype,
        compressors=_make_codec(),
    )


def write_rows(array: zarr.Array[Any], values: NDArray[Any], start: int) -> None:
    """Make the array end at start + n and put the values (n, ...) there."""
    array.resize((start + len(values), *array.shape[1:]))
    array[start:] = values


def read_attributes(path: Path) -> dict[str, Any]:
    """The store's attributes; DataError unless it is one that this version of hotstart can read."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist; make a data set with `hotstart collect`, "
            "`hotstart data convert` or Store.create"
        )
    refuse_foreign(path)
    if (path / ".zgroup").exists() or path.suffix in (".zip", ".npz"):
        raise DataError(
            f"{path} is another format's data set; "
            f"`hotstart data convert {path} TARGET` makes a store of it"
        )
    files = FolderFiles(path)
    try:
        root = read_object(files, "zarr.json")
    except DataError as error:
        raise DataError(
            f"{path} is not a hotstart data set ({error}); "
            "give the folder that holds zarr.json, data/ and meta/"
        ) from error
    attributes = root.get("attributes")
    if not isinstance(attributes, dict):
        attributes = {}
    version = attributes.get("version")
    has_ends = is_array(files, "meta/episode_ends")
    if type(version) is not int or "action_spec" not in attributes or not has_ends:
        raise DataError(
            f"{path} is a Zarr group, but not a hotstart data set: "
            "version, action_spec or meta/episode_ends is missing"
        )
    if version > VERSION:
        raise DataError(
            f"{path} has format {version}, this hotstart reads up to {VERSION}: update hotstart"
        )
    return attributes


@contextmanager
def refuse_wrong_attributes(path: Path) -> Iterator[None]:
    """Raise DataError where the attributes are not those of a store."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}/zarr.json: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path}/zarr.json has wrong attributes ({cut(str(error))}); {MEND}"
        ) from error


def check_text(attributes: Mapping[str, Any], name: str) -> str:
    """A text among the attributes, empty where there is none; DataError for anything else."""
    text = attributes.get(name, "")
    if not isinstance(text, str):
        raise DataError(f"{name} is {shorten(text)}; it must be text")
    return text


def read_ends(array: ZarrArray) -> IntArray:
    """The ends (E,) up to the first that was never written.

    Raises DataError where the file is damaged or, with its episodes, gone.
    """
    where = f"{array.files.path}: meta/episode_ends"
    if array.ndim != 1 or array.dtype != np.int64:
        raise DataError(f"{where} holds {array.dtype} {array.shape}; {MEND}")
    try:
        ends = array[:]
    except DataError as error:
        raise DataError(f"{error}: meta/episode_ends is damaged; {MEND}") from error
    finished = ends
    unfinished = np.flatnonzero(ends == UNFINISHED)
    if len(unfinished):
        finished = ends[: unfinished[0]]
    unknown = (ends[len(finished) :] != UNFINISHED).any()
    if unknown or (np.diff(finished, prepend=0) <= 0).any() or _has_lost_ends(array):
        raise DataError(f"{where} does not increase or has lost a part; {MEND}")
    return finished


def check_array(array: ZarrArray, key: ObsKey, steps: int) -> None:
    """Raise DataError unless an array fits its specification and all its steps are on disk.

    Its codecs must be ones that are read, and a chunk must hold whole rows.
    """
    where = f"{array.files.path}: {array.name}"
    same = array.shape[1:] == tuple(key.shape) and array.dtype == np.dtype(key.dtype)
    if not same or array.chunks[1:] != _row_chunks(key):
        raise DataError(
            f"{where} holds {array.dtype} {array.shape[1:]} in chunks of {array.chunks}, "
            f"the specification says {key.dtype} {shorten(key.shape)}; {MEND}"
        )
    assert array.stages is not None  # looks at the codecs
    if array.shape[0] < steps:
        raise DataError(
            f"{where} has {array.shape[0]} steps, but the episodes need {steps}; {MEND}"
        )
    for chunk in range(math.ceil(steps / array.chunks[0])):
        place = array.metadata.name_chunk((chunk, *[0] * (array.ndim - 1)))
        if not array.sizes.get(place):
            raise DataError(f"{where}/{place} is missing or empty; {MEND}")


def check_store_size(path: Path, arrays: Sequence[ZarrArray]) -> None:
    """Raise DataError where the chunks would decode to more than their files can hold."""
    decoded = 0
    stored = 0
    for array in arrays:
        decoded += len(array.sizes) * array.metadata.chunk_bytes
        stored += sum(array.sizes.values())
    check_inflation(str(path), decoded, stored)


def _make_codec() -> ZstdCodec:
    """Lossless, with a checksum, so that damage is noticed.

    Neighbouring frames share a chunk and compress together.
    """
    return ZstdCodec(level=3, checksum=True)


def _row_chunks(key: ObsKey) -> tuple[int, ...]:
    """Sizes of a chunk behind the first axis: a whole row."""
    return tuple(max(size, 1) for size in key.shape)


def _create_ends(group: zarr.Group) -> None:
    """meta/episode_ends with one unfinished entry.

    So its first chunk is always on disk, and its loss is noticed.
    """
    with zarr.config.set(KEEP_ZEROS):
        ends = group.create_array(
            "meta/episode_ends",
            shape=(1,),
            dtype="int64",
            chunks=(ENDS_PER_CHUNK,),
            fill_value=UNFINISHED,
            compressors=_make_codec(),
        )
        ends[:] = UNFINISHED


def _has_lost_ends(array: ZarrArray) -> bool:
    """Whether a chunk is gone that must hold ends; the last of several may not be written yet."""
    for chunk in range(max(array.metadata.grid[0] - 1, 1)):
        if array.metadata.name_chunk((chunk,)) not in array.sizes:
            return True
    return False
