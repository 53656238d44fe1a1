"""Reads Zarr arrays of format 2 and 3, whoever wrote them: only DataError is raised, in bounded
time and memory.

The metadata is checked before a chunk is opened: shapes, types, and codecs, of which only those in
`codecs.py` are read. Every chunk must have exactly the bytes that the metadata promises.
Specifications: zarr-specs.readthedocs.io, v2 and v3.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, cut, shorten
from ...system.untrusted import parse_json
from .codecs import (
    LONGEST_TYPE,
    NUMBERS,
    Stage,
    decode_chunk,
    make_stages,
    number_type,
    refuse_type,
)
from .files import AGAIN, Files, check_memory

METADATA_BYTES = 16 << 20
CHUNK_BYTES = 1 << 29
"""Most that one decoded chunk may have."""
PACKED_BYTES = CHUNK_BYTES + (1 << 20)
KEPT_BYTES = 1 << 28
"""Decoded chunks that are kept for the next episode, over all arrays that share a cache."""
MOST_AXES = 8
MOST_STEPS = 1 << 48
MOST_CHUNKS = 1 << 22
V2, V3 = ".zarray", "zarr.json"


@dataclass(frozen=True)
class Layout:
    """What an array's metadata says."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: np.generic | None  # what chunks hold that are not stored; None where nothing says so
    axes: tuple[int, ...]  # order of the axes in a stored chunk, slowest first
    separator: str
    start: str  # before the first number in a chunk's name
    codecs: tuple[Mapping[str, Any], ...]

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    def name_chunk(self, place: Sequence[int]) -> str:
        """A chunk's file below the array's folder."""
        return self.start + self.separator.join(map(str, place))


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
            while (
                sum(chunk.nbytes for chunk in self._kept.values()) > KEPT_BYTES
                and len(self._kept) > 1
            ):
                self._kept.popitem(last=False)
        return made


class ZarrArray:
    """One array: its metadata is checked when it is opened, its chunks when they are read.

    Chunks that are not stored hold the fill value. Where the metadata gives none, or every chunk
    must be there, they are lost.
    """

    def __init__(self, files: Files, name: str, layout: Layout, cache: ChunkCache) -> None:
        """Use `open_array`."""
        self.files = files
        self.name = name
        self.layout = layout
        self.shape = layout.shape
        self.chunks = layout.chunks
        self.dtype = layout.dtype
        self.ndim = len(layout.shape)
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
            self._stages = make_stages(self.layout.codecs, self.where)
        return self._stages

    @property
    def sizes(self) -> dict[str, int]:
        """Every chunk that is stored, by its name, with its bytes on disk; looked up once."""
        if self._sizes is None:
            found = self.files.sizes(self.name)
            self._sizes = {name: size for name, size in found.items() if self._is_chunk(name)}
        return self._sizes

    @property
    def unstored(self) -> int:
        """Chunks that are not stored."""
        return math.prod(self.layout.grid) - len(self.sizes)

    def check_readable(self) -> None:
        """Raise DataError for codecs that are not read, and for chunks that are not stored
        where no fill value is given.
        """
        assert self.stages is not None
        if self.unstored and self.layout.fill is None:
            raise DataError(
                f"{self.where}: {self.unstored} of {math.prod(self.layout.grid)} chunks are "
                f"missing; {AGAIN}"
            )

    def __getitem__(self, steps: slice) -> NDArray[Any]:
        """Some steps, (n, ...), along the first axis."""
        start, stop, _ = steps.indices(self.shape[0])
        shape = (max(stop - start, 0), *self.shape[1:])
        check_memory(self.where, math.prod(shape) * self.dtype.itemsize)
        fill = self.layout.fill
        if fill is None:
            found = np.empty(shape, self.dtype)
        else:
            found = np.full(shape, fill, self.dtype)
        for place in self._places(start, stop):
            if fill is not None and self.layout.name_chunk(place) not in self.sizes:
                continue
            corner = [number * size for number, size in zip(place, self.chunks, strict=True)]
            first, last = max(start, corner[0]), min(stop, corner[0] + self.chunks[0])
            others = [
                slice(low, low + size)
                for low, size in zip(corner[1:], self.chunks[1:], strict=True)
            ]
            into = found[(slice(first - start, last - start), *others)]
            part = self._kept_chunk(place)[first - corner[0] : last - corner[0]]
            into[...] = part[tuple(slice(size) for size in into.shape)]
        return found

    def chunk(self, place: Sequence[int]) -> NDArray[Any]:
        """One decoded chunk, those of its numbers included that lie outside the array; may be
        asked from several threads.
        """
        name = self.layout.name_chunk(place)
        raw = self.files.read(f"{self.name}/{name}", PACKED_BYTES)
        try:
            plain = decode_chunk(self.stages, raw, self.layout.chunk_bytes)
        except DataError:
            raise
        except (ValueError, MemoryError) as problem:
            raise DataError(
                f"{self.where}: chunk {name} is damaged ({cut(str(problem))}); {AGAIN}"
            ) from problem
        stored = tuple(self.chunks[axis] for axis in self.layout.axes)
        return (
            np.frombuffer(plain, self.dtype).reshape(stored).transpose(np.argsort(self.layout.axes))
        )

    def _kept_chunk(self, place: tuple[int, ...]) -> NDArray[Any]:
        return self._cache.get(f"{self.name}/{place}", lambda: self.chunk(place))

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        """Places in the grid of the chunks that hold some steps."""
        if stop <= start:
            return
        first = range(start // self.chunks[0], (stop - 1) // self.chunks[0] + 1)
        yield from itertools.product(first, *map(range, self.layout.grid[1:]))

    def _is_chunk(self, name: str) -> bool:
        """Whether a file's name is that of a chunk of the grid."""
        rest = name.removeprefix(self.layout.start)
        numbers = rest.split(self.layout.separator)
        if len(numbers) != self.ndim or not all(
            number.isdecimal() and len(number) < 20 for number in numbers
        ):
            return False
        place = tuple(map(int, numbers))
        inside = all(number < count for number, count in zip(place, self.layout.grid, strict=True))
        return inside and self.layout.name_chunk(place) == name


def open_array(
    files: Files, name: str, cache: ChunkCache | None = None, fills: bool = True
) -> ZarrArray:
    """The array in a folder of `files`; without `fills` a chunk that is not stored is lost,
    whatever the metadata says.

    Raises DataError where there is none, or its metadata is damaged or not believable.
    """
    for metadata, parse in ((V2, _parse_v2), (V3, _parse_v3)):
        if files.size(f"{name}/{metadata}") is not None:
            where = f"{files.path}: {name}/{metadata}"
            content = read_object(files, f"{name}/{metadata}")
            layout = parse(content, where)
            return ZarrArray(
                files, name, layout if fills else replace(layout, fill=None), cache or ChunkCache()
            )
    raise DataError(f"{files.path} has no array {name}; {AGAIN}")


def is_array(files: Files, name: str) -> bool:
    """Whether a folder holds an array, or else a group or nothing."""
    if files.size(f"{name}/{V2}") is not None:
        return True
    return (
        files.size(f"{name}/{V3}") is not None
        and read_object(files, f"{name}/{V3}").get("node_type") == "array"
    )


def read_object(files: Files, name: str) -> dict[str, Any]:
    """The JSON object in a file; DataError where there is none."""
    where = f"{files.path}: {name}"
    content = parse_json(files.read(name, METADATA_BYTES), where, DataError)
    if not isinstance(content, dict):
        raise DataError(f"{where} is {shorten(content)}; it must be a JSON object")
    return content


def _parse_v2(content: Mapping[str, Any], where: str) -> Layout:
    """Format 2: `.zarray`."""
    shape, chunks = _check_shape(content.get("shape"), content.get("chunks"), where)
    dtype = _check_type(content.get("dtype"), where)
    codecs = _check_objects(content.get("filters") or [], where)
    if content.get("compressor") is not None:
        codecs += _check_objects([content["compressor"]], where)
    order = _check_word(content, "order", ("C", "F"), "C", where)
    axes = tuple(range(len(shape)))
    return _check_chunks(
        Layout(
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill=_parse_fill(content.get("fill_value"), dtype, where),
            axes=axes[::-1] if order == "F" else axes,
            separator=_check_word(content, "dimension_separator", (".", "/"), ".", where),
            start="",
            codecs=codecs,
        ),
        where,
    )


def _parse_v3(content: Mapping[str, Any], where: str) -> Layout:
    """Format 3: `zarr.json` of an array."""
    if content.get("node_type") != "array":
        raise DataError(f"{where} is a {shorten(content.get('node_type'))}, not an array")
    if content.get("storage_transformers"):
        raise DataError(f"{where} has storage transformers; arrays without them are read")
    grid = _settings(content.get("chunk_grid"), ("regular",), where)
    shape, chunks = _check_shape(content.get("shape"), grid.get("chunk_shape"), where)
    keys = content.get("chunk_key_encoding")
    plain_keys = _settings(keys, ("default", "v2"), where)
    is_default = isinstance(keys, dict) and keys["name"] == "default"
    separator = _check_word(plain_keys, "separator", (".", "/"), "/" if is_default else ".", where)
    dtype = _check_type(content.get("data_type"), where)
    axes, dtype_stored, codecs = _parse_v3_codecs(content.get("codecs"), len(shape), dtype, where)
    return _check_chunks(
        Layout(
            shape=shape,
            chunks=chunks,
            dtype=dtype_stored,
            fill=_parse_fill(content.get("fill_value"), dtype, where),
            axes=axes,
            separator=separator,
            start="c" + separator if is_default else "",
            codecs=codecs,
        ),
        where,
    )


def _parse_v3_codecs(
    codecs: Any, count: int, dtype: np.dtype[Any], where: str
) -> tuple[tuple[int, ...], np.dtype[Any], tuple[Mapping[str, Any], ...]]:
    """The order of the axes, the type with its byte order, and the codecs as numcodecs names
    them.
    """
    axes = tuple(range(count))
    found: tuple[Mapping[str, Any], ...] = ()
    for entry in _check_objects(codecs, where):
        settings = entry.get("configuration") or {}
        name = entry.get("name")
        if not isinstance(settings, dict) or not isinstance(name, str):
            raise DataError(
                f"{where} has the codec {shorten(entry)}; it must have a name and settings"
            )
        if name == "transpose":
            order = settings.get("order")
            if (
                not isinstance(order, list)
                or any(type(axis) is not int for axis in order)
                or sorted(order) != list(axes)
            ):
                raise DataError(
                    f"{where}: transpose has order {shorten(order)}; it must hold 0 to {count - 1} "
                    f"once each"
                )
            axes = tuple(axes[axis] for axis in order)
        elif name == "bytes":
            endian = _check_word(settings, "endian", ("little", "big"), "little", where)
            dtype = dtype.newbyteorder("<" if endian == "little" else ">")
        else:
            found += ({**settings, "id": name.removeprefix("numcodecs.")},)
    return axes, dtype, found


def _check_shape(shape: Any, chunks: Any, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    for what, sizes, least in (("shape", shape, 0), ("chunks", chunks, 1)):
        if not isinstance(sizes, list) or not 1 <= len(sizes) <= MOST_AXES:
            raise DataError(
                f"{where}: {what} is {shorten(sizes)}; it must be a list of 1 to {MOST_AXES} whole "
                f"numbers"
            )
        if any(type(size) is not int or not least <= size <= MOST_STEPS for size in sizes):
            raise DataError(
                f"{where}: {what} is {shorten(sizes)}; whole numbers from {least} to 2^48 are read"
            )
    if len(shape) != len(chunks):
        raise DataError(
            f"{where}: shape {shorten(shape)} and chunks {shorten(chunks)} have different numbers "
            f"of axes"
        )
    return tuple(shape), tuple(chunks)


def _check_chunks(layout: Layout, where: str) -> Layout:
    if layout.chunk_bytes > CHUNK_BYTES:
        raise DataError(
            f"{where} has chunks of {layout.chunk_bytes:,} bytes; at most {CHUNK_BYTES:,} are "
            f"read: write it in smaller chunks"
        )
    if math.prod(layout.grid) > MOST_CHUNKS:
        raise DataError(
            f"{where} has {math.prod(layout.grid):,} chunks; at most {MOST_CHUNKS:,} are read: "
            f"write it in larger chunks"
        )
    return layout


def _check_type(name: Any, where: str) -> np.dtype[Any]:
    dtype = number_type(name)
    if dtype is not None:
        return dtype
    try:
        if isinstance(name, str) and len(name) <= LONGEST_TYPE:
            other = np.dtype(name)
        else:
            other = None
    except (TypeError, ValueError, SyntaxError):
        other = None
    if other is not None:
        raise refuse_type(where, PurePosixPath(where).parent.name, other)
    raise DataError(
        f"{where} holds {shorten(name)}; plain numbers are read (bool, int, uint, float)"
    )


def _check_objects(entries: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(
            f"{where} has the codecs {shorten(entries)}; they must be a list of JSON objects"
        )
    return tuple(entries)


def _check_word(
    content: Mapping[str, Any], key: str, valid: Sequence[str], default: str, where: str
) -> str:
    word = content.get(key, default)
    if word not in valid:
        raise DataError(f"{where}: {key} is {shorten(word)}; valid: {', '.join(valid)}")
    return word


def _settings(entry: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """The settings of an extension point of format 3, which must have one of these names."""
    if isinstance(entry, dict):
        name = entry.get("name")
    else:
        name = None
    if name not in names:
        raise DataError(
            f"{where} has {shorten(entry)}; of this only {' and '.join(names)} are read"
        )
    settings = entry.get("configuration", {})
    if not isinstance(settings, dict):
        raise DataError(f"{where} has the settings {shorten(settings)}; they must be a JSON object")
    return settings


def _parse_fill(value: Any, dtype: np.dtype[Any], where: str) -> np.generic | None:
    """The fill value as a number of the array's type; None where the metadata gives none."""
    if value is None:
        return None
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if isinstance(value, str):
        number = words.get(value, value)
    else:
        number = value
    try:
        with np.errstate(over="ignore"):
            if isinstance(number, int | float):
                filled = np.array(number).astype(dtype, casting="unsafe")
            else:
                filled = None
    except (ValueError, OverflowError):
        filled = None
    same = filled is not None and (filled == number or number != number or dtype.kind == "f")
    if filled is None or not same or dtype.kind not in NUMBERS:
        raise DataError(f"{where} has the fill value {shorten(value)}, which is no {dtype}")
    return dtype.type(filled)
