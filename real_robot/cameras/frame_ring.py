"""The newest pictures of a camera in memory that two processes share."""

from __future__ import annotations

import math
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from .base import Picture

SLOTS = 4
"""A picture is overwritten when three newer ones have come."""
WORDS = 512
"""Bytes for what the camera's process says."""
TRIES = 100


class FrameRing:
    """Pictures with times, written by one process and read by others without a lock.

    The memory has no name: it goes with the last process that holds it, however that one ends.
    A slot's number is odd while it is written (a seqlock), so a torn picture is never taken.
    """

    def __init__(self, file: int, shape: tuple[int, int, int]) -> None:
        """Take the memory behind a file descriptor; use `create` to make it."""
        self.file, self.shape = file, shape
        memory = mmap.mmap(file, count_bytes(shape))
        self._newest: NDArray[np.int64] = np.ndarray(1, np.int64, memory, 0)
        self._numbers: NDArray[np.int64] = np.ndarray(SLOTS, np.int64, memory, 8)
        self._times_s: NDArray[np.float64] = np.ndarray(SLOTS, np.float64, memory, 8 + 8 * SLOTS)
        start = 8 + 16 * SLOTS
        self._words: NDArray[np.uint8] = np.ndarray(WORDS, np.uint8, memory, start)
        self._pictures: NDArray[np.uint8] = np.ndarray(
            (SLOTS, *shape), np.uint8, memory, start + WORDS
        )

    @classmethod
    def create(cls, shape: tuple[int, int, int]) -> FrameRing:
        """New memory for pictures of a shape."""
        file = os.memfd_create("hotstart-camera")
        os.ftruncate(file, count_bytes(shape))
        return cls(file, shape)

    @property
    def count(self) -> int:
        """Pictures written so far."""
        return int(self._newest[0])

    def write(self, picture: Picture, made_s: float) -> None:
        """Add a picture (H, W, 3)."""
        number = self.count + 1
        slot = number % SLOTS
        self._numbers[slot] = 2 * number - 1
        self._times_s[slot] = made_s
        self._pictures[slot] = picture
        self._numbers[slot] = 2 * number
        self._newest[0] = number

    def read(self) -> tuple[Picture, float] | None:
        """A copy of the newest picture and its time; None before the first one."""
        for _ in range(TRIES):
            number = self.count
            if number == 0:
                return None
            slot = number % SLOTS
            picture, made_s = self._pictures[slot].copy(), float(self._times_s[slot])
            if self._numbers[slot] == 2 * number:
                return picture, made_s
        return None

    def say(self, words: str) -> None:
        """Leave words for the other side; they replace those before."""
        data = words.encode()[:WORDS].ljust(WORDS, b"\0")
        self._words[:] = np.frombuffer(data, np.uint8)

    def hear(self) -> str:
        """The newest words."""
        return self._words.tobytes().rstrip(b"\0").decode(errors="replace")

    def close(self) -> None:
        """Let go of the file descriptor; the memory goes with the last array."""
        if self.file >= 0:
            os.close(self.file)
        self.file = -1


def count_bytes(shape: tuple[int, int, int]) -> int:
    """The memory that pictures of a shape take."""
    return 8 + 16 * SLOTS + WORDS + SLOTS * math.prod(shape)
