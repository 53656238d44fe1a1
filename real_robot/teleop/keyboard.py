"""An operator who moves an arm by keys: each press is a small step."""

from __future__ import annotations

import numpy as np

from ...spec import ActionSpec, ConfigError, FloatArray
from ..keys import Keys
from .base import RobotView, Target

GRIPPER = "gripper"
TOOL_KEYS = {
    "up": ("x", 1),
    "down": ("x", -1),
    "left": ("y", 1),
    "right": ("y", -1),
    "page_up": ("z", 1),
    "page_down": ("z", -1),
}
CHANGE_KEYS = {"up": 1, "down": -1, "+": 1, "=": 1, "-": -1}
DIGITS = "123456789"


class Keyboard:
    """Keys move one number of the action at a time.

    1 to 9 choose the number, + and - change it by a step, g opens and closes the gripper. For an
    arm that is told joint angles, up and down change it too, left and right choose the one before
    and after. For one that is told where its tool is to be, the arrows and the page keys move it
    along x, y and z.
    """

    def __init__(
        self, action_spec: ActionSpec, keys: Keys, step: float = 0.02, leash: float = 0.2
    ) -> None:
        """Move an arm of this action by these keys.

        step: what one press changes [rad or m]
        leash: the most that the target may be ahead of the arm [rad or m]
        """
        if not 0 < step <= leash:
            raise ConfigError(f"step is {step} and leash {leash}; 0 < step <= leash is wanted")
        self.keys, self.step = keys, step
        self.names = [dim.name for dim in action_spec.dims]
        self.chosen = 0
        self._tool = {"x", "y", "z"} <= set(self.names)
        self._target = Target(action_spec, leash)
        self._free = np.array([name == GRIPPER for name in self.names])
        self._listens = {*TOOL_KEYS, *CHANGE_KEYS, *DIGITS, "g"}

    def start(self) -> None:
        """The keys are there already."""

    def begin(self, position: FloatArray) -> None:
        """From where the arm is; keys pressed before are dropped."""
        self.keys.take(self._listens)
        self._target.begin(position)

    def read(self, now_s: float, view: RobotView) -> FloatArray | None:
        """The target after the newest keys."""
        change = np.zeros(len(self.names))
        toggles = 0
        for key in self.keys.take(self._listens):
            if key == "g":
                toggles += 1
            else:
                self._press(key, change)
        action = self._target.move(change, view.position)
        if toggles % 2 and self._free.any():
            open_now = self._target.position[self._free] > 0.5
            self._target.position[self._free] = np.where(open_now, 0.0, 1.0)
            action = self._target.position.copy()
        return action

    def close(self) -> None:
        """The keys are somebody else's."""

    def _press(self, key: str, change: FloatArray) -> None:
        """Add what one key changes, or choose another number."""
        if key in DIGITS:
            self.chosen = min(DIGITS.index(key), len(self.names) - 1)
        elif self._tool and key in TOOL_KEYS:
            name, sign = TOOL_KEYS[key]
            change[self.names.index(name)] += sign * self.step
        elif key in CHANGE_KEYS:
            change[self.chosen] += CHANGE_KEYS[key] * self.step
        elif key == "right":
            self.chosen = (self.chosen + 1) % len(self.names)
        elif key == "left":
            self.chosen = (self.chosen - 1) % len(self.names)
