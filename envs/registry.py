"""Environments by name: our own, and those that other packages add through the entry-point group
`hotstart.envs`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ..spec import LONGEST_EPISODE, REQUIRED, CheckpointError, shorten, unknown
from ..system.options import Option, read_options
from ..system.plugins import PACKAGE, Entry, Registry
from .base import TaskEnv

ROBOSUITE = {
    "lift": "LiftEnv",
    "can": "CanEnv",
    "square": "SquareEnv",
    "stack": "StackEnv",
    "door": "DoorEnv",
    "tool_hang": "ToolHangEnv",
    "two_arm_lift": "TwoArmLiftEnv",
}
"""Our name of a robosuite task -> its class."""
REGISTRY = Registry(
    "environment",
    "hotstart.envs",
    {
        "pusht": Entry(f"{PACKAGE}.envs.pusht:PushTEnv", f'pip install "{PACKAGE}[pusht]"'),
        **{
            name: Entry(f"{PACKAGE}.envs.robosuite.tasks:{env}", f'pip install "{PACKAGE}"')
            for name, env in ROBOSUITE.items()
        },
        "metaworld": Entry(
            f"{PACKAGE}.envs.metaworld:MetaWorldEnv", f'pip install "{PACKAGE}[metaworld]"'
        ),
        "gate": Entry(f"{PACKAGE}.envs.gate:GateEnv", f'pip install "{PACKAGE}"'),
        "ur5e_push": Entry(f"{PACKAGE}.envs.arm:Ur5ePushEnv", f'pip install "{PACKAGE}"'),
        "so101_lift": Entry(f"{PACKAGE}.envs.arm:So101LiftEnv", f'pip install "{PACKAGE}[so101]"'),
        "franka_push": Entry(f"{PACKAGE}.envs.arm:FrankaPushEnv", f'pip install "{PACKAGE}"'),
        "gymnasium": Entry(f"{PACKAGE}.envs.gymnasium:GymnasiumEnv", f'pip install "{PACKAGE}"'),
    },
)


PLAIN_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,63}")
"""Text that names no module, no file and no address."""
PLAIN_ID = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]{1,64}")
"""An id among those that Gymnasium has registered, its namespace before it: no module to import
(`module:Env-v0`).
"""
FREE_TEXT = {"instruction"}
"""Options that are shown or read as a sentence, and nothing else."""
REACHING = re.compile(
    r"(^|_)(file|path|dir|folder|xml|mjcf|urdf|asset|url|uri|host|module|entry|class|kwargs)(s|name)?(_|$)"
)
"""Names of options that a simulator may open, fetch or import."""
LARGEST = 10_000


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def options_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a task's environment is built with: its options, and its number of steps unless that is
    0.
    """
    options = dict(task["options"])
    if task["max_steps"]:
        options["max_steps"] = task["max_steps"]
    return options


def list_options(name: str) -> dict[str, Option]:
    """Options of the environment `name`, from its constructor and the lines of its docstring."""
    return read_options(REGISTRY.load(name))


def defaults(name: str) -> dict[str, Any]:
    """Options of the environment `name` with what its constructor takes where they are not
    given.
    """
    found: dict[str, Any] = {}
    for option in list_options(name).values():
        if option.default is not REQUIRED:
            found[option.name] = option.default
    return found


def make(name: str, **options: object) -> TaskEnv:
    """Build the environment `name` with its own options; its simulator is imported only now.

    Raises ConfigError for an unknown name, an unknown option or a simulator that is not installed.
    """
    return REGISTRY.make(name, **options)


def check_task(task: object) -> dict[str, Any]:
    """The task that a checkpoint says it was trained for, when nobody names another.

    It is somebody else's text: an environment that is registered here, options that are plain
    numbers and single words, no module, no file. Raises CheckpointError naming what is not; the
    user's own words on the command line may say all of it.
    """
    if not isinstance(task, dict):
        raise CheckpointError("the checkpoint says no task that it was trained for: give task=NAME")
    keys = {"name": str, "env": str, "options": dict, "max_steps": int, "obs_keys": list}
    for key, kind in keys.items():
        if not isinstance(task.get(key), kind) or isinstance(task[key], bool):
            raise CheckpointError(
                f"task.{key} of the checkpoint is {shorten(task.get(key))}: give task=NAME"
            )
    if not all(isinstance(key, str) for key in task["obs_keys"]):
        raise CheckpointError(
            f"task.obs_keys of the checkpoint are {shorten(task['obs_keys'])}: give task=NAME"
        )
    if task["env"] not in REGISTRY.entries():
        raise CheckpointError(
            f"the checkpoint's task: {unknown('environment', task['env'], names())}"
        )
    if not 0 <= task["max_steps"] <= LONGEST_EPISODE:
        raise CheckpointError(
            f"task.max_steps of the checkpoint is {task['max_steps']}; 0 to {LONGEST_EPISODE} are "
            f"run"
        )
    for option, value in task["options"].items():
        if not _is_told_option(option, value):
            raise CheckpointError(
                f"the checkpoint's task has the option {shorten(option)}: {shorten(value)}. From a "
                f"checkpoint only plain "
                f"numbers and single words are taken, nothing that a module or a file is found by. "
                f"If you trust it, say it "
                f"yourself: task=NAME task.options.NAME=VALUE"
            )
    return task


def _is_told_option(option: object, value: object) -> bool:
    if not _is_told_name(option):
        return False
    if isinstance(value, str) and option in FREE_TEXT:
        return True
    if isinstance(value, str) and option == "id":
        return PLAIN_ID.fullmatch(value) is not None
    return _is_told_value(value, 3)


def _is_told_name(option: object) -> bool:
    return (
        isinstance(option, str)
        and bool(PLAIN_WORD.fullmatch(option))
        and not REACHING.search(option.lower())
    )


def _is_told_value(value: object, depth: int) -> bool:
    """Whether a value is a truth value, a number of moderate size, a single word or a few of
    them.
    """
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= LARGEST
    if isinstance(value, str):
        return PLAIN_WORD.fullmatch(value) is not None
    if not isinstance(value, list | dict) or depth == 0:
        return False
    if isinstance(value, dict):
        return all(
            _is_told_name(key) and _is_told_value(part, depth - 1) for key, part in value.items()
        )
    return all(_is_told_value(part, depth - 1) for part in value)
