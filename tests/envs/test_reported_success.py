"""Environments that report success from some step on: who listens hears it from then on."""

import numpy as np
from hotstart.envs.base import TaskEnv
from hotstart.envs.demonstrators.demonstrate import demonstrate
from hotstart.envs.demonstrators.play import RandomDemonstrator
from hotstart.envs.vector_env import VectorEnv
from hotstart.spec import ActionSpec, ObsKey, ObsSpec


class TellsLate(TaskEnv):
    """Whether it knows success shows with its first step only, as in some Gymnasium tasks."""

    reports_success = False

    def __init__(self) -> None:
        super().__init__(
            obs_spec=ObsSpec({"place": ObsKey((1,))}),
            action_spec=ActionSpec.plain(1),
            action_low=-1,
            action_high=1,
            rate_hz=5,
            max_steps=3,
        )

    def _begin(self, options):
        pass

    def _advance(self, action, substeps):
        self.reports_success = True

    def _observe(self):
        return {"place": np.zeros(1, np.float32)}

    def _judge(self):
        return 0.0, False

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)


def test_what_is_reported_of_success_is_asked_at_every_turn():
    robot = VectorEnv([TellsLate(), TellsLate()])
    start = robot.reset([1, 2])
    assert [start.fulfilled(row) for row in range(2)] == [None, None]
    after = robot.act(np.zeros((2, 1)), np.array([1, 0]))
    assert [after.fulfilled(row) for row in range(2)] == [False, None]  # the second one stood still


def test_a_demonstration_knows_what_was_reported_in_it():
    assert demonstrate(TellsLate(), RandomDemonstrator(), 1).reports_success
