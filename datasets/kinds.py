"""What a key of an observation is: a state, or a picture with its axes and its type of numbers.

Arrays in memory, stores, converted replay buffers and environments all ask here. A picture is held
as uint8 of shape (height, width, channels). `decide_key` says what arrays of a shape and dtype are,
`read_key` brings them into that form. Whatever could be two things is refused, and the message
names the words that settle it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..spec import DataError, ObsKey

CHANNELS = (1, 3, 4)
"""How many channels a picture may have: gray, RGB, RGB with a fourth."""
PICTURE_SIDE = 8
"""Arrays of two or more axes whose two longest are at least as long may be pictures."""
GRAY_SIDE = 16
"""The same for arrays of two axes that are no bytes: small matrices are states."""
TOLERANCE = 1e-3
"""How far from a whole number, in steps of 1/255 or of 1, a picture's numbers may lie."""
Kind = Literal["state", "image"]
KINDS = ("state", "image")
Shape = tuple[int, ...]


def decide_key(name: str, shape: Shape, dtype: np.dtype[Any], kind: str | None = None) -> ObsKey:
    """The specification of a key whose steps have `shape` and `dtype`.

    States become float32. Pictures are uint8 arrays of three axes, and others of three axes with
    two long ones: channels stand last, (H, W, C), or first, (1 or 3, H, W). Byte arrays (H, W) are
    gray pictures. `kind` ("state" or "image") settles what the shape leaves open. Raises DataError
    for arrays that hold no numbers, for stacked frames, and for what could be a state or a picture.
    """
    check_numbers(name, dtype)
    if kind is not None and kind not in KINDS:
        raise DataError(f"{name!r} is to be {kind!r}; a key is one of {', '.join(KINDS)}")
    if kind == "state":
        return ObsKey(shape)
    if kind == "image":
        return ObsKey(_image_shape(name, shape, told=True), "uint8", "image")
    if not may_be_picture(shape, dtype):
        return ObsKey(shape)
    if len(shape) == 2 and dtype != np.uint8:
        raise DataError(
            f"{name!r} is {dtype} of shape {shape} a step: a gray picture or a state? "
            f"{_settle(name, shape)}"
        )
    return ObsKey(_image_shape(name, shape), "uint8", "image")


def may_be_picture(shape: Shape, dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this shape and dtype must not be taken for a state without a word."""
    if len(shape) < 2:
        return False
    if len(shape) >= 3 and dtype == np.uint8:
        return True
    if len(shape) == 2 and dtype != np.uint8:
        least = GRAY_SIDE
    else:
        least = PICTURE_SIDE
    return sorted(shape)[-2] >= least


def check_numbers(name: str, dtype: np.dtype[Any]) -> None:
    """Raise DataError unless the dtype is of real numbers: float, integer or boolean."""
    if dtype.kind not in "fiub":
        mend = _MENDS.get(dtype.kind, _MEND_TEXT)
        raise DataError(f"{name!r} is {dtype}; real numbers are stored: {mend}")


_MENDS = {
    "c": "give real and imaginary part as two keys",
    "M": "give seconds since the episode's start as float64",
    "m": "give seconds as float64",
    "O": "give arrays of numbers, one shape for all steps",
}
"""What to give in place of arrays of a numpy kind."""
_MEND_TEXT = (
    "give numbers; the words of a task are the data set's task, or a key of kind 'language'"
)


def read_key(
    name: str, array: NDArray[Any], key: ObsKey, scale: float | None = None
) -> NDArray[Any]:
    """Arrays (..., *given) of one key as (..., *key.shape).

    Pictures become uint8 with channels last, states stay as they are. `scale` is what a picture's
    numbers are multiplied with to lie in 0 to 255 (255 or 1). None finds it in the numbers: floats
    up to 1 are of 0 to 1. Raises DataError where shape or numbers do not fit the key.
    """
    check_numbers(name, array.dtype)
    if key.kind != "image":
        return array
    ordered = _put_channels_last(name, array, key.shape)
    if ordered.dtype == np.uint8:
        return ordered
    if scale is None:
        scale = _find_scale(name, ordered)
    return _convert_to_bytes(name, ordered, scale)


def explain_key(name: str, shape: Shape, dtype: np.dtype[Any], key: ObsKey) -> str:
    """What was changed in arrays (..., *shape) that were taken for a picture; empty for nothing."""
    said: list[str] = []
    if shape != tuple(key.shape):
        if len(shape) == 2:
            order = "height, width"
        else:
            order = "channels, height, width"
        said.append(
            f"its axes {shape} are {order}, held as (height, width, channels) = {tuple(key.shape)}"
        )
    if dtype != np.uint8:
        said.append(f"its numbers are {dtype}, held as uint8 from 0 to 255")
    if key.kind == "image" and said:
        return f"{name!r} is taken for a picture: {'; '.join(said)}"
    return ""


def check_image_key(name: str, key: ObsKey) -> None:
    """Raise DataError unless a key of kind `image` is uint8 of shape (height, width, channels)."""
    shape = tuple(key.shape)
    if key.dtype != "uint8" or len(shape) != 3:
        raise DataError(
            f"image {name!r} is {key.dtype} {shape}; "
            "images are uint8 of shape (height, width, channels)"
        )
    if shape[2] not in CHANNELS:
        if shape[0] in CHANNELS:
            first = f"; with channels first in the arrays, write {(*shape[1:], shape[0])}"
        else:
            first = ""
        raise DataError(
            f"image {name!r} has shape {shape}, so {shape[2]} channels; "
            f"images are (height, width, channels) with 1, 3 or 4 channels{first}"
        )


def _image_shape(name: str, shape: Shape, told: bool = False) -> Shape:
    """(height, width, channels) of a picture given in `shape`.

    `told` is true where the user says that it is a picture.
    """
    if len(shape) == 2:
        return (*shape, 1)
    if len(shape) != 3:
        raise DataError(
            f"{name!r} has steps of shape {shape}: several pictures? {_ONE_FRAME}; "
            f"{_settle(name, shape)}"
        )
    first, last = shape[0], shape[2]
    if told:
        firsts = CHANNELS  # four in front are more often frames
    else:
        firsts = (1, 3)
    if last in CHANNELS and (first not in (1, 3) or told):
        return shape
    if first in firsts and last not in CHANNELS:
        return (*shape[1:], first)
    if last in CHANNELS:
        raise DataError(
            f"{name!r} has steps of shape {shape}: channels first or last? {_settle(name, shape)}"
        )
    raise DataError(
        f"{name!r} has steps of shape {shape}: no picture of 1, 3 or 4 channels. Stacked frames? "
        f"{_ONE_FRAME}; {_settle(name, shape)}"
    )


_ONE_FRAME = "give one frame a step, the policy remembers horizon.observed of them"


def _settle(name: str, shape: Shape) -> str:
    """The words that say what a key is."""
    spec = f"{{{name!r}: ObsKey({shape})}} (a state of {math.prod(shape)} numbers)"
    words = f"kinds={name}:state"
    if len(shape) == 2:
        image = (*shape, 1)
    elif shape[-1] in CHANNELS:
        image = shape
    else:
        image = (*shape[1:], shape[0])
    if len(image) == 3 and image[-1] in CHANNELS:
        spec += f" or {{{name!r}: ObsKey({image}, 'uint8', 'image')}}"
        words += f" or kinds={name}:image"
    return (
        f"say it with obs_spec=ObsSpec of {spec} in Python, with {words} when converting, "
        f"with task.options.kinds={{{name}:state}} for an environment, or leave the key out"
    )


def _put_channels_last(name: str, array: NDArray[Any], wanted: Shape) -> NDArray[Any]:
    """Pictures (..., H, W, C), (..., C, H, W) or, of one channel, (..., H, W) as (..., H, W, C)."""
    if array.shape[-3:] == tuple(wanted):
        return array
    if array.shape[-3:] == (wanted[2], *wanted[:2]):
        return np.moveaxis(array, -3, -1)
    if wanted[2] == 1 and array.shape[-2:] == tuple(wanted[:2]):
        return array[..., None]
    raise DataError(
        f"image {name!r} has shape {array.shape}; it must end in (height, width, channels) = "
        f"{tuple(wanted)}"
    )


def _find_scale(name: str, array: NDArray[Any]) -> float:
    """1 for numbers from 0 to 255, 255 for floats from 0 to 1."""
    if array.size == 0 or not array.any():
        return 1.0
    if array.max() > 1:
        return 1.0
    if array.dtype.kind != "f" or bool(((array == 0) | (array == 1)).all()):
        raise DataError(
            f"image {name!r} is {array.dtype} and holds only 0 and 1: "
            "black and white, or nearly black? give uint8 from 0 to 255"
        )
    return 255.0


def _convert_to_bytes(name: str, array: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """Numbers times `scale` as uint8.

    Raises DataError for numbers outside 0 to 255 and, at scale 1, for fractions.
    """
    scaled = array.astype(np.float64) * scale
    whole = np.rint(scaled)
    # NaN is not inside.
    inside = bool((scaled >= -TOLERANCE).all() and (scaled <= 255 + TOLERANCE).all())
    if not inside or (scale == 1 and bool((np.abs(scaled - whole) > TOLERANCE).any())):
        raise DataError(
            f"image {name!r} holds numbers from {array.min()} to {array.max()} in {array.dtype}; "
            "images are whole numbers from 0 to 255, best as uint8, or fractions from 0 to 1 "
            "(of numbers from -1 to 1, give (x + 1) / 2)"
        )
    return whole.astype(np.uint8)
