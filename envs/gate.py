"""A point that must pass a narrow gate: a task of arithmetic alone, for tests and first trials.

No simulator: tens of thousands of steps a second on one core. It has what makes manipulation hard
for imitation: a moment that asks for accuracy, and an error that ends the episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionDim, ActionSpec, FloatArray, ObsKey, ObsPart, ObsSpec
from .base import Observations, TaskEnv

RATE_HZ = 10.0
STEP_M = 0.05
"""What an action of 1 moves the point by."""
DRIFT_M = 0.008
"""Standard deviation of a push across the way that lasts for an episode."""
START_X, GOAL_X = -0.4, 0.4
NEAR_M = 0.08
"""How near to the goal the task is fulfilled."""
PICTURE_PX = 128
STATE_PARTS = (
    ObsPart("point", 2, "position"),
    ObsPart("gate", 1, "position", "y"),
    ObsPart("goal", 1, "position", "y"),
)


class GateEnv(TaskEnv):
    """Move the point from the left through the gate at x = 0 to the goal on the right.

    Observes `state` (4,): the point x, y, the gate's y, the goal's y [m]. Actions (2,): the step in
    x and y, as shares of 0.05 m. Whoever crosses x = 0 beside the gate has lost the episode.
    """

    instruction = "go through the gate to the goal"

    def __init__(self, width: float = 0.1, max_steps: int = 40) -> None:
        """Make the task with these options.

        width: the gate's width [m]
        max_steps: length of an episode [ticks]
        """
        steps = (
            ActionDim("dx", f"{STEP_M} m", absolute=False),
            ActionDim("dy", f"{STEP_M} m", absolute=False),
        )
        super().__init__(
            obs_spec=ObsSpec({"state": ObsKey((4,), parts=STATE_PARTS)}),
            action_spec=ActionSpec(steps),
            action_low=-1.0,
            action_high=1.0,
            rate_hz=RATE_HZ,
            max_steps=max_steps,
        )
        self.width = width
        self.point = np.zeros(2)
        self.gate = 0.0
        self.goal = 0.0
        self.drift = 0.0
        self.crashed = False

    def _begin(self, options: dict[str, Any]) -> None:
        heights = self.np_random.uniform(-0.3, 0.3, 3)
        self.gate, self.goal = heights[1:].tolist()
        self.drift = DRIFT_M * self.np_random.standard_normal()
        self.point = np.array([START_X, heights[0]])
        self.crashed = False

    def _advance(self, action: FloatArray, substeps: int) -> None:
        if self.crashed:
            return
        before = self.point
        self.point = before + STEP_M * np.clip(action, -1.0, 1.0) + [0.0, self.drift]
        self.point = np.clip(self.point, -0.6, 0.6)
        if (before[0] < 0) == (self.point[0] < 0):
            return
        share = before[0] / (before[0] - self.point[0])
        crossing = before[1] + share * (self.point[1] - before[1])
        self.crashed = bool(abs(crossing - self.gate) > self.width / 2)

    def _over(self) -> bool:
        return self.crashed

    def _observe(self) -> Observations:
        return {"state": np.array([*self.point, self.gate, self.goal], np.float32)}

    def _judge(self) -> tuple[float, bool]:
        """Score: the share of the way to the goal; nothing after a crash."""
        distance = float(np.hypot(*(self.point - (GOAL_X, self.goal))))
        if self.crashed:
            return 0.0, False
        return max(0.0, 1.0 - distance / (GOAL_X - START_X)), distance < NEAR_M

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), self.width)

    def _save(self) -> Any:
        return {
            "point": self.point.copy(),
            "gate": self.gate,
            "goal": self.goal,
            "drift": self.drift,
            "crashed": self.crashed,
        }

    def _load(self, state: Any) -> None:
        self.point = state["point"].copy()
        self.gate = state["gate"]
        self.goal = state["goal"]
        self.drift = state["drift"]
        self.crashed = state["crashed"]

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from above, (128, 128, 3)."""
        y, x = np.mgrid[0.6 : -0.6 : PICTURE_PX * 1j, -0.6 : 0.6 : PICTURE_PX * 1j]
        picture = np.full((PICTURE_PX, PICTURE_PX, 3), 255, np.uint8)
        wall = (np.abs(x) < 0.01) & (np.abs(y - self.gate) > self.width / 2)
        picture[wall] = (60, 60, 60)
        picture[np.hypot(x - GOAL_X, y - self.goal) < NEAR_M] = (120, 190, 120)
        picture[np.hypot(x - self.point[0], y - self.point[1]) < 0.03] = (200, 60, 40)
        return picture
