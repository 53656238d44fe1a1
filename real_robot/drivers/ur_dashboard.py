"""The dashboard of a controller of Universal Robots: one line asks, one line answers.

It needs nothing but a socket, so that it also works when `ur_rtde` does not.
"""

from __future__ import annotations

import socket
from types import TracebackType

from ..driver import DriverError

PORT = 29999
TIMEOUT_S = 1.0


class Dashboard:
    """A connection to the dashboard; use it in a `with`. Every call ends within `timeout_s`.

    Raises DriverError where the controller does not answer.
    """

    def __init__(self, host: str, timeout_s: float = TIMEOUT_S) -> None:
        self._where = f"{host}:{PORT}"
        try:
            self._link = socket.create_connection((host, PORT), timeout_s)
        except OSError as error:
            raise DriverError(
                f"no controller of Universal Robots answers at {self._where} ({error}): is it "
                "switched on, is the address the one that the pendant shows under Settings, "
                "System, Network, and does `ping` reach it?"
            ) from error
        self._lines = self._link.makefile("r", encoding="utf-8", errors="replace")
        self._read_line()  # the greeting

    def ask(self, line: str) -> str:
        """Its answer."""
        try:
            self._link.sendall(f"{line}\n".encode())
        except OSError as error:
            raise DriverError(f"the dashboard at {self._where} is gone: {error}") from error
        return self._read_line()

    def ask_word(self, line: str) -> str:
        """The last word of its answer: RUNNING of "Robotmode: RUNNING"."""
        return self.ask(line).rpartition(" ")[2]

    def _read_line(self) -> str:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise DriverError(f"the dashboard at {self._where} does not answer: {error}") from error
        if not line:
            raise DriverError(f"the dashboard at {self._where} closed the connection")
        return line.strip()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._link.close()
