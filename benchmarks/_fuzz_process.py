"""The process that reads the files of `hotstart bench fuzz`, seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """What came of reading one file."""

    outcome: str
    said: str
    seconds: float


class Worker:
    """A process that reads files; a new one takes its place when it dies or hangs."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self.folder = folder
        self.limit_s = limit_s
        self.process: subprocess.Popen[str] | None = None

    def read(self, kind: str, path: Path) -> Answer:
        """Read one file."""
        process = self._ensure_process()
        assert process.stdin is not None
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{kind}\t{path}\n")
            process.stdin.flush()
        line = self._read_line(process, self.limit_s)
        seconds = time.monotonic() - began
        if line:
            outcome, said = json.loads(line)
            return Answer(outcome, said, seconds)
        if process.poll() is None and line is None:
            outcome = "hang"
        else:
            outcome = "crash"
        process.kill()
        code = process.wait()
        self.process = None
        return Answer(outcome, f"exit status {code} after {seconds:.1f} s", seconds)

    def _ensure_process(self) -> subprocess.Popen[str]:
        if self.process is None:
            command = [sys.executable, "-m", f"{__package__}._fuzz_worker"]
            paths = [str(self.folder), os.environ.get("PYTHONPATH", "")]
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "OMP_NUM_THREADS": "1",
            }
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            if self._read_line(self.process, 120.0) != "ready\n":
                raise RuntimeError("the process that reads the files does not start")
        return self.process

    @staticmethod
    def _read_line(process: subprocess.Popen[str], limit_s: float) -> str | None:
        """The next line; empty where the process has ended, None where nothing came in time."""
        assert process.stdout is not None
        ready = select.select([process.stdout], [], [], limit_s)[0]
        if ready:
            return process.stdout.readline()
        return None

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
