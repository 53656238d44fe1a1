"""Best of several: one plan is plain sampling, the highest score wins, and values are needed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.solvers import DDIM
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.best_of import BestOf
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import ConfigError, Horizon

from ..analytic import request, smooth

HORIZON = Horizon(2, 24, 8)


def size_of(plans):
    return plans.abs().flatten(-2).sum(-1)


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0)])
def test_one_plan_is_plain_sampling_to_the_bit(solver):
    asked = request(smooth(0.3))
    plain = Fresh(4, solver, start_noise=0.7)(asked)
    asked = replace(asked, noise=asked.noise.restart())
    outcome = BestOf(1, 4, solver, start_noise=0.7)(asked)
    assert torch.equal(outcome.plan, plain.plan)
    assert outcome.nfe.tolist() == [4] * 4


def test_of_all_plans_the_smallest_is_taken_where_values_say_so():
    """`KnownModel` scores a plan by minus its absolute sum."""
    asked = request(smooth(0.3))
    drawn = Fresh(3)(asked.branches(6)).plan.unflatten(0, (4, 6))
    outcome = BestOf(6, 3)(asked)
    assert torch.equal(size_of(outcome.plan), size_of(drawn).amin(1))
    assert outcome.nfe.tolist() == [6 * 3] * 4
    assert (size_of(drawn).argmin(1) > 0).any()


def test_a_row_has_the_same_plan_in_any_company():
    asked = request(smooth(0.3))
    together = BestOf(5, 3)(asked).plan
    some = BestOf(5, 3)(asked.take(np.array([2, 0]))).plan
    torch.testing.assert_close(some, together[[2, 0]])


def test_a_checkpoint_without_values_is_refused_with_the_command_that_learns_some():
    known = Capabilities(("constant",), HORIZON)
    with pytest.raises(ConfigError, match=r"best_of ranks .*finetune CHECKPOINT method=values"):
        BestOf().adapt_to(known, HORIZON)
    BestOf().adapt_to(replace(known, valued=True), HORIZON)
    with pytest.raises(ConfigError, match="it knows staircase"):
        BestOf().adapt_to(Capabilities(("staircase",), HORIZON, valued=True), HORIZON)


def test_no_plan_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"inference.count is 0"):
        BestOf(0)
