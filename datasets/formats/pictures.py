"""Pictures of messages and records as uint8 arrays (H, W, C): raw ROS images, JPEG and PNG."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...spec import DataError, cut, shorten

Picture = NDArray[np.uint8]
MOST_PIXELS = 1 << 26
PACKED = ("JPEG", "PNG")
RAW = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "8UC3": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0,)),
    "8UC1": (1, (0,)),
}
"""ROS's names of raw pictures: numbers per pixel, and which of them are taken."""
MODES = {"L": "L", "1": "L", "LA": "L", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "CMYK": "RGB"}


def decode_packed(raw: bytes | memoryview, where: str) -> Picture:
    """A JPEG or PNG picture, (H, W, 3) or gray (H, W, 1); an alpha channel is left out.

    Raises DataError for other pictures, for more than MOST_PIXELS pixels, and for damage.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=PACKED) as picture:
                if math.prod(picture.size) > MOST_PIXELS:
                    raise DataError(f"{where} has {picture.size} pixels: too many")
                if picture.mode not in MODES:
                    raise DataError(
                        f"{where} is a picture of mode {picture.mode}: 8 bits a channel are read, "
                        "depth is not"
                    )
                found = np.asarray(picture.convert(MODES[picture.mode]))
    except DataError:
        raise
    except Exception as problem:  # Pillow raises many kinds on damaged pictures
        raise DataError(
            f"{where} is no whole JPEG or PNG picture ({cut(str(problem))})"
        ) from problem
    if found.ndim == 2:
        return found[:, :, None]
    return found


def decode_message(message: dict[str, Any], where: str) -> Picture:
    """The picture of a sensor_msgs Image or CompressedImage, (H, W, 3) or (H, W, 1)."""
    data = message.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        raise DataError(f"{where} holds no picture")
    if "height" not in message:
        return decode_packed(data.tobytes(), where)
    encoding = message.get("encoding")
    if encoding not in RAW:
        raise DataError(
            f"{where} is encoded as {shorten(encoding)}; read are {', '.join(RAW)}, "
            "depth and Bayer patterns are not"
        )
    width_bytes, order = RAW[encoding]
    height, width = message["height"], message["width"]
    step = message["step"]
    row = width * width_bytes
    if height < 1 or width < 1 or step < row or height * step > len(data):
        raise DataError(
            f"{where}: {height} rows of {step} bytes for {width} pixels do not fit {len(data)} "
            "bytes; the recording is damaged"
        )
    rows = data[: height * step].reshape(height, step)[:, :row]
    return np.ascontiguousarray(rows.reshape(height, width, width_bytes)[:, :, list(order)])
