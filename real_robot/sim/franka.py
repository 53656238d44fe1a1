"""A simulated Franka FR3, by `franky-sim` in an environment of its own: it needs numpy 2.

Its arm moves by gravity, contacts and torques in MuJoCo. It has no stage and no cameras: there is
nothing to push.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

from ...spec import ConfigError, HotstartError
from . import franka_server

VARIABLE = "HOTSTART_FRANKY_SIM"
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


class FrankaServer:
    """The arm at `address`, ports 1337 and 1338, while it is open. Use it in a `with`.

    `strict`: 20 cycles of a millisecond without a command end a motion, as at the arm; a busy
    machine loses so many. `share` of real time is known when it has ended.
    """

    def __init__(
        self, environment: str = "", address: str = "127.0.0.1", strict: bool = False
    ) -> None:
        self._python = find_python(environment)
        self.address = address
        self.strict = strict
        self.share = float("nan")

    def __enter__(self) -> Self:
        words = [str(self._python), franka_server.__file__, self.address]
        if self.strict:
            words.append("--strict")
        self._told = tempfile.TemporaryFile("w+")  # __exit__ closes it
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: this end of its input ends it
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "ready":
                return self
        self._process.wait()
        self._told.seek(0)
        why = (self._told.read().strip() or "no reason").splitlines()[-1]
        raise HotstartError(f"franky-sim at {self.address} did not start: {why}")

    def __exit__(self, *_: object) -> None:
        try:
            self.share = float(self._process.communicate(timeout=END_S)[0])
        except (subprocess.TimeoutExpired, ValueError):
            self._process.kill()
            self._process.communicate()
        self._told.close()

    def begin_reflex(self) -> None:
        """Let the arm meet an obstacle: it stops, and stays until its error is cleared."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("reflex\n")
            self._process.stdin.flush()

    def describe(self) -> str:
        """The words of `hotstart deploy` that reach it."""
        return (
            "a simulated FR3 is ready; it has no stage and no cameras:\n"
            f"  hotstart deploy CHECKPOINT robot=franka robot.host={self.address}"
        )

    def wait(self) -> None:
        """Until it ends by itself, or the program is interrupted."""
        self._process.wait()
