"""The times of a deployment: what is counted, and how it is put into quantiles."""

import numpy as np
import pytest
from hotstart.commands.deploy_times import (
    LoopTimes,
    describe_ms,
    describe_plans,
    join_times,
    spread_reactions,
)
from hotstart.control import LoopSettings, RealClock, run
from hotstart.planners import ImmediatePlanner


def test_quantiles_are_those_of_numpy_and_nothing_has_none():
    seconds = np.random.default_rng(0).exponential(size=500)
    found = describe_ms(seconds.tolist())
    assert found["p95"] == pytest.approx(1000 * np.percentile(seconds, 95), abs=1e-3)
    assert found["max"] == pytest.approx(1000 * seconds.max(), abs=1e-3)
    assert set(describe_ms([]).values()) == {None}


def test_reactions_are_spread_evenly_over_a_chunk():
    spread = spread_reactions([0.1, 0.1], 0.4)
    assert min(spread) == pytest.approx(0.1)
    assert max(spread) == pytest.approx(0.5)
    assert np.mean(spread) == pytest.approx(0.3)


def test_a_real_loop_is_timed(scripted):
    robot, policy = scripted.Robot(1), scripted.Policy()
    robot.rate_hz = 50.0
    times = LoopTimes(robot.rate_hz)
    planner = ImmediatePlanner(policy)
    logs = []
    for seed in (0, 1):
        times.begin()
        logs += run(
            robot, policy, planner, RealClock(), [seed], LoopSettings(8, any_rate=True), [times]
        )
    plans = describe_plans(planner.seconds, logs, policy.horizon.executed, robot.rate_hz)
    whole = join_times(times, plans, {"clamps": {}}, logs)
    assert whole["loop"]["turns"] == 16
    assert len(times.periods_s) == 14, "the pause between two episodes is no period"
    assert whole["loop"]["period_ms"]["p50"] == pytest.approx(20, abs=8)
    assert whole["loop"]["acted"]["policy"] == 16
    assert whole["plans"] == len(planner.seconds) == 2 * -(-8 // policy.horizon.executed)
    chunk_ms = 1000 * policy.horizon.executed / robot.rate_hz
    assert whole["reaction_ms"]["max"] >= chunk_ms
    assert [each["steps"] for each in whole["episodes"]] == [8, 8]
