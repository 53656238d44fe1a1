"""The process that holds a vendor's client, as a driver sees it: it asks with a time limit.

`link_server` is the other side. A client may keep Python's lock while it waits, wait without a
limit, or abort its process; a driver ends the process where it does not answer.
"""

from __future__ import annotations

import math
import os
import select
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from ...spec import ConfigError
from ..driver import DriverError
from .link_server import ENDED

CLOSE_S = 1.0
SLICE_S = 0.02


class LinkProcess:
    """A process of `link_server`, and the pipe to it. Any thread may ask.

    `module`: its name in this folder. `options`: the word it is told. `where`: names the arm.
    """

    def __init__(self, module: str, options: str, where: str) -> None:
        self._where = where
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-m", f"{__package__}.{module}"]
        self._process = subprocess.Popen(
            [*words, str(theirs.fileno()), options],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the controller, which stops the arm by itself
        )
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._answers: dict[int, Any] = {}
        self._number = 0

    def wait_until_ready(self, timeout_s: float) -> str:
        """What went wrong until then, or nothing."""
        try:
            return self._await(0, timeout_s)
        except DriverError as error:
            return str(error)

    def send(self, kind: str, content: Any = None) -> int:
        """Send a message, and say its number; raises DriverError where the process has ended."""
        with self._sending:
            self._number += 1
            number = self._number
            try:
                if not select.select([], [self._pipe], [], 0)[1]:
                    raise self._make_error("takes no more messages")
                self._pipe.send((number, kind, content))
            except OSError as error:
                raise self._make_error("has ended: the connection is lost, `recover`") from error
        return number

    def ask(self, kind: str, timeout_s: float) -> Any:
        """Its answer; raises DriverError where none comes in time."""
        return self._await(self.send(kind), timeout_s)

    def _await(self, number: int, timeout_s: float) -> Any:
        limit = time.monotonic() + timeout_s
        while True:
            with self._receiving:
                if number in self._answers:
                    return self._answers.pop(number)
                left = limit - time.monotonic()
                if left <= 0:
                    raise self._make_error(
                        f"has not answered for {timeout_s} s, as when the controller is silent"
                    )
                self._receive(min(left, SLICE_S))

    def _receive(self, timeout_s: float) -> None:
        """Put an answer that comes within this time to the others."""
        try:
            if self._pipe.poll(timeout_s):
                number, content = self._pipe.recv()
                self._answers[number] = content
        except (EOFError, OSError) as error:
            why = self._answers.get(ENDED, "the connection is lost")
            raise self._make_error(f"has ended ({why}): `recover`") from error

    def _make_error(self, what: str) -> DriverError:
        return DriverError(f"the client of {self._where} {what}")

    def close(self) -> None:
        """Let it end the control program and itself."""
        try:
            self.send("close")
            self._process.wait(CLOSE_S)
        except (DriverError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()


class LinkedArm:
    """The part of a driver that holds the process of a vendor's client."""

    host: str
    silence_s: float
    """How long the arm may tell nothing."""
    _link: LinkProcess | None = None

    def close(self) -> None:
        """See `Driver`."""
        link = self._link
        if link is not None:
            self._link = None
            link.close()

    def _get_link(self) -> LinkProcess:
        if self._link is None:
            raise DriverError(f"there is no connection to the arm at {self.host}: `connect` first")
        return self._link

    def _check_silence(self, made_s: float, port: int) -> None:
        """Raise DriverError where the newest state of the arm is too old."""
        silent = time.monotonic() - made_s
        if silent > self.silence_s:
            raise DriverError(
                f"{self.host}:{port} has told nothing for {silent:.2f} s: is the cable in, "
                "and is the controller up?"
            )

    def _drop_link(self) -> None:
        link = self._link
        self._link = None
        if link is not None:
            link.kill()


def check_option(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError for an option that is not within what is possible."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name} is {value}; {low:g} to {high:g} are possible")
