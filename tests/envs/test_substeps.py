"""Steps of a part of a control period, and the actions that keep things where they are."""

import numpy as np
import pytest
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.envs.registry import make
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.planners import DelayedPlanner
from hotstart.spec import ConfigError, Planned


def test_a_period_in_two_parts_is_the_period_whole():
    pytest.importorskip("pymunk")
    whole, parts = make("pusht"), make("pusht")
    whole.reset(seed=3)
    parts.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(100, 400, 2)
        one = whole.step(action)[0]
        parts.step(action, 3)
        other = parts.step(action, 7)[0]
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])
    assert whole.elapsed == parts.elapsed == 200
    assert whole.steps == parts.steps == 20


def test_an_episode_ends_with_its_time_not_with_its_number_of_steps():
    pytest.importorskip("pymunk")
    env = make("pusht", max_steps=2)
    env.reset(seed=0)
    ends = [env.step(np.full(2, 256.0), 5)[3] for _ in range(4)]
    assert ends == [False, False, False, True]


@pytest.mark.parametrize("control", ["delta", "absolute"])
def test_robosuite_advances_by_the_substeps_asked_for(control):
    env = make("lift", control=control)
    env.reset(seed=1)
    clock = env.simulation.sim.data
    for substeps in (1, 7, 24, 25, None):
        before = float(clock.time)
        env.step(env.hold_position(), substeps)
        assert float(clock.time) - before == pytest.approx(0.002 * (substeps or 25), abs=1e-9)
    assert env.simulation.control_timestep == pytest.approx(0.05)
    env.close()


def test_what_is_seen_after_a_part_of_a_period_is_the_present():
    """Also at the whole periods that follow, and a whole episode is as it was."""
    env, undisturbed = make("lift"), make("lift")
    env.reset(seed=1)
    undisturbed.reset(seed=1)
    rng = np.random.default_rng(0)
    for substeps in (25, 25, 10, 25, 7, 3, 25, 25, 24, 25):
        seen = env.step(rng.uniform(-1, 1, 7), substeps)[0]
        at = env.simulation.sim.data.get_site_xpos(
            env.simulation.robots[0].gripper["right"].important_sites["grip_site"]
        )
        np.testing.assert_allclose(seen["eef_pos"], at, atol=1e-6)
    whole = [undisturbed.step(np.full(7, 0.1))[0]["eef_pos"] for _ in range(3)]
    site = undisturbed.simulation.robots[0].gripper["right"].important_sites["grip_site"]
    np.testing.assert_allclose(
        whole[-1], undisturbed.simulation.sim.data.get_site_xpos(site), atol=1e-6
    )
    env.close()
    undisturbed.close()


@pytest.mark.parametrize(
    ("task", "options"), [("lift", {}), ("lift", {"control": "absolute"}), ("two_arm_lift", {})]
)
def test_resting_keeps_the_hands_where_they_are(task, options):
    env = make(task, **options)
    before = env.reset(seed=2)[0]
    for _ in range(10):
        after = env.step(env.hold_position())[0]
    for name in before:
        if name.endswith("eef_pos"):
            np.testing.assert_allclose(after[name], before[name], atol=0.012)
    env.close()


@pytest.mark.parametrize("substeps", [0, -1, 11])
def test_impossible_substeps_are_refused(substeps):
    pytest.importorskip("pymunk")
    env = make("pusht")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"substeps is not possible; this task takes 1 to 10"):
        env.step(np.zeros(2), substeps)


def test_rows_advance_each_by_its_own_substeps():
    pytest.importorskip("pymunk")
    target = np.full((2, 2), 300.0)
    with SimulatedRobot("pusht", {}, rows=2, workers=1) as robot:
        robot.reset([5, 5])
        np.testing.assert_allclose(robot.hold_position(), robot.observe()["agent_pos"], rtol=1e-6)
        robot.act(target, np.array([4, 10]))
        assert not np.allclose(*robot.observe()["agent_pos"])
        robot.act(target, np.array([6, 1]))
    alone = make("pusht")
    alone.reset(seed=5)
    np.testing.assert_allclose(
        alone.step(target[0])[0]["agent_pos"], robot.observe()["agent_pos"][0]
    )


def test_a_row_whose_episode_was_ended_before_the_environments_stands_still():
    """Two rows with clocks of their own, and a run that is shorter than the task: the first to
    end waits for the other.
    """
    pytest.importorskip("pymunk")
    with SimulatedRobot("pusht", {"max_steps": 50}, rows=2) as robot:
        robot.reset([5, 6])
        robot.act(np.full((2, 2), 300.0))
        before = {name: values[0].copy() for name, values in robot.observe().items()}
        feedback = robot.act(np.full((2, 2), 100.0), np.array([0, 10]))
        for name, values in robot.observe().items():
            np.testing.assert_array_equal(values[0], before[name])
        assert feedback.done.tolist() == [False, False]
        with pytest.raises(ConfigError, match="a step of -1 substeps"):
            robot.act(np.full((2, 2), 100.0), np.array([-1, 10]))


def test_a_run_that_is_shorter_than_its_task_ends_row_by_row(scripted):
    """Row 1 waits 30 ms for every plan, so that both rows have other turns; neither episode
    reaches the task's own end.
    """
    pytest.importorskip("pymunk")

    class Middle(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            return Planned(rows, np.full((len(rows), 4, 2), 256.0), None, np.ones(len(rows), int))

        def observe(self, state, observation, executed=None, new=None):
            return state

        def adopt(self, state, planned):
            return state

    policy = Middle()
    with SimulatedRobot("pusht", {"max_steps": 50}, rows=2) as robot:
        policy.obs_spec, policy.action_spec = robot.obs_spec, robot.action_spec
        planner = DelayedPlanner(policy, lambda row, number: 0.03 * row, 0.0)
        logs = run(robot, policy, planner, VirtualClock(), [5, 6], LoopSettings(6))
    assert [log.steps for log in logs] == [6, 6]
    assert [sum(log.durations) for log in logs] == pytest.approx([6.0, 6.0])
