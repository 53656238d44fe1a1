"""Robots by name, added by installed packages through the entry-point group `hotstart.robots`.

A robot brings a servo of its own. Drivers of arms, which the controller process runs, are in
`drivers.registry`; `DRIVERS` says which of them a configuration may choose.
"""

from __future__ import annotations

from ..spec import Robot
from ..system.plugins import Registry
from .drivers.registry import REGISTRY as ARMS

DRIVERS: dict[str, tuple[str, ...]] = {
    "robot": tuple(entry.target.replace(":", ".") for entry in ARMS.built_in.values()),
}
"""Axis of the configuration -> the classes of the drivers that it may name."""

REGISTRY = Registry("robot", "hotstart.robots", {})


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def make(name: str, **options: object) -> Robot:
    """Build the robot `name` with its own options; raises ConfigError for an unknown name or
    option.
    """
    return REGISTRY.make(name, **options)
