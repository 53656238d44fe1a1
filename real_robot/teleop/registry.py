"""Teleoperators by name, added by packages through the entry-point group `hotstart.teleoperators`.

What makes one takes the robot's action specification and its keys, then options of its own.
"""

from __future__ import annotations

from ...spec import ActionSpec
from ...system.plugins import Entry, Registry
from ..drivers.registry import make as make_driver
from ..keys import Keys
from .base import Teleoperator
from .leader import LeaderArm

_HERE = "hotstart.real_robot.teleop"
REGISTRY = Registry(
    "teleoperator",
    "hotstart.teleoperators",
    {
        "keyboard": Entry(f"{_HERE}.registry:make_keyboard", ""),
        "spacemouse": Entry(f"{_HERE}.registry:make_spacemouse", ""),
        "leader": Entry(f"{_HERE}.registry:make_leader", ""),
        "scripted": Entry(f"{_HERE}.registry:make_scripted", ""),
    },
)


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def make(name: str, action_spec: ActionSpec, keys: Keys, **options: object) -> Teleoperator:
    """A teleoperator for a robot of this action; ConfigError for an unknown name or option."""
    return REGISTRY.make(name, action_spec=action_spec, keys=keys, **options)


def make_keyboard(
    action_spec: ActionSpec, keys: Keys, step: float = 0.02, leash: float = 0.2
) -> Teleoperator:
    """`Keyboard` with its options."""
    from .keyboard import Keyboard

    return Keyboard(action_spec, keys, step, leash)


def make_spacemouse(
    action_spec: ActionSpec,
    keys: Keys,
    speed: float = 0.1,
    turn_speed: float = 0.5,
    dead_zone: float = 0.1,
) -> Teleoperator:
    """`SpaceMouse` with its options; it needs no keys."""
    from .spacemouse import SpaceMouse

    return SpaceMouse(action_spec, speed, turn_speed, dead_zone)


def make_leader(
    action_spec: ActionSpec,
    keys: Keys,
    arm: str = "so101",
    catch_up: float = 0.5,
    **options: object,
) -> Teleoperator:
    """`LeaderArm` of a driver with the driver's own options: `port` and `calibration`, mostly."""
    return LeaderArm(action_spec, make_driver(arm, limp_on_stop=True, **options), catch_up)


def make_scripted(action_spec: ActionSpec, keys: Keys, pace: float = 3.0) -> Teleoperator:
    """`SceneOperator` with its options; it needs no keys."""
    from .scripted import SceneOperator

    return SceneOperator(action_spec, pace)
