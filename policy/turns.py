"""Rows of a policy in a source of rollouts, chunk by chunk: plan, execute, observe.

Letters: B rows, R some of them, Ta actions of a chunk, A numbers of an action.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..spec import BoolArray, Executed, FloatArray, IntArray, Observation, Planned, Turn
from .diffusion_policy import DiffusionPolicy
from .samplers.loop import Transition
from .state import PolicyState


@dataclass
class PolicyRows:
    """What the rows are at before a chunk."""

    policy: DiffusionPolicy
    state: PolicyState
    elapsed: FloatArray  # (B,) share of the episode's time that is over
    has_plan: BoolArray  # (B,)
    chunk: FloatArray  # (B, Ta, A) what was planned last

    @classmethod
    def begin(
        cls, policy: DiffusionPolicy, observation: Observation, seeds: Sequence[int]
    ) -> PolicyRows:
        """All rows at the beginning of an episode, with a seed each for the policy's noise."""
        state = policy.observe(policy.initial_state(seeds), observation)
        rows = len(seeds)
        chunk = np.zeros((rows, policy.horizon.executed, policy.action_spec.width))
        return cls(policy, state, np.zeros(rows), np.zeros(rows, bool), chunk)

    def begin_anew(self, over: IntArray, observation: Observation, seeds: Sequence[int]) -> None:
        """New episodes in the rows `over` (R,), a seed each; `observation` is that of all rows."""
        self.state = self.policy.reset_rows(self.state, over, seeds)
        nothing_new = np.zeros(len(self.has_plan), bool)
        self.state = self.policy.observe(self.state, observation, new=nothing_new)
        self.elapsed[over] = 0.0
        self.has_plan[over] = False

    def plan(self, trace: bool = False) -> Iterator[tuple[Planned, list[Transition] | None]]:
        """Plans of all rows, with the denoising steps where `trace` asks for them.

        Rows with a plan and rows without are planned apart, so that every recorded loop has the
        rows that were asked for.
        """
        before = self.has_plan.copy()
        for chosen in (np.flatnonzero(before), np.flatnonzero(~before)):
            if len(chosen) == 0:
                continue
            transitions: list[Transition] | None = None
            if trace:
                transitions = []
            executed = np.full(len(chosen), self.policy.horizon.executed)
            planned = self.policy.plan(self.state, chosen, executed, trace=transitions)
            self.state = self.policy.adopt(self.state, planned)
            self.chunk[planned.rows] = planned.actions[:, : self.chunk.shape[1]]
            yield planned, transitions
        self.has_plan[:] = True

    def plan_actions(self) -> FloatArray:
        """The next chunk of all rows, (B, Ta, A)."""
        actions = np.zeros(self.chunk_shape)
        for planned, _ in self.plan():
            actions[planned.rows] = planned.actions
        return actions

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """(B, Ta, A)."""
        policy = self.policy
        return len(self.has_plan), policy.horizon.executed, policy.action_spec.width

    def push(self, turn: Turn) -> None:
        """Observe every frame of a turn; a row whose episode was over has nothing new."""
        first = self.chunk.shape[1] - len(turn.frames)
        for place, frame in enumerate(turn.frames):
            new = turn.steps > place
            executed = Executed(self.chunk[:, first + place], new.astype(np.float64))
            self.state = self.policy.observe(self.state, frame, executed, new)
        self.elapsed = turn.elapsed.copy()
