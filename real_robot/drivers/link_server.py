"""The process that holds a vendor's client, from within: it does what its driver asks.

It ends by itself where the connection to the arm is lost, and stops the arm where the driver's
process dies. Messages are pickled tuples over a pipe between two processes of one program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ...system.lifelines import end_with

ENDED = -1
"""The number of the message that says why this process ends."""


class Link(Protocol):
    """A vendor's client, connected. Whatever it throws ends the process."""

    kick_s: float
    """`idle` is called at least so often [s]."""

    def idle(self) -> None:
        """Do what is due while nothing is asked."""
        ...

    def check(self) -> None:
        """Raise where the connection is not what it was."""
        ...

    def servo(self, target: Any) -> None:
        """Hand the arm a target."""
        ...

    def read(self) -> tuple[Any, ...]:
        """The newest state."""
        ...

    def stop(self) -> str:
        """Slow down to rest; why the arm did not take that, or nothing."""
        ...

    def rearm(self) -> str:
        """Make the arm ready again; what went wrong, or nothing."""
        ...

    def end(self) -> None:
        """Stop, and let go of the arm."""
        ...


def serve(link: Link, pipe: Connection) -> None:
    """Do what the driver asks until it closes or dies; raises what the client throws."""
    answers = {"read": link.read, "stop": link.stop, "rearm": link.rearm}
    while True:
        link.idle()
        if not pipe.poll(link.kick_s):
            continue
        try:
            messages = take_all(pipe)
        except (EOFError, OSError):
            link.stop()
            return
        link.check()
        for number, kind, content in drop_overtaken(messages):
            if kind == "servo":
                link.servo(content)
            elif kind == "close":
                link.end()
                return
            else:
                pipe.send((number, answers[kind]()))


def take_all(pipe: Connection) -> list[tuple[int, str, Any]]:
    """Every message that waits."""
    messages = [pipe.recv()]
    while pipe.poll(0):
        messages.append(pipe.recv())
    return messages


def drop_overtaken(messages: Sequence[tuple[int, str, Any]]) -> list[tuple[int, str, Any]]:
    """Without the targets that a newer target or a stop has overtaken."""
    kept: list[tuple[int, str, Any]] = []
    overtaken = False
    for message in reversed(messages):
        if message[1] == "servo" and overtaken:
            continue
        overtaken = overtaken or message[1] in ("servo", "stop", "close")
        kept.append(message)
    return kept[::-1]


def run(words: Sequence[str], connect: Callable[[str], Link]) -> None:
    """Connect, say how that went, and serve; ends without the client's destructors, which wait."""
    descriptor = int(words[0])
    pipe = Connection(descriptor)
    end_with(descriptor)
    try:
        link = connect(words[1])
    except Exception as error:  # whatever the client throws
        pipe.send((0, f"{type(error).__name__}: {error}"))
        os._exit(1)
    pipe.send((0, ""))
    try:
        serve(link, pipe)
    except Exception as error:  # whatever the client throws
        pipe.send((ENDED, f"{type(error).__name__}: {error}"))
    finally:
        os._exit(0)
