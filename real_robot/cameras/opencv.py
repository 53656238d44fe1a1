"""Cameras of the machine through OpenCV: USB cameras of Video4Linux by number or path."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .base import CameraError, Picture
from .pictures import swap_colours

BACKENDS = {"v4l2": cv2.CAP_V4L2, "any": cv2.CAP_ANY}
OLDEST_S = 2.0
"""A time that the driver gives counts when it lies within so much of now."""


class OpenCVSource:
    """A camera that OpenCV opens. The kernel's own time of a picture is taken where there is one.

    Compressed pictures (MJPG) are asked for: several cameras then share one USB bus.
    """

    def __init__(self, place: str, codec: str = "MJPG", backend: str = "v4l2") -> None:
        """Open a device.

        place: a number or a path, as 0 or /dev/video2
        codec: four letters of the compression to ask for; empty: as the device likes
        backend: v4l2, or any for whatever OpenCV finds
        """
        if backend not in BACKENDS:
            raise CameraError(f"backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
        self.place, self.backend = place, backend
        self.codec = codec
        self._capture: Any = None

    def open(self, height: int, width: int, fps: float) -> None:
        """Open the device, and ask it for a size, a pace and a compression."""
        place = self.place
        if self.backend == "v4l2":
            place = find_device(self.place)
        capture = cv2.VideoCapture(place, BACKENDS[self.backend])
        self._capture = capture
        if not capture.isOpened():
            raise CameraError(
                f"{place} is there, but OpenCV cannot read it: no camera (cameras have two "
                "devices, try the other one), or a format that OpenCV does not know"
            )
        if self.codec:
            code = cv2.VideoWriter.fourcc(*self.codec)
            capture.set(cv2.CAP_PROP_FOURCC, code)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def grab(self) -> tuple[Picture, float]:
        """The next picture; OpenCV itself gives up after ten seconds."""
        there, picture = self._capture.read()
        now_s = time.monotonic()
        if not there:
            raise CameraError(
                f"{self.place} gives no picture: unplugged, or too many cameras on one USB bus "
                "(use another port, a smaller size or fewer pictures per second)"
            )
        made_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not now_s - OLDEST_S < made_s <= now_s:
            made_s = now_s
        return swap_colours(cast(NDArray[np.uint8], picture)), made_s

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None


def find_device(place: str) -> str:
    """The path of a device by number or path.

    Raises CameraError where it is not there, may not be used, or somebody else uses it.
    """
    path = place
    if place.isdigit():
        path = f"/dev/video{place}"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        raise CameraError(_explain_device(path, error)) from error
    return path


def _explain_device(path: str, error: OSError) -> str:
    """Why a device cannot be opened, and what helps."""
    if error.errno == errno.ENOENT:
        there = sorted(str(device) for device in Path("/dev").glob("video*"))
        return f"there is no {path}; cameras here: {', '.join(there) or 'none'}"
    if error.errno == errno.EACCES:
        return f"{path} may not be used by you: sudo usermod -aG video $USER, then log in again"
    if error.errno == errno.EBUSY:
        return f"{path} is used by another program: close it (fuser {path} names it)"
    return f"{path} cannot be opened: {error.strerror}"
