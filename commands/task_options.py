"""What `hotstart VERB --help task=NAME` says of the task's environment: its options, read from the
constructor.
"""

from __future__ import annotations

from dataclasses import replace

from ..configs.compose import read_task
from ..configs.help import describe_options
from ..envs.registry import list_options


def describe_task(name: str) -> str:
    """Options of the environment of the task `name`: meaning, unit, type, and the default, which
    the task's file may set.
    """
    task = read_task(name)
    listed = []
    for option in list_options(task["env"]).values():
        if option.name != "max_steps":
            default = task["options"].get(option.name, option.default)
            listed.append(replace(option, default=default))
    ticks = task["max_steps"] or "its own number of"
    head = f"task={name} is the environment {task['env']!r}, for {ticks} ticks. Its options:"
    return "\n".join(["", head, "", *describe_options(listed, "task.options.")])
