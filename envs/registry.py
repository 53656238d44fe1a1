"""Environments by name: our own, and those that other packages add through the entry-point group `hotstart.envs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..plugins import PACKAGE, Entry, Registry
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
        **{name: Entry(f"{PACKAGE}.envs.robosuite_tasks:{env}", f'pip install "{PACKAGE}"') for name, env in ROBOSUITE.items()},
        "metaworld": Entry(f"{PACKAGE}.envs.metaworld:MetaWorldEnv", f'pip install "{PACKAGE}[metaworld]"'),
        "gymnasium": Entry(f"{PACKAGE}.envs.gymnasium:GymnasiumEnv", f'pip install "{PACKAGE}"'),
    },
)


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def options_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a task's environment is built with: its options, and its number of steps unless that is 0."""
    return {**task["options"], **({"max_steps": task["max_steps"]} if task["max_steps"] else {})}


def make(name: str, **options: object) -> TaskEnv:
    """Build the environment `name` with its own options; its simulator is imported only now.

    Raises ConfigError for an unknown name, an unknown option or a simulator that is not installed.
    """
    return REGISTRY.make(name, **options)
