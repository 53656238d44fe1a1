"""Pictures brought to a size, and read from JPEG."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .base import CameraError, Picture


def fit_picture(picture: Picture, height: int, width: int) -> Picture:
    """The middle of a picture in the wanted proportions, as (height, width, 3)."""
    tall, wide = picture.shape[:2]
    if (tall, wide) == (height, width):
        return picture
    scale = max(height / tall, width / wide)
    keep_tall = min(tall, round(height / scale))
    keep_wide = min(wide, round(width / scale))
    top = (tall - keep_tall) // 2
    left = (wide - keep_wide) // 2
    middle = picture[top : top + keep_tall, left : left + keep_wide]
    way = cv2.INTER_AREA
    if scale > 1:
        way = cv2.INTER_LINEAR
    return cast(Picture, cv2.resize(middle, (width, height), interpolation=way))


def decode_jpeg(data: bytes) -> Picture:
    """A JPEG or PNG as (H, W, 3); raises CameraError for bytes that are neither."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise CameraError(f"a part of {len(data)} bytes is no picture; JPEG is wanted")
    return swap_colours(cast(NDArray[np.uint8], found))


def encode_jpeg(picture: Picture, quality: int = 90) -> bytes:
    """(H, W, 3) as a JPEG, with a colour for every pixel: half as many blur small things."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", swap_colours(picture), settings)
    return data.tobytes()


def mix_pictures(one: Picture, other: Picture) -> Picture:
    """Half of each."""
    return cast(Picture, cv2.addWeighted(one, 0.5, other, 0.5, 0.0))


def swap_colours(picture: NDArray[np.uint8]) -> Picture:
    """OpenCV's blue, green, red as red, green, blue, and the other way round."""
    return np.ascontiguousarray(picture[..., ::-1])
