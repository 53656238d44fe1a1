"""What `hotstart VERB --help task=NAME` says of the task's environment: its options, read from the constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..envs.registry import Option, options


def options_text(name: str, task: Mapping[str, Any]) -> str:
    """Options of the environment of the task `name`: meaning, unit, and the default, which the task's file `task` may set."""
    lines = []
    for option in options(task["env"]):
        if option.name != "max_steps":
            lines.append(_line(option, task["options"]))
    head = f"task={name} is the environment {task['env']!r}, for {task['max_steps'] or 'its own number of'} ticks. Its options:"
    return "\n".join(["", head, "", *lines])


def _line(option: Option, own: Mapping[str, Any]) -> str:
    default = own.get(option.name, option.default)
    if default in (inspect.Parameter.empty, "???"):
        text = "must be given"
    else:
        text = f"default {_plain(default)}"
    return f"  task.options.{option.name + '=':<14} {option.meaning} [{text}]"


def _plain(value: Any) -> str:
    """A default as it is written in a word."""
    if value is None or value == "":
        return "none"
    if isinstance(value, tuple) or hasattr(value, "tolist"):
        return str(list(value))
    return str(value)
