"""A policy with a memory runs in the loop: it is told what was executed, and plans come late."""

from dataclasses import replace

import numpy as np
import pytest
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.planners import DelayedPlanner
from hotstart.policy.state import adopt_plans, create_state, push_observation
from hotstart.rows import put_rows, take_rows
from hotstart.spec import ActionSpec, Horizon, ObsKey, ObsSpec, Planned

LATENCY_S = {5: 0.0, 6: 0.23, 7: 0.1, 8: 0.37}
"""Seed of a row -> how long its plans take; the control period is 0.1 s."""
TICKS = 25


class RecurrentPolicy:
    """Its chunks follow from a hidden state (B, 2) of all observations and executed actions."""

    rate_hz: float | None = None

    def __init__(self):
        self.horizon = Horizon(1, 8, 4)
        self.obs_spec, self.action_spec = ObsSpec({"where": ObsKey((2,))}), ActionSpec.plain(2)
        self.states, self.answers = [], []

    def initial_state(self, seeds):
        memory = {"hidden": np.zeros((len(seeds), 2))}
        return create_state(self.obs_spec, self.horizon, 2, seeds, memory=memory)

    def reset_rows(self, state, rows, seeds):
        return put_rows(state, rows, self.initial_state(seeds))

    def observe(self, state, observation, executed=None, new=None):
        state = push_observation(state, self.obs_spec, observation, new)
        hidden = remember(state.memory["hidden"], observation["where"], executed)
        self.states.append(replace(state, memory={"hidden": hidden}))
        return self.states[-1]

    def plan(self, state, rows, executed, frozen=None):
        hidden = state.memory["hidden"][rows]
        steps = np.arange(1, 1 + self.horizon.executed)[:, None]
        plan = take_rows(state.plan, rows)
        plan = replace(plan, x=plan.x + 1, count=plan.count + 1)
        return Planned(rows, np.cos(hidden[:, None] * steps), plan, np.ones(len(rows), int))

    def adopt(self, state, planned):
        self.answers.append((planned.rows, state, adopt_plans(state, planned.rows, planned.plan)))
        return self.answers[-1][-1]


def remember(hidden, where, executed):
    """The new hidden state (B, 2): where nothing was executed, the observation alone counts."""
    moved = np.nan_to_num(executed.actions) * executed.duration_s[:, None]
    return np.tanh(0.9 * hidden + 0.3 * where + 2.0 * moved)


@pytest.fixture
def drive(scripted):
    """drive(seeds): the robot, the policy and the logs of one episode with late plans."""

    class Plane(scripted.Robot):
        """Starts where its seed says and moves by its actions, each row by its own clock."""

        def __init__(self, rows):
            super().__init__(rows)
            self.substeps, self.turns = 10, []
            self.obs_spec, self.action_spec = ObsSpec({"where": ObsKey((2,))}), ActionSpec.plain(2)

        def reset(self, seeds):
            starts = [np.random.default_rng(seed).normal(size=2) for seed in seeds]
            self.where = np.array(starts, np.float32)
            return super().reset(seeds)

        def observe(self):
            return {"where": self.where}

        def act(self, actions, substeps=None, timed=None):
            assert substeps is not None
            self.turns.append((self.where, actions.copy(), substeps.copy()))
            self.where = (self.where + 0.01 * substeps[:, None] * actions).astype(np.float32)
            return super().act(actions)

    def drive(seeds):
        robot, policy = Plane(len(seeds)), RecurrentPolicy()
        planner = DelayedPlanner(policy, lambda row, number: LATENCY_S[seeds[row]], 0.1)
        logs = run(robot, policy, planner, VirtualClock(), seeds, LoopSettings(TICKS, replan_at=2))
        return robot, policy, logs

    return drive


def test_no_rows_memory_leaks_into_another(drive):
    """Four rows of four latencies do what each does alone, to the bit."""
    seeds = list(LATENCY_S)
    _, _, together = drive(seeds)
    for row, seed in enumerate(seeds):
        _, _, (alone,) = drive([seed])
        np.testing.assert_array_equal(together[row].commands, alone.commands)
        assert together[row].durations == alone.durations
        assert together[row].nfe == alone.nfe
    starved = [log.starved_ticks for log in together]
    assert starved[0] == 0
    assert min(starved[1:]) >= 1


def test_late_plans_leave_the_memory_of_newer_ticks(drive):
    """The memory holds all observations and executed actions, though older plans came in."""
    robot, policy, _ = drive(list(LATENCY_S))
    hidden = np.zeros((4, 2))
    moved = np.zeros((4, 2))
    for state, (where, actions, substeps) in zip(policy.states, robot.turns, strict=True):
        hidden = np.tanh(0.9 * hidden + 0.3 * where + 2.0 * moved)
        np.testing.assert_allclose(state.memory["hidden"], hidden, atol=1e-6)
        moved = actions * substeps[:, None] * 0.01
    assert len(policy.answers) > 15
    for rows, before, adopted in policy.answers:
        assert np.array_equal(adopted.memory["hidden"], before.memory["hidden"])
        assert (adopted.plan.count[rows] == before.plan.count[rows] + 1).all()


def test_memory_is_reset_row_by_row(drive, same_rows):
    _, policy, _ = drive([5, 6, 7])
    state = policy.states[-1]
    assert np.abs(state.memory["hidden"]).min() > 0
    reset = policy.reset_rows(state, np.array([1]), [9])
    assert not reset.memory["hidden"][1].any()
    assert same_rows(reset, state, [0, 2])
