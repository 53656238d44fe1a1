"""Real-time chunking: what is frozen stays, nothing wanted changes nothing, the Jacobian is the
right one.
"""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.guidance import PrefixGuidance, prefix_weights
from hotstart.policy.diffusion.schedule import alpha_sigma
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.spec import ConfigError, Horizon

from ..analytic import gaussian, request, smooth

HORIZON = Horizon(2, 24, 8)
MODES = ["full", "identity", "trained"]


def previous(rows: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, 24, 2, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_the_weights_are_one_on_what_is_committed_and_fall_to_nothing():
    weight = prefix_weights(12, 1, torch.tensor([0, 3, 12]), torch.tensor([8, 8, 8]), "exp")
    assert weight[:, 8:].abs().max() == 0
    assert weight[1, :4].tolist() == [1] * 4
    assert weight[2, :8].tolist() == [1] * 8  # never beyond what is known
    assert bool((weight.diff(dim=1) <= 0).all())
    ramp = prefix_weights(12, 0, torch.tensor([2]), torch.tensor([6]), "linear")[0]
    np.testing.assert_allclose(ramp[:7], [1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0], atol=1e-6)
    assert (
        prefix_weights(12, 0, torch.tensor([2]), torch.tensor([6]), "hard")[0].tolist()
        == [1, 1] + [0] * 10
    )


@pytest.mark.parametrize("mode", ["full", "identity"])
def test_without_a_pull_it_is_plain_sampling(mode):
    asked = request(smooth(0.3), previous=previous(), frozen=[0, 2, 4, 8])
    free = Fresh(6)(request(smooth(0.3)))
    torch.testing.assert_close(RealTimeChunking(6, mode, beta=0.0)(asked).plan, free.plan)


@pytest.mark.parametrize("mode", MODES)
def test_a_row_without_a_plan_samples_freely(mode):
    torch.testing.assert_close(
        RealTimeChunking(5, mode)(request(smooth(0.3))).plan, Fresh(5)(request(smooth(0.3))).plan
    )


def test_a_given_prefix_is_kept_to_the_bit():
    before, frozen = previous(), [0, 2, 4, 8]
    plan = RealTimeChunking(5, "trained")(
        request(smooth(0.3), previous=before, executed=5, frozen=frozen)
    ).plan
    for row, steps in enumerate(frozen):
        assert torch.equal(plan[row, : 1 + steps], before[row, 5 : 6 + steps])
        assert not torch.equal(plan[row, 1 + steps], before[row, 6 + steps])  # and not a step more


@pytest.mark.parametrize("mode", ["full", "identity"])
def test_the_stronger_the_pull_the_nearer_the_prefix(mode):
    before = previous()
    errors = []
    for beta in (0.0, 1.0, 5.0, 50.0):
        asked = request(gaussian(0.0, 0.5), previous=before, executed=4, frozen=[4] * 4)
        plan = RealTimeChunking(20, mode, beta)(asked).plan
        errors.append(float((plan[:, :5] - before[:, 4:9]).square().mean().sqrt()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_the_full_jacobian_is_that_of_finite_differences():
    posterior = smooth(0.4)
    bound = request(posterior, rows=2).model.bind(None, None)
    generator = torch.Generator().manual_seed(1)
    x, wanted = (torch.randn(2, 24, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    weight, level = (
        torch.rand(2, 24, generator=generator, dtype=torch.float64),
        torch.full((2, 24), 0.4, dtype=torch.float64),
    )
    beta = 0.7
    guided = PrefixGuidance(bound, wanted, weight, beta, "full", None)(x, level)
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    x0 = posterior(x, alpha, sigma)
    strength = torch.minimum(beta * sigma, 1 / alpha)
    pull = (guided - x0) / strength
    error = weight.unsqueeze(-1) * (wanted - x0)
    for place in ((0, 0, 0), (0, 5, 1), (1, 23, 0)):
        nudge = torch.zeros_like(x)
        nudge[place] = 1e-6
        slope = (posterior(x + nudge, alpha, sigma) - posterior(x - nudge, alpha, sigma)) / 2e-6
        assert float(pull[place]) == pytest.approx(float((slope * error).sum()), abs=1e-6)


def test_for_gaussian_data_the_full_pull_is_the_exact_posterior():
    """With beta out of the way, and r^2 = sigma^2, x0' = x0 + J W (y - x0) / alpha: worked out
    by hand for N(0, s^2).
    """
    spread, level = 0.5, torch.full((1, 24), 0.3)
    alpha, sigma = (float(v) for v in alpha_sigma(torch.tensor(0.3)))
    bound = request(gaussian(0.0, spread), rows=1).model.bind(None, None)
    x, wanted = torch.full((1, 24, 2), 0.2), torch.full((1, 24, 2), -0.4)
    guided = PrefixGuidance(bound, wanted, torch.ones(1, 24), 1e9, "full", None)(x, level)
    slope = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
    np.testing.assert_allclose(
        guided, slope * 0.2 + slope / alpha * (-0.4 - slope * 0.2), rtol=1e-5
    )


def test_it_says_what_it_needs():
    with pytest.raises(ConfigError, match=r"rtc .*prefix; it knows constant"):
        RealTimeChunking(mode="trained").adapt_to(Capabilities(("constant",), HORIZON), HORIZON)
    RealTimeChunking().adapt_to(Capabilities(("constant",), HORIZON), HORIZON)
    with pytest.raises(ConfigError, match=r"mode is 'half'; choose one of full, identity, trained"):
        RealTimeChunking(mode=cast(Any, "half"))
    with pytest.raises(ConfigError, match=r"fade is 'slow'; choose one of exp, linear, hard"):
        RealTimeChunking(fade=cast(Any, "slow"))
    with pytest.raises(ConfigError, match="steps is 0"):
        RealTimeChunking(0)
