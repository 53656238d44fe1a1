"""Listeners and interventions: who acted, what was applied, and what the policy is told of it."""

from dataclasses import replace

import numpy as np
import pytest
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.planners import ImmediatePlanner
from hotstart.spec import Actor, PlanError


def listen(scripted, intervene=None, latency_s=0.0, robot=None, ticks=8):
    """Run two rows; returns robot, policy, and what the listeners and the policy were told."""
    heard, told = [], []

    class Listening(scripted.Policy):
        def observe(self, state, observation, executed=None, new=None):
            told.append(executed)
            return super().observe(state, observation)

    policy = Listening()
    if robot is None:
        robot = scripted.Robot(2)
    planner = ImmediatePlanner(policy)
    if latency_s:
        planner = scripted.late_planner(policy, latency_s)
    settings = LoopSettings(ticks)
    run(robot, policy, planner, VirtualClock(), [0, 1], settings, [heard.append], intervene)
    return robot, policy, heard, told


def replace_one(tick):
    """Somebody moves row 1 in the ticks 2 and 3."""
    actions = np.full((2, 4), np.nan)
    if tick.number in (2, 3):
        actions[1] = [50, 60, 70, 1]
    return actions


def test_a_listener_hears_who_acted(scripted):
    ends = scripted.Robot(2, ends=(6, 99))
    _, _, heard, _ = listen(scripted, replace_one, latency_s=0.1, robot=ends)
    actors = np.stack([tick.actors for tick in heard])
    policy, hold, person = Actor.POLICY, Actor.HOLD, Actor.INTERVENTION
    assert actors[:, 0].tolist() == [hold, *[policy] * 4, hold, Actor.NOBODY, Actor.NOBODY]
    assert actors[:, 1].tolist() == [hold, policy, person, person, *[policy] * 3, hold]
    np.testing.assert_allclose([tick.now_s[1] for tick in heard], np.arange(8) / 10)
    np.testing.assert_allclose([tick.made_s[1] for tick in heard], np.arange(8) / 10)


def test_a_hook_replaces_an_action_and_the_policy_is_told(scripted):
    robot, _, heard, told = listen(scripted, replace_one)
    alone, _, _, _ = listen(scripted)
    commands, undisturbed = np.stack(robot.commands), np.stack(alone.commands)
    np.testing.assert_array_equal(commands[:, 0], undisturbed[:, 0])
    np.testing.assert_array_equal(commands[2:4, 1], [[50, 60, 70, 1]] * 2)
    np.testing.assert_array_equal(commands[4:, 1, 0], np.arange(4, 8))  # the policy goes on
    for executed, command in zip(told[1:], commands, strict=False):
        np.testing.assert_array_equal(executed.actions, command)
    np.testing.assert_array_equal(heard[2].actions, commands[2])


def test_an_intervention_ends_the_plan_that_it_breaks_into(scripted):
    """Row 1 is planned for anew at every tick of it and after it; row 0 keeps its plans of four."""
    _, policy, _, _ = listen(scripted, replace_one)
    asked = [(tick, rows) for tick, rows, _ in policy.asked]
    assert asked == [(0, [0, 1]), (3, [1]), (4, [0, 1])]
    assert policy.asked[1][2] == [3]  # steps of the old plan, the replaced one among them


def test_a_hook_that_replaces_nothing_changes_nothing(scripted):
    robot, _, heard, _ = listen(scripted, lambda tick: None)
    alone, _, _, _ = listen(scripted)
    np.testing.assert_array_equal(robot.commands, alone.commands)
    assert all((tick.actors == Actor.POLICY).all() for tick in heard)


@pytest.mark.parametrize("value", [np.inf, 1e300])
def test_replaced_actions_are_checked_as_all_are(value, scripted):
    robot = scripted.Robot(2)
    with pytest.raises(PlanError, match=r"row 1 would be told (inf|1e\+300) for number 3"):
        listen(scripted, lambda tick: np.array([[np.nan] * 4, [0, 0, 0, value]]), robot=robot)
    assert robot.commands == []
    assert robot.calls[-1] == "stop"


def test_a_row_replaced_in_part_is_refused(scripted):
    with pytest.raises(PlanError, match="row 0 would be told nan for number 1"):
        listen(scripted, lambda tick: np.array([[1, np.nan, 1, 1], [np.nan] * 4]))


def test_replaced_actions_of_another_shape_are_refused(scripted):
    with pytest.raises(PlanError, match=r"have shape \(4,\); \(2, 4\) was expected"):
        listen(scripted, lambda tick: np.zeros(4))


def test_what_a_robot_applies_behind_its_own_limits_is_told(scripted):
    class Limited(scripted.Robot):
        """It takes the first number up to 2, and cannot tell of the last row."""

        def act(self, actions, substeps=None, timed=None):
            applied = np.minimum(actions, [2, np.inf, np.inf, np.inf])
            applied[1] = np.nan
            return replace(super().act(actions), applied=applied)

    robot, _, heard, told = listen(scripted, robot=Limited(2))
    sent = np.stack(robot.commands)
    applied = np.stack([tick.applied for tick in heard])
    np.testing.assert_array_equal(applied[:, 0, 0], np.minimum(np.arange(8), 2))
    np.testing.assert_array_equal(applied[:, 1], sent[:, 1])
    np.testing.assert_array_equal([each.actions for each in told[1:]], applied[:-1])
