"""The camera's process: it opens a source, again after every error, and shares its pictures."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from ...spec import HotstartError
from ...system.lifelines import end_with
from .base import Source
from .frame_ring import FrameRing
from .pictures import fit_picture
from .sources import REGISTRY

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Pauses between two tries to open a source; each is twice as long as the one before."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source."""

    height: int
    width: int
    fps: float


def main() -> None:
    """Entry: the job comes as a line of JSON on standard input, whose end is that of the process.

    The arguments are the numbers of the shared memory's files.
    """
    job: dict[str, Any] = json.loads(read_line(sys.stdin.fileno()))
    end_with(sys.stdin.fileno(), grace_s=0.0)
    height, width = job["shape"][:2]
    ring = FrameRing.attach((height, width, 3), int(sys.argv[1]), int(sys.argv[2]))
    source: Source = REGISTRY.make(job["kind"], **job["options"])
    serve(source, ring, Wanted(height, width, job["fps"]))


def read_line(file: int) -> bytes:
    """A line, byte by byte: what comes after it stays where it is."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(file, 1)
        if not part:
            os._exit(0)
        line += part
    return line


def serve(source: Source, ring: FrameRing, wanted: Wanted) -> None:
    """Share pictures for ever; what goes wrong is said, and tried again after a pause."""
    pause_s = FIRST_PAUSE_S
    while True:
        before = ring.count
        try:
            _share(source, ring, wanted)
        except (HotstartError, OSError) as error:
            ring.say(str(error) or type(error).__name__)
        source.close()
        if ring.count > before:
            pause_s = FIRST_PAUSE_S
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _share(source: Source, ring: FrameRing, wanted: Wanted) -> None:
    """Open a source and share its pictures until something goes wrong."""
    source.open(wanted.height, wanted.width, wanted.fps)
    while True:
        picture, made_s = source.grab()
        ring.write(fit_picture(picture, wanted.height, wanted.width), made_s)
