"""Which motors a bus arm has, in a small YAML: names, ids, directions, limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...spec import ConfigError, shorten
from ...spec.plain_values import has_types
from ...system.untrusted import read_yaml
from ..calibration import MIDDLE, RAD_PER_STEP, ArmCalibration, MotorCalibration

FORM_BYTES = 100_000
NUMBER = (int, float)
MOTOR_TYPES = {
    "id": int,
    "direction": int,
    "gear": NUMBER,
    "gripper": bool,
    "lower": NUMBER,
    "upper": NUMBER,
}
FORM_TYPES = {
    "name": str,
    "vendor": str,
    "motors": dict,
    "baud": int,
    "servo_hz": NUMBER,
    "velocity": NUMBER,
    "acceleration": NUMBER,
    "jerk": NUMBER,
}
VENDORS = ("feetech", "dynamixel")


@dataclass(frozen=True)
class MotorForm:
    """One motor of an arm as it is built by the book."""

    id: int
    lower: float
    """rad; of a gripper: where it is closed, by the motor's own angle."""
    upper: float
    """rad; of a gripper: where it is open."""
    direction: int = 1
    gear: float = 1.0
    gripper: bool = False

    def to_calibration(self) -> MotorCalibration:
        """The motor mounted by the book: 0 rad is the encoder's middle."""
        steps = self.direction * self.gear / RAD_PER_STEP
        ends = sorted((MIDDLE + self.lower * steps, MIDDLE + self.upper * steps))
        return MotorCalibration(
            id=self.id,
            range_min=max(round(ends[0]), 0),
            range_max=min(round(ends[1]), 2 * MIDDLE - 1),
            direction=self.direction,
            gear=self.gear,
            gripper=self.gripper,
        )


@dataclass(frozen=True)
class ArmForm:
    """A kind of arm on a servo bus."""

    name: str
    vendor: str
    motors: Mapping[str, MotorForm]
    """By the joints' names, in the order of an action."""
    baud: int = 1_000_000
    servo_hz: float = 100.0
    velocity: float = 3.0
    """Of every joint at most [rad/s]; of a gripper [1/s]."""
    acceleration: float = 20.0
    """rad/s^2."""
    jerk: float = 400.0
    """rad/s^3."""

    def to_calibration(self) -> ArmCalibration:
        """The arm assembled by the book, as simulated arms are."""
        motors = {name: motor.to_calibration() for name, motor in self.motors.items()}
        return ArmCalibration(self.name, motors, measured_on="by the book")


def read_form(path: Path) -> ArmForm:
    """Read an arm from YAML; raises ConfigError for what is not one.

    ```
    name: my_arm
    vendor: feetech
    motors:
      base: {id: 1, lower: -1.9, upper: 1.9}
      gripper: {id: 2, lower: -0.1, upper: 1.7, gripper: true}
    ```
    """
    plain = read_yaml(path, ConfigError, FORM_BYTES)
    if not has_types(plain, FORM_TYPES) or not {"name", "vendor", "motors"} <= set(plain):
        raise ConfigError(
            f"{path} is no arm; name, vendor ({' or '.join(VENDORS)}) and motors are wanted, and "
            f"besides them {', '.join(sorted(set(FORM_TYPES) - {'name', 'vendor', 'motors'}))} "
            f"are possible"
        )
    motors = {name: _read_motor(path, name, item) for name, item in plain["motors"].items()}
    form = ArmForm(**{**plain, "motors": motors})
    _check(path, form)
    return form


def _read_motor(path: Path, name: object, item: Any) -> MotorForm:
    fitting = isinstance(name, str) and has_types(item, MOTOR_TYPES)
    if not fitting or not {"id", "lower", "upper"} <= set(item):
        raise ConfigError(
            f"{path}: motor {shorten(name)} is {shorten(item)}; id, lower and upper are wanted, "
            f"and direction, gear and gripper are possible"
        )
    return MotorForm(**item)


def _check(path: Path, form: ArmForm) -> None:
    ids = [motor.id for motor in form.motors.values()]
    if form.vendor not in VENDORS or not ids or len(set(ids)) < len(ids):
        raise ConfigError(
            f"{path}: the vendor is {shorten(form.vendor)} ({' or '.join(VENDORS)} are possible), "
            f"the ids are {ids}; each motor needs one of its own"
        )
    if not 1 <= form.servo_hz <= 500 or min(form.velocity, form.acceleration, form.jerk) <= 0:
        raise ConfigError(
            f"{path}: servo_hz is {form.servo_hz} (1 to 500); velocity, acceleration and jerk are "
            f"above 0"
        )
    for name, motor in form.motors.items():
        widest = math.pi / motor.gear
        if not -widest <= motor.lower < motor.upper <= widest:
            raise ConfigError(
                f"{path}: {name} goes from {motor.lower} to {motor.upper} rad; a motor goes from "
                f"{-widest:.3f} to {widest:.3f} with gear {motor.gear}"
            )
        motor.to_calibration().check(name)


def _arm(name: str, vendor: str, ranges: Mapping[str, tuple[float, float]]) -> ArmForm:
    """An arm of motors 1, 2, 3, ... with a gripper at its end."""
    motors = {}
    for id, (joint, (lower, upper)) in enumerate(ranges.items(), 1):
        motors[joint] = MotorForm(id, lower, upper, gripper=joint == "gripper")
    return ArmForm(name, vendor, motors)


SO101_RANGES = {
    "shoulder_pan": (-1.920, 1.920),
    "shoulder_lift": (-1.745, 1.745),
    "elbow_flex": (-1.690, 1.690),
    "wrist_flex": (-1.658, 1.658),
    "wrist_roll": (-2.744, 2.841),
    "gripper": (-0.175, 1.745),
}
"""rad; those of the SO-101's model."""
SO101 = _arm("so101", "feetech", SO101_RANGES)
"""SO-101: six STS3215."""
KOCH = _arm("koch", "dynamixel", SO101_RANGES)
"""Koch v1.1: two XL430 and four XL330, of the same build as an SO-101. Calibrate the ranges."""
