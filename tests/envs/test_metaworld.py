"""Meta-World's tasks with their own experts."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hotstart.envs.experts.demonstrate import demonstrate, make_expert
from hotstart.envs.metaworld import INSTRUCTIONS, MetaWorldEnv, load_metaworld
from hotstart.spec import ConfigError

pytest.importorskip("metaworld", reason="pip install 'hotstart[metaworld]'")


def test_every_task_has_an_instruction_and_an_expert():
    assert set(INSTRUCTIONS) == set(load_metaworld().ALL_V3_ENVIRONMENTS) == set(load_metaworld("policies").ENV_POLICY_MAP)
    assert len(set(INSTRUCTIONS.values())) == 50


@pytest.mark.parametrize("task", ["reach-v3", "drawer-open-v3", "button-press-topdown-v3", "pick-place-v3"])
def test_experts_succeed_and_a_seed_fixes_the_episode(task):
    env = MetaWorldEnv(task)
    first = demonstrate(env, make_expert("metaworld", 0.1), seed=5)
    demonstrate(env, make_expert("metaworld", 0.0), seed=6)
    again = demonstrate(env, make_expert("metaworld", 0.1), seed=5)
    fresh = demonstrate(MetaWorldEnv(task), make_expert("metaworld", 0.1), seed=5)
    assert first.success
    for name, values in first.arrays.items():
        assert np.array_equal(values, again.arrays[name])
        assert np.array_equal(values, fresh.arrays[name])


def test_the_goal_is_seen_and_differs_between_seeds():
    env = MetaWorldEnv("reach-v3")
    goals = np.stack([env.reset(seed=seed)[0]["state"][-3:] for seed in range(4)])
    assert np.ptp(goals, axis=0).min() > 0.01
    assert env.reset(seed=0)[1]["instruction"] == "reach the goal"


def test_gymnasium_accepts_it():
    check_env(MetaWorldEnv("push-v3", max_steps=20), skip_render_check=True)


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'reach-v3'"):
        MetaWorldEnv("reach-v2")
