"""Being asked to stop: Ctrl-C, SIGTERM and SIGHUP do the same, and what is said at the end tells what was saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASKING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a program to stop."""
Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to stop; the message says what was saved."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = int(number)


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """128 + the number of the signal, as shells say it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number_of(interrupt)


def number_of(interrupt: KeyboardInterrupt) -> int:
    """The signal that asked."""
    if isinstance(interrupt, Interrupted):
        return interrupt.number
    return int(signal.SIGINT)


def explain(interrupt: KeyboardInterrupt, message: str) -> Interrupted:
    """The same interruption with words that tell what was saved."""
    return Interrupted(message, number_of(interrupt))


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within it the first SIGTERM or SIGHUP raises Interrupted in the main thread, as Ctrl-C raises KeyboardInterrupt.

    Those that come while what was done is being saved are ignored. A signal that is ignored, as by nohup, stays ignored.
    """
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise Interrupted(f"stopped by {signal.Signals(number).name}", number)

    with _handlers(handle, [number for number in ASKING if number != signal.SIGINT]):
        yield


@contextmanager
def stop_flag() -> Iterator[Callable[[], int]]:
    """Within it the first signal that asks to stop is only noted, for work that must reach a place where it can be saved.

    Yields a function that returns the signal's number, 0 while there was none. A second Ctrl-C raises Interrupted at once.
    """
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1 and number == signal.SIGINT:
            raise Interrupted("interrupted", number)

    with _handlers(handle, ASKING):
        yield lambda: asked[0] if asked else 0


@contextmanager
def _handlers(
    handler: Handler, numbers: list[signal.Signals] | tuple[signal.Signals, ...]
) -> Iterator[None]:
    """Handle these signals, as far as they are not ignored; nothing is changed outside the main thread."""
    main = threading.current_thread() is threading.main_thread()
    taken = [
        number for number in numbers if main and signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
