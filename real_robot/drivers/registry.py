"""Drivers by name, added by installed packages through the entry-point group `hotstart.drivers`."""

from __future__ import annotations

from ...system.plugins import PACKAGE, Entry, Registry
from ..driver import Driver

HERE = f"{PACKAGE}.real_robot.drivers"
REGISTRY = Registry(
    "driver",
    "hotstart.drivers",
    {
        "ur5e": Entry(f"{HERE}.ur:UR", 'pip install "hotstart[ur]"'),
        "franka": Entry(f"{HERE}.franka:Franka", 'pip install "hotstart[franka]"'),
        "so101": Entry(f"{HERE}.feetech:SO101Arm", 'pip install "hotstart[so101]"'),
        "koch": Entry(f"{HERE}.dynamixel:KochArm", 'pip install "hotstart[dynamixel]"'),
        "feetech": Entry(f"{HERE}.feetech:FeetechArm", 'pip install "hotstart[so101]"'),
        "dynamixel": Entry(f"{HERE}.dynamixel:DynamixelArm", 'pip install "hotstart[dynamixel]"'),
        "lerobot": Entry(f"{HERE}.lerobot:LeRobotArm", 'pip install "lerobot>=0.5"'),
    },
)


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return REGISTRY.names()


def make(name: str, **options: object) -> Driver:
    """Build the driver `name` with its own options; it does not connect yet.

    Raises ConfigError for an unknown name or option.
    """
    return REGISTRY.make(name, **options)
