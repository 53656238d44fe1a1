"""Branches of one start: a shared prefix, relative advantages, ever more trained steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.finetuning.branch import (
    BranchSettings,
    BranchTuner,
    compare_branches,
    share_prefix,
    weigh_branches,
)
from hotstart.finetuning.chains import explore, trained_level
from hotstart.finetuning.rollouts import Collector
from hotstart.finetuning.tuner import Setup
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import ConfigError

from .analytic import TargetSource, load_both, silence

TINY = BranchSettings(
    iterations=2, rows=8, chunks=4, branches=4, trained_steps=2, grow_every=1, batch=64
)


def tuner_of(base, folder, settings=TINY, sampler=None):
    return BranchTuner(
        settings, Setup(base, sampler or Fresh(4), TargetSource(settings.rows), folder)
    )


def collect(model, sampler, trained, seeds=(7, 7, 7, 7, 9, 9, 9, 9)):
    noisy = share_prefix(explore(sampler, 0.1), trained, 4)
    source = TargetSource(len(seeds))
    below = trained_level(model, sampler, trained)
    starts = np.array(seeds)
    noise = 4 * starts + np.tile(np.arange(4), len(seeds) // 4)
    collector = Collector(DiffusionPolicy(model, noisy), source, None, below)
    return collector.collect_groups(4, starts, noise)


def test_branches_share_the_chain_down_to_the_trained_steps(base):
    rollout = collect(base, Fresh(4), 2)
    assert rollout.reward.shape == (2, 8)  # an episode has two chunks, and no second one begins
    steps = rollout.steps
    assert steps is not None
    for later, alike in ((1, True), (0, False)):  # the trained steps of the first plan
        x = steps.x[(steps.chunk < 8) & (steps.later == later)].reshape(2, 4, -1)
        assert torch.equal(x[:, :1].expand_as(x), x) == alike
        assert not torch.equal(x[0], x[1])


def test_warm_started_branches_begin_alike_and_part_later(base):
    rollout = collect(base, WarmStart(2, 0.4, cold=4), 2)
    state = rollout.tokens.reshape(2, 8, -1)
    assert torch.equal(state[0, 0], state[0, 3])
    assert len(np.unique(rollout.reward[0])) == 8


def test_advantages_are_relative_to_the_branches_of_a_start():
    returns = np.array([[1.0, 0.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 3.0]])
    found = compare_branches(returns)
    assert np.allclose(found[0], [1, -1, -1, 1])
    assert np.array_equal(found[1], np.zeros(4))
    assert np.allclose(found[2], [-1 / 3**0.5, -1 / 3**0.5, -1 / 3**0.5, 3**0.5])


def test_an_episodes_advantage_is_at_all_of_its_chunks_and_equal_groups_teach_nothing(base):
    rollout = collect(base, Fresh(4), 2)
    reward = np.zeros((2, 8))
    reward[1, 2] = 1.0
    experience, differ = weigh_branches(replace(rollout, reward=reward), 4)
    assert differ == 0.5
    assert experience.usable.reshape(2, 8)[:, :4].all()
    assert not experience.usable.reshape(2, 8)[:, 4:].any()
    advantage = experience.advantage.reshape(2, 8)
    assert torch.equal(advantage[0], advantage[1])
    assert advantage[0, 2] == pytest.approx(3**0.5)
    assert advantage[0, 3] == pytest.approx(-1 / 3**0.5)


def test_the_trained_steps_grow_from_the_last_one_on(base, tmp_path):
    settings = replace(TINY, trained_steps=3, grow_every=2)
    assert [settings.count_steps(each) for each in range(7)] == [1, 1, 2, 2, 3, 3, 3]
    tuner = tuner_of(base, tmp_path)
    assert [tuner.advance()["steps"] for _ in range(3)] == [1, 2, 2]


def test_a_known_optimum_is_found_without_a_critic(base, tmp_path):
    """From a base that says 0 with noise of 0.1: rewards begin at -0.135, the best is -0.01."""
    plain = silence(base)
    settings = BranchSettings(
        iterations=10,
        rows=32,
        chunks=2,
        trained_steps=1,
        rate=1e-2,
        batch=64,
        share=1.0,
        epochs=6,
        clip=0.2,
        clip_first=0.1,
        divergence=0.0,
    )
    tuner = tuner_of(plain, tmp_path, settings, Fresh(1))
    rewards = [tuner.advance()["reward"] / 2 for _ in range(settings.iterations)]
    assert rewards[0] == pytest.approx(-0.135, abs=0.01)
    assert rewards[-1] > -0.06


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    tuner_of(base, tmp_path / "whole").run(progress=False)
    tuner_of(base, tmp_path / "part", replace(TINY, iterations=1)).run(progress=False)
    tuner_of(base, tmp_path / "part").run(progress=False)
    _, meta = load_both(tmp_path)
    assert meta["ledger"]["training"] == 2 * 8 * 2 * 4


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="a multiple of it"):
        BranchSettings(rows=10)
    with pytest.raises(ConfigError, match="it must be at most"):
        BranchSettings(trained_steps=2, first_steps=3)
