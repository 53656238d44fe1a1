"""Meta-World's tasks with their own demonstrators."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.metaworld import INSTRUCTIONS, TASK_SETS, MetaWorldEnv, load_metaworld
from hotstart.spec import ConfigError, bytes_to_text

pytest.importorskip("metaworld", reason="pip install 'hotstart[metaworld]'")


def test_every_task_has_an_instruction_and_an_expert():
    assert (
        set(INSTRUCTIONS)
        == set(load_metaworld().ALL_V3_ENVIRONMENTS)
        == set(load_metaworld("policies").ENV_POLICY_MAP)
    )
    assert len(set(INSTRUCTIONS.values())) == 50


@pytest.mark.parametrize(
    "task", ["reach-v3", "drawer-open-v3", "button-press-topdown-v3", "pick-place-v3"]
)
def test_experts_succeed_and_a_seed_fixes_the_episode(task):
    env = MetaWorldEnv(task)
    first = demonstrate(env, make_demonstrator("metaworld", 0.1), seed=5)
    demonstrate(env, make_demonstrator("metaworld", 0.0), seed=6)
    again = demonstrate(env, make_demonstrator("metaworld", 0.1), seed=5)
    fresh = demonstrate(MetaWorldEnv(task), make_demonstrator("metaworld", 0.1), seed=5)
    assert first.success
    for name, values in first.arrays.items():
        assert np.array_equal(values, again.arrays[name])
        assert np.array_equal(values, fresh.arrays[name])


def test_the_goal_is_seen_and_differs_between_seeds():
    env = MetaWorldEnv("reach-v3")
    goals = np.stack([env.reset(seed=seed)[0]["state"][-3:] for seed in range(4)])
    assert np.ptp(goals, axis=0).min() > 0.01
    assert env.reset(seed=0)[1]["instruction"] == "reach the goal"


def test_of_a_set_every_seed_is_a_task_and_its_words_are_seen():
    env, alone = MetaWorldEnv("mt10"), MetaWorldEnv("push-v3")
    for seed in (20, 21, 1, 31):
        observation, info = env.reset(seed=seed)
        task = TASK_SETS["mt10"][seed % 10]
        assert env.task == task
        assert (
            bytes_to_text(observation["instruction"]) == info["instruction"] == INSTRUCTIONS[task]
        )
        assert env.observation_space.contains(observation)
    shown = demonstrate(
        env, make_demonstrator("metaworld", 0.1), seed=31
    )  # the same episode as in the task's own environment
    assert np.array_equal(
        shown.arrays["state"],
        demonstrate(alone, make_demonstrator("metaworld", 0.1), seed=31).arrays["state"],
    )
    assert shown.arrays["instruction"].shape == (len(shown.arrays["action"]), 96)


def test_a_snapshot_of_a_set_goes_back_to_its_task():
    env, other = MetaWorldEnv("mt10"), MetaWorldEnv("mt10")
    env.reset(seed=13)
    for _ in range(5):
        env.step(np.full(4, 0.3))
    saved = env.snapshot()
    ahead = env.step(np.full(4, -0.2))[0]["state"]
    other.reset(seed=2)
    for there in (other, env):
        _, info = there.restore(saved)
        assert info["instruction"] == "open the door"
        assert np.array_equal(there.step(np.full(4, -0.2))[0]["state"], ahead)


def test_gymnasium_accepts_it():
    check_env(MetaWorldEnv("push-v3", max_steps=20), skip_render_check=True)


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'reach-v3'"):
        MetaWorldEnv("reach-v2")


def test_what_the_fingers_feel_is_what_meta_world_says():
    env = MetaWorldEnv("push-v3", max_steps=100)
    env.reset(seed=0)
    expert = load_metaworld("policies").ENV_POLICY_MAP["push-v3"]()
    sim = env.simulation
    felt = []
    for _ in range(70):
        env.step(np.clip(expert.get_action(env.state), -1.0, 1.0))
        target = sim._get_id_main_object()
        felt.append((sim.touching_object(target), type(sim).touching_object(sim, target)))
    ours, theirs = zip(*felt, strict=True)
    assert ours == theirs
    assert len(set(ours)) == 2  # both answers came up
