"""Chunks that are packed as pictures (JPEG XL, JPEG 2000, PNG, ...), decoded within their size.

The decoders are those of imagecodecs, which UMI and Diffusion Policy's real data use. Settings of a
codec are for writing: only the bytes count when reading. Each decoder writes into memory that is as
large as the chunk; a picture that declares to be larger is refused before it is decoded.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from ...spec import DataError

PREFIX = "imagecodecs_"
IMAGES = (
    "imagecodecs_avif",
    "imagecodecs_jpeg",
    "imagecodecs_jpeg2k",
    "imagecodecs_jpegxl",
    "imagecodecs_png",
    "imagecodecs_qoi",
    "imagecodecs_webp",
)
CODESTREAM = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins: SOC and SIZ (ISO/IEC 15444-1, A.4.1 and A.5.1)."""
PALETTE = b"pclr"
MOST_TILES = 1024
DECODERS = {"png": "spng"}
"""Codec -> the decoder of imagecodecs that takes its place: `png_decode` of version 2025.11 reads
memory that is not its own where the bytes are damaged.
"""


def make_image_decoder(name: str, where: str) -> Callable[[bytes, int], bytes]:
    """A function of packed bytes and the bytes that must come out, by a codec's id.

    Raises DataError where imagecodecs is not installed, or built without the codec.
    """
    if not importlib.util.find_spec("imagecodecs"):
        raise DataError(
            f"{where} is packed by codec {name!r}; for compressed images: pip install "
            f"'hotstart[images]'"
        )
    import imagecodecs

    short = name.removeprefix(PREFIX)
    short = DECODERS.get(short, short)
    if not getattr(imagecodecs, short.upper()).available:
        raise DataError(
            f"{where} is packed by codec {name!r}, which the installed imagecodecs is built without"
        )
    return partial(_decode, getattr(imagecodecs, f"{short}_decode"), short)


def _decode(decoder: Callable[..., Any], short: str, raw: bytes, size: int) -> bytes:
    """The plain bytes of one picture."""
    if short == "jpeg2k":
        check_jpeg2k(raw, size)
    plain = decoder(raw, out=bytearray(size))
    if plain.nbytes != size:
        raise ValueError(f"the picture has {plain.nbytes:,} bytes, the chunk has {size:,}")
    return plain.tobytes()


def check_jpeg2k(raw: bytes, size: int) -> None:
    """Raise ValueError where a JPEG 2000 picture is larger than `size` bytes.

    The decoder takes its memory before it looks at the output. A file may hold several codestreams;
    none of them may be larger. Palettes, which multiply the numbers, are refused.
    """
    place = raw.find(CODESTREAM)
    if place < 0 or PALETTE in raw[:place]:
        raise ValueError("it holds no codestream, or a palette")
    while place >= 0:
        header = raw[place + 8 : place + 42]
        if len(header) < 34:
            raise ValueError("its header is cut off")
        # Right, bottom, left, top of the picture; width, height, left, top of a tile; channels.
        sizes = struct.unpack(">8IH", header)
        width, height = sizes[0] - sizes[2], sizes[1] - sizes[3]
        channels = sizes[8]
        tiles = -(-width // max(sizes[4], 1)) * -(-height // max(sizes[5], 1))
        fits = min(width, height) > 0 and width * height * channels <= size
        if not fits or tiles > MOST_TILES:
            raise ValueError(
                f"it declares {width} x {height} x {channels} numbers in {tiles} tiles, "
                f"the chunk has {size:,} bytes"
            )
        place = raw.find(CODESTREAM, place + 1)
