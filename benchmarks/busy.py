"""Times training and planning beside other busy programs.

One process has torch's own long spin, the other one our short one.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from ..evaluation.results import machine
from ..spec import HotstartError, option
from ..system import outputs
from ..system.threads import COUNTS, WAITING
from ..system.versions import versions

WHATS = {
    "train_small": "training step, U-Net 32-64-128, batch 128",
    "train_large": "training step, U-Net 64-128-256, batch 128",
    "evaluation": "planning call of 50 rows, DDIM-10, one after the other (evaluation)",
    "control": "planning call of one row, DDIM-10, every 50 ms (control loop)",
}
FIRST = {"before": "torch", "after": "hotstart"}
"""Which package a process imports first: where it is torch, nothing limits the spin."""
CHILD = "import {first}; from {module} import main; main()"
BUSY = """import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1000000): pass"""
START_S = 120.0
"""How long a process may take to start and warm up."""


@dataclass
class Options:
    """Measure two processes in turns.

    One imports torch first (before), the other one hotstart (after).
    """

    programs: tuple[int, ...] = option((0, 1, 2, 8), "numbers of busy programs")
    whats: tuple[str, ...] = option(tuple(WHATS), f"what to time: {', '.join(WHATS)}")
    seconds: float = option(3.0, "time for each cell; what is under way then is finished")
    limit: float = option(12.0, "seconds after which a cell is given up and shown as >")
    threads: int = option(0, "threads; 0 leaves torch's own choice")
    total: float = option(330.0, "seconds after which no cell is begun any more")
    out: str = option("", "file for all figures; empty: none")
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


@dataclass(frozen=True)
class Cell:
    """Seconds of steps or calls.

    `count` is 0 where not one was finished within the limit; `p50_s` is the limit then.
    """

    what: str
    programs: int
    setting: str
    count: int
    p50_s: float
    p99_s: float


def run(options: Options) -> None:
    """Print p50 and p99 of everything that is timed, by the number of busy programs."""
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    for what in options.whats:
        if what not in WHATS:
            raise HotstartError(f"whats names {what!r}; valid are {', '.join(WHATS)}")
    cells: list[Cell] = []
    end_s = time.monotonic() + options.total
    with ExitStack() as stack:
        children = {}
        for setting in FIRST:
            children[setting] = stack.enter_context(_Child(setting, options.whats, options.threads))
        print(
            f"{len(os.sched_getaffinity(0))} CPUs, {children['after'].threads} threads, load "
            f"{os.getloadavg()[0]:.1f} at first"
        )
        print(
            f"{'':<12}{'busy':>6}{'before: p50':>20}{'p99 ms':>12}{'after: p50':>20}{'p99 ms':>12}"
        )
        for programs, what in itertools.product(options.programs, options.whats):
            if time.monotonic() > end_s:
                print(f"{what:<12}{programs:>6}  left out: {options.total:g} s are over (total=)")
                continue
            pair = [_measure(child, what, programs, options) for child in children.values()]
            print(f"{what:<12}{programs:>6}" + "".join(map(_columns, pair)), flush=True)
            cells += pair
    for what in options.whats:
        print(f"{what}: {WHATS[what]}")
    if options.out:
        kept = {
            "cells": [asdict(cell) for cell in cells],
            "threads": children["after"].threads,
            "whats": WHATS,
        }
        kept |= {"machine": machine(), "versions": versions()}
        outputs.write_text(Path(options.out), json.dumps(kept, indent=1))


def _measure(child: _Child, what: str, programs: int, options: Options) -> Cell:
    with keep_busy(programs):
        seconds = child.ask(what, options.seconds, options.limit)
    if seconds is None:
        child.restart()
        return Cell(what, programs, child.setting, 0, options.limit, options.limit)
    p50, p99 = np.percentile(seconds, (50, 99))
    return Cell(what, programs, child.setting, len(seconds), float(p50), float(p99))


def _columns(cell: Cell) -> str:
    sign = ""
    if not cell.count:
        sign = ">"
    p50 = f"{sign}{cell.p50_s * 1e3:.1f}"
    p99 = f"{sign}{cell.p99_s * 1e3:.1f}"
    return f"{p50:>20}{p99:>12}"


@contextmanager
def keep_busy(programs: int) -> Iterator[None]:
    """Within it so many programs use a CPU each, as far as there are CPUs.

    They end with this process, too.
    """
    running = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(programs)]
    try:
        if running:
            time.sleep(0.3)
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


class _Child:
    """A process that times what it is asked."""

    def __init__(self, setting: str, whats: Sequence[str], threads: int = 0) -> None:
        self.setting = setting
        self._whats = whats
        module = f"{__name__.rpartition('.')[0]}._busy_child"
        self._code = CHILD.format(first=FIRST[setting], module=module)
        free = {}
        for name, value in os.environ.items():
            if name not in (*WAITING, *COUNTS):
                free[name] = value
        self._environment = free | {
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        }
        if threads:
            self._environment["OMP_NUM_THREADS"] = str(threads)
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-c", self._code, *self._whats]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment, text=True
        )
        ready = self._line(START_S)
        if ready is None:
            self.close()
            raise HotstartError(f"the measured process did not start within {START_S:g} s")
        self.threads = int(ready["threads"])

    def ask(self, what: str, seconds: float, limit_s: float) -> list[float] | None:
        """The seconds of each step or call; None where not one was finished within the limit."""
        questions = self._stream(self._process.stdin)
        questions.write(f"{what} {seconds}\n")
        questions.flush()
        return self._line(limit_s)

    def restart(self) -> None:
        """Begin anew: the process is busy with what was given up."""
        self.close()
        self._start()

    def close(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            self._stream(stream).close()

    def _line(self, limit_s: float) -> Any:
        """The next line of JSON, or None where it does not come in time."""
        answers = self._stream(self._process.stdout)
        if not select.select([answers], [], [], limit_s)[0]:
            return None
        text = answers.readline()
        if not text:
            raise HotstartError(f"the measured process ended with exit code {self._process.wait()}")
        return json.loads(text)

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream

    def __enter__(self) -> _Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
