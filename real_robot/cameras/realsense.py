"""RealSense cameras through the vendor's SDK; pictures in colour, no depth."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from ...spec import ConfigError
from .base import CameraError, Picture
from .network import read_stamp

ANSWER_MS = 2000


class RealSenseSource:
    """The colour stream of a RealSense camera by its serial number.

    Its time is the SDK's global time, which follows the camera's own clock, where that is on.
    """

    def __init__(self, place: str = "") -> None:
        """Open a camera.

        place: its serial number; empty: the only one that is plugged in
        """
        self.place = place
        self._pipeline: Any = None

    def open(self, height: int, width: int, fps: float) -> None:
        """Start the colour stream."""
        realsense = _import_sdk()
        config = realsense.config()
        if self.place:
            config.enable_device(self.place)
        config.enable_stream(
            realsense.stream.color, width, height, realsense.format.rgb8, round(fps)
        )
        pipeline = realsense.pipeline()
        try:
            pipeline.start(config)
        except RuntimeError as error:
            raise CameraError(
                f"RealSense {self.place or 'camera'} does not start at {width} x {height} and "
                f"{fps:g} pictures per second: {error} (`rs-enumerate-devices` lists what it can)"
            ) from error
        self._pipeline = pipeline

    def grab(self) -> tuple[Picture, float]:
        """The next picture; CameraError after two seconds without one."""
        try:
            frame = self._pipeline.wait_for_frames(ANSWER_MS).get_color_frame()
        except RuntimeError as error:
            raise CameraError(f"RealSense {self.place} gives no picture: {error}") from error
        arrived_s = time.monotonic()
        stamp = ""
        if "hardware" not in str(frame.get_frame_timestamp_domain()):
            stamp = str(frame.get_timestamp() / 1000)  # of the wall clock
        picture = np.array(frame.get_data(), np.uint8)
        return picture, read_stamp(stamp, arrived_s, time.time())

    def close(self) -> None:
        """Stop the stream."""
        if self._pipeline is not None:
            self._pipeline.stop()
        self._pipeline = None


def _import_sdk() -> Any:
    try:
        return import_module("pyrealsense2")
    except ImportError as error:
        raise ConfigError(
            'a RealSense camera needs pyrealsense2: pip install "hotstart[realsense]"'
        ) from error
