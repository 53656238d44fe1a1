"""A video file as a camera, paced by its own times: for rehearsals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import av
from av.error import FFmpegError

from .base import CameraError, Picture


class VideoSource:
    """Frames of a file at their own pace; the time of a picture is when it was due."""

    def __init__(self, place: str, loop: bool = True) -> None:
        """Play a file.

        place: the file
        loop: whether it begins again when it has ended; else it is an error then
        """
        self.place, self.loop = place, loop
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._start_s = 0.0

    def open(self, height: int, width: int, fps: float) -> None:
        """Open the file; its size and pace are its own."""
        try:
            self._container = av.open(self.place)
            self._frames = self._container.decode(video=0)
        except (FFmpegError, IndexError) as error:
            raise CameraError(f"{self.place} cannot be played: {error}") from error
        self._start_s = time.monotonic()

    def grab(self) -> tuple[Picture, float]:
        """The next frame when it is due."""
        frame = next(self._frames, None)
        if frame is None:
            if not self.loop:
                raise CameraError(f"{self.place} has ended; loop=true begins it again")
            self.close()
            self.open(0, 0, 0.0)
            frame = next(self._frames, None)
        if frame is None:
            raise CameraError(f"{self.place} holds no picture")
        due_s = self._start_s + float(frame.time or 0.0)
        time.sleep(max(0.0, due_s - time.monotonic()))
        return frame.to_ndarray(format="rgb24"), due_s

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
        self._container = None
