import numpy as np
import pytest
from hotstart.envs.demonstrators.hand import limit_length
from hotstart.envs.demonstrators.lift import LiftDemonstrator
from hotstart.envs.robosuite.tasks import LiftEnv


@pytest.fixture(scope="module")
def env():
    lift = LiftEnv()
    yield lift
    lift.close()


def episode(env, seed, noise=0.0):
    """Actions (steps, 7), what the demonstrator meant (steps, 7), cube heights (steps,) and the
    last info.
    """
    demonstrator = LiftDemonstrator(noise=noise)
    demonstrator.reset(np.random.default_rng(seed))
    env.reset(seed=seed)
    actions = []
    intended = []
    heights = []
    over = False
    while not over:
        actions.append(demonstrator.act(env))
        intended.append(demonstrator.intended)
        observation, _, terminated, truncated, info = env.step(actions[-1])
        heights.append(observation["object"][2])
        over = terminated or truncated
    return np.array(actions), np.array(intended), np.array(heights), info


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_lifts_smoothly(env, seed):
    actions, intended, heights, info = episode(env, seed)
    assert (info["success"], info["score"]) == (True, 1.0)
    assert 25 <= len(actions) <= 50
    assert np.array_equal(actions, intended)
    assert np.linalg.norm(actions[:, :3], axis=1).max() <= 0.65 + 1e-9
    closed = actions[:, 6] > 0
    assert np.all(np.diff(closed.astype(int)) >= 0)  # closes once and stays closed
    first = int(np.argmax(closed))
    assert np.abs(actions[first : first + 6, :3]).max() == 0  # waits for the fingers
    assert np.ptp(heights[: first + 5]) < 0.02


@pytest.mark.parametrize("seed", [21, 22])
def test_noise_disturbs_the_way_but_not_the_lift(env, seed):
    clean, *_ = episode(env, seed)
    noisy, intended, _, info = episode(env, seed, noise=0.2)
    assert info["success"]
    pushes = noisy - intended
    assert np.abs(pushes[:, :6]).max() > 0.05
    assert np.all(pushes[:, 6] == 0)
    assert np.abs(noisy).max() <= 1
    assert not np.array_equal(noisy[:20], clean[:20])
    assert np.array_equal(noisy, episode(env, seed, noise=0.2)[0])  # the generator fixes the pushes


def test_reaches_again_for_a_cube_that_was_pushed_away(env):
    demonstrator = LiftDemonstrator()
    env.reset(seed=31)
    while demonstrator.act(env)[6] < 0:
        env.step(demonstrator.intended)
    data = env.simulation.sim.data
    joint = env.simulation.cube.joints[0]
    pose = np.array(data.get_joint_qpos(joint))
    pose[0] += 0.08
    data.set_joint_qpos(joint, pose)
    env.simulation.sim.forward()
    info, reopened = {"success": False}, False
    while not info["success"] and env.steps < 100:
        action = demonstrator.act(env)
        reopened |= action[6] < 0
        *_, info = env.step(action)
    assert info["success"]
    assert reopened


def test_limited_keeps_the_direction():
    rng = np.random.default_rng(0)
    for vector in rng.standard_normal((50, 3)):
        short = limit_length(vector, 0.5)
        assert np.linalg.norm(short) == pytest.approx(min(0.5, np.linalg.norm(vector)))
        np.testing.assert_allclose(np.cross(short, vector), 0, atol=1e-12)
    assert np.array_equal(limit_length(np.zeros(3), 0.5), np.zeros(3))
