"""Environments by name: our own, and those that other packages add through the entry-point group `hotstart.envs`."""

from __future__ import annotations

from ..plugins import PACKAGE, Entry, Registry
from .base import TaskEnv

REGISTRY = Registry(
    "environment",
    "hotstart.envs",
    {
        "pusht": Entry(f"{PACKAGE}.envs.pusht:PushTEnv", f'pip install "{PACKAGE}[pusht]"'),
        "lift": Entry(f"{PACKAGE}.envs.robosuite:LiftEnv", f'pip install "{PACKAGE}"'),
    },
)


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def make(name: str, **options: object) -> TaskEnv:
    """Build the environment `name` with its own options; its simulator is imported only now.

    Raises ConfigError for an unknown name, an unknown option or a simulator that is not installed.
    """
    return REGISTRY.make(name, **options)
