"""A simulated Franka FR3, by `franky-sim` in an environment of its own: it needs numpy 2.

Its arm moves by gravity, contacts and torques in MuJoCo, and what it pushes does in the same
simulation. A mirror of it here judges the task, and is drawn.
"""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from ...spec import ConfigError, FloatArray, HotstartError
from . import franka_server

VARIABLE = "HOTSTART_FRANKY_SIM"
ANSWER_S = 2.0
END_S = 2.0
HINT = (
    "a simulated Franka arm needs franky-sim in an environment of its own, with numpy 2:\n"
    "  python3.12 -m venv franky_sim && franky_sim/bin/pip install franky-sim\n"
    f"then name it: environment=franky_sim, or export {VARIABLE}=$PWD/franky_sim"
)


def find_python(environment: str) -> Path:
    """The Python of an environment: the one named, else that of the variable HOTSTART_FRANKY_SIM.

    Raises ConfigError where there is none; the message says how to make it.
    """
    named = environment or os.environ.get(VARIABLE, "")
    if not named:
        raise ConfigError(HINT)
    folder = Path(named).expanduser()
    python = folder / "bin/python"
    if not python.exists():
        raise ConfigError(f"{folder} is no environment: it has no bin/python; {HINT}")
    return python


class FrankaTold(NamedTuple):
    """How arm and object are, as the simulator tells."""

    made_s: float
    """By `time.monotonic`."""
    joints: FloatArray
    """(7,) [rad]."""
    joint_speeds: FloatArray
    """(7,) [rad/s]."""
    width_m: float
    """Between the fingers."""
    pose: FloatArray
    """(7,) of the object: position [m], quaternion, w first."""
    speed: FloatArray
    """(6,) of the object."""
    puts: int
    """How often arm or object had been put elsewhere before."""


class FrankaServer:
    """The arm at `address`, ports 1337 and 1338, while it is open. Use it in a `with`.

    `strict`: 20 cycles of a millisecond without a command end a motion, as at the arm; a busy
    machine loses so many. `things`: MJCF, a `worldbody` with the free body `object`, joint and all,
    which lies beside the arm. `share` of real time is known when it has ended.
    """

    def __init__(
        self,
        environment: str = "",
        address: str = "127.0.0.1",
        strict: bool = False,
        things: str = "",
    ) -> None:
        self._words = [str(find_python(environment)), franka_server.__file__, address]
        if strict:
            self._words.append("--strict")
        if things:
            self._words.append(f"--things={things}")
        self.address = address
        self.share = float("nan")
        self.puts = 0
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[FrankaTold | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")  # __exit__ closes it
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: this end of its input ends it
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "ready":
                self._thread = threading.Thread(target=self._listen, name="franka", daemon=True)
                self._thread.start()
                return self
        self._process.wait()
        self._errors.seek(0)
        why = (self._errors.read().strip() or "no reason").splitlines()[-1]
        raise HotstartError(f"franky-sim at {self.address} did not start: {why}")

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._errors.close()

    def _listen(self) -> None:
        """Take in all that it says, until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *numbers = line.split()
            if word == "at":
                self._told.put(_read_told(np.array(numbers, np.float64), self.puts))
            elif word == "share":
                self.share = float(numbers[0])
            else:
                self.puts += word == "put"
                self._answers.put(word)
        self._told.put(None)

    def read(self) -> FrankaTold | None:
        """How it is, about 100 times a second; None where nothing is told any more."""
        return self._told.get()

    def begin_reflex(self) -> None:
        """Let the arm meet an obstacle: it stops, and stays until its error is cleared."""
        self._say("reflex")

    def put_arm(self, joints: FloatArray, width_m: float) -> None:
        """The arm is at joint angles (7,) at once, its fingers so far apart, at rest.

        Raises HotstartError where a client moves it.
        """
        self._ask("arm", [*joints, width_m])

    def put_object(self, pose: FloatArray) -> None:
        """The object is there at once, at rest: position and quaternion (7,), w first."""
        self._ask("object", list(pose))

    def _ask(self, word: str, numbers: Sequence[float]) -> None:
        self._say(" ".join([word, *map(str, map(float, numbers))]))
        try:
            answer = self._answers.get(timeout=ANSWER_S)
        except queue.Empty:
            raise HotstartError("the simulated arm does not answer") from None
        if answer == "busy":
            raise HotstartError("the simulated arm moves: stop it before it is put elsewhere")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()


def _read_told(numbers: FloatArray, puts: int) -> FrankaTold:
    """What the numbers (28,) of a line are."""
    return FrankaTold(
        made_s=time.monotonic(),
        joints=numbers[:7],
        joint_speeds=numbers[7:14],
        width_m=float(numbers[14]),
        pose=numbers[15:22],
        speed=numbers[22:],
        puts=puts,
    )
