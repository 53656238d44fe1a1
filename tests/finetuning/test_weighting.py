"""Cloning weighted by advantages: weights, what is drawn, a known optimum, and going on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.finetuning.tuner import Setup
from hotstart.finetuning.weighting import (
    WEIGHT,
    WeightingSettings,
    WeightingTuner,
    weigh_advantages,
)
from hotstart.policy.samplers.fresh import Fresh

from .analytic import TargetSource, load_both, make_base_that_says_nothing, plans_of

TINY = WeightingSettings(
    iterations=3, rows=4, chunks=2, warm_up=1, updates=2, batch=16, critic_hidden=8, critic_rate=0.1
)


def tuner_of(base, folder, settings=TINY, length=2):
    source = TargetSource(settings.rows, length, tolerance=0.0)
    return WeightingTuner(settings, Setup(base, Fresh(1), source, folder))


def test_weights_rise_with_the_advantage_up_to_the_largest():
    advantage = torch.tensor([0.0, 2.0, 4.0, 100.0])
    usable = torch.tensor([True, False, True, False])
    found = weigh_advantages(advantage, usable, replace(TINY, beta=0.5, most=20.0))
    assert found[:3] == pytest.approx([math.exp(-0.5), 1.0, math.exp(0.5)])
    assert found[3] == 20.0


def test_windows_are_drawn_in_proportion_to_their_weights(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    weights = np.repeat([1.0, 3.0], 500)
    tuner.kept.add({WEIGHT: weights})
    drawn = tuner._choose_windows(np.arange(1000)[:, None])
    assert drawn.shape == (1000, 1)
    assert (drawn >= 500).mean() == pytest.approx(0.75, abs=0.04)


def test_all_episodes_are_kept_once_the_critic_has_warmed_up(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    assert tuner.advance()["kept"] == 0
    assert np.array_equal(plans_of(tuner.model, Fresh(1)), plans_of(base, Fresh(1)))
    assert tuner.advance()["kept"] == 4
    weights = tuner.kept.join(WEIGHT).reshape(4, 2, 4)
    assert (weights == weights[..., :1]).all()  # one weight for each chunk
    assert len(np.unique(weights)) == 8


def test_a_known_optimum_is_approached(base, tmp_path):
    """From a base that says 0, with noise of 0.3: rewards begin near -0.215, the best is -0.09."""
    plain = make_base_that_says_nothing(base)
    settings = WeightingSettings(
        iterations=6, rows=64, chunks=2, min_std=0.3, updates=30, batch=64, rate=1e-2, beta=2.0
    )
    tuner = tuner_of(plain, tmp_path, settings, length=1)
    rewards = [tuner.advance()["reward"] / 2 for _ in range(settings.iterations)]
    assert rewards[0] == pytest.approx(-0.215, abs=0.02)
    assert rewards[-1] > rewards[0] + 0.06


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    tuner_of(base, tmp_path / "whole").run(progress=False)
    tuner_of(base, tmp_path / "part", replace(TINY, iterations=2)).run(progress=False)
    tuner_of(base, tmp_path / "part").run(progress=False)
    other, _ = load_both(tmp_path)
    assert any(not torch.equal(w, base.state_dict()[n]) for n, w in other.state_dict().items())
