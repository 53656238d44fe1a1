"""However a loop ends, the robot is stopped: signals become exceptions, and a `stop()` that fails is tried again."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..spec import StopError

TRIES = 5
PAUSE_S = 0.05
"""Between two tries."""
ENDING = ("SIGTERM", "SIGHUP")


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
        """Call `robot.stop()`, TRIES times while it raises; does nothing the second time.

        Warns of what it raised where a later try helped, and raises StopError where none did. A Ctrl-C or a signal that
        comes meanwhile is raised when the robot stands still.
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
                f"the robot could not be stopped: stop() raised {TRIES} times, at last {_words(failures[-1])}; "
                "cut its power if it still moves"
            ) from failures[-1]
        for error in failures:
            if not isinstance(error, Exception):
                raise error
            warnings.warn(
                f"robot.stop() raised {_words(error)} and was called again",
                RuntimeWarning,
                stacklevel=2,
            )


@contextmanager
def signals_raised() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise SystemExit(128 + number) in the main thread, as Ctrl-C raises KeyboardInterrupt.

    A signal that somebody handles or ignores already is left alone. In another thread nothing is changed.
    """
    taken: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        known = []
        for name in ENDING:
            if hasattr(signal, name):
                known.append(getattr(signal, name))
        taken = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _words(error: BaseException) -> str:
    if str(error):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
