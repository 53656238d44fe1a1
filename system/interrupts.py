"""Signals that ask a program to stop: Ctrl-C, SIGTERM and SIGHUP do the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASKING = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
"""Signals that ask a program to stop."""
Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to stop; the message says what was saved."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = int(number)


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """128 + the signal's number, as in shells: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + number_of(interrupt)


def number_of(interrupt: KeyboardInterrupt) -> int:
    """The signal that asked."""
    if isinstance(interrupt, Interrupted):
        return interrupt.number
    return int(signal.SIGINT)


def explain(interrupt: KeyboardInterrupt, message: str) -> Interrupted:
    """The same interruption with words that tell what was saved."""
    return Interrupted(message, number_of(interrupt))


def interrupt_verb(number: int) -> Interrupted:
    """What a verb of the command line raises on a signal; its last words tell what was saved."""
    return Interrupted(f"stopped by {signal.Signals(number).name}", number)


def end_program(number: int) -> SystemExit:
    """What a program that knows nothing of signals ends with, its status as shells say it."""
    return SystemExit(128 + number)


@contextmanager
def signals_raise(make_error: Callable[[int], BaseException]) -> Iterator[None]:
    """Within it the first SIGTERM or SIGHUP raises `make_error(number)` in the main thread.

    Ctrl-C raises KeyboardInterrupt by itself. Signals that come later, while what was done is being
    saved or a robot is being stopped, are ignored. One that somebody handles or ignores already, as
    nohup does, is left alone.
    """
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise make_error(number)

    def raise_again() -> None:
        if seen:
            raise make_error(seen[0])

    unhandled = set()
    for number in ASKING - {signal.SIGINT}:
        if signal.getsignal(number) is signal.SIG_DFL:
            unhandled.add(number)
    with _handle(unhandled, handle):
        _AGAIN.append(raise_again)
        try:
            yield
        finally:
            _AGAIN.remove(raise_again)


_AGAIN: list[Callable[[], None]] = []
"""What raises the signals of the blocks of `signals_raise` that are open, the outermost first."""


def raise_lost() -> None:
    """Raise a signal's error once more where the program goes on as if there had been none.

    Code that drops every exception may drop this one: a callback of a C library, or numpy, which
    asks the classes of its arguments for attributes. A loop that moves a robot calls this in every
    turn.
    """
    for raise_again in tuple(_AGAIN):
        raise_again()


@contextmanager
def stop_flag() -> Iterator[Callable[[], int]]:
    """Within it the first signal is only noted, for work that must reach a place to be saved at.

    Yields a function that returns the signal's number, 0 while there was none. A second Ctrl-C
    raises Interrupted at once.
    """
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1 and number == signal.SIGINT:
            raise Interrupted("interrupted", number)

    with _handle(ASKING, handle):
        yield lambda: next(iter(asked), 0)


@contextmanager
def _handle(numbers: set[signal.Signals], handler: Handler) -> Iterator[None]:
    """Handle these signals unless they are ignored; does nothing outside the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
