"""A serial port for the vendors' servo clients, with short timeouts and without a busy wait.

Both clients (scservo_sdk, dynamixel_sdk) call a port object by these names. Their own ports wait
for an answer 34 ms longer than its bytes take, by a constant of the module, spin while they wait,
measure with the wall clock, and the Feetech one keeps late answers for the next question.
"""

from __future__ import annotations

import errno
import os
import select
import termios
import time
from pathlib import Path
from typing import Any

from ...spec import ConfigError
from ..driver import DriverError


class SerialPort:
    """An open port that no other program can open through pyserial's lock meanwhile."""

    def __init__(self, path: str, baud: int, answer_s: float) -> None:
        """`answer_s`: how long an answer may take on top of the time of its bytes.

        Raises DriverError where the port cannot be opened, and says what to do.
        """
        self.path = path
        self.answer_s = answer_s
        self.patience_s = 0.0
        """An answer may take so long, where that is more."""
        self.is_using = False  # the clients' own lock
        self._baud = baud
        self._deadline_s = 0.0
        self._serial = _open(path, baud)

    def set_baud(self, baud: int) -> None:
        """Change the line's speed."""
        self._baud = baud
        self._serial.baudrate = baud

    def settle(self) -> None:
        """Wait for an answer that is late: it would pass for the answer to the next question."""
        time.sleep(max(self.answer_s, self.patience_s))

    def close(self) -> None:
        """Let go of it."""
        self._serial.close()

    # the clients' names

    def getBaudRate(self) -> int:
        """Bits a second."""
        return self._baud

    def clearPort(self) -> None:
        """Forget what came too late: it would pass for the next answer."""
        try:
            self._serial.reset_input_buffer()
        except termios.error as problem:
            raise OSError(errno.EIO, "the port is gone") from problem

    def writePort(self, packet: list[int]) -> int:
        """Send bytes; returns how many, 0 where the line takes none now.

        pyserial's own `write` fails, too, where this process was only kept waiting for 50 ms.
        """
        try:
            return os.write(self._serial.fileno(), bytes(packet))
        except BlockingIOError:
            return 0

    def readPort(self, length: int) -> list[int]:
        """Up to so many bytes, once there are any; none after the deadline."""
        descriptor = self._serial.fileno()
        wait = max(self._deadline_s - time.monotonic(), 0.0)
        if not select.select([descriptor], [], [], wait)[0]:
            return []
        try:
            raw = os.read(descriptor, length)
        except BlockingIOError:
            return []
        if not raw:
            raise OSError(errno.EIO, "the port is gone")
        return list(raw)

    def setPacketTimeout(self, packet_length: int) -> None:
        """Begin to wait for an answer of so many bytes."""
        wait = packet_length * 10 / self._baud + max(self.answer_s, self.patience_s)
        self._deadline_s = time.monotonic() + wait

    def setPacketTimeoutMillis(self, msec: float) -> None:
        """Begin to wait for so long."""
        self._deadline_s = time.monotonic() + msec / 1000

    def isPacketTimeout(self) -> bool:
        """Whether the wait is over."""
        return time.monotonic() > self._deadline_s


def _open(path: str, baud: int) -> Any:
    try:
        import serial
    except ImportError as problem:
        raise ConfigError('pyserial is missing: pip install "pyserial>=3.5"') from problem
    try:
        return serial.Serial(path, baud, timeout=0, exclusive=True)
    except (OSError, ValueError) as problem:
        raise DriverError(_explain(path, problem)) from problem


def _explain(path: str, problem: Exception) -> str:
    number = getattr(problem, "errno", None)
    if number == errno.ENOENT:
        found = sorted(str(port) for port in Path("/dev").glob("tty[AU][CS][MB]*"))
        return (
            f"there is no port {path}: plug the adapter in and name its port; "
            f"found: {', '.join(found) or 'none'}"
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"no permission for {path}: sudo usermod -aG dialout $USER, then log in again"
    if number in (errno.EBUSY, errno.EWOULDBLOCK):
        return f"{path} is in use by another program: end it, or name another port"
    return f"{path} cannot be opened: {problem}"
