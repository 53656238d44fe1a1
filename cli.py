"""The command line: one command, one verb, and errors in plain words."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from .configs.examples import START, write_example
from .configs.help import describe_verb
from .configs.reader import HELP, read_arguments, wants_help
from .configs.schema import VERBS
from .spec import ConfigError, HotstartError, nearest
from .system.interrupts import exit_status, interrupt_verb, signals_raise

MULTIRUN = "--multirun"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hotstart VERB [argument] [key=value ...]`.

    Returns the exit status (2 for a mistake that the user can mend).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in HELP:
        print(_describe_verbs())
        if given:
            return 0
        return 2
    verb, rest = given[0], given[1:]
    if not sys.stderr.isatty():
        # A log file wants a line now and then, not ten a second.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    try:
        with signals_raise(interrupt_verb):
            status = run_verb(verb, rest)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if not _is_reader_gone():
            raise
        return 141  # as a shell says of a program whose reader left
    except HotstartError as error:
        print(f"{_name(verb, rest)}: {error}", file=sys.stderr)
        _print_example(verb, rest)
        if os.environ.get("HOTSTART_TRACEBACK"):
            raise
        return 2
    except OSError as error:
        # Without a number it is not the system's word but a fault of ours.
        if error.errno is None or os.environ.get("HOTSTART_TRACEBACK"):
            raise
        print(f"{_name(verb)}: {_explain_system(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(OSError):  # a terminal that was closed
            print(f"\n{_name(verb)}: {interrupt or 'interrupted'}", file=sys.stderr)
        return exit_status(interrupt)


def _name(verb: str, rest: Sequence[str] = ()) -> str:
    """How messages begin."""
    if verb not in VERBS:
        return "hotstart"
    return " ".join(["hotstart", verb, *_find_action(verb, rest)])


def _find_action(verb: str, rest: Sequence[str]) -> list[str]:
    """The action of a verb that has actions; empty where none is named."""
    return [name for name in rest[:1] if name in VERBS[verb].actions]


def _print_example(verb: str, rest: Sequence[str]) -> None:
    """After an error, where nothing was given beside the verb: a command that works."""
    if verb not in VERBS:
        return
    action = _find_action(verb, rest)
    if len(rest) == len(action):
        example = write_example([verb, *action])
        if example:
            print(example, file=sys.stderr)


def _explain_system(error: OSError) -> str:
    """What the system refused, and where: a full disk, another user's folder, a lost file."""
    if error.filename:
        where = f"{error.filename}: "
    else:
        where = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = ": make room, then call it again"
    else:
        advice = ""
    return f"{where}{error.strerror}{advice}"


def _is_reader_gone() -> bool:
    """Whether who read our output has gone, as in `hotstart compare ... | head`.

    What is left to write goes nowhere then.
    """
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # a stream that is no file has no reader to lose
        return False
    asked = select.poll()
    asked.register(number, 0)
    lost = any(event & select.POLLERR for _, event in asked.poll(0))
    if lost:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return lost


def run_verb(verb: str, arguments: list[str]) -> int:
    """Import the verb's own file, and only that."""
    if verb not in VERBS:
        raise HotstartError(
            f"there is no verb {verb!r}{nearest(verb, list(VERBS))}; valid are {', '.join(VERBS)}"
        )
    if VERBS[verb].composed and not _find_action(verb, arguments):
        return _run_composed(verb, arguments)
    if VERBS[verb].actions:
        return _run_action(verb, arguments)
    options = VERBS[verb].options
    if options is None:
        return _import_command(verb).run(arguments)
    if wants_help(arguments):
        print(describe_verb(f"hotstart {verb}", options))
        return 0
    return _import_command(verb).run(read_arguments(arguments, options))


def _import_command(verb: str) -> Any:
    return import_module(f".commands.{verb.replace('-', '_')}", __package__)


def _run_action(verb: str, arguments: list[str]) -> int:
    """Run one action of a verb; without one, list them."""
    actions = VERBS[verb].actions
    if not arguments:
        print(_list_actions(verb))
        return 2
    if arguments[0] in HELP:
        texts = [describe_verb(f"hotstart {verb} {name}", cls) for name, cls in actions.items()]
        print("\n\n".join(texts))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in actions:
        raise ConfigError(
            f"there is no action {name!r}{nearest(name, list(actions))}; "
            f"valid are {', '.join(actions)}"
        )
    if wants_help(rest):
        print(describe_verb(f"hotstart {verb} {name}", actions[name]))
        return 0
    options = read_arguments(rest, actions[name])
    command: dict[str, Callable[..., int]] = _import_command(verb).ACTIONS
    return command[name](options)


def _run_composed(verb: str, arguments: list[str]) -> int:
    """Compose the configuration, once per combination of a `--multirun`, and run the verb on it."""
    from .configs import compose

    given = [text for text in arguments if text != MULTIRUN]
    if wants_help(given):
        _help_composed(verb, [text for text in given if text not in HELP])
        return 0
    if MULTIRUN in arguments:
        runs = compose.sweep(verb, given)
    else:
        runs = [given]
    # All before the first starts: a typing error costs nothing.
    configs = [compose.compose_config(verb, run) for run in runs]
    compose.check_places(verb, configs)
    command = _import_command(verb)
    if hasattr(command, "check"):
        for config in configs:
            command.check(config)
    for config in configs:
        status = command.run(config)
        if status:
            return status
    return 0


def _help_composed(verb: str, asked: Sequence[str]) -> None:
    """Describe the verb, and the parts and the task's environment that the arguments ask for."""
    from .configs import help_parts

    print(help_parts.describe_composed(verb, asked))
    for text in asked:
        if text.startswith("task="):
            task = text.removeprefix("task=")
            print(import_module(".commands.task_options", __package__).describe_task(task))


def _list_actions(verb: str) -> str:
    """The actions of a verb, a line each, and an example."""
    lines = [f"hotstart {verb} ACTION ...", ""]
    for name, options in VERBS[verb].actions.items():
        lines.append(f"  hotstart {verb} {name:<10} {(options.__doc__ or '').splitlines()[0]}")
    lines += ["", write_example([verb]), f"`hotstart {verb} ACTION --help` lists its options."]
    return "\n".join(lines)


def _describe_verbs() -> str:
    """Where to begin, and every verb on a line."""
    lines = [START, "", "hotstart VERB [argument] [key=value ...]"]
    for name, verb in VERBS.items():
        lines.append(f"  {name:<10} {verb.summary}")
    lines += ["`hotstart VERB --help` lists every choice and option with its default."]
    return "\n".join(lines)
