"""The newest pictures of a camera, and its process's words, in memory that two processes share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shared_memory import Ring, path_of
from .base import Picture

SLOTS = 4
"""A picture is overwritten when three newer ones have come."""
WORDS = 512
"""Bytes for what the camera's process says."""
WORDS_RECORD = np.dtype([("text", f"S{WORDS}")])


class FrameRing:
    """Pictures (H, W, 3) with times, written by one process and read by others without a lock.

    The memory has no name: it goes with the last process that holds it, however that one ends.
    """

    def __init__(self, pictures: Ring, words: Ring) -> None:
        """Use `create` or `attach`."""
        self._pictures, self._words = pictures, words

    @classmethod
    def create(cls, shape: tuple[int, int, int]) -> FrameRing:
        """New memory for pictures of a shape."""
        rings = []
        for record in (make_record(shape), WORDS_RECORD):
            ring = Ring.create(record, SLOTS)
            ring.unlink()
            rings.append(ring)
        return cls(*rings)

    @classmethod
    def attach(cls, shape: tuple[int, int, int], pictures: int, words: int) -> FrameRing:
        """The memory of a parent, by the numbers of its `files`."""
        return cls(
            Ring.attach(path_of(pictures), make_record(shape)),
            Ring.attach(path_of(words), WORDS_RECORD),
        )

    @property
    def files(self) -> tuple[int, int]:
        """Numbers of the files that a child inherits."""
        return self._pictures.inherit(), self._words.inherit()

    @property
    def count(self) -> int:
        """Pictures written so far."""
        return self._pictures.written

    def write(self, picture: Picture, made_s: float) -> None:
        """Add a picture."""
        record = self._pictures.blank()
        record["picture"], record["made_s"] = picture, made_s
        self._pictures.write(record)

    def read(self) -> tuple[Picture, float] | None:
        """A copy of the newest picture and its time; None before the first one."""
        newest = self._pictures.newest()
        if newest is None:
            return None
        return newest["picture"], float(newest["made_s"])

    def say(self, words: str) -> None:
        """Leave words for the other side."""
        record = self._words.blank()
        record["text"] = words.encode()[:WORDS]
        self._words.write(record)

    def hear(self) -> str:
        """The newest words."""
        newest = self._words.newest()
        if newest is None:
            return ""
        return bytes(newest["text"]).decode(errors="replace")

    def close(self) -> None:
        """Let go of the memory."""
        self._pictures.close()
        self._words.close()


def make_record(shape: tuple[int, int, int]) -> np.dtype[Any]:
    """A picture with its time."""
    return np.dtype([("made_s", "<f8"), ("picture", np.uint8, shape)])
