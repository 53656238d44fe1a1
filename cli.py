"""The door: one command, one verb, and errors in plain words."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from collections.abc import Sequence
from importlib import import_module

from .spec import HotstartError, nearest
from .system.interrupts import exit_status, signals_interrupt

COMPOSED = ("demo", "collect", "train", "evaluate")
"""Verbs with choices, composed by Hydra."""
VERBS = {
    "demo": "collect, train and evaluate robosuite Lift, and write a report: the first thing to run",
    "collect": "collect demonstrations from a scripted expert",
    "data": "look at, convert, check and download data sets",
    "train": "train a policy on a data set",
    "evaluate": "run a checkpoint in simulation and measure it",
    "checkpoint": "import a policy that was trained elsewhere",
    "compare": "compare results of evaluations, paired by seed",
    "bench": "measure a claim of BENCHMARKS.md again",
}
HELP = ("-h", "--help", "help")


def main(words: Sequence[str] | None = None) -> int:
    """Run `hotstart VERB [argument] [key=value ...]`; returns the exit status (2 for a mistake that the user can mend)."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in HELP:
        print(_usage())
        if words:
            return 0
        return 2
    verb, rest = words[0], words[1:]
    if not sys.stderr.isatty():
        os.environ.setdefault(
            "TQDM_MININTERVAL", "10"
        )  # a log file wants a line now and then, not ten a second
    try:
        with signals_interrupt():
            status = _call(verb, rest)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if not _reader_left():
            raise
        return 141  # as a shell says of a program whose reader left
    except HotstartError as error:
        print(
            f"hotstart {verb}: {error}" if verb in VERBS else f"hotstart: {error}", file=sys.stderr
        )
        if os.environ.get("HOTSTART_TRACEBACK"):
            raise
        return 2
    except OSError as error:
        if error.errno is None or os.environ.get(
            "HOTSTART_TRACEBACK"
        ):  # not the system's word: a fault of ours
            raise
        print(f"hotstart {verb}: {_system_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(OSError):  # a terminal that was closed
            print(f"\nhotstart {verb}: {interrupt or 'interrupted'}", file=sys.stderr)
        return exit_status(interrupt)


def _system_words(error: OSError) -> str:
    """What the system refused, and where: a full disk, a folder that is not ours, a file that is gone."""
    if error.filename:
        where = f"{error.filename}: "
    else:
        where = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = ": make room, then call it again"
    else:
        advice = ""
    return f"{where}{error.strerror}{advice}"


def _reader_left() -> bool:
    """Whether who read our output has gone, as in `hotstart compare ... | head`; what is left to write goes nowhere then."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # a stream that is no file has no reader to lose
        return False
    asked = select.poll()
    asked.register(number, 0)
    left = any(event & select.POLLERR for _, event in asked.poll(0))
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return left


def _call(verb: str, words: list[str]) -> int:
    """Import the verb's own file, and only that."""
    if verb not in VERBS:
        raise HotstartError(
            f"there is no verb {verb!r}{nearest(verb, list(VERBS))}; valid are {', '.join(VERBS)}"
        )
    if verb not in COMPOSED:
        return import_module(f".commands.{verb}", __package__).run(words)
    return _composed(verb, words)


def _composed(verb: str, words: list[str]) -> int:
    """Compose the configuration (once, or once per combination of a `--multirun`) and run the verb on it."""
    from .configs import compose

    if any(text in HELP for text in words):
        asked = [text for text in words if text not in HELP and text != "--multirun"]
        print(compose.help_text(verb, asked))
        tasks = [text.removeprefix("task=") for text in asked if text.startswith("task=")]
        for name in tasks:
            print(
                import_module(".commands.task_options", __package__).options_text(
                    name, compose.task_file(name)
                )
            )
        return 0
    many = "--multirun" in words
    plain = [text for text in words if text != "--multirun"]
    if many:
        runs = compose.sweep(verb, plain)
    else:
        runs = [plain]
    configs = []  # all before the first starts: a typing error costs nothing
    for run in runs:
        configs.append(compose.compose_config(verb, run))
    compose.check_places(verb, configs)
    command = import_module(f".commands.{verb}", __package__)
    for config in configs:
        getattr(command, "check", lambda _: None)(config)
    for config in configs:
        status = command.run(config)
        if status:
            return status
    return 0


def _usage() -> str:
    lines = [
        "hotstart VERB [argument] [key=value ...]",
        "",
        *(f"  {verb:<10} {text}" for verb, text in VERBS.items()),
        "",
    ]
    return "\n".join(
        [
            *lines,
            "`hotstart VERB --help` shows choices and defaults. The README begins at the beginning.",
        ]
    )
