"""A simulated gripper of Robotiq: the text port of its URCap, and fingers that take their time."""

from __future__ import annotations

import socketserver
import threading
import time
from typing import Any, Self

from ...spec import ConfigError
from .faults import Faults

PORT = 63352
LONGEST_LINE = 1024
FULL_S = 0.6
"""From open to closed at full speed."""
ACTIVATION_S = 0.5
"""A real one takes 2 to 3 s."""
SETTABLE = ("ACT", "GTO", "POS", "SPE", "FOR", "ATR", "ADR")
MOVING = 0
ON_CLOSING = 2
AT_GOAL = 3


class Fingers:
    """The registers of a gripper, by the wall clock. Any thread may ask.

    `object_at`: the position (0 open, 255 closed) at which the fingers meet an object; None: there
    is none.
    """

    def __init__(self, object_at: float | None = None) -> None:
        self.object_at = object_at
        self._set = {"ACT": 0, "GTO": 0, "POS": 0, "SPE": 255, "FOR": 255, "ATR": 0, "ADR": 0}
        self._position = 0.0
        self._moved_s = time.monotonic()
        self._active_s = float("inf")
        self._lock = threading.Lock()

    def set(self, name: str, value: int) -> None:
        """Write a register."""
        with self._lock:
            self._move()
            if name == "ACT":
                self._activate(value)
            self._set[name] = value

    def get(self, name: str) -> int | None:
        """Read a register; None: there is none of this name."""
        with self._lock:
            self._move()
            told = {**self._set, "PRE": self._set["POS"], "FLT": self._fault()}
            told["POS"] = round(self._position)
            told["STA"] = self._status()
            told["OBJ"] = self._object()
            return told.get(name)

    def _activate(self, value: int) -> None:
        if value and not self._set["ACT"]:
            self._active_s = time.monotonic() + ACTIVATION_S
        if not value:
            self._active_s = float("inf")

    def _status(self) -> int:
        if not self._set["ACT"]:
            return 0
        if time.monotonic() < self._active_s:
            return 1
        return 3

    def _fault(self) -> int:
        if self._status() != 3 and self._set["GTO"]:
            return 5
        return 0

    def _goal(self) -> float:
        """Where the fingers end."""
        goal = float(self._set["POS"])
        if self.object_at is None:
            return goal
        return min(goal, self.object_at)

    def _object(self) -> int:
        if self._position != self._goal():
            return MOVING
        if self._position < self._set["POS"]:
            return ON_CLOSING
        return AT_GOAL

    def _move(self) -> None:
        """Go on from where the fingers were when somebody asked last."""
        now = time.monotonic()
        passed_s = now - self._moved_s
        self._moved_s = now
        if not self._set["GTO"] or self._status() != 3:
            return
        share = 0.13 + 0.87 * self._set["SPE"] / 255  # 20 to 150 mm/s
        most = passed_s * 255 / FULL_S * share
        way = self._goal() - self._position
        self._position += min(max(way, -most), most)


class RobotiqServer:
    """The text port of a simulated gripper. Use it in a `with`."""

    def __init__(
        self, address: str, port: int = PORT, faults: Faults | None = None, active: bool = False
    ) -> None:
        """Listen; `active`: it was activated before. Raises ConfigError where the port is taken."""
        self.fingers = Fingers()
        self.faults = faults
        if active:
            self.fingers.set("ACT", 1)
        try:
            self._server = _Server((address, port), _Connection)
        except OSError as error:
            raise ConfigError(
                f"the port of the gripper, {address}:{port}, cannot be opened ({error.strerror}): "
                "another simulation may run there; give another address"
            ) from error
        self._server.gripper = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="robotiq", daemon=True
        )
        self._thread.start()

    def answer(self, line: str) -> str:
        """What it says to a line: `ack`, a register, or `?`."""
        words = line.split()
        if len(words) == 2 and words[0] == "GET":
            value = self.fingers.get(words[1])
            if value is None:
                return "?"
            return f"{words[1]} {value}"
        pairs = words[1:]
        if not pairs or words[0] != "SET" or len(pairs) % 2:
            return "?"
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            if name not in SETTABLE or not value.isdecimal() or int(value) > 255:
                return "?"
            self.fingers.set(name, int(value))
        return "ack"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    gripper: RobotiqServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's concern."""


class _Connection(socketserver.StreamRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        """Answer line by line; a bus that is silent answers nothing."""
        gripper = self.server.gripper
        while line := self.rfile.readline(LONGEST_LINE):
            answer = gripper.answer(line.decode("ascii", "replace"))
            faults = gripper.faults
            if faults is None or faults.active("bus_silence") is None:
                self.wfile.write(f"{answer}\n".encode())
