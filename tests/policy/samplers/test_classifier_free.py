"""Classifier-free guidance: closed forms, what weight 1 is, and what adaptive guidance saves,
row by row.
"""

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.contract import Denoiser, Preconditioner
from hotstart.policy.diffusion.schedule import alpha_sigma
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.base import Capabilities, PlanRequest
from hotstart.policy.samplers.classifier_free import ClassifierFreeGuidance
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import ConfigError, Horizon
from torch import Tensor

from ..analytic import Exact, gaussian, request

HORIZON = Horizon(1, 8, 4)
SPREAD = 0.2


class Centred(Exact):
    """Data N(context, SPREAD^2): the context (B, 1) is their mean."""

    def forward(self, x: Tensor, level: Tensor, context: Tensor, prepared: None = None) -> Tensor:
        self.seen.append(level.clone())
        alpha, sigma = alpha_sigma(level.unsqueeze(-1))
        mean = context.unsqueeze(-1)
        return mean + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x - alpha * mean)


def asked(told: list[float], untold: list[float]) -> PlanRequest:
    """Rows whose data lie at `told` with words and at `untold` without."""
    return request(
        gaussian(0, 1),
        rows=len(told),
        horizon=HORIZON,
        denoiser=Denoiser(Centred(gaussian(0, 1)), Preconditioner("x0")),
        context=torch.tensor(told).unsqueeze(1),
        untold=torch.tensor(untold).unsqueeze(1),
    )


def test_weight_one_is_plain_sampling_to_the_bit_and_costs_nothing_more():
    outcome = ClassifierFreeGuidance(6, weight=1.0)(asked([0.3, -0.2], [0.0, 0.0]))
    assert torch.equal(outcome.plan, Fresh(6)(asked([0.3, -0.2], [0.0, 0.0])).plan)
    assert outcome.nfe.tolist() == [6, 6]


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_gaussians_are_led_along_the_line_of_their_means(weight):
    """Both scores have one slope, so guidance is sampling from a Gaussian at u + weight (c - u)."""
    led = ClassifierFreeGuidance(8, weight, agree=None, clip=None)(asked([0.3, -0.1], [0.1, 0.1]))
    means = [0.1 + weight * 0.2, 0.1 - weight * 0.2]
    torch.testing.assert_close(
        led.plan, Fresh(8, clip=None)(asked(means, means)).plan, atol=1e-5, rtol=1e-4
    )
    assert led.nfe.tolist() == [16, 16]


def test_a_row_whose_estimates_agree_goes_on_alone_and_the_others_do_not():
    means = [0.1, 0.9, 0.1], [0.1, -0.9, 0.065]
    outcome = ClassifierFreeGuidance(8, 3.0, agree=0.03, clip=None)(asked(*means))
    assert outcome.nfe[0] == 8 + 1  # nothing to tell apart: asked once
    assert outcome.nfe[1] > outcome.nfe[2] > outcome.nfe[0]
    full = ClassifierFreeGuidance(8, 3.0, agree=None, clip=None)(asked(*means))
    assert full.nfe.tolist() == [16] * 3
    torch.testing.assert_close(outcome.plan[0], full.plan[0])
    alone = ClassifierFreeGuidance(8, 3.0, agree=0.03, clip=None)(asked(*means).take(np.array([2])))
    torch.testing.assert_close(alone.plan[0], outcome.plan[2])
    assert alone.nfe.tolist() == [int(outcome.nfe[2])]


def test_a_checkpoint_that_always_had_words_is_refused(tiny_model):
    with pytest.raises(ConfigError, match=r"encoder=language encoder\.condition_dropout=0\.1"):
        DiffusionPolicy(tiny_model(), ClassifierFreeGuidance())
    DiffusionPolicy(tiny_model(), ClassifierFreeGuidance(weight=1.0))  # needs none
    with pytest.raises(ConfigError, match=r"cfg .*constant; it knows staircase"):
        ClassifierFreeGuidance().adapt_to(
            Capabilities(("staircase",), HORIZON, unconditional=True), HORIZON
        )


@pytest.mark.parametrize(
    ("options", "match"), [({"steps": 0}, "steps is 0"), ({"agree": -0.1}, "agree is -0.1")]
)
def test_settings_that_cannot_be_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        ClassifierFreeGuidance(**options)
