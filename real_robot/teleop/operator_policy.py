"""An operator as a policy: the plan is one action, what the operator says now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...control import RealClock
from ...control.splicing import zero_order_hold
from ...spec import (
    BoolArray,
    Clock,
    Executed,
    Horizon,
    IntArray,
    Observation,
    ObsSpec,
    Planned,
    Robot,
    State,
)
from .base import Teleoperator, view_robot


class OperatorPolicy:
    """Asks a teleoperator every control period; give it to `hotstart.run` with `ImmediatePlanner`.

    It reads no observation, so an old picture does not make its actions late.
    """

    rate_hz: float | None = None
    horizon = Horizon(observed=1, planned=1, executed=1)
    obs_spec = ObsSpec({})

    def __init__(
        self, robot: Robot, teleoperator: Teleoperator, clock: Clock | None = None
    ) -> None:
        """Move a robot of one row; `clock` is the loop's own, None: this machine's."""
        self.robot, self.teleoperator = robot, teleoperator
        self.action_spec = robot.action_spec
        self.clock: Clock = clock or RealClock()
        self._last = np.full(self.action_spec.width, np.nan)

    def initial_state(self, seeds: Sequence[int]) -> State:
        """The operator begins where the arm is."""
        self._last = np.full(self.action_spec.width, np.nan)
        self.teleoperator.begin(self.robot.hold_position()[0])
        return {}

    def reset_rows(self, state: State, rows: IntArray, seeds: Sequence[int]) -> State:
        """Begin anew."""
        return self.initial_state(seeds)

    def observe(
        self,
        state: State,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> State:
        """What the operator sees."""
        return observation

    def plan(
        self, state: State, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """What the operator says now; where that is nothing, what was said last."""
        view = view_robot(self.robot, state)
        action = self.teleoperator.read(self.clock.now_s(), view)
        if action is None:
            action = zero_order_hold(self.action_spec, self._last, view.position)
        self._last = np.array(action, np.float64)
        return Planned(rows, self._last[None, None], state, np.ones(1, np.int64))

    def adopt(self, state: State, planned: Planned) -> State:
        """There is nothing to remember."""
        return state
