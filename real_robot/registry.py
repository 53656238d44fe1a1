"""Robots by name, added by installed packages through the entry-point group `hotstart.robots`."""

from __future__ import annotations

from ..spec import Robot
from ..system.plugins import Registry

REGISTRY = Registry("robot", "hotstart.robots", {})


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def make(name: str, **options: object) -> Robot:
    """Build the robot `name` with its own options; raises ConfigError for an unknown name or
    option.
    """
    return REGISTRY.make(name, **options)
