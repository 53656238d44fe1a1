"""Step-wise search: one candidate is plain sampling, the best candidate of a step goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.solvers import DDIM
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.loop import Transition
from hotstart.policy.samplers.stepwise import StepwiseSearch
from hotstart.spec import ConfigError, Horizon

from ..analytic import request, smooth

HORIZON = Horizon(2, 24, 8)


def size_of(plans):
    """What `KnownModel` scores plans by: the smallest is the best."""
    return plans.abs().flatten(-2).sum(-1)


@pytest.mark.parametrize("searched", [1, 2, 4])
@torch.no_grad()
def test_one_candidate_is_plain_sampling_to_the_bit(searched):
    solver = DDIM(0.7, min_std=0.1)
    asked = request(smooth(0.3))
    plain = Fresh(4, solver, start_noise=0.7)(asked)
    asked = replace(asked, noise=asked.noise.restart())
    outcome = StepwiseSearch(1, 4, searched, solver, start_noise=0.7)(asked)
    assert torch.equal(outcome.plan, plain.plan)
    assert outcome.nfe.tolist() == [4] * 4


def test_the_last_step_is_searched_as_written_out():
    """DDIM's last step says the clean plan that is expected of the candidate."""
    asked = request(smooth(0.3))
    trace: list[Transition] = []
    Fresh(3, DDIM(1.0))(replace(asked, trace=trace))
    pool = asked.branches(5)
    noise = [pool.draw() for _ in range(3)][2].unflatten(0, (4, 5))
    before = trace[1]
    candidates = (before.mean.unsqueeze(1) + before.std.unsqueeze(1) * noise).flatten(0, 1)
    level = before.level_to.repeat_interleave(5, 0)
    clean = pool.model.bind(None, 1.0)(candidates, level).unflatten(0, (4, 5))
    best = clean[torch.arange(4), size_of(clean).argmin(1)]
    asked = replace(asked, noise=asked.noise.restart())
    outcome = StepwiseSearch(5, 3, 1)(asked)
    torch.testing.assert_close(outcome.plan, best)
    assert outcome.nfe.tolist() == [2 + 5] * 4


def test_where_all_steps_are_searched_the_starting_noise_is_too():
    asked = request(smooth(0.3), rows=20)
    plain = size_of(Fresh(4, DDIM(1.0))(asked).plan).mean()
    asked = replace(asked, noise=asked.noise.restart())
    sizes = []
    for searched in (2, 4):
        outcome = StepwiseSearch(8, 4, searched)(asked)
        assert outcome.nfe.tolist() == [4 + 7 * searched] * 20
        sizes.append(size_of(outcome.plan).mean())
    assert sizes[1] < sizes[0] < plain


def test_a_row_has_the_same_plan_in_any_company():
    asked = request(smooth(0.3))
    together = StepwiseSearch(3, 4, 2)(asked).plan
    some = StepwiseSearch(3, 4, 2)(asked.take(np.array([2, 0]))).plan
    torch.testing.assert_close(some, together[[2, 0]])


def test_what_it_cannot_do_is_refused():
    valued = Capabilities(("constant",), HORIZON, valued=True)
    StepwiseSearch().adapt_to(valued, HORIZON)
    with pytest.raises(ConfigError, match=r"search ranks .*finetune CHECKPOINT method=values"):
        StepwiseSearch().adapt_to(replace(valued, valued=False), HORIZON)
    with pytest.raises(ConfigError, match=r"adds none: take solver@inference.solver=ddpm"):
        StepwiseSearch(solver=DDIM()).adapt_to(valued, HORIZON)
    with pytest.raises(ConfigError, match="it knows staircase"):
        StepwiseSearch().adapt_to(replace(valued, regimes=("staircase",)), HORIZON)
    with pytest.raises(ConfigError, match="searched is 0"):
        StepwiseSearch(searched=0)
