"""Keys pressed in a terminal, without a display server."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Collection
from typing import Any, Protocol

from ..spec import ConfigError

NAMES = {
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b" ": "space",
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b"\x1b": "escape",
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1b[5~": "page_up",
    b"\x1b[6~": "page_down",
}
"""What terminals send for keys that are no letters."""
SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
REST_S = 0.02
"""The rest of a key's bytes comes within so much."""
KEPT_S = 1.0
"""A key that nobody has taken for so long is dropped: it was meant for then."""


class Keys(Protocol):
    """Keys as they are pressed; several listeners take those that are theirs."""

    @property
    def closed(self) -> bool:
        """Whether the terminal is gone, and nobody can press a key any more."""
        ...

    def take(self, names: Collection[str]) -> list[str]:
        """The keys of these names that were pressed since they were last taken, oldest first.

        Letters are lower case; others are called as in NAMES.
        """
        ...


class KeyBox:
    """Keys that wait to be taken; scripts press them by `press`."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, str]] = deque(maxlen=256)
        self._lock = threading.Lock()
        self.closed = False
        """Whether no key can come any more."""

    def press(self, *names: str) -> None:
        """Add keys."""
        now_s = time.monotonic()
        with self._lock:
            self._waiting.extend((now_s, name) for name in names)

    def take(self, names: Collection[str]) -> list[str]:
        """As `Keys.take`; the others stay for who wants them, for KEPT_S."""
        oldest_s = time.monotonic() - KEPT_S
        taken: list[str] = []
        left: list[tuple[float, str]] = []
        with self._lock:
            for pressed_s, name in self._waiting:
                if pressed_s < oldest_s:
                    continue
                if name in names:
                    taken.append(name)
                else:
                    left.append((pressed_s, name))
            self._waiting.clear()
            self._waiting.extend(left)
        return taken


class TerminalKeys(KeyBox):
    """Keys of a terminal, read in a thread while the context is open.

    Keys are not shown and need no Enter; Ctrl-C stays what it is. The terminal is as before
    afterwards.
    """

    def __init__(self, file: int | None = None) -> None:
        """Read the terminal of an open file; None: that of standard input.

        Raises ConfigError where it is no terminal.
        """
        super().__init__()
        self._file = sys.stdin.fileno() if file is None else file
        if not os.isatty(self._file):
            raise ConfigError(
                "keys are read from a terminal, and standard input is none: "
                "call it in a terminal (with ssh -t over ssh, with -it in docker)"
            )
        self._before: list[Any] = []
        self._ends = (-1, -1)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> TerminalKeys:
        """Begin to read."""
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)
        self._ends = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="keys", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        os.write(self._ends[1], b".")
        assert self._thread is not None, "it was begun"
        self._thread.join()
        for end in self._ends:
            os.close(end)
        if not self.closed:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def _listen(self) -> None:
        """Read keys until the end of the context, or of the terminal."""
        while True:
            ready = select.select([self._file, self._ends[0]], [], [])[0]
            if self._ends[0] in ready:
                return
            raw = self._read()
            if not raw:
                self.closed = True
                return
            unfinished = raw.endswith((b"\x1b", b"\x1b[", b"\x1bO"))
            if unfinished and select.select([self._file], [], [], REST_S)[0]:
                raw += self._read()
            self.press(*read_keys(raw))

    def _read(self) -> bytes:
        """What the terminal has; nothing where it is gone."""
        try:
            return os.read(self._file, 64)
        except OSError:
            return b""


def read_keys(raw: bytes) -> list[str]:
    """The names of keys in what a terminal sent; unknown ones are left out."""
    found: list[str] = []
    for match in SEQUENCE.finditer(raw):
        part = match.group().replace(b"\x1bO", b"\x1b[")
        if part in NAMES:
            found.append(NAMES[part])
        elif len(part) == 1 and chr(part[0]).isprintable() and part[0] < 128:
            found.append(chr(part[0]).lower())
    return found
