"""Writes Diffusion Policy's ReplayBuffer: a Zarr group of format 2, as a folder or a `.zarr.zip`.

`data/<key>` has time first, chunks in time only; numbers are packed by Blosc lz4. Pictures are one
frame a chunk, packed by Blosc zstd with bit shuffling, or by lossless JPEG XL as UMI's are.
`meta/episode_ends` is plain. The group's attributes hold what the format has no place for.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import zarr
from numcodecs.abc import Codec

from ...spec import ConfigError, DataError
from ..episodes import Dataset, episode_slice, is_image
from ..locks import hold
from ..store import refuse_full_disk
from ..store_format import KEEP_ZEROS, write_rows
from ..writing import name_unfinished
from .foreign_data import Progress
from .image_codecs import make_image_decoder
from .replay_description import describe

ENDS = "meta/episode_ends"
ENDS_PER_CHUNK = 16384
CHUNK_BYTES = 2_000_000
"""Of a chunk of numbers, about as much as Diffusion Policy aims at."""
BATCH_BYTES = 1 << 25
"""Episodes are read and written together until they have as many bytes."""
JPEGXL = "imagecodecs_jpegxl"
Pictures = Literal["zstd", "jpegxl"]


def write_replay_buffer(
    dataset: Dataset, target: Path, task: str, progress: Progress, pictures: Pictures = "zstd"
) -> None:
    """Write every episode; `target` (a folder, or a zip by its name) appears when it is whole.

    A kill leaves a folder with `.converting` behind the name; the same call goes on from its
    finished episodes. `pictures=jpegxl` needs imagecodecs, for readers too. Raises DataError where
    the target exists, the disk is full, or imagecodecs is missing.
    """
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    if pictures == "jpegxl":
        make_image_decoder(JPEGXL, str(target))  # says what is missing
        _register_jpegxl()
    making = name_unfinished(target)
    with hold(target, shared=True), refuse_full_disk(f"{target} cannot be made"):
        group = _open_unfinished(making, dataset, task, pictures)
        _write_episodes(group, dataset, progress)
        if target.suffix == ".zip":
            _pack(making, target)
        else:
            making.rename(target)


def _open_unfinished(making: Path, dataset: Dataset, task: str, pictures: Pictures) -> zarr.Group:
    """The group that a kill left behind, where it is of the same data; else a new one."""
    attributes = {**describe(dataset, task), "pictures": pictures}
    try:
        group = zarr.open_group(str(making), mode="r+", zarr_format=2)
        ends = np.asarray(group[ENDS])
        same = dict(group.attrs) == attributes
        if same and np.array_equal(ends, dataset.episode_ends[: len(ends)]):
            return group
    except (OSError, KeyError, ValueError, TypeError):
        pass  # there is none, or it has not even its ends
    shutil.rmtree(making, ignore_errors=True)
    return _create_group(making, dataset, attributes)


def _create_group(making: Path, dataset: Dataset, attributes: dict[str, Any]) -> zarr.Group:
    """A group without episodes; the ends are made last, so that a group with ends is whole."""
    group = zarr.open_group(str(making), mode="w", zarr_format=2, attributes=attributes)
    for key in dataset.keys:
        row = dataset.rows(key, 0, 1)
        shape = row.shape[1:]
        rows = max(CHUNK_BYTES // max(row.nbytes, 1), 1)
        codec: Codec = numcodecs.Blosc("lz4", 5, numcodecs.Blosc.NOSHUFFLE)
        if is_image(dataset, key):
            rows = 1
            codec = _make_picture_codec(attributes["pictures"])
        _create_array(group, f"data/{key}", rows, shape, row.dtype, codec)
    _create_array(group, ENDS, ENDS_PER_CHUNK, (), np.dtype(np.int64), None)
    return group


def _create_array(
    group: zarr.Group,
    name: str,
    rows: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    codec: Any,
) -> None:
    group.create_array(
        name,
        shape=(0, *shape),
        chunks=(rows, *(max(size, 1) for size in shape)),
        dtype=dtype,
        compressors=codec,
        fill_value=0,
    )


def _make_picture_codec(pictures: str) -> Codec:
    if pictures == "jpegxl":
        return numcodecs.get_codec({"id": JPEGXL, "lossless": True, "numthreads": 1})
    if pictures == "zstd":
        return numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE)
    raise ConfigError(f"pictures is {pictures!r}; choose zstd or jpegxl")


def _register_jpegxl() -> None:
    from imagecodecs.numcodecs import Jpegxl

    numcodecs.register_codec(Jpegxl)


def _write_episodes(group: zarr.Group, dataset: Dataset, progress: Progress) -> None:
    """Every episode that is not there yet: numbers first, ends last."""
    with zarr.config.set(KEEP_ZEROS):
        arrays: dict[str, Any] = {key: group[f"data/{key}"] for key in dataset.keys}
        ends: Any = group[ENDS]
        done, count = ends.shape[0], len(dataset.episode_ends)
        progress(done, count)
        for first, last in _make_batches(dataset, done):
            start = episode_slice(dataset.episode_ends, first).start
            stop = int(dataset.episode_ends[last - 1])
            for key, array in arrays.items():
                rows = dataset.rows(key, start, stop)
                write_rows(array, rows, start)
            write_rows(ends, dataset.episode_ends[first:last], first)
            progress(last, count)


def _make_batches(dataset: Dataset, first: int) -> Iterator[tuple[int, int]]:
    """Neighbouring episodes, first to before last, of about BATCH_BYTES together."""
    row_bytes = sum(dataset.rows(key, 0, 1).nbytes for key in dataset.keys)
    steps = max(BATCH_BYTES // row_bytes, 1)
    ends = dataset.episode_ends
    while first < len(ends):
        start = episode_slice(ends, first).start
        last = max(int(np.searchsorted(ends, start + steps, "right")), first + 1)
        yield first, last
        first = last


def _pack(folder: Path, target: Path) -> None:
    """Put the folder's files into a zip without compressing them again, then remove it."""
    packing = target.with_name(target.name + ".packing")
    with packing.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    packed.write(path, path.relative_to(folder).as_posix())
        file.flush()
        os.fsync(file.fileno())
    packing.rename(target)
    shutil.rmtree(folder)
