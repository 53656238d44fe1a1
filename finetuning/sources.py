"""Rollouts in the simulator; `spec.RolloutSource` says what a source is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..spec import (
    Feedback,
    FloatArray,
    IntArray,
    Observation,
    Robot,
    TimedObservation,
    Turn,
)

Reward = Literal["success", "environment", "score"]


class SimulatorSource:
    """Rollouts in the simulator, or in anything else that is a `Robot`."""

    real = True

    def __init__(self, robot: Robot, max_steps: int, reward: Reward = "success") -> None:
        """Take rollouts of `robot`.

        max_steps: control periods after which an episode is truncated
        reward: success: 1 when the task is first fulfilled, which ends the episode; environment:
            the reward of the environment; score: how much the episode's score has risen
        """
        self.robot = robot
        self.rows, self.rate_hz = robot.rows, robot.rate_hz
        self.obs_spec, self.action_spec = robot.obs_spec, robot.action_spec
        self.max_steps, self.reward = max_steps, reward
        self._steps = np.zeros(self.rows, np.int64)
        self._over = np.ones(self.rows, bool)
        self._score = np.zeros(self.rows)

    def begin(self, rows: IntArray, seeds: Sequence[int]) -> Observation:
        """Begin an episode in `rows` (R,) with a seed each; returns what all B rows observe."""
        feedback = self.robot.reset_rows(rows, seeds)
        self._steps[rows] = 0
        self._over[rows] = False
        self._score[rows] = 0.0
        if feedback is not None:
            self._score[rows] = feedback.score[rows]
            self._over[rows] = feedback.done[rows]
        return self._observe()

    def step(self, actions: FloatArray) -> Turn:
        """Execute a chunk of actions (B, Ta, A)."""
        whole = np.full(self.rows, self.robot.substeps)
        frames: list[Observation] = []
        reward = np.zeros(self.rows)
        success = np.zeros(self.rows, bool)
        terminated = np.zeros(self.rows, bool)
        before = self._steps.copy()
        for index in range(actions.shape[1]):
            runs = ~self._over
            feedback = self.robot.act(actions[:, index], np.where(runs, whole, 0))
            self._steps += runs
            reward += np.where(runs, self._rate(feedback), 0.0)
            success |= runs & feedback.success
            terminated |= runs & (feedback.terminated | feedback.success)
            self._over |= feedback.done | feedback.success | (self._steps >= self.max_steps)
            frames.append(self._observe())
        return Turn(
            frames=frames,
            reward=reward,
            terminated=terminated,
            truncated=self._over & ~terminated,
            success=success,
            steps=self._steps - before,
            elapsed=self._steps / self.max_steps,
        )

    def close(self) -> None:
        """Stop the robot; whoever built it closes it."""
        self.robot.stop()

    def _rate(self, feedback: Feedback) -> FloatArray:
        """The reward (B,) of one control period."""
        if self.reward == "success":
            return feedback.success.astype(np.float64)
        if self.reward == "environment":
            return feedback.reward
        risen = feedback.score - self._score
        self._score = feedback.score.copy()
        return risen

    def _observe(self) -> Observation:
        observation = self.robot.observe()
        if isinstance(observation, TimedObservation):
            return observation.observation
        return observation
