"""Streaming: the stairs that are met are those that were trained, and labels say the noise that
is there.
"""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.objective import block_index, staircase_times
from hotstart.policy.diffusion.schedule import VPCosine, alpha_sigma, raise_noise
from hotstart.policy.diffusion.solvers import DDIM, DPMSolverPP
from hotstart.policy.samplers.base import Capabilities
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.spec import ConfigError, Horizon

from ..analytic import gaussian, request, smooth

HORIZONS = [
    Horizon(2, 24, 8),
    Horizon(1, 24, 8),
    Horizon(1, 32, 8),
    Horizon(3, 20, 4),
    Horizon(2, 16, 1),
    Horizon(1, 10, 5),
]
PRIMERS = ["denoise", "zero", "constant"]


def run(
    sampler: Streaming,
    horizon: Horizon,
    calls: int,
    executed=None,
    posterior=None,
    rows: int = 3,
    frozen=None,
):
    """Requests and outcomes of some calls in a row."""
    posterior, outcome, done = posterior or smooth(0.2), None, []
    for call in range(calls):
        asked = request(
            posterior,
            rows,
            horizon,
            previous=None if outcome is None else outcome.plan,
            previous_level=None if outcome is None else outcome.level,
            executed=horizon.executed if executed is None else executed,
            frozen=frozen,
            seed=100 * call,
        )
        outcome = sampler(asked)
        done.append((asked, outcome))
    return done


def is_trained(level: torch.Tensor, horizon: Horizon) -> bool:
    """Whether levels (T,) are a staircase that training draws: block c at time (c + 1 - u) / h
    with one u.
    """
    times = VPCosine().time(level.double())
    progress = 1 - float(times[horizon.past]) * horizon.blocks
    wanted = staircase_times(horizon, torch.tensor([progress], dtype=torch.float64))[0]
    return -1e-4 <= progress <= 1 and bool((times - wanted).abs().max() < 1e-4)


@pytest.mark.parametrize("horizon", HORIZONS, ids=str)
@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("primer", PRIMERS)
def test_every_level_vector_met_is_one_that_was_trained(horizon, steps, primer):
    sampler = Streaming(steps, cold=5, primer=primer)
    for number, (asked, outcome) in enumerate(run(sampler, horizon, 4)):
        seen = asked.model.seen
        if number > 0:
            assert len(seen) == steps
            assert all(is_trained(row, horizon) for level in seen for row in level)
        assert not outcome.level[:, : horizon.past + horizon.executed].any()  # the chunk is clean


@pytest.mark.parametrize("primer", PRIMERS)
def test_a_call_costs_the_same_number_of_evaluations_every_time(primer):
    first, *others = (
        outcome.nfe.tolist() for _, outcome in run(Streaming(3, 6, primer), HORIZONS[0], 4)
    )
    assert first == [{"denoise": 6, "zero": 3, "constant": 4}[primer]] * 3
    assert others == [[3] * 3] * 3


@pytest.mark.parametrize("executed", [8, 5, [8, 3, 1]])
def test_the_noise_of_every_step_is_what_its_label_says(executed):
    """Data of a single value: what is left after alpha times it has the standard deviation
    sigma of the label.
    """
    rows, horizon = 3, HORIZONS[0]
    wide = Horizon(horizon.observed, horizon.planned, horizon.executed)
    done = run(Streaming(2, 4, solver=DDIM(1.0)), wide, 3, executed, gaussian(0.3, 1e-4), rows)
    asked = done[-1][0]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    posterior = asked.model.denoiser.network.posterior

    def watching(x, alpha, sigma):
        seen.append((x, sigma))
        return posterior(x, alpha, sigma)

    many = 2500  # the same request for many rows of noise
    before = asked.previous
    previous = {
        "previous": before.plan.repeat(many, 1, 1),
        "previous_level": before.level.repeat(many, 1),
    }
    steps = np.tile(np.broadcast_to(np.asarray(executed), (rows,)), many)
    Streaming(2, 4, solver=DDIM(1.0))(
        request(watching, rows * many, wide, executed=steps.tolist(), seed=7, **previous)
    )
    x, sigma = seen[0]
    alpha = (1 - sigma**2).sqrt()
    error = x - alpha * 0.3
    for row in range(rows):
        # A step of the previous plan that is still on its stair keeps the noise it had: it is the
        # same in every repetition.
        drawn = (error[row::rows].std(0) - sigma[0]).abs()
        kept = error[row::rows].std(0) < 1e-5
        assert bool((kept | (drawn < 0.1)).all())
        assert not kept[
            0
        ].any()  # the past step was executed, is clean, and got its stair's noise again


def test_committed_steps_have_their_stair_too():
    (_, _), (asked, _) = run(Streaming(2, 4), HORIZONS[0], 2, executed=5, frozen=[0, 2, 3])
    assert all(is_trained(row, HORIZONS[0]) for level in asked.model.seen for row in level)


def test_raising_the_noise_gives_the_forward_process():
    generator = torch.Generator().manual_seed(0)
    x0, first, second = (
        torch.full((2000, 3, 1), 0.5),
        *(torch.randn(2000, 3, 1, generator=generator) for _ in range(2)),
    )
    low, high = (
        torch.tensor([0.0, 0.2, 0.6]).expand(2000, 3),
        torch.tensor([0.3, 0.5, 0.5]).expand(2000, 3),
    )
    x = raise_noise(x0, first, torch.zeros_like(low), low)
    raised = raise_noise(x, second, low, high)
    alpha, sigma = (value[0] for value in alpha_sigma(torch.maximum(low, high)))
    np.testing.assert_allclose(raised.mean(0)[:, 0], 0.5 * alpha, atol=0.05)
    np.testing.assert_allclose(raised.std(0)[:, 0], sigma, atol=0.04)
    assert torch.equal(raised[:, 2], x[:, 2])  # never lowered


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), DPMSolverPP(1)])
def test_streamed_data_are_spread_as_those_sampled_in_as_many_steps_in_all(solver):
    posterior, rows = gaussian(0.2, 0.1), 600
    streamed = run(
        Streaming(12, 24, solver=solver), HORIZONS[0], 4, posterior=posterior, rows=rows
    )[-1][1].plan[:, 1:9]
    fresh = Fresh(24, solver)(request(posterior, rows, HORIZONS[0])).plan[:, 1:9]
    assert float(streamed.mean()) == pytest.approx(0.2, abs=0.01)
    assert float(streamed.std()) == pytest.approx(float(fresh.std()), abs=0.006)


def test_what_it_refuses():
    horizon = HORIZONS[0]
    with pytest.raises(ConfigError, match=r"sdp .*staircase; it knows constant"):
        Streaming().adapt_to(Capabilities(("constant",), horizon), horizon)
    with pytest.raises(ConfigError, match=r"blocks of 8 steps.*executed=4 makes another staircase"):
        Streaming().adapt_to(Capabilities(("staircase", "constant"), horizon), Horizon(2, 24, 4))
    with pytest.raises(ConfigError, match="two blocks"):
        Streaming().adapt_to(
            Capabilities(("staircase", "constant"), Horizon(2, 12, 8)), Horizon(2, 12, 8)
        )
    with pytest.raises(
        ConfigError, match=r"primer is 'ones'; choose one of denoise, zero, constant"
    ):
        Streaming(primer=cast(Any, "ones"))
    with pytest.raises(ConfigError, match="steps is 0"):
        Streaming(0)


def test_the_first_block_holds_the_past_and_the_last_one_the_tail():
    assert block_index(Horizon(2, 24, 8)).tolist() == [0] * 9 + [1] * 15


@pytest.mark.parametrize("primer", PRIMERS)
def test_the_noise_of_the_stairs_can_be_scaled_and_left_out(primer):
    def plan(share: float, seed: int) -> torch.Tensor:
        sampler = Streaming(2, cold=3, primer=primer, clip=None, start_noise=share)
        first = request(gaussian(0.3, 0.2), 4, HORIZONS[0], seed=seed)
        outcome = sampler(first)
        following = request(
            gaussian(0.3, 0.2),
            4,
            HORIZONS[0],
            previous=outcome.plan,
            previous_level=outcome.level,
            executed=HORIZONS[0].executed,
            seed=seed + 100,
        )
        return sampler(following).plan

    assert torch.equal(plan(0.0, 0), plan(0.0, 7))  # no noise: whatever the seed
    assert float(plan(0.5, 0).std()) < float(plan(1.0, 0).std())
    whole = Streaming(primer=primer)._draw(request(gaussian(0.3, 0.2), 4))
    assert torch.equal(whole, request(gaussian(0.3, 0.2), 4).draw())  # 1: not a bit is changed
