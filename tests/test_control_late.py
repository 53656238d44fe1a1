"""The control loop with planners that answer late: what is dropped, bridged, held and counted."""

import numpy as np
import pytest
from hotstart.control import LoopSettings, VirtualClock, run


@pytest.mark.parametrize("latency", [1, 2, 3])
def test_late_actions_are_dropped_and_starved_ticks_held(latency, scripted):
    """Chunks of four, each asked for when the last is used up and `latency` ticks late: its first actions come too late."""
    cycles = 3
    robot, policy, (log,) = scripted.episode(ticks=4 * cycles, latency=latency)
    assert log.late_actions == latency * cycles
    assert log.starved_ticks == latency * cycles
    assert log.nfe == [3] * cycles
    assert [tick for tick, _, _ in policy.asked] == [0, 4, 8]
    assert [count for _, _, [count] in policy.asked] == [0, 4 - latency, 4 - latency]  # what was really executed
    commands = np.stack(robot.commands)[:, 0]
    for tick in range(4 * cycles):
        starved = tick % 4 < latency
        before = (tick // 4) * 4 - 1  # the last action of the chunk before
        expected = (max(before, 0) if starved else tick, 0 if starved else 1000 * (tick // 4))
        assert (commands[tick, 0], commands[tick, 2]) == expected
        if starved and before > 0:
            assert commands[tick, 3] == 1  # the grip stays as it was told


def test_an_answer_that_is_later_than_its_whole_chunk_is_no_use_and_another_is_asked_for(scripted):
    robot, policy, (log,) = scripted.episode(ticks=15, latency=5)
    assert log.late_actions == 4 * len(log.nfe)
    assert log.starved_ticks == 15
    assert not np.stack(robot.commands).any()  # never told anything, it stays at rest
    assert [tick for tick, _, _ in policy.asked] == [0, 6, 12]  # the tick after the answer
    assert all(count == 0 for _, _, [count] in policy.asked)


@pytest.mark.parametrize("latency", [1, 2])
def test_asking_early_bridges_the_latency(latency, scripted):
    """With as many actions left as the answer takes ticks, nobody starves but at the start; late ones were bridged."""
    robot, policy, (log,) = scripted.episode(ticks=30, latency=latency, executed=6, replan_at=latency)
    assert log.starved_ticks == latency  # only the first plan is waited for
    assert log.late_actions == latency * len(log.nfe)
    commands = np.stack(robot.commands)[latency:, 0]
    np.testing.assert_array_equal(commands[:, 0], np.arange(latency, 30))
    asked = [tick for tick, _, _ in policy.asked]
    assert asked == list(range(0, 30, 6 - latency))
    executed = [count for _, _, [count] in policy.asked]
    assert executed[:2] == [0, 6 - 2 * latency]
    assert executed[2:] == [6 - latency] * (len(executed) - 2)  # from question to question, the bridge included


def test_a_row_is_not_asked_for_twice_while_its_answer_is_under_way(scripted):
    _, policy, (log,) = scripted.episode(ticks=12, latency=3, executed=8, replan_at=6)
    asked = [tick for tick, _, _ in policy.asked]
    assert min(np.diff(asked)) >= 3
    assert len(log.nfe) in (len(asked), len(asked) - 1)  # the last answer may not have come


def test_rows_that_run_short_at_different_ticks_are_asked_for_apart(scripted):
    """Row 0 gets shorter chunks than row 1."""

    class Uneven(scripted.LatePlanner):
        def submit(self, state, rows, executed, now_s):
            for row, count in zip(rows, executed, strict=True):
                late = self.latency_s if row == 0 else 0.0
                planned = self.policy.plan(state, np.array([row]), np.array([count]))
                self._due.append((now_s + late, planned))

    robot, policy = scripted.Robot(2), scripted.Policy()
    logs = run(robot, policy, Uneven(policy, 0.2), VirtualClock(), [0, 1], LoopSettings(8))
    assert [log.late_actions for log in logs] == [4, 0]
    assert [log.starved_ticks for log in logs] == [4, 0]
    commands = np.stack(robot.commands)
    np.testing.assert_array_equal(commands[:, 1, 0], np.arange(8))
    np.testing.assert_array_equal(commands[:, 0, 0], [0, 0, 2, 3, 3, 3, 6, 7])
    np.testing.assert_array_equal(commands[:, 0, 2], [0, 0, 0, 0, 0, 0, 1000, 1000])


def test_an_answer_for_a_row_whose_episode_is_over_counts_for_nothing(scripted):
    _, _, logs = scripted.episode(ticks=10, latency=3, rows=2, ends=(2, 9))
    _, _, (alone,) = scripted.episode(ticks=10, latency=3, ends=(2,))
    assert logs[0].steps == logs[0].starved_ticks == 2
    assert (logs[0].late_actions, logs[0].nfe) == (alone.late_actions, alone.nfe) == (0, [])
    assert len(logs[1].nfe) == 2


def test_the_state_of_the_answer_is_adopted_into_the_newer_one(scripted):
    """A policy that is asked two ticks later still knows which plan it made last, and what it has seen since."""
    seen = []

    class Noting(scripted.Policy):
        def adopt(self, state, planned):
            seen.append((float(planned.state["tick"][0]), float(state["tick"][0])))
            return super().adopt(state, planned)

    policy = Noting()
    run(scripted.Robot(1), policy, scripted.LatePlanner(policy, 0.2), VirtualClock(), [0], LoopSettings(8))
    assert seen == [(0.0, 2.0), (4.0, 6.0)]
