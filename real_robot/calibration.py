"""How the steps of a bus arm's motors map to radians: a dated JSON file, LeRobot's file of the same
arm, and the procedure that finds the ranges by hand.

A reading is what a motor reports: its encoder's steps with the homing offset applied, 4096 a turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ..spec import ConfigError, shorten
from ..spec.plain_values import has_types
from ..system.outputs import write_text
from ..system.untrusted import read_json

STEPS_PER_TURN = 4096
MIDDLE = STEPS_PER_TURN // 2
RAD_PER_STEP = 2 * math.pi / STEPS_PER_TURN
LARGEST_OFFSET = MIDDLE - 1
"""A Feetech motor stores an offset of 11 bits and a sign."""
FURTHEST_OFFSET = 1_044_479
"""What a Dynamixel motor stores at most."""


@dataclass(frozen=True)
class MotorCalibration:
    """One motor: where it is mounted, and how far it may go."""

    id: int
    homing_offset: int = 0
    """As the motor stores it. Feetech subtracts it from the encoder's steps, Dynamixel adds it."""
    range_min: int = 0
    range_max: int = STEPS_PER_TURN - 1
    direction: int = 1
    """1: the joint's angle grows with the reading; -1: it falls."""
    zero: float = float(MIDDLE)
    """The reading where the joint is at 0 rad; of a gripper: not used."""
    gear: float = 1.0
    """Turns of the motor for one turn of the joint."""
    gripper: bool = False
    """0 is closed, 1 is open: from `range_min` to `range_max`, the other way by direction -1."""

    @property
    def origin(self) -> float:
        """The reading at 0 rad, or where the gripper is closed."""
        if not self.gripper:
            return self.zero
        if self.direction > 0:
            return float(self.range_min)
        return float(self.range_max)

    @property
    def scale(self) -> float:
        """How much a step is [rad], or of the gripper's opening."""
        if self.gripper:
            return self.direction / (self.range_max - self.range_min)
        return self.direction * RAD_PER_STEP / self.gear

    @property
    def unit(self) -> str:
        """The unit of a position: rad; a gripper's opening has none."""
        if self.gripper:
            return ""
        return "rad"

    def to_position(self, reading: float) -> float:
        """A reading in rad, or as the gripper's opening."""
        return (reading - self.origin) * self.scale

    def to_reading(self, position: float) -> int:
        """The nearest reading to a position."""
        return round(self.origin + position / self.scale)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest position."""
        ends = (self.to_position(self.range_min), self.to_position(self.range_max))
        return min(ends), max(ends)

    def check(self, name: str) -> None:
        """Raises ConfigError for what no motor can be."""
        whole_turns = 0 <= self.range_min < self.range_max < STEPS_PER_TURN
        if not 0 <= self.id <= 252 or abs(self.homing_offset) > FURTHEST_OFFSET or not whole_turns:
            raise ConfigError(
                f"the calibration of {name} is impossible: id {self.id} (0 to 252), homing offset "
                f"{self.homing_offset} (at most {FURTHEST_OFFSET} either way), range "
                f"{self.range_min} to {self.range_max} (0 to {STEPS_PER_TURN - 1}, rising): "
                f"calibrate the arm again"
            )
        if self.direction not in (-1, 1) or not (math.isfinite(self.zero) and self.gear > 0):
            raise ConfigError(
                f"the calibration of {name} has direction {self.direction} (1 or -1), zero "
                f"{self.zero} and gear {self.gear} (above 0)"
            )


@dataclass(frozen=True)
class ArmCalibration:
    """All motors of one arm, by the joints' names, in the order of an action."""

    arm: str
    motors: Mapping[str, MotorCalibration]
    made: str = ""
    """Date and time, ISO 8601."""
    measured_on: str = ""
    """The port, and who or what moved the arm."""

    def __post_init__(self) -> None:
        for name, motor in self.motors.items():
            motor.check(name)

    def save(self, path: Path) -> None:
        """Write it as JSON, in one piece."""
        plain = {
            "format": 1,
            "arm": self.arm,
            "made": self.made,
            "measured_on": self.measured_on,
            "steps_per_turn": STEPS_PER_TURN,
            "motors": {name: asdict(motor) for name, motor in self.motors.items()},
        }
        write_text(path, json.dumps(plain, indent=2) + "\n")


MOTOR_TYPES = {
    "id": int,
    "homing_offset": int,
    "range_min": int,
    "range_max": int,
    "direction": int,
    "zero": (int, float),
    "gear": (int, float),
    "gripper": bool,
}


def load_calibration(path: Path) -> ArmCalibration:
    """Read what `ArmCalibration.save` wrote; raises ConfigError for everything else."""
    plain = read_json(path, ConfigError)
    known = {"arm": str, "motors": dict, "made": str, "measured_on": str}
    if not has_types(plain, known | {"format": int, "steps_per_turn": int}):
        raise ConfigError(
            f"{path} is no calibration of a bus arm; LeRobot's files are converted by "
            f"`read_lerobot` first"
        )
    if plain.get("format") != 1 or plain.get("steps_per_turn") != STEPS_PER_TURN:
        raise ConfigError(f"{path} has another format; format 1 with 4096 steps a turn is read")
    motors = {name: _read_motor(path, name, item) for name, item in plain["motors"].items()}
    return ArmCalibration(
        plain.get("arm", ""), motors, plain.get("made", ""), plain.get("measured_on", "")
    )


def _read_motor(path: Path, name: str, item: Any) -> MotorCalibration:
    if not has_types(item, MOTOR_TYPES) or "id" not in item:
        raise ConfigError(f"{path}: {name} is {shorten(item)}; {', '.join(MOTOR_TYPES)} are wanted")
    return MotorCalibration(**item)


LEROBOT_TYPES = {
    "id": int,
    "drive_mode": int,
    "homing_offset": int,
    "range_min": int,
    "range_max": int,
}


def read_lerobot(path: Path, arm: str, gripper: str = "gripper") -> ArmCalibration:
    """LeRobot's calibration file of the same arm: 0 rad is the middle of each range, as its 0 is.

    Raises ConfigError for another file.
    """
    plain = read_json(path, ConfigError)
    if not isinstance(plain, dict) or not plain:
        raise ConfigError(f"{path} is no calibration of LeRobot: motors by name are wanted")
    motors = {}
    for name, item in plain.items():
        if not has_types(item, LEROBOT_TYPES) or set(item) != set(LEROBOT_TYPES):
            raise ConfigError(
                f"{path}: {name} is {shorten(item)}; {', '.join(LEROBOT_TYPES)} are wanted"
            )
        motors[name] = MotorCalibration(
            id=item["id"],
            homing_offset=item["homing_offset"],
            range_min=item["range_min"],
            range_max=item["range_max"],
            direction=-1 if item["drive_mode"] else 1,
            zero=(item["range_min"] + item["range_max"]) / 2,
            gripper=name == gripper,
        )
    return ArmCalibration(arm, motors, _now(), f"converted from LeRobot's {path.name}")


def to_lerobot(calibration: ArmCalibration) -> dict[str, dict[str, int]]:
    """What LeRobot's file of the same arm holds.

    LeRobot has no zero of its own: it is the middle of the range. Raises ConfigError where ours is
    elsewhere, or where there is a gear.
    """
    plain = {}
    for name, motor in calibration.motors.items():
        middle = (motor.range_min + motor.range_max) / 2
        if not motor.gripper and (abs(motor.zero - middle) > 1 or motor.gear != 1):
            raise ConfigError(
                f"LeRobot cannot express the calibration of {name}: its zero is the middle of the "
                f"range ({middle}), ours is {motor.zero}, with gear {motor.gear}"
            )
        plain[name] = {
            "id": motor.id,
            "drive_mode": int(motor.direction < 0),
            "homing_offset": motor.homing_offset,
            "range_min": motor.range_min,
            "range_max": motor.range_max,
        }
    return plain


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(frozen=True)
class Range:
    """How far a joint has been moved, in steps that count on over the encoder's wrap-around."""

    low: float
    now: float
    high: float

    @property
    def span(self) -> float:
        """Steps from end to end."""
        return self.high - self.low

    def extend(self, now: float) -> Range:
        """With one more place."""
        return Range(min(self.low, now), now, max(self.high, now))


SMALLEST_SPAN = 300
"""A joint that moved through fewer steps (26 degrees) was not moved through its range."""
WHOLE_TURN = STEPS_PER_TURN - 100
"""A joint that moved further has no ends: it may stand anywhere."""
TOLERANCE = 40
"""How far an end may be found elsewhere when it is verified [steps]: 3.5 degrees."""


class RangeProcedure:
    """Finds homing offsets and ranges while a person moves the limp arm; it talks to no motor.

    1. `sweep`: hand every reading to `see`, taken with the offsets at 0; it counts on over the
       wrap-around, so the encoder's zero may lie anywhere. `finish_sweep` then chooses the offsets
       that put the middle of each range at 2048.
    2. `verify`: write the offsets into the motors, hand on the readings, and move through the
       ranges once more. `finish` compares both and returns the calibration.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        offset_sign: int = 1,
        grippers: Sequence[str] = ("gripper",),
        directions: Mapping[str, int] | None = None,
    ) -> None:
        """`offset_sign`: 1 where a motor subtracts its offset (Feetech), -1 where it adds it."""
        self.phase: Literal["sweep", "verify", "done"] = "sweep"
        self.offsets: dict[str, int] = {}
        self.ranges: dict[str, Range] = {}
        self._ids = dict(ids)
        self._offset_sign = offset_sign
        self._grippers = tuple(grippers)
        self._directions = dict(directions or {})
        self._found: dict[str, tuple[int, int]] = {}

    def see(self, readings: Mapping[str, int]) -> Mapping[str, Range]:
        """Take in where the motors are; returns the ranges so far, to show them live."""
        for name in self._ids:
            reading = readings[name]
            known = self.ranges.get(name)
            if known is None:
                self.ranges[name] = Range(reading, reading, reading)
                continue
            moved = (reading - known.now + MIDDLE) % STEPS_PER_TURN - MIDDLE
            self.ranges[name] = known.extend(known.now + moved)
        return self.ranges

    def finish_sweep(self) -> Mapping[str, int]:
        """Choose the homing offsets, by name; raises ConfigError for joints that were not moved."""
        still = [name for name, found in self.ranges.items() if found.span < SMALLEST_SPAN]
        if still or set(self.ranges) != set(self._ids):
            raise ConfigError(
                f"move these joints from end to end: {', '.join(still or self._ids)}; less than "
                f"{SMALLEST_SPAN} steps of each were seen"
            )
        for name, found in self.ranges.items():
            middle = round((found.low + found.high) / 2)
            offset = max(middle % STEPS_PER_TURN - MIDDLE, -LARGEST_OFFSET)
            self.offsets[name] = offset * self._offset_sign
            self._found[name] = _choose_range(found, middle)
        self.ranges = {}
        self.phase = "verify"
        return self.offsets

    def compare(self) -> Mapping[str, str]:
        """What differs between the two sweeps, by name; empty: nothing."""
        wrong = {}
        for name, (low, high) in self._found.items():
            seen = self.ranges.get(name)
            if seen is None:
                wrong[name] = "not moved yet"
            elif high - low >= WHOLE_TURN:
                continue
            elif abs(seen.low - low) > TOLERANCE or abs(seen.high - high) > TOLERANCE:
                wrong[name] = f"{seen.low:.0f} to {seen.high:.0f} now, {low} to {high} in the sweep"
        return wrong

    def finish(self, arm: str, measured_on: str) -> ArmCalibration:
        """The calibration; raises ConfigError where the second sweep differs from the first."""
        wrong = self.compare()
        if wrong:
            words = "; ".join(f"{name}: {what}" for name, what in wrong.items())
            raise ConfigError(
                f"the ranges do not agree: {words}. Move these joints from end to end once more, "
                f"or begin again"
            )
        motors = {}
        for name, (low, high) in self._found.items():
            motors[name] = MotorCalibration(
                id=self._ids[name],
                homing_offset=self.offsets[name],
                range_min=low,
                range_max=high,
                direction=self._directions.get(name, 1),
                zero=(low + high) / 2,
                gripper=name in self._grippers,
            )
        self.phase = "done"
        return ArmCalibration(arm, motors, _now(), measured_on)


def _choose_range(found: Range, middle: int) -> tuple[int, int]:
    """The range in readings, once `middle` reads 2048."""
    if found.span >= WHOLE_TURN:
        return 0, STEPS_PER_TURN - 1
    low = round(found.low) - middle + MIDDLE
    high = round(found.high) - middle + MIDDLE
    return low, high
