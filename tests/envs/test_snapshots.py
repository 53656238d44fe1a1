"""Going on from a snapshot gives the same episode, bit for bit: in the same object and in
another, after other episodes.
"""

import numpy as np
import pytest
from hotstart.envs.demonstrators.demonstrate import make_demonstrator
from hotstart.envs.registry import make
from hotstart.spec import ConfigError

STEPS = 60
CASES = {
    "lift": {},
    "square": {},
    "door": {"robot": "UR5e"},
    "two_arm_lift": {},
    "pusht": {},
    "gate": {"width": 2.0},
    "metaworld": {"task": "pick-place-v3"},
}


def actions_for(env, seed):
    space = env.action_space
    rng, low, high = np.random.default_rng(seed), space.low.astype(float), space.high.astype(float)
    sampler = np.cumsum(rng.normal(0, 0.1, (STEPS, len(low))), axis=0)
    return (low + high) / 2 + (high - low) / 2 * np.tanh(sampler)


def play(env, actions):
    """Everything that is seen while the actions are executed."""
    seen = []
    for action in actions:
        observation, reward, _, _, info = env.step(action)
        seen.append(
            np.concatenate(
                [*(np.ravel(value) for value in observation.values()), [reward, info["score"]]]
            )
        )
    return np.array(seen)


@pytest.mark.parametrize("name", CASES)
def test_what_follows_a_snapshot_differs_by_exactly_nothing(name):
    if name == "pusht":
        pytest.importorskip("pymunk")
    if name == "metaworld":
        pytest.importorskip("metaworld")
    env = make(name, **CASES[name])
    env.reset(seed=4)
    play(env, actions_for(env, 0)[:25])
    snapshot, actions = env.snapshot(), actions_for(env, 1)
    now = env.observe()
    expected = play(env, actions)
    env.reset(seed=9)
    play(env, actions[:10])
    other = make(name, **CASES[name])
    for again in (env, other, env):
        observation, _ = again.restore(snapshot)
        assert all(np.array_equal(observation[key], now[key]) for key in now)
        assert again.steps == 25
        assert np.abs(play(again, actions) - expected).max() == 0.0
        assert np.abs(expected[-1] - expected[0]).max() > 0
    env.close()
    other.close()


def test_contacts_and_grasps_are_part_of_it():
    """In the middle of carrying: the grasp, its friction and the controller's goal go on as
    they were.
    """
    env, demonstrator = make("can"), make_demonstrator("can", 0.0)
    env.reset(seed=3)
    while demonstrator._phase != "carry" or demonstrator._ticks < 10:
        env.step(demonstrator.act(env))
    snapshot = env.snapshot()
    lifted = np.tile([0.3, 0.2, 0.1, 0, 0, 0, 1.0], (40, 1))
    expected = play(env, lifted)
    fresh = make("can")
    fresh.restore(snapshot)
    assert fresh.observe()["object"][2] > 0.86
    assert np.abs(play(fresh, lifted) - expected).max() == 0.0
    assert fresh.observe()["object"][2] > 0.9  # still in the hand, and higher
    env.close()
    fresh.close()


def test_a_snapshot_of_another_task_is_refused():
    lift, stack = make("lift", max_steps=3), make("lift", max_steps=3, robot="UR5e")
    lift.reset(seed=0)
    with pytest.raises(ConfigError, match="UR5e"):
        stack.restore(lift.snapshot())
    pendulum = make("gymnasium", id="Pendulum-v1")
    pendulum.reset(seed=0)
    with pytest.raises(ConfigError, match="cannot save"):
        pendulum.snapshot()
    lift.close()
