"""A robot is stopped, whatever comes between: a `stop()` that fails is tried again."""

from __future__ import annotations

import time
import warnings
from typing import Protocol

from ..spec import StopError

TRIES = 5
PAUSE_S = 0.05
"""Between two tries [s]."""


class Stoppable(Protocol):
    """What can be stopped: a `Robot`."""

    def stop(self) -> None:
        """Bring it to a safe rest."""
        ...


class Stop:
    """Stops a robot once, whatever interrupts it."""

    def __init__(self, robot: Stoppable) -> None:
        self._robot = robot
        self._done = False

    def now(self) -> None:
        """Call `robot.stop()`, at most TRIES times while it raises; does nothing the second time.

        Warns of what it raised where a later try helped, and raises StopError where none did. A
        Ctrl-C or a signal that comes meanwhile is raised when the robot stands still.
        """
        if self._done:
            return
        failures: list[BaseException] = []
        while not self._done and len(failures) < TRIES:
            try:
                self._robot.stop()
                self._done = True
            except BaseException as error:
                failures.append(error)
                time.sleep(PAUSE_S)
        stopped, self._done = self._done, True
        if not stopped:
            raise StopError(
                f"the robot could not be stopped: stop() raised {TRIES} times, "
                f"at last {_describe(failures[-1])}; cut its power if it still moves"
            ) from failures[-1]
        for error in failures:
            if not isinstance(error, Exception):
                raise error
            warnings.warn(
                f"robot.stop() raised {_describe(error)} and was called again",
                RuntimeWarning,
                stacklevel=2,
            )


def _describe(error: BaseException) -> str:
    if str(error):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
