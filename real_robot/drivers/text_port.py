"""A device that talks in lines of text over TCP: one line asks, one line answers."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from ..driver import DriverError


class TextPort:
    """A connection to such a device; use it in a `with`. Every call ends within `timeout_s`.

    `device` names it in messages, `remedy` says what to look at where it does not answer. Raises
    DriverError where it cannot be reached.
    """

    def __init__(self, host: str, port: int, device: str, remedy: str, timeout_s: float) -> None:
        self._where = f"the {device} at {host}:{port}"
        try:
            self._link = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise DriverError(f"{self._where} does not answer ({error}): {remedy}") from error
        self._lines = self._link.makefile("r", encoding="utf-8", errors="replace")

    def ask(self, line: str) -> str:
        """Its answer; raises DriverError where none comes."""
        try:
            self._link.sendall(f"{line}\n".encode())
        except OSError as error:
            raise DriverError(f"{self._where} is gone: {error}") from error
        return self.read_line()

    def read_line(self) -> str:
        """The next line that it says."""
        try:
            line = self._lines.readline()
        except OSError as error:
            raise DriverError(f"{self._where} does not answer: {error}") from error
        if not line:
            raise DriverError(f"{self._where} closed the connection")
        return line.strip()

    def close(self) -> None:
        """Let go of the connection; may be called twice."""
        self._lines.close()
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
