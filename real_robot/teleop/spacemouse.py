"""An operator with a SpaceMouse: a puck that moves the tool along and around its axes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ...spec import ActionSpec, ConfigError, FloatArray
from .base import RobotView, Target
from .keyboard import GRIPPER

AXES = {"x": "x", "y": "y", "z": "z", "rx": "roll", "ry": "pitch", "rz": "yaw"}
"""Number of an action -> what the SpaceMouse calls it."""
LONGEST_S = 0.1
"""A pause in the loop moves the tool no further than so much time would."""
REPORTS = 32
"""At most so many of the device's messages are read in a control period."""


class SpaceMouse:
    """The puck's deflection is the tool's speed; the first button opens and closes the gripper."""

    def __init__(
        self,
        action_spec: ActionSpec,
        speed: float = 0.1,
        turn_speed: float = 0.5,
        dead_zone: float = 0.1,
        leash: float = 0.1,
    ) -> None:
        """Move a tool.

        speed: of the tool when the puck is pushed all the way [m/s]
        turn_speed: of the tool when the puck is turned all the way [rad/s]
        dead_zone: deflections below this count as none, of 1
        leash: the most that the target may be ahead of the arm [m or rad]
        """
        names = [dim.name for dim in action_spec.dims]
        if not {"x", "y"} <= set(names):
            raise ConfigError(
                f"a SpaceMouse moves a tool along x and y, and the robot is told {names}: "
                "drive the robot in tool space, or take teleop=keyboard or teleop=leader"
            )
        self.dead_zone = dead_zone
        self._speeds = np.zeros(len(names))
        self._axes: list[tuple[int, str]] = []
        for number, name in enumerate(names):
            if name in AXES:
                self._axes.append((number, AXES[name]))
                self._speeds[number] = speed if len(name) == 1 else turn_speed
        self._grippers = [number for number, name in enumerate(names) if name == GRIPPER]
        self._target = Target(action_spec, leash)
        self._device: Any = None
        self._read_s: float | None = None
        self._pressed = False

    def start(self) -> None:
        """Open the device; ConfigError where there is none."""
        try:
            sdk = import_module("pyspacemouse")
        except ImportError as error:
            raise ConfigError(
                'a SpaceMouse needs pyspacemouse: pip install "hotstart[spacemouse]", and the '
                "system's libhidapi (apt install libhidapi-libusb0)"
            ) from error
        try:
            self._device = sdk.open(axis_convention=sdk.AxisConvention.ROS)
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"no SpaceMouse can be opened: {error}; is it plugged in, and may you read "
                "/dev/hidraw* (a udev rule)?"
            ) from error

    def begin(self, position: FloatArray) -> None:
        """From where the arm is."""
        self._target.begin(position)
        self._read_s = None

    def read(self, now_s: float, view: RobotView) -> FloatArray | None:
        """The target after the time since it was last read."""
        state = self._read_device()
        passed_s = 0.0
        if self._read_s is not None:
            passed_s = min(now_s - self._read_s, LONGEST_S)
        self._read_s = now_s
        change = np.zeros(len(self._speeds))
        for number, axis in self._axes:
            deflection = float(getattr(state, axis))
            if abs(deflection) > self.dead_zone:
                change[number] = deflection * self._speeds[number] * passed_s
        self._target.move(change, view.position)
        pressed = bool(state.buttons and state.buttons[0])
        if pressed and not self._pressed:
            for number in self._grippers:
                self._target.position[number] = 1.0 - round(self._target.position[number])
        self._pressed = pressed
        return self._target.position.copy()

    def close(self) -> None:
        """Let go of the device."""
        if self._device is not None:
            self._device.close()
        self._device = None

    def _read_device(self) -> Any:
        """The newest state: all messages that wait are read."""
        state = self._device.read()
        for _ in range(REPORTS):
            before = state.t
            state = self._device.read()
            if state.t == before:
                break
        return state
