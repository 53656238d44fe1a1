"""Play on the gate: what is written down, what is disturbed, how long an episode lasts."""

import numpy as np
import pytest
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.demonstrators.exploring import Explorer, PlayRunner
from hotstart.envs.gate import GateEnv
from hotstart.spec import ActionDim, ActionSpec

HABITS = {
    "undisturbed": 0.25,
    "scripted_share": 0.25,
    "noise": 1.0,
    "hold_chance": 0.1,
    "hold_ticks": 5,
}


class Straight:
    """A policy that always goes to the right, by half a step."""

    def reset(self, rng):
        self.intended = np.array([0.5, 0.0])

    def act(self, env):
        return self.intended


def play(after_success=8, policy=None, max_steps=40, **changes):
    """What makes an episode of a seed; the gate's own demonstrator is the policy."""
    policy = policy or make_demonstrator("gate", 0.0)
    explorer = Explorer(policy, make_demonstrator("gate", 0.0), **{**HABITS, **changes})
    return PlayRunner("gate", {"max_steps": max_steps}, explorer, after_success)


def test_an_undisturbed_episode_is_the_policys_own():
    shown = play(undisturbed=1.0, scripted_share=0.0, after_success=0)(3)
    own = demonstrate(GateEnv(), make_demonstrator("gate", 0.0), 3)
    assert not shown.arrays["explored"].any()
    for name, values in own.arrays.items():
        assert np.array_equal(shown.arrays[name], values)


def test_the_actions_written_down_lead_where_the_episode_went():
    runner = play(undisturbed=0.0)
    differences = []
    for seed in range(6):
        shown = runner(seed).arrays
        env, demonstrator = GateEnv(), make_demonstrator("gate", 0.0)
        observation, _ = env.reset(seed=seed)
        for turn, action in enumerate(shown["action"]):
            np.testing.assert_allclose(observation["state"], shown["state"][turn], atol=1e-5)
            differences.append(np.abs(action - demonstrator.act(env)).max())
            observation, reward, *_, info = env.step(action)
            assert shown["reward"][turn] == pytest.approx(reward, abs=1e-5)
            assert shown["score"][turn] == pytest.approx(info["score"], abs=1e-5)
            assert shown["success"][turn] == info["success"]
        assert shown["explored"].all()
    assert np.mean(np.array(differences) > 0.1) > 0.5


@pytest.mark.parametrize("after_success", [0, 3])
def test_an_episode_goes_on_for_some_ticks_after_success(after_success):
    runner = play(after_success, undisturbed=1.0)
    runner(4)
    shown = runner(3)
    first = int(np.argmax(shown.arrays["success"]))
    assert shown.success
    assert len(shown.arrays["success"]) == first + 1 + after_success
    cut = play(after_success, undisturbed=1.0, max_steps=first + 2)(3)
    assert len(cut.arrays["success"]) == first + 1 + min(after_success, 1)


def test_a_policy_that_remembers_is_told_what_was_executed():
    class Listener(Straight):
        def reset(self, rng):
            super().reset(rng)
            self.told = []

        def follow(self, executed):
            self.told.append(executed)

    policy = Listener()
    shown = play(policy=policy, undisturbed=0.0, scripted_share=0.0)(1)
    np.testing.assert_allclose(policy.told, shown.arrays["action"][:-1], atol=1e-6)
    assert not np.allclose(policy.told, policy.intended)


def test_a_lost_episode_ends_at_once():
    lost = [play(undisturbed=1.0, policy=Straight())(seed) for seed in range(4)]
    assert not any(shown.success for shown in lost)
    assert {len(shown.arrays["action"]) for shown in lost} == {16}


def test_who_acts_is_drawn_in_the_shares_that_were_asked_for():
    runner = play(policy=Straight(), noise=0.0, hold_chance=0.0, max_steps=3)
    acted = []
    for seed in range(200):
        shown = runner(seed).arrays
        straight = bool((shown["action"] == [0.5, 0.0]).all())
        acted.append((bool(shown["explored"][0]), straight))
    assert acted.count((False, True)) == pytest.approx(50, abs=20)
    assert acted.count((True, False)) == pytest.approx(50, abs=20)
    assert acted.count((False, False)) == 0


def test_a_hold_repeats_positions_and_stops_changes():
    env = GateEnv()
    env.action_spec = ActionSpec((ActionDim("x"), ActionDim("dy", absolute=False)))
    env.reset(seed=0)
    policy = Straight()
    policy.reset(None)
    explorer = play(policy=policy, undisturbed=0.0, scripted_share=0.0).explorer
    explorer.reset(np.random.default_rng(0))
    policy.intended = np.array([0.5, 0.25])
    actions = np.stack([explorer.act(env) for _ in range(400)])
    held = actions[:, 1] == 0
    assert 0.1 < held.mean() < 0.4
    later = np.flatnonzero(held[1:]) + 1
    assert (actions[later, 0] == actions[later - 1, 0]).all()
    assert (np.diff(actions[:, 0])[~held[1:]] != 0).any()
    lengths = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], held, [0])))))[::2]
    assert lengths.max() > 1


def test_every_episode_draws_the_size_of_its_pushes():
    runner = play(policy=Straight(), undisturbed=0.0, scripted_share=0.0, hold_chance=0.0)
    sizes = []
    for seed in range(30):
        sizes.append(np.std(runner(seed).arrays["action"] - [0.5, 0.0]))
    assert min(sizes) < 0.1
    assert max(sizes) > 0.5
    assert np.array_equal(runner(3).arrays["action"], runner(3).arrays["action"])
