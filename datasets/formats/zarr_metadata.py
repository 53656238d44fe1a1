"""What the metadata of a Zarr array says, checked before a chunk is opened.

Formats 2 (`.zarray`) and 3 (`zarr.json`). Shapes, types and codecs are limited: only codecs in
`codecs.py` are read. Specifications: zarr-specs.readthedocs.io, v2 and v3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from ...spec import DataError, shorten
from .codecs import NUMBERS, number_type, parse_type, refuse_type

CHUNK_BYTES = 1 << 29
"""Most that one decoded chunk may have."""
MOST_AXES = 8
MOST_STEPS = 1 << 48
MOST_CHUNKS = 1 << 22


@dataclass(frozen=True)
class Metadata:
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


def parse_v2(content: Mapping[str, Any], where: str) -> Metadata:
    """Format 2: `.zarray`. Raises DataError, which begins with `where`, for what is not read."""
    shape, chunks = _check_shape(content.get("shape"), content.get("chunks"), where)
    dtype = _check_type(content.get("dtype"), where)
    codecs = _check_objects(content.get("filters") or [], where)
    if content.get("compressor") is not None:
        codecs += _check_objects([content["compressor"]], where)
    axes = tuple(range(len(shape)))
    if _check_word(content, "order", ("C", "F"), "C", where) == "F":
        axes = axes[::-1]
    metadata = Metadata(
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill=_parse_fill(content.get("fill_value"), dtype, where),
        axes=axes,
        separator=_check_word(content, "dimension_separator", (".", "/"), ".", where),
        start="",
        codecs=codecs,
    )
    _check_chunks(metadata, where)
    return metadata


def parse_v3(content: Mapping[str, Any], where: str) -> Metadata:
    """Format 3: `zarr.json` of an array. Raises DataError as `parse_v2` does."""
    if content.get("node_type") != "array":
        raise DataError(f"{where} is a {shorten(content.get('node_type'))}, not an array")
    if content.get("storage_transformers"):
        raise DataError(f"{where} has storage transformers; arrays without them are read")
    grid = _read_settings(content.get("chunk_grid"), ("regular",), where)
    shape, chunks = _check_shape(content.get("shape"), grid.get("chunk_shape"), where)
    start, separator = _parse_chunk_names(content.get("chunk_key_encoding"), where)
    dtype = _check_type(content.get("data_type"), where)
    fill = _parse_fill(content.get("fill_value"), dtype, where)
    axes = tuple(range(len(shape)))
    codecs: list[Mapping[str, Any]] = []
    for entry in _check_objects(content.get("codecs"), where):
        settings = entry.get("configuration") or {}
        name = entry.get("name")
        if not isinstance(settings, dict) or not isinstance(name, str):
            raise DataError(
                f"{where} has the codec {shorten(entry)}; it must have a name and settings"
            )
        if name == "transpose":
            axes = _transpose_axes(axes, settings.get("order"), where)
        elif name == "bytes":
            dtype = dtype.newbyteorder(_parse_byte_order(settings, where))
        else:
            codecs.append({**settings, "id": name.removeprefix("numcodecs.")})
    metadata = Metadata(shape, chunks, dtype, fill, axes, separator, start, tuple(codecs))
    _check_chunks(metadata, where)
    return metadata


def _parse_chunk_names(encoding: Any, where: str) -> tuple[str, str]:
    """What stands in a chunk's name before its first number, and between its numbers."""
    settings = _read_settings(encoding, ("default", "v2"), where)
    if encoding["name"] == "v2":
        return "", _check_word(settings, "separator", (".", "/"), ".", where)
    separator = _check_word(settings, "separator", (".", "/"), "/", where)
    return "c" + separator, separator


def _transpose_axes(axes: tuple[int, ...], order: Any, where: str) -> tuple[int, ...]:
    """The axes in another order, which must be a list of all their indices."""
    indices = list(range(len(axes)))
    whole = isinstance(order, list) and all(type(index) is int for index in order)
    if not whole or sorted(order) != indices:
        raise DataError(
            f"{where}: transpose has order {shorten(order)}; "
            f"it must hold 0 to {len(axes) - 1} once each"
        )
    return tuple(axes[index] for index in order)


def _parse_byte_order(settings: Mapping[str, Any], where: str) -> Literal["<", ">"]:
    if _check_word(settings, "endian", ("little", "big"), "little", where) == "little":
        return "<"
    return ">"


def _check_shape(shape: Any, chunks: Any, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    for what, sizes, least in (("shape", shape, 0), ("chunks", chunks, 1)):
        if not isinstance(sizes, list) or not 1 <= len(sizes) <= MOST_AXES:
            raise DataError(
                f"{where}: {what} is {shorten(sizes)}; "
                f"it must be a list of 1 to {MOST_AXES} whole numbers"
            )
        for size in sizes:
            if type(size) is not int or not least <= size <= MOST_STEPS:
                raise DataError(
                    f"{where}: {what} is {shorten(sizes)}; "
                    f"whole numbers from {least} to 2^48 are read"
                )
    if len(shape) != len(chunks):
        raise DataError(
            f"{where}: shape {shorten(shape)} and chunks {shorten(chunks)} "
            "have different numbers of axes"
        )
    return tuple(shape), tuple(chunks)


def _check_chunks(metadata: Metadata, where: str) -> None:
    if metadata.chunk_bytes > CHUNK_BYTES:
        raise DataError(
            f"{where} has chunks of {metadata.chunk_bytes:,} bytes; "
            f"at most {CHUNK_BYTES:,} are read: write it in smaller chunks"
        )
    if math.prod(metadata.grid) > MOST_CHUNKS:
        raise DataError(
            f"{where} has {math.prod(metadata.grid):,} chunks; "
            f"at most {MOST_CHUNKS:,} are read: write it in larger chunks"
        )


def _check_type(name: Any, where: str) -> np.dtype[Any]:
    dtype = number_type(name)
    if dtype is not None:
        return dtype
    other = parse_type(name)
    if other is not None:
        raise refuse_type(where, PurePosixPath(where).parent.name, other)
    raise DataError(
        f"{where} holds {shorten(name)}; plain numbers are read (bool, int, uint, float)"
    )


def _check_objects(entries: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        return tuple(entries)
    raise DataError(
        f"{where} has the codecs {shorten(entries)}; they must be a list of JSON objects"
    )


def _check_word(
    content: Mapping[str, Any], key: str, valid: Sequence[str], default: str, where: str
) -> str:
    word = content.get(key, default)
    if word not in valid:
        raise DataError(f"{where}: {key} is {shorten(word)}; valid: {', '.join(valid)}")
    return word


def _read_settings(entry: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """The settings of an extension point of format 3, which must have one of these names."""
    if not isinstance(entry, dict) or entry.get("name") not in names:
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
    number = value
    if isinstance(value, str):
        number = _NUMBER_WORDS.get(value)
    if isinstance(number, int | float) and dtype.kind in NUMBERS:
        with np.errstate(over="ignore"), suppress(ValueError, OverflowError):
            filled = np.array(number).astype(dtype, casting="unsafe")
            if filled == number or number != number or dtype.kind == "f":
                return dtype.type(filled)
    raise DataError(f"{where} has the fill value {shorten(value)}, which is no {dtype}")


_NUMBER_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
