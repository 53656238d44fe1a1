"""A camera in a process of its own: what hangs or dies there never holds up who reads."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ...spec import ConfigError
from ...system.children import start_module
from .base import CameraError, Picture
from .frame_ring import FrameRing

START_S = 10.0
"""How long the first picture may take."""
RETRY_S = 0.5
"""How long the first picture may take after the source has failed once."""
SILENT_S = 10.0
"""A process that shows nothing new for so long hangs, and is replaced."""
QUIET = {"OPENCV_LOG_LEVEL": "SILENT"}
"""OpenCV's own words are left out: ours say what can be done."""
WATCH_S = 0.05
LONGEST_PAUSE_S = 2.0
END_S = 1.0


class CameraProcess:
    """A camera whose source runs in a process that is watched.

    A process that dies, or shows nothing new for `silent_s`, is replaced. It ends with this one,
    however this one ends, and no file of shared memory is left behind.
    """

    def __init__(
        self,
        kind: str,
        options: Mapping[str, object],
        name: str,
        shape: tuple[int, int, int],
        fps: float,
        stale_s: float,
        silent_s: float = SILENT_S,
    ) -> None:
        """Use `make`; `shape` is (H, W, 3), and `read` refuses pictures older than `stale_s`."""
        if not (min(shape) > 0 and fps > 0 and stale_s > 0):
            raise ConfigError(
                f"camera {name} has shape {shape}, fps {fps:g} and stale_s {stale_s:g}; "
                "all must be above 0"
            )
        self.kind, self.options = kind, dict(options)
        self.name, self.shape = name, shape
        self.fps, self.stale_s = fps, stale_s
        self.silent_s = silent_s
        self.restarts = 0
        """How often the process was replaced."""
        self._ring: FrameRing | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self, wait_s: float = START_S) -> None:
        """Begin and wait for the first picture.

        CameraError where none comes within `wait_s`, or soon after the source has failed.
        """
        if self._ring is not None:
            return
        self._ring = FrameRing.create(self.shape)
        self._closing.clear()
        self._process = self._begin()
        self._watcher = threading.Thread(
            target=self._watch, name=f"camera {self.name}", daemon=True
        )
        self._watcher.start()
        until_s = time.monotonic() + wait_s
        failed = False
        while self._ring.count == 0:
            if time.monotonic() > until_s:
                words = self._explain("there is no picture")
                self.close()
                raise CameraError(words)
            if self._ring.hear() and not failed:
                failed = True
                until_s = min(until_s, time.monotonic() + RETRY_S)
            time.sleep(0.005)

    def read(self) -> tuple[Picture, float]:
        """The newest picture (H, W, 3) and when it was made [s, `time.monotonic`].

        Never waits. Raises CameraError where it is older than `stale_s`.
        """
        if self._ring is None:
            raise CameraError(f"camera {self.name} is not started; call start() first")
        newest = self._ring.read()
        if newest is None:
            raise CameraError(self._explain("there is no picture"))
        age_s = time.monotonic() - newest[1]
        if age_s > self.stale_s:
            said = f"the newest picture is {age_s:.2f} s old, stale_s allows {self.stale_s:g}"
            raise CameraError(self._explain(said))
        return newest

    def close(self) -> None:
        """End the process; may be called twice."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
        if self._process is not None:
            _end(self._process)
        if self._ring is not None:
            self._ring.close()
        self._watcher, self._process = None, None
        self._ring = None

    def _explain(self, what: str) -> str:
        """What is wrong, with the newest words of the process."""
        assert self._ring is not None, "it is started"
        place = self.options.get("place", "")
        said = self._ring.hear()
        if said:
            said = f" ({said})"
        return f"camera {self.name} ({self.kind} {place}): {what}{said}"

    def _begin(self) -> subprocess.Popen[bytes]:
        """Start a process and give it its job."""
        assert self._ring is not None, "it is started"
        job: dict[str, Any] = {"kind": self.kind, "options": self.options}
        job |= {"shape": self.shape, "fps": self.fps}
        process = start_module(f"{__package__}.worker", self._ring.files, subprocess.PIPE, QUIET)
        assert process.stdin is not None, "it has a pipe"
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        return process

    def _watch(self) -> None:
        """Replace a process that has died or hangs, after a pause that grows while none helps."""
        assert self._ring is not None, "it is started"
        count = self._ring.count
        changed_s = time.monotonic()
        pause_s = WATCH_S
        while not self._closing.wait(WATCH_S):
            assert self._process is not None, "it is started"
            now_s = time.monotonic()
            if self._ring.count > count:
                count, changed_s = self._ring.count, now_s
                pause_s = WATCH_S
            died = self._process.poll() is not None
            if not died and now_s - changed_s < self.silent_s:
                continue
            _end(self._process)
            if self._closing.wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._process = self._begin()
            self.restarts += 1
            changed_s = time.monotonic()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process; one that the kernel does not let go (a broken USB device) is left to it."""
    process.kill()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
