"""The point and the gate: what ends an episode, and how."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.gate import GateEnv


def cross(height):
    """The answer to a step through x = 0 at `height` over the gate's middle."""
    env = GateEnv(width=0.2)
    env.reset(seed=0)
    env.drift = 0.0
    env.point = np.array([-0.025, env.gate + height])
    _, _, over, _, info = env.step([1.0, 0.0])
    return over, info["success"], env.point[0]


@pytest.mark.parametrize(("height", "lost"), [(0.0, False), (0.09, False), (0.11, True)])
def test_whoever_misses_the_gate_has_lost(height, lost):
    over, success, x = cross(height)
    assert over == lost
    assert not success
    assert x == pytest.approx(0.025)


def test_the_way_is_measured_where_the_line_is_crossed():
    env = GateEnv(width=0.1)
    env.reset(seed=0)
    env.drift = 0.0
    env.point = np.array([-0.01, env.gate + 0.035])
    assert not env.step([1.0, 1.0])[2]  # above the gate after the step, in it at the crossing


def test_the_demonstrator_succeeds_and_a_seed_fixes_the_episode():
    made = [demonstrate(GateEnv(), make_demonstrator("gate", 0.1), seed=seed) for seed in (3, 4, 3)]
    assert all(each.success for each in made)
    assert np.array_equal(made[0].arrays["state"], made[2].arrays["state"])
    assert not np.array_equal(made[0].arrays["state"][0], made[1].arrays["state"][0])


def test_gymnasium_accepts_it():
    check_env(GateEnv(), skip_render_check=True)


def test_the_picture_shows_point_gate_and_goal():
    env = GateEnv()
    env.reset(seed=0)
    colours = {tuple(colour) for colour in env.render().reshape(-1, 3).tolist()}
    assert colours == {(255, 255, 255), (60, 60, 60), (120, 190, 120), (200, 60, 40)}
