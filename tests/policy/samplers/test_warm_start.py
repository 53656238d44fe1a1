"""Warm starts: how fast an error of the guess shrinks, what a gripper needs, which rows begin
fresh.
"""

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.schedule import VPCosine, alpha_sigma
from hotstart.policy.diffusion.solvers import DDIM
from hotstart.policy.samplers.base import Capabilities, shift
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart, behind_chunk, choose_start, gain
from hotstart.spec import ConfigError, Horizon

from ..analytic import gaussian, request, smooth, two_points

HORIZON = Horizon(2, 24, 8)


def measured_gain(sampler: WarmStart, spread: float) -> float:
    """Slope of the outcome against an error of the guess, with common noise."""
    guess = torch.zeros(4, 24, 2)
    one = sampler(request(gaussian(0.1, spread), previous=guess))
    other = sampler(request(gaussian(0.1, spread), previous=guess + 0.2))
    return float((other.plan - one.plan).mean() / 0.2)


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("renoise", [True, False])
def test_an_error_of_the_guess_shrinks_as_the_formula_says(spread, eta, renoise):
    sampler = WarmStart(3, 0.1, solver=DDIM(eta), renoise=renoise, clip=None)
    assert measured_gain(sampler, spread) == pytest.approx(
        gain(VPCosine(), 0.1, 3, spread, eta, renoise), abs=1e-3
    )


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("start", [0.03, 0.11, 0.21])
def test_with_many_steps_the_gain_is_the_closed_form(spread, start):
    alpha, sigma = (
        float(value)
        for value in alpha_sigma(VPCosine().level(torch.tensor(start, dtype=torch.float64)))
    )
    total = alpha**2 * spread**2 + sigma**2
    ode, ancestral = spread / total**0.5, alpha * spread**2 / total
    assert gain(VPCosine(), start, 2000, spread, 0.0, False) == pytest.approx(ode, abs=2e-3)
    assert gain(VPCosine(), start, 2000, spread, 1.0, False) == pytest.approx(ancestral, abs=2e-3)


def test_the_start_is_the_least_one_that_forgets_enough():
    starts = [
        choose_start(VPCosine(), 3, 0.05, drift, 0.02, 1.0) for drift in (0.001, 0.05, 0.2, 0.8)
    ]
    assert starts == sorted(starts)
    assert starts[0] < starts[-1] < 1.0
    chosen = starts[2]
    share = gain(VPCosine(), chosen, 3, 0.05, 1.0)
    assert 0.2 * share / (1 - share) <= 0.02
    share = gain(VPCosine(), chosen - 0.025, 3, 0.05, 1.0)
    assert 0.2 * share / (1 - share) > 0.02


def test_a_spread_that_never_forgets_asks_for_the_whole_way():
    assert choose_start(VPCosine(), 1, 1.0, 5.0, 1e-9, 0.0, False) == 1.0


def flips(size: float, guess: float, neutral: bool, start: float) -> float:
    """How often a number that takes two values changes from `guess` when 99 of 100 posterior
    chances say so.
    """
    previous = torch.full((4000, 4, 1), guess)
    sampler = WarmStart(3, start, solver=DDIM(1.0), renoise=False, neutral=neutral)
    tiny = Horizon(1, 4, 4)
    asked = request(two_points(size, 0.99), 4000, tiny, 1, previous, 4, discrete=[True])
    return float((sampler(asked).plan[:, 0, 0] > 0).float().mean())


def test_a_gripper_flips_from_the_neutral_value_only():
    assert flips(1.0, -1.0, neutral=False, start=0.04) < 0.001  # stuck for ever
    assert flips(1.0, -1.0, neutral=True, start=0.04) > 0.97
    assert flips(0.1, -0.1, neutral=False, start=0.04) < 0.9  # scaled data: better, but not free
    assert flips(0.1, -0.1, neutral=True, start=0.04) > 0.9


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_start_without_noise_gives_the_mean_whatever_the_seed(steps):
    def spread(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        plan = Fresh(steps, DDIM(), None, start_noise=share)(
            request(gaussian(0.3, 0.2), rows=64)
        ).plan
        return plan.mean(), plan.std()

    mean, none = spread(0.0)
    assert float(mean) == pytest.approx(0.3, abs=1e-5)
    assert float(none) < 1e-5
    if steps > 1:
        assert float(spread(0.5)[1]) == pytest.approx(0.5 * float(spread(1.0)[1]), rel=1e-3)


def test_a_warm_start_without_noise_forgets_its_guess_as_fast_and_scatters_less():
    previous = torch.full((64, 24, 2), 0.3)
    plans = {}
    for share in (0.0, 1.0):
        sampler = WarmStart(2, 0.2, solver=DDIM(0.0), clip=None, start_noise=share)
        plans[share] = sampler(request(gaussian(0.1, 0.1), rows=64, previous=previous)).plan
    assert float(plans[0.0].std()) < 1e-6 < float(plans[1.0].std())
    assert float(plans[0.0].mean()) == pytest.approx(float(plans[1.0].mean()), abs=0.01)


@pytest.mark.parametrize("make", [Fresh, WarmStart, Streaming])
@pytest.mark.parametrize("share", [-0.1, float("inf"), float("nan")])
def test_a_start_noise_that_is_no_share_is_refused(make, share):
    with pytest.raises(ConfigError, match="start_noise is"):
        make(start_noise=share)


def test_what_is_not_discrete_keeps_its_guess():
    previous = torch.rand(4, 24, 2)
    asked = request(smooth(0.0), previous=previous, executed=3, discrete=[False, True])
    guess = WarmStart().guess(asked)
    assert torch.equal(guess[:, :21, 0], previous[:, 3:, 0])
    assert torch.equal(guess[:, 21:, 0], previous[:, -1:, 0].expand(4, 3))
    assert not guess[..., 1].any()


def test_rows_move_on_by_what_each_of_them_executed():
    values = torch.arange(24.0).expand(3, 24)
    moved = shift(values, torch.tensor([0, 3, 8]))
    assert moved[0].tolist() == list(range(24))
    assert moved[1].tolist() == [*range(3, 24), 23, 23, 23]
    assert moved[2, :2].tolist() == [8, 9]


@pytest.mark.parametrize(("size", "expected"), [(1.0, 0.5), (0.2, 0.3), (0.5, 0.3), (0.7, 0.384)])
def test_a_start_left_open_is_noisy_enough_for_a_neutral_gripper(size, expected):
    """At it alpha size = sigma; where that lies below the least start, the least start stands."""
    asked = request(smooth(0.0), discrete=[False, True], discrete_size=size)
    begins = WarmStart().choose_start(asked)
    assert begins == pytest.approx(expected, abs=0.005)
    if begins > 0.3:
        alpha, sigma = alpha_sigma(VPCosine().level(torch.tensor(begins, dtype=torch.float64)))
        assert float(alpha * size / sigma) == pytest.approx(1, abs=1e-3)
    assert WarmStart(start=0.1).choose_start(asked) == 0.1  # by hand
    assert WarmStart(neutral=False).choose_start(asked) == 0.3
    assert WarmStart().choose_start(request(smooth(0.0))) == 0.3  # no gripper


@pytest.mark.parametrize(
    ("horizon", "known", "shares"),
    [
        (Horizon(1, 12, 4), 8, [0] * 4 + [0, 0.25, 0.5, 0.75] + [1] * 4),
        (Horizon(1, 12, 4), 6, [0] * 4 + [0, 0.5] + [1] * 6),  # more was executed
        (Horizon(2, 12, 4), 8, [0] * 5 + [0, 1 / 3, 2 / 3] + [1] * 4),
        (Horizon(1, 12, 4, delay=2), 8, [0] * 6 + [0, 0.5] + [1] * 4),
        (Horizon(1, 8, 4), 4, [0] * 4 + [1] * 4),
        (Horizon(2, 10, 8), 2, [0] * 9 + [1]),  # the chunk itself is never raised
    ],
)
def test_behind_the_chunk_the_start_rises_to_the_end_of_what_is_known(horizon, known, shares):
    np.testing.assert_allclose(
        behind_chunk(horizon, torch.tensor([known]))[0].numpy(), shares, atol=1e-6
    )


def test_a_rising_start_forgets_the_repeated_tail_and_treats_the_chunk_as_before():
    previous, asked_levels = torch.zeros(4, 24, 2), []
    previous[:, 23] = 0.9  # repeated behind the end
    plans = {}
    for ramp in (False, True):
        asked = request(gaussian(0.0, 0.2), previous=previous)
        plans[ramp] = WarmStart(2, 0.1, ramp=ramp)(asked).plan
        asked_levels.append(asked.model.seen)
    torch.testing.assert_close(plans[True][:, :9], plans[False][:, :9])
    assert float(plans[False][:, 17:].mean()) > 0.4
    assert abs(float(plans[True][:, 17:].mean())) < 0.15
    for flat, raised in zip(*asked_levels, strict=True):
        torch.testing.assert_close(raised[:, :9], flat[:, :9])
    assert bool((asked_levels[1][0][:, 16:] == 1).all())


def test_a_row_without_a_plan_is_sampled_fresh_and_the_others_do_not_notice():
    previous = torch.rand(4, 24, 2, generator=torch.Generator().manual_seed(0))
    previous[2] = torch.nan
    sampler = WarmStart(2, 0.3, cold=7)
    asked = request(smooth(0.3), previous=previous)
    outcome = sampler(asked)
    assert outcome.nfe.tolist() == [2, 2, 7, 2]
    alone = Fresh(7)(request(smooth(0.3), rows=1, seed=2))
    torch.testing.assert_close(outcome.plan[2:3], alone.plan)
    for row in (0, 3):
        asked = request(smooth(0.3), rows=1, seed=row, previous=previous[row : row + 1])
        torch.testing.assert_close(sampler(asked).plan[0], outcome.plan[row])


def test_a_row_whose_guess_is_wrong_falls_back_alone():
    previous = torch.zeros(3, 24, 2)
    previous[1] = -0.9  # the data lie at 0
    asked = request(gaussian(0.0, 0.02), rows=3, previous=previous)
    outcome = WarmStart(2, 0.3, cold=5, fallback=0.3)(asked)
    assert outcome.nfe.tolist() == [2, 7, 2]
    assert float(outcome.plan[1].abs().max()) < 0.2
    assert WarmStart(2, 0.3, cold=5)(asked).nfe.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("discrete", "spent"), [([False, True], [2, 7, 2]), ([True, True], [2, 2, 2])]
)
def test_a_number_of_two_values_never_makes_a_row_fall_back(discrete, spent):
    """It begins at the neutral value and ends at one of the two, as far from its guess as can
    be.
    """

    def posterior(x, alpha, sigma):
        still, grips = gaussian(0.0, 0.02)(x, alpha, sigma), two_points(1.0, 0.99)(x, alpha, sigma)
        return torch.where(torch.tensor(discrete), grips, still)

    previous = torch.zeros(3, 24, 2)
    previous[1] = -0.9
    asked = request(posterior, rows=3, previous=previous, discrete=discrete)
    outcome = WarmStart(2, 0.3, cold=5, fallback=0.3)(asked)
    assert outcome.nfe.tolist() == spent
    assert float(outcome.plan[..., 1].abs().mean()) > 0.9


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"cold": 0}, "cold is 0"),
        ({"start": 0.0}, "start is 0.0"),
        ({"start": 1.1}, "start is 1.1"),
        ({"min_start": 0.0}, "min_start is 0.0"),
        ({"fallback": 0.0}, "fallback is 0.0"),
        ({"ramp": True, "renoise": False}, "ramp=true"),
        ({"start_noise": 0.5, "renoise": False}, "start_noise=0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        WarmStart(**options)


def test_a_checkpoint_without_constant_levels_is_refused():
    with pytest.raises(
        ConfigError, match=r"rti .*constant; it knows staircase.*training.regimes.constant above 0"
    ):
        WarmStart().adapt_to(Capabilities(("staircase",), HORIZON), HORIZON)
    with pytest.raises(ConfigError, match=r"ramp=true.*staircase; it knows constant"):
        WarmStart(ramp=True).adapt_to(Capabilities(("constant",), HORIZON), HORIZON)
    WarmStart().adapt_to(Capabilities(None, HORIZON), HORIZON)  # nobody said: nothing to refuse
    assert np.isfinite(gain(VPCosine(), 0.5, 1, 0.1, 1.0))


@pytest.mark.parametrize(
    ("regimes", "rises"), [(("staircase", "constant"), True), (("constant",), False), (None, False)]
)
def test_left_open_it_rises_where_the_checkpoint_knows_staircases(regimes, rises):
    trained = Capabilities(regimes, HORIZON)
    assert WarmStart(start=0.2).adapt_to(trained, HORIZON).ramp is rises
    assert (
        not WarmStart(renoise=False).adapt_to(trained, HORIZON).ramp
    )  # the paper's way gets no noise at all
    assert WarmStart(ramp=False).adapt_to(trained, HORIZON).ramp is False
    assert WarmStart(ramp=True).adapt_to(Capabilities(None, HORIZON), HORIZON).ramp is True


@pytest.mark.parametrize(
    ("given", "measured", "taken"), [(None, None, 0.3), (None, 0.6, 0.6), (0.2, 0.6, 0.2)]
)
def test_left_open_it_begins_at_least_where_it_was_measured(given, measured, taken):
    sampler = WarmStart(min_start=given).adapt_to(
        Capabilities(None, HORIZON, start=measured), HORIZON
    )
    assert sampler.min_start == taken
    assert sampler.choose_start(request(smooth(0.0))) == taken
