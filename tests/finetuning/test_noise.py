"""A noise policy: N(0, I) at the start, and noise that chooses the better plans afterwards."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.finetuning.noise import (
    NoiseCollector,
    NoiseSettings,
    NoiseStarts,
    NoiseTuner,
    compute_losses,
)
from hotstart.finetuning.ppo import weigh_rollout
from hotstart.finetuning.tuner import Setup
from hotstart.policy.diffusion.contract import Denoiser, Preconditioner
from hotstart.policy.diffusion.solvers import DDIM
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import ConfigError

from .analytic import TargetSource, load_both, plans_of, silence

TINY = NoiseSettings(iterations=2, rows=16, chunks=4, warm_up=0, batch=32)


def tuner_of(base, folder, sampler=None, settings=TINY):
    source = TargetSource(settings.rows)
    return NoiseTuner(settings, Setup(base, sampler or Fresh(2), source, folder))


def collect(tuner, chunks=4):
    policy = DiffusionPolicy(tuner.model, tuner.sampler)
    collector = NoiseCollector(policy, tuner.source, tuner.critic, 1.0)
    return collector.collect(chunks, tuner.draw_seeds(chunks))


def shift_mean(tuner, by):
    """Put the mean of the noise policy `by` away from 0, whatever is observed."""
    policy = tuner.model.noise_policy
    with torch.no_grad():
        policy.head.bias[: policy.head.out_features // 2] = by


def test_an_untrained_noise_policy_plans_as_its_base_to_the_bit(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    for sampler in (Fresh(3), Fresh(3, start_noise=0.0), WarmStart(2, 0.4, cold=3)):
        assert np.array_equal(plans_of(tuner.model, sampler), plans_of(base, sampler))


def test_only_plans_that_begin_afresh_are_steered(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    shift_mean(tuner, 1.0)
    fresh = plans_of(tuner.model, Fresh(3)) != plans_of(base, Fresh(3))
    assert fresh.any((1, 2, 3)).all()
    whole = Streaming(2, cold=4, primer="zero")
    assert np.array_equal(plans_of(tuner.model, whole), plans_of(base, whole))


def test_the_probability_is_that_of_the_noise_of_the_executed_chunk(base, tmp_path):
    """Beside the closed form, with a mean of 0.5: ratio exp(-|w - 0.5|^2 / 2 + |w|^2 / 2)."""
    tuner = tuner_of(base, tmp_path)
    rollout = collect(tuner)
    experience = weigh_rollout(rollout, TINY)
    starts = NoiseStarts.read(tuner.noise_policy, rollout)
    with torch.no_grad():
        same = compute_losses(tuner.noise_policy, starts, experience, TINY, torch.arange(64))
    assert float(same.clipped) == float(same.moved) == float(same.divergence) == 0
    executed = base.config.horizon.executed
    assert starts.noise.shape == (64, executed, 2)
    shift_mean(tuner, 0.5)
    experience.advantage[:] = torch.linspace(-1, 1, 64)
    wide = replace(TINY, clip=1e9)
    with torch.no_grad():
        moved = compute_losses(tuner.noise_policy, starts, experience, wide, torch.arange(64))
    w = starts.noise.flatten(1)
    ratio = torch.exp(0.5 * (w.square() - (w - 0.5).square()).sum(1))
    weight = experience.advantage / experience.advantage.std(correction=0)
    assert float(moved.policy) == pytest.approx(float(-(ratio * weight).mean()), rel=1e-3)
    assert float(moved.divergence) == pytest.approx(0.5 * 0.25 * executed * 2, rel=1e-5)


def make_choosing(base):
    """A base whose starting noise chooses between two plans in each number: -1 and 1.

    Its network says that the noise is 0, so that the plan is the sign of what it begins with.
    """
    model = silence(base)
    model.denoiser = Denoiser(model.network, Preconditioner("eps"))
    return model


def test_the_better_of_two_plans_is_chosen_and_the_denoiser_stays(base, tmp_path):
    """Rewards begin at -1.125, the mean over the signs; the best signs, (1, -1), give -0.425."""
    settings = NoiseSettings(
        iterations=10, rows=64, chunks=2, rate=1e-2, critic_rate=1e-2, batch=64, divergence=0.0
    )
    choosing = make_choosing(base)
    tuner = tuner_of(choosing, tmp_path, Fresh(1), settings)
    rewards = [tuner.advance()["reward"] / 2 for _ in range(settings.iterations)]
    assert rewards[0] == pytest.approx(-1.125, abs=0.05)
    assert rewards[-1] > -0.6
    for name, weight in choosing.state_dict().items():
        assert torch.equal(weight, tuner.model.state_dict()[name])


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    tuner_of(base, tmp_path / "whole").run(progress=False)
    tuner_of(base, tmp_path / "part", settings=replace(TINY, iterations=1)).run(progress=False)
    tuner_of(base, tmp_path / "part").run(progress=False)
    _, meta = load_both(tmp_path)
    assert meta["ledger"]["training"] == 2 * 16 * 4 * 4
    # It is a checkpoint like any other, and no longer the base.
    policy = DiffusionPolicy.load(tmp_path / "part", Fresh(3))
    assert not np.array_equal(plans_of(policy.model, Fresh(3)), plans_of(base, Fresh(3)))


def test_samplers_whose_plan_the_starting_noise_does_not_fix_are_refused(base, tmp_path):
    for sampler in (WarmStart(), Streaming(), Fresh(3, DDIM(1.0))):
        with pytest.raises(ConfigError, match="wants plans that their starting noise"):
            tuner_of(base, tmp_path, sampler)
    with pytest.raises(ConfigError, match="start_noise is 0\\.5"):
        tuner_of(base, tmp_path, Fresh(3, start_noise=0.5))
