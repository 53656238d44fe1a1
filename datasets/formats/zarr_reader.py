"""Reads Zarr arrays of format 2 and 3, whoever wrote them.

Only DataError is raised, in bounded time and memory. The metadata is checked before a chunk is
opened. Every chunk must have exactly the bytes that the metadata promises.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, cut, shorten
from ...system.untrusted import parse_json
from .codecs import Stage, decode_chunk, make_stages
from .files import AGAIN, Digest, Files, check_memory
from .zarr_metadata import CHUNK_BYTES, Metadata, parse_v2, parse_v3

METADATA_BYTES = 16 << 20
PACKED_BYTES = CHUNK_BYTES + (1 << 20)
KEPT_BYTES = 1 << 28
"""Decoded chunks that are kept for the next episode, over all arrays that share a cache."""
V2 = ".zarray"
V3 = "zarr.json"


class ChunkCache:
    """Decoded chunks, the newest, up to KEPT_BYTES; may be asked from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The chunk of that name, made where it is not kept."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        made = make()
        with self._lock:
            self._kept[name] = made
            kept_bytes = sum(chunk.nbytes for chunk in self._kept.values())
            while kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                kept_bytes -= dropped.nbytes
        return made


class ZarrArray:
    """One array: its metadata is checked when it is opened, its chunks when they are read.

    Chunks that are not stored hold the fill value. Where the metadata gives none, or every chunk
    must be there, they are lost.
    """

    def __init__(self, files: Files, name: str, metadata: Metadata, cache: ChunkCache) -> None:
        """Use `open_array`."""
        self.files = files
        self.name = name
        self.metadata = metadata
        self.shape = metadata.shape
        self.chunks = metadata.chunks
        self.dtype = metadata.dtype
        self.ndim = len(metadata.shape)
        self._cache = cache
        self._stages: tuple[Stage, ...] | None = None
        self._sizes: dict[str, int] | None = None

    @property
    def where(self) -> str:
        """The array in a message."""
        return f"{self.files.path}: {self.name}"

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array when decoded."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The codecs; DataError where one of them is not read."""
        if self._stages is None:
            self._stages = make_stages(self.metadata.codecs, self.where)
        return self._stages

    @property
    def sizes(self) -> dict[str, int]:
        """Every chunk that is stored, by its name, with its bytes on disk; looked up once."""
        if self._sizes is None:
            self._sizes = {}
            for name, size in self.files.sizes(self.name).items():
                if self._is_chunk(name):
                    self._sizes[name] = size
        return self._sizes

    @property
    def unstored(self) -> int:
        """Chunks that are not stored."""
        return math.prod(self.metadata.grid) - len(self.sizes)

    def check_readable(self) -> None:
        """Raise DataError for codecs that are not read, and for lost chunks.

        A chunk that is not stored is lost where no fill value is given.
        """
        assert self.stages is not None
        if self.unstored and self.metadata.fill is None:
            raise DataError(
                f"{self.where}: {self.unstored} of {math.prod(self.metadata.grid)} chunks are "
                f"missing; {AGAIN}"
            )

    def __getitem__(self, steps: slice) -> NDArray[Any]:
        """Some steps, (n, ...), along the first axis; DataError where they are lost or damaged."""
        start, stop = steps.indices(self.shape[0])[:2]
        shape = (max(stop - start, 0), *self.shape[1:])
        check_memory(self.where, math.prod(shape) * self.dtype.itemsize)
        fill = self.metadata.fill
        if fill is None:
            found = np.empty(shape, self.dtype)
        else:
            found = np.full(shape, fill, self.dtype)
        for place in self._places(start, stop):
            if fill is not None and self.metadata.name_chunk(place) not in self.sizes:
                continue
            corner = np.multiply(place, self.chunks)
            first = max(start, corner[0])
            last = min(stop, corner[0] + self.chunks[0])
            box = [slice(first - start, last - start)]
            for low, size in zip(corner[1:], self.chunks[1:], strict=True):
                box.append(slice(low, low + size))
            into = found[tuple(box)]
            part = self._fetch_chunk(place)[first - corner[0] : last - corner[0]]
            inside = tuple(map(slice, into.shape))
            into[...] = part[inside]
        return found

    def chunk(self, place: Sequence[int]) -> NDArray[Any]:
        """One decoded chunk of shape `chunks`, numbers outside the array included.

        May be asked from several threads. Raises DataError where it is missing or damaged.
        """
        name = self.metadata.name_chunk(place)
        raw = self.files.read(f"{self.name}/{name}", PACKED_BYTES)
        try:
            plain = decode_chunk(self.stages, raw, self.metadata.chunk_bytes)
        except DataError:
            raise
        except (ValueError, MemoryError) as problem:
            raise DataError(
                f"{self.where}: chunk {name} is damaged ({cut(str(problem))}); {AGAIN}"
            ) from problem
        axes = self.metadata.axes
        stored = [self.chunks[axis] for axis in axes]
        return np.frombuffer(plain, self.dtype).reshape(stored).transpose(np.argsort(axes))

    def hash_chunks(self, digest: Digest) -> None:
        """Put every chunk that is stored into a digest, as it is packed."""
        for name in sorted(self.sizes):
            digest.update(name.encode())
            digest.update(self.files.read(f"{self.name}/{name}", PACKED_BYTES))

    def _fetch_chunk(self, place: tuple[int, ...]) -> NDArray[Any]:
        return self._cache.get(f"{self.name}/{place}", lambda: self.chunk(place))

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        """Places in the grid of the chunks that hold some steps."""
        if stop <= start:
            return
        first = range(start // self.chunks[0], (stop - 1) // self.chunks[0] + 1)
        yield from itertools.product(first, *map(range, self.metadata.grid[1:]))

    def _is_chunk(self, name: str) -> bool:
        """Whether a file's name is that of a chunk of the grid."""
        rest = name.removeprefix(self.metadata.start)
        numbers = rest.split(self.metadata.separator)
        if len(numbers) != self.ndim:
            return False
        for number, count in zip(numbers, self.metadata.grid, strict=True):
            if not number.isdecimal() or len(number) >= 20 or int(number) >= count:
                return False
        return self.metadata.name_chunk([int(number) for number in numbers]) == name


def open_array(
    files: Files, name: str, cache: ChunkCache | None = None, fills: bool = True
) -> ZarrArray:
    """The array in a folder of `files`.

    Without `fills` a chunk that is not stored is lost, whatever the metadata says. Raises DataError
    where there is no array, or its metadata is damaged or not believable.
    """
    for file, parse in ((V2, parse_v2), (V3, parse_v3)):
        if files.size(f"{name}/{file}") is not None:
            content = read_object(files, f"{name}/{file}")
            metadata = parse(content, f"{files.path}: {name}/{file}")
            if not fills:
                metadata = replace(metadata, fill=None)
            return ZarrArray(files, name, metadata, cache or ChunkCache())
    raise DataError(f"{files.path} has no array {name}; {AGAIN}")


def is_array(files: Files, name: str) -> bool:
    """Whether a folder holds an array, or else a group or nothing."""
    if files.size(f"{name}/{V2}") is not None:
        return True
    if files.size(f"{name}/{V3}") is None:
        return False
    return read_object(files, f"{name}/{V3}").get("node_type") == "array"


def read_object(files: Files, name: str) -> dict[str, Any]:
    """The JSON object in a file; DataError where there is none."""
    where = f"{files.path}: {name}"
    content = parse_json(files.read(name, METADATA_BYTES), where, DataError)
    if not isinstance(content, dict):
        raise DataError(f"{where} is {shorten(content)}; it must be a JSON object")
    return content
