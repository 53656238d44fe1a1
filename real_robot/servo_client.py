"""The policy's side of a controller process: starts it, hands plans over, reads what it tells."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .. import spec
from ..spec import ConfigError, HotstartError, TimedActions
from ..system.threads import ONE_THREAD
from . import link
from .driver import Driver, DriverError
from .link import MOST_ACTIONS, MOVING, Description, Failure, Mode, Order
from .servo import ServoOptions, Setup
from .shared_memory import Queue, QueueFullError, Ring

PACKAGE = __name__.rpartition(".")[0]
CODE = f"from {PACKAGE}.servo import main; main()"
START_S = 90.0
"""Connecting may take so long: an arm is powered on, its brakes are released."""
ANSWER_S = 8.0
"""An order is carried out within this time: an arm has to come to rest."""
SILENT_S = 0.5
"""A controller that has written nothing for so long while the arm moves hangs."""
RESTING_S = 3.0
"""The same while the arm rests: stopping and recovering take a vendor's client up to a second."""
END_S = 3.0
POLL_S = 0.002


class ServoClient:
    """A controller process, from its start to its end."""

    def __init__(self, factory: Callable[[], Driver], options: ServoOptions) -> None:
        """Start it, and wait until its driver is connected.

        Raises ConfigError and DriverError as the driver does, and ConfigError for a factory that
        cannot be sent to another process.
        """
        self._lock = threading.Lock()
        self._number = 0
        self._closed = False
        self._last_report: dict[str, Any] = {}
        if getattr(factory, "__module__", "") == "__main__":
            raise ConfigError(
                "the driver's factory is of the main program, which another process does not "
                "import: give a DriverFactory, or a function or class of a module"
            )
        ours, theirs = Pipe()
        with theirs:
            self._process = _start(theirs)
        self._end = weakref.finalize(self, _end, self._process)
        with ours:
            try:
                self.description = _shake_hands(ours, self._process, Setup(factory, options))
                self._open(self.description)
            except BaseException:
                self._end()
                raise

    def _open(self, told: Description) -> None:
        """Open the shared memory, and take its names away: nothing is left whoever dies."""
        width = told.action_spec.width
        state_record = link.make_state_record(width, told.obs_spec)
        self.states = Ring.attach(told.states, state_record)
        self._reports = Ring.attach(told.reports, link.REPORT_RECORD)
        self._messages = Queue.attach(told.messages, link.make_message_record(width))
        for block in (self.states, self._reports, self._messages):
            block.unlink()

    @property
    def pid(self) -> int:
        """The controller's process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def newest(self) -> NDArray[Any]:
        """The newest state; raises DriverError for a fault, and for a controller that is gone."""
        self.check()
        return self.look()

    def look(self) -> NDArray[Any]:
        """The newest state, whatever has happened."""
        state = self.states.newest()
        assert state is not None  # one is written before the controller says that it is ready
        return state

    def check(self) -> None:
        """Raise DriverError unless the controller runs and knows of no fault."""
        state = self.look()
        fault = state["fault"].tobytes().rstrip(b"\0").decode()
        if fault:
            raise DriverError(f"the arm is stopped: {fault}")
        if not self.is_alive():
            raise DriverError(self._explain_end(state))
        silent_s = time.monotonic() - float(state["written_s"])
        allowed_s = RESTING_S
        if int(state["mode"]) in MOVING:
            allowed_s = SILENT_S
        if silent_s > allowed_s:
            raise DriverError(
                f"the controller process has written nothing for {silent_s:.1f} s: it hangs; "
                "look at the arm, and at what else runs on this machine"
            )

    def _explain_end(self, state: NDArray[Any]) -> str:
        status = self._process.returncode
        text = f"the controller process has ended (status {status})"
        if int(state["mode"]) in (Mode.STOPPED, Mode.FAULT):
            return f"{text}; it has stopped the arm"
        watchdog_s = self.description.watchdog_s
        if watchdog_s is None:
            return f"{text}; this arm has no watchdog of its own: it may still hold its last target"
        return f"{text}; the arm's own watchdog stops it within {watchdog_s:g} s"

    def put(self, order: Order, plan: TimedActions | None = None) -> int:
        """Hand an order over; returns its number. Raises DriverError where nobody takes it."""
        with self._lock:
            self._number += 1
            message = self._messages.blank()
            message["order"], message["number"] = int(order), self._number
            if plan is not None:
                count = min(len(plan), MOST_ACTIONS)
                message["count"] = count
                message["times_s"][0, :count] = plan.times_s[:count]
                message["actions"][0, :count] = plan.actions[:count]
            try:
                self._messages.put(message)
            except QueueFullError as error:
                raise DriverError(f"the controller process hangs: {error}") from error
            return self._number

    def wait(self, number: int, seconds: float = ANSWER_S) -> None:
        """Return when an order was carried out; raises DriverError where that does not come."""
        until_s = time.monotonic() + seconds
        while int(self.look()["answered"]) < number:
            if not self.is_alive():
                raise DriverError(self._explain_end(self.look()))
            if time.monotonic() > until_s:
                raise DriverError(
                    f"the controller process has not answered for {seconds:g} s; "
                    "press the emergency stop if the arm moves"
                )
            time.sleep(POLL_S)

    def stop(self, at_once: bool = False) -> None:
        """Bring the arm to rest, and let its driver stop it; returns when that is done.

        `at_once`: as fast as the driver does it, instead of within the limits of the arm's motion.
        Raises DriverError where it cannot be known to be done.
        """
        if self._closed:
            return
        order = Order.STOP
        if at_once:
            order = Order.STOP_AT_ONCE
        if self.is_alive():
            try:
                self.wait(self.put(order))
                return
            except DriverError:
                if self.is_alive():
                    raise
        state = self.look()
        if int(state["mode"]) not in (Mode.STOPPED, Mode.FAULT, Mode.IDLE):
            raise DriverError(self._explain_end(state))

    def report(self) -> dict[str, Any]:
        """The newest statistics, as plain values; empty before the first."""
        if self._closed:
            return self._last_report
        found = self._reports.newest()
        if found is None:
            return {}
        return json.loads(found["text"].tobytes().rstrip(b"\0"))

    def close(self) -> None:
        """Stop the arm, end the process, and let go of the memory; may be called twice."""
        if self._closed:
            return
        try:
            if self.is_alive():
                self.put(Order.CLOSE)
                self._process.wait(ANSWER_S)
        except (DriverError, subprocess.TimeoutExpired):
            pass  # it is ended in another way
        finally:
            self._end()
            self._last_report = self.report()
            self._closed = True
            for block in (self.states, self._reports, self._messages):
                block.close()


def _start(theirs: Connection) -> subprocess.Popen[bytes]:
    """A fresh interpreter: it shares nothing with this one, and imports no main program."""
    number = theirs.fileno()
    paths = [path or str(Path.cwd()) for path in sys.path]
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", CODE, str(number), str(os.getpid())],
        pass_fds=[number],
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def _shake_hands(ours: Connection, process: subprocess.Popen[bytes], setup: Setup) -> Description:
    """Send the setup, and wait for the description; raises what the other side says went wrong."""
    try:
        sent = pickle.dumps(setup)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the driver's factory cannot be sent to another process ({error}): "
            "give a DriverFactory, or a function or class of a module"
        ) from error
    ours.send_bytes(sent)
    if not ours.poll(START_S):
        raise DriverError(f"the driver has not connected within {START_S:g} s")
    try:
        told = ours.recv()
    except EOFError:
        status = process.wait()
        raise DriverError(f"the controller process ended at its start (status {status})") from None
    if isinstance(told, Description):
        return told
    raise _make_error(told)


def _make_error(failure: Failure) -> HotstartError:
    """What the controller process raised."""
    kinds = {"DriverError": DriverError}
    found = kinds.get(failure.kind) or getattr(spec, failure.kind, None)
    if isinstance(found, type) and issubclass(found, HotstartError):
        return found(failure.message)
    return DriverError(f"the controller process failed: {failure.kind}: {failure.message}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process: it stops the arm first."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
