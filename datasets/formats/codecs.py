"""How chunks are packed: the codecs that are read, and decoding that gives exactly the bytes the
chunk must hold.

Only these codecs are read. numcodecs knows others, one of which (pickle) runs whatever code a data
set brings along.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np

from ...spec import DataError, cut, shorten
from ..kinds import check_numbers
from .image_codecs import IMAGES, make_image_decoder

CHECKSUMS = ("adler32", "crc32", "crc32c", "fletcher32")
CHECKSUM_BYTES = 4
FILTERS = ("bitround", "delta", "fixedscaleoffset", "quantize", "shuffle")
LZMA_MEMORY = 1 << 28
NUMBERS = "biuf"
LONGEST_TYPE = 16
MOST_ITEM = 8
MOST_CODECS = 8
MOST_ELEMENT = 1024


@dataclass(frozen=True)
class Stage:
    """One codec."""

    id: str
    decode: Callable[[bytes, int], bytes]
    """Packed bytes and the number of bytes that must come out -> plain bytes."""
    packed_size: Callable[[int], int | None]
    """The number of bytes that it makes of so many; None where that depends on the bytes."""


def make_stages(configs: Sequence[Mapping[str, Any]], where: str) -> tuple[Stage, ...]:
    """Codecs by their settings `{"id": ..., ...}`, in the order that was applied when writing.

    Raises DataError for a codec that is not read, wrong settings, and an order whose sizes cannot
    be checked.
    """
    if len(configs) > MOST_CODECS:
        raise DataError(
            f"{where} is packed by {len(configs)} codecs; at most {MOST_CODECS} are read"
        )
    stages = tuple(_make_stage(config, where) for config in configs)
    compressed = False
    for stage in stages:
        if compressed and stage.id not in CHECKSUMS:
            raise DataError(
                f"{where} applies codec {stage.id!r} to compressed bytes; "
                "only checksums may come there"
            )
        if stage.id in COMPRESSORS or stage.id in IMAGES:
            compressed = True
    return stages


def decode_chunk(stages: Sequence[Stage], raw: bytes, size: int) -> bytes:
    """The `size` bytes that a chunk holds.

    Raises ValueError with the reason where it holds fewer or more, or is damaged.
    """
    # Bytes that each codec was given when writing; 0 for checksums of compressed bytes.
    given: list[int] = []
    known: int | None = size
    for stage in stages:
        given.append(known or 0)
        if known is not None:
            known = stage.packed_size(known)
    if known is not None and len(raw) != known:
        raise ValueError(f"it has {len(raw):,} bytes, not {known:,}")
    for stage, wanted in zip(reversed(stages), reversed(given), strict=True):
        try:
            raw = stage.decode(raw, wanted)
        except Exception as problem:  # numcodecs hands on whatever its C code and numpy raise
            raise ValueError(
                f"{stage.id}: {cut(str(problem)) or type(problem).__name__}"
            ) from problem
    if len(raw) != size:
        raise ValueError(f"it unpacks to {len(raw):,} bytes, not {size:,}")
    return raw


def _make_stage(config: Mapping[str, Any], where: str) -> Stage:
    name = config.get("id")
    if not isinstance(name, str):
        name = ""
    if name in COMPRESSORS:
        return Stage(name, COMPRESSORS[name], lambda size: None)
    if name in CHECKSUMS:
        return Stage(name, _make_decoder(config, where), lambda size: size + CHECKSUM_BYTES)
    if name in FILTERS:
        _check_filter(config, where)
        ratio = 1.0
        if config.get("astype"):
            ratio = _item_size(config["astype"]) / _item_size(config.get("dtype"))
        return Stage(name, _make_decoder(config, where), lambda size: int(size * ratio))
    if name in IMAGES:
        return Stage(name, make_image_decoder(name, where), lambda size: None)
    valid = ", ".join((*COMPRESSORS, *CHECKSUMS, *FILTERS, *IMAGES))
    raise DataError(
        f"{where} is packed by codec {shorten(config.get('id'))}, "
        f"which is not read; these are: {valid}"
    )


def _make_decoder(config: Mapping[str, Any], where: str) -> Callable[[bytes, int], bytes]:
    """A codec of numcodecs, as a function; its settings must be plain values."""
    try:
        for name, value in config.items():
            if not isinstance(value, str | int | float | None):
                raise TypeError(f"{name} is {shorten(value)}")
        codec = numcodecs.get_codec(dict(config))
    except Exception as problem:  # settings of the wrong kind raise whatever they meet first
        raise DataError(
            f"{where}: the settings of codec {config.get('id')!r} are wrong ({cut(str(problem))})"
        ) from problem

    def decode(raw: bytes, size: int) -> bytes:
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(codec.decode(raw)).tobytes()

    return decode


def _check_filter(config: Mapping[str, Any], where: str) -> None:
    """Refuse settings of a filter that are no numbers' types, or an element size that is none."""
    for name in ("dtype", "astype"):
        if config.get(name) is not None and not _item_size(config[name]):
            raise DataError(
                f"{where}: codec {config['id']!r} has {name} {shorten(config[name])}; "
                "numbers are read"
            )
    element = config.get("elementsize", 1)
    if type(element) is not int or not 1 <= element <= MOST_ELEMENT:
        raise DataError(
            f"{where}: codec {config['id']!r} has elementsize {shorten(element)}; "
            f"it is 1 to {MOST_ELEMENT}"
        )


def _item_size(name: Any) -> int:
    """Bytes of one number of a type; 1 where none is named, 0 for what is no number's type."""
    if name is None:
        return 1
    dtype = number_type(name)
    if dtype is None:
        return 0
    return dtype.itemsize


def parse_type(name: Any) -> np.dtype[Any] | None:
    """The type of numpy that a short name stands for; None where it stands for none."""
    if not isinstance(name, str) or len(name) > LONGEST_TYPE:
        return None
    try:
        return np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return None


def number_type(name: Any) -> np.dtype[Any] | None:
    """The type of plain numbers that a name stands for; None where it stands for something else."""
    dtype = parse_type(name)
    if dtype is None or dtype.kind not in NUMBERS or dtype.itemsize > MOST_ITEM:
        return None
    return dtype


def refuse_type(where: str, name: str, dtype: np.dtype[Any]) -> DataError:
    """The error, to be raised, for arrays of another type, with what to give in its place."""
    try:
        check_numbers(cut(name), dtype)
    except DataError as error:
        return DataError(f"{where}: {error}")
    return DataError(
        f"{where} holds {cut(str(dtype))}; plain numbers are read (bool, int, uint, float up to 64 "
        f"bits)"
    )


def _decode_blosc(raw: bytes, size: int) -> bytes:
    """The header's lengths are compared first: the decoder believes them and reads beyond a
    short chunk.
    """
    if len(raw) < 16:
        raise ValueError(f"it has {len(raw)} bytes, a header alone has 16")
    unpacked = int.from_bytes(raw[4:8], "little")
    packed = int.from_bytes(raw[12:16], "little")
    if packed != len(raw):
        raise ValueError(f"it has {len(raw):,} bytes, its header says {packed:,}")
    if unpacked != size:
        raise ValueError(f"its header says {unpacked:,} bytes unpacked, the chunk has {size:,}")
    return numcodecs.Blosc().decode(raw)


def _decode_zstd(raw: bytes, size: int) -> bytes:
    """Into a buffer of the right size; a frame that declares another size is refused."""
    declared = _zstd_declared(raw)
    if declared is not None and declared != size:
        raise ValueError(f"it declares {declared:,} bytes unpacked, the chunk has {size:,}")
    return numcodecs.Zstd().decode(raw, np.empty(size, np.uint8)).tobytes()


def _zstd_declared(raw: bytes) -> int | None:
    """The content size in a Zstandard frame's header (RFC 8878, section 3.1.1.1); None where it
    gives none.
    """
    if len(raw) < 18:
        raw = raw.ljust(18, b"\0")
    descriptor = raw[4]
    flag = descriptor >> 6
    single_segment = descriptor >> 5 & 1
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    length = (single_segment, 2, 4, 8)[flag]
    value = int.from_bytes(raw[start : start + length], "little")
    if length == 0:
        return None
    if length == 2:
        return value + 256
    return value


def _decode_lz4(raw: bytes, size: int) -> bytes:
    declared = int.from_bytes(raw[:4], "little")
    if declared != size:
        raise ValueError(f"it declares {declared:,} bytes unpacked, the chunk has {size:,}")
    return numcodecs.LZ4().decode(raw)


def _decode_zlib(raw: bytes, size: int, window_bits: int = zlib.MAX_WBITS) -> bytes:
    decoder = zlib.decompressobj(window_bits)
    return _check_end(decoder.decompress(raw, size + 1), decoder.eof, decoder.unused_data)


def _decode_gzip(raw: bytes, size: int) -> bytes:
    return _decode_zlib(raw, size, 16 + zlib.MAX_WBITS)


def _decode_bz2(raw: bytes, size: int) -> bytes:
    decoder = bz2.BZ2Decompressor()
    return _check_end(decoder.decompress(raw, size + 1), decoder.eof, decoder.unused_data)


def _decode_lzma(raw: bytes, size: int) -> bytes:
    decoder = lzma.LZMADecompressor(memlimit=LZMA_MEMORY)
    return _check_end(decoder.decompress(raw, size + 1), decoder.eof, decoder.unused_data)


def _check_end(plain: bytes, at_end: bool, rest: bytes) -> bytes:
    if not at_end or rest:
        raise ValueError(
            "it is cut off, unpacks to more than the chunk has, or something follows its end"
        )
    return plain


COMPRESSORS: dict[str, Callable[[bytes, int], bytes]] = {
    "blosc": _decode_blosc,
    "bz2": _decode_bz2,
    "gzip": _decode_gzip,
    "lz4": _decode_lz4,
    "lzma": _decode_lzma,
    "zlib": _decode_zlib,
    "zstd": _decode_zstd,
}
"""Codec id -> function of packed bytes and the bytes that must come out."""
