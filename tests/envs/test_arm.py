"""The arms' environments: the drivers' specifications, targets within limits, demonstrators."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hotstart.arms.rendering import choose_gl
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.registry import make
from hotstart.spec import ConfigError

NAMES = ("ur5e_push", "so101_lift")


@pytest.fixture(scope="module")
def envs():
    return {name: make(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_demonstrator_fulfils_the_task_in_each_of_three_episodes(envs, name):
    demonstrator = make_demonstrator(name, 0.2)
    for seed in range(3):
        made = demonstrate(envs[name], demonstrator, seed)
        assert made.success
        assert 15 < len(made.arrays["action"]) < 80


@pytest.mark.parametrize("name", NAMES)
def test_an_action_of_the_present_joints_changes_nothing_and_it_is_what_is_observed(envs, name):
    env = envs[name]
    seen, _ = env.reset(seed=1)
    hold = env.hold_position()
    assert seen["joints"] == pytest.approx(hold, abs=1e-3)
    for _ in range(5):
        seen, *_ = env.step(hold)
    assert seen["joints"] == pytest.approx(hold, abs=0.04)  # an SO-101 sags
    assert [dim.name for dim in env.action_spec.dims][:2] == ["shoulder_pan", "shoulder_lift"]
    assert {dim.unit for dim in env.action_spec.dims[:5]} == {"rad"}


def test_a_far_target_is_approached_no_faster_than_the_arm_may_move(envs):
    env = envs["ur5e_push"]
    env.reset(seed=0)
    start = env.scene.target
    env.step(start - np.array([2.0, 0, 0, 0, 0, 0]), 5)
    half = env.scene.target
    env.step(start - np.array([2.0, 0, 0, 0, 0, 0]), 5)
    limit = env.scene.limits.velocity[0] * 0.1
    assert start[0] - half[0] == pytest.approx(limit / 2)
    assert start[0] - env.scene.target[0] == pytest.approx(limit)


def test_poses_of_the_tool_are_actions_too_and_out_of_reach_the_arm_stays(envs):
    env = make("ur5e_push", actions="tool")
    env.reset(seed=0)
    pose = env.hold_position()
    up = pose + np.array([0, 0, 0.03, 0, 0, 0])
    for _ in range(4):
        seen, *_ = env.step(up)
    assert seen["tool"] == pytest.approx(up, abs=2e-3)
    held = env.scene.target
    env.step(np.array([3.0, 0, 0, 0, 0, 0]))
    assert env.scene.target == pytest.approx(held)
    assert demonstrate(env, make_demonstrator("ur5e_push", 0.0), 0).success


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_goes_on_from_a_snapshot_to_the_bit(envs, name):
    env = envs[name]
    env.reset(seed=2)
    action = env.hold_position()
    action[0] += 0.1
    env.step(action, 2)
    saved = env.snapshot()
    ends = []
    for _ in range(2):
        env.step(action, env.substeps - 2)
        seen, *_ = env.step(action)
        ends.append(seen)
        env.restore(saved)
    assert all(np.array_equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_accepts_it(envs, name):
    check_env(envs[name], skip_render_check=True)


@pytest.mark.skipif(choose_gl() is None, reason="nothing draws here")
@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_observed_under_the_names_of_their_cameras_and_show_the_object(name):
    env = make(name, cameras={"front": 96, "wrist": [48, 64]})
    seen, _ = env.reset(seed=0)
    assert seen["front"].shape == (96, 96, 3)
    assert seen["wrist"].shape == (48, 64, 3)
    env.scene.put_object([0.0, 0.0, -1.0], 0.0)
    env.scene.step(0.002)
    without = env.observe()["front"]
    changed = np.abs(without.astype(int) - seen["front"]).max(-1) > 40
    assert 30 < changed.sum() < 1500
    env.close()


def test_unknown_cameras_and_actions_are_refused():
    with pytest.raises(ConfigError, match="front"):
        make("so101_lift", cameras=["fron"])
    with pytest.raises(ConfigError, match="tool"):
        make("ur5e_push", actions="pose")
