"""Bidirectional decoding: one sample is plain sampling, a plan keeps its mode, and the others'
agreement decides.
"""

import pytest
import torch
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.bidirectional import (
    BidirectionalDecoding,
    backward_loss,
    mean_distance,
)
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import ConfigError, Horizon
from torch import Tensor

from ..analytic import request, smooth


def one_sign(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Plans that are +0.5 everywhere or -0.5 everywhere, as often."""
    votes = (alpha * x / sigma.clamp_min(1e-9) ** 2).sum((1, 2), keepdim=True) * 0.5
    return 0.5 * torch.tanh(votes).expand_as(x)


def test_one_sample_is_plain_sampling():
    asked = request(smooth(0.3), previous=torch.zeros(4, 24, 2))
    outcome = BidirectionalDecoding(samples=1, kept=1, steps=4, weak_steps=0)(asked)
    assert torch.equal(outcome.plan, Fresh(4)(asked).plan)
    assert outcome.nfe.tolist() == [4] * 4


def test_a_plan_keeps_its_mode_where_fresh_ones_change_it():
    before = 0.5 * torch.tensor([1.0, -1.0]).repeat(32).reshape(64, 1, 1).expand(64, 24, 2)
    asked = request(one_sign, rows=64, previous=before)
    changed = (Fresh(4)(asked).plan.mean((1, 2)).sign() != before[:, 0, 0].sign()).sum()
    assert 15 < changed < 50  # half of them, within chance
    plan = BidirectionalDecoding(samples=15, kept=5, steps=4, weak_steps=1)(asked).plan
    same = (plan.mean((1, 2)).sign() == before[:, 0, 0].sign()).sum()
    assert same >= 62  # of 64: a row whose samples are nearly all of the other mode may change


def test_a_row_without_a_plan_takes_what_all_samples_agree_on():
    sampler = BidirectionalDecoding(samples=9, kept=2, steps=3, weak_steps=0)
    asked = request(smooth(0.3), rows=3)
    samples = Fresh(3)(asked.branches(9)).plan.unflatten(0, (3, 9))
    apart = (samples.unsqueeze(1) - samples.unsqueeze(2)).flatten(3).norm(dim=-1).mean(-1)  # (3, 9)
    assert torch.equal(sampler(asked).plan, samples[torch.arange(3), apart.argmin(1)])


def test_the_weaker_plans_that_it_leads_away_from_are_drawn_apart_from_the_others():
    """Written out: mean distance to the others less that to weaker plans from further noise
    streams.
    """
    sampler = BidirectionalDecoding(samples=9, kept=2, steps=3, weak_steps=1)
    asked = request(smooth(0.3), rows=8)
    strong = Fresh(3)(asked.branches(9)).plan.unflatten(0, (8, 9)).flatten(2)

    def chosen(first: int) -> Tensor:
        weak = Fresh(1)(asked.branches(9, first)).plan.unflatten(0, (8, 9)).flatten(2)
        apart = torch.cdist(strong, strong).mean(-1) - torch.cdist(strong, weak).mean(-1)
        return strong[torch.arange(8), apart.argmin(1)].unflatten(1, (24, 2))

    torch.testing.assert_close(sampler(asked).plan, chosen(first=9))
    assert not torch.equal(chosen(first=9), chosen(first=0))


def test_the_cost_counts_every_sample():
    outcome = BidirectionalDecoding(samples=6, kept=2, steps=5, weak_steps=2)(request(smooth(0.3)))
    assert outcome.nfe.tolist() == [6 * 7] * 4


def test_backward_loss_sees_known_steps_only_and_near_ones_most():
    before, plans = torch.zeros(1, 4, 1), torch.zeros(1, 4, 4, 1)
    for step in range(4):
        plans[0, step, step] = 1.0
    assert backward_loss(plans, before, torch.tensor([3]), 0, 0.5).tolist() == [
        [1.0, 0.5, 0.25, 0.0]
    ]
    assert backward_loss(plans, before, torch.tensor([3]), 1, 0.5).tolist() == [
        [0.0, 1.0, 0.5, 0.0]
    ]  # one step lies behind


def test_mean_distance_counts_the_marked_ones_only():
    plans = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    others = torch.tensor([0.0, 3.0, 100.0]).reshape(1, 3, 1, 1)
    assert mean_distance(plans, others, torch.tensor([[True, True, False]])).tolist() == [
        [1.5, 1.5]
    ]
    assert mean_distance(plans, others, torch.tensor([[False, True, False]])).tolist() == [
        [3.0, 2.0]
    ]


def test_branches_of_a_row_draw_apart_and_the_first_is_the_row_itself():
    asked = request(smooth(0.3), rows=2)
    noise = asked.branches(3).draw().unflatten(0, (2, 3))
    assert torch.equal(noise[:, 0], asked.draw())
    assert len({float(value) for value in noise[..., 0, 0].flatten()}) == 6
    assert torch.equal(asked.branches(2, first=1).draw().unflatten(0, (2, 2)), noise[:, 1:])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kept": 0}, "kept"),
        ({"kept": 16}, "kept"),
        ({"decay": 0.0}, "decay"),
        ({"weak_steps": -1}, "weak"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, named: str):
    with pytest.raises(ConfigError, match=named):
        BidirectionalDecoding(**settings)


def test_a_checkpoint_without_constant_levels_is_refused():
    with pytest.raises(ConfigError, match="inference=bid"):
        BidirectionalDecoding().adapt_to(
            Capabilities(("staircase",), Horizon(2, 24, 8)), Horizon(2, 24, 8)
        )
