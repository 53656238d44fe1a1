"""What a camera is, and what a source of pictures is that runs in the camera's process."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...spec import HotstartError

Picture = NDArray[np.uint8]
"""(H, W, 3), red, green, blue."""


class CameraError(HotstartError):
    """A camera shows nothing new, or cannot be opened; the message says which one and why."""


class Camera(Protocol):
    """Pictures of one camera; the newest one is always at hand."""

    name: str
    shape: tuple[int, int, int]
    """(H, W, 3)."""
    fps: float
    """Pictures per second, as intended."""

    def start(self) -> None:
        """Open it and wait for the first picture; CameraError where none comes."""
        ...

    def read(self) -> tuple[Picture, float]:
        """The newest picture (H, W, 3) and when it was made [s, `time.monotonic`].

        Never waits. Raises CameraError where that picture is too old.
        """
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""
        ...


class Source(Protocol):
    """Where pictures come from; lives in the camera's process, which opens it again after errors.

    Its methods raise CameraError or OSError, and may hang: the camera's process is then replaced.
    """

    def open(self, height: int, width: int, fps: float) -> None:
        """Begin; a size that the device does not have is brought to (height, width) later."""
        ...

    def grab(self) -> tuple[Picture, float]:
        """Wait for the next picture, of any size; and when it was made [s, `time.monotonic`]."""
        ...

    def close(self) -> None:
        """Let go; safe in any state."""
        ...
