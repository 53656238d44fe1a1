"""Scripted demonstrators in the real simulators, each on a seed or two; success over many seeds
stands in docs/notebook/2026-11-25-suites-and-scripted-demonstrators.md.
"""

import numpy as np
import pytest
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.demonstrators.hand import Hand, nearest_turn
from hotstart.envs.demonstrators.pick_place import MOST_STRAIN_RAD, Scene, SquareDemonstrator
from hotstart.envs.demonstrators.play import PlayDemonstrator, RandomDemonstrator
from hotstart.envs.registry import make
from hotstart.seeds import Purpose, numpy_generator
from hotstart.spec import ConfigError
from scipy.spatial.transform import Rotation

ROBOSUITE = ["can", "square", "stack", "door"]


@pytest.mark.parametrize("robot", ["Panda", "UR5e"])
@pytest.mark.parametrize("task", ROBOSUITE)
def test_an_expert_fulfils_its_task_with_any_arm(task, robot):
    env = make(task, robot=robot)
    shown = demonstrate(env, make_demonstrator(task, 0.0), seed=1)
    env.close()
    assert shown.success
    assert shown.arrays["success"].sum() == 1  # the episode ends with it
    assert {name: len(values) for name, values in shown.arrays.items()} == dict.fromkeys(
        shown.arrays, env.steps
    )
    assert np.abs(shown.arrays["action"]).max() <= 1


def test_a_can_that_is_knocked_out_of_the_hand_is_fetched_again():
    env, demonstrator = make("can"), make_demonstrator("can", 0.0)
    env.reset(seed=2)
    while demonstrator._phase != "carry" or demonstrator._ticks < 8:
        env.step(demonstrator.act(env))
    simulation = env.simulation
    joint = simulation.objects[simulation.object_id].joints[0]
    pose = np.array(simulation.sim.data.get_joint_qpos(joint))
    pose[:3] = [0.1, -0.25, 0.9]
    simulation.sim.data.set_joint_qpos(joint, pose)
    simulation.sim.forward()
    phases, info = set(), {"success": False}
    while not info["success"] and env.steps < 250:
        *_, info = env.step(demonstrator.act(env))
        phases.add(demonstrator._phase)
    env.close()
    assert info["success"]
    assert "reach" in phases


def hand_at(heading_rad: float) -> Hand:
    return Hand(np.zeros(3), Rotation.from_euler("z", heading_rad).as_matrix())


def test_the_nut_is_turned_without_straining_the_wrist():
    """Whatever the nut's heading, grasp and place stay within what the wrist can do, and the
    nut ends where it fits.
    """
    for nut_rad in np.linspace(-np.pi, np.pi, 25):
        demonstrator = SquareDemonstrator()
        demonstrator._preferred_rad = 1.6
        turns = [nearest_turn(nut_rad, np.pi + side) for side in (-np.pi / 2, 0.0, np.pi / 2)]
        scene = Scene(np.zeros(3), [nut_rad + np.pi / 2, nut_rad - np.pi / 2], np.zeros(3), turns)
        grasp = demonstrator._grasp_turn(hand_at(1.6), scene)
        assert abs(grasp) < np.pi / 2 + 1e-9
        place = demonstrator._place_turn(hand_at(1.6 + grasp), scene)
        assert abs(grasp + place) < MOST_STRAIN_RAD
        final = nut_rad + place
        assert abs(nearest_turn(final, 0.0, np.pi / 2)) < 1e-9  # the hole fits
        assert abs(nearest_turn(final, 0.0)) > 1.0  # the handle does not point away from the arm


def test_play_and_random_stay_within_bounds_and_repeat_with_their_seed():
    env = make("lift", max_steps=40)
    for demonstrator in (
        RandomDemonstrator(),
        PlayDemonstrator(make_demonstrator("lift", 0.1)),
        make_demonstrator("lift", 0.0, "play"),
    ):
        first, again, other = (
            demonstrate(env, demonstrator, seed).arrays["action"] for seed in (3, 3, 4)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first[:20], other[:20])
        assert np.abs(first).max() <= 1
        assert set(np.unique(first[:, 6])) == {-1.0, 1.0}  # the gripper is open or closed
    env.close()


def test_an_environment_without_an_expert_says_what_to_do():
    with pytest.raises(ConfigError, match=r"tool_hang.*demonstrator=random"):
        make_demonstrator("tool_hang", 0.0)


@pytest.mark.parametrize("robot", ["Panda", "UR5e"])
def test_the_hand_lifts_as_soon_as_its_fingers_have_come_to_rest(robot):
    """No clock that an observer does not see: fingers at rest never wait for more than a tick
    or two.
    """
    from hotstart.envs.demonstrators.demonstrate import make_demonstrator

    env, demonstrator = make("square", robot=robot), make_demonstrator("square", 0.0)
    env.reset(seed=30)
    demonstrator.reset(np.random.default_rng(0))
    joints, waiting = None, 0
    for _ in range(90):
        phase = demonstrator._phase
        env.step(demonstrator.act(env))
        now = np.array(
            env.simulation.sim.data.qpos[
                env.simulation.robots[0]._ref_gripper_joint_pos_indexes["right"]
            ]
        )
        moved = 1.0 if joints is None else np.abs(now - joints).max()
        joints = now
        if phase == "close" == demonstrator._phase and demonstrator._ticks > 3:
            waiting += moved < 0.02 * np.abs(now).max()
    assert demonstrator._phase in ("carry", "release")
    assert waiting <= 2
    env.close()


def test_a_demonstration_is_the_plain_loop_written_out():
    """What the control loop with a demonstrator records is what stepping by hand shows, to the
    bit.
    """
    env, demonstrator = make("lift", max_steps=15), make_demonstrator("lift", 0.3)
    shown = demonstrate(env, demonstrator, seed=8)
    observation, info = env.reset(seed=8)
    demonstrator.reset(numpy_generator(8, Purpose.DEMONSTRATOR))
    for turn in range(15):
        for name, values in observation.items():
            assert np.array_equal(shown.arrays[name][turn], values)
        executed = demonstrator.act(env)
        intended = np.asarray(demonstrator.intended, np.float32)
        assert np.array_equal(shown.arrays["action"][turn], intended)
        assert not np.array_equal(intended, np.asarray(executed, np.float32))  # noise was injected
        observation, reward, *_, info = env.step(executed)
        assert shown.arrays["reward"][turn] == np.float32(reward)
        assert shown.arrays["success"][turn] == info["success"]
    assert len(shown.arrays["action"]) == 15
    assert (shown.success, shown.score) == (info["success"], info["score"])
    env.close()
