"""Which levels a training plan gets, and what counts in the loss."""

import math

import numpy as np
import pytest
import torch
from hotstart.policy.denoisers.base import Network
from hotstart.policy.diffusion.contract import Denoiser, Preconditioner
from hotstart.policy.diffusion.objective import (
    TIME_LEAST,
    LearnedLossWeighting,
    Regimes,
    block_index,
    denoising_loss,
    draw_times,
    staircase_times,
)
from hotstart.policy.diffusion.schedule import Flow, VPCosine, alpha_sigma
from hotstart.spec import ConfigError, Horizon

HORIZON = Horizon(observed=2, planned=24, executed=8)
HORIZONS = [
    HORIZON,
    Horizon(1, 16, 4),
    Horizon(2, 17, 8),
    Horizon(3, 23, 5),
    Horizon(4, 40, 6, delay=2),
]
BATCH = 4000


def times(
    regimes: Regimes, horizon: Horizon = HORIZON, batch: int = BATCH, seed: int = 0
) -> torch.Tensor:
    return draw_times(regimes, horizon, batch, torch.Generator().manual_seed(seed))


def clean_steps(time: torch.Tensor) -> torch.Tensor:
    return (time == 0).sum(1)


def is_constant(time: torch.Tensor) -> torch.Tensor:
    return (time == time[:, :1]).all(1)


# --- regimes


def test_each_regime_gets_its_share():
    time = times(Regimes(staircase=3, constant=2, prefix=1))  # scaled to sum to one
    constant, prefix = is_constant(time), clean_steps(time) > 0
    for got, share in ((prefix, 1 / 6), (constant, 2 / 6), (~prefix & ~constant, 3 / 6)):
        assert float(got.double().mean()) == pytest.approx(
            share, abs=4 * math.sqrt(share * (1 - share) / BATCH)
        )


@pytest.mark.parametrize("horizon", HORIZONS)
def test_constant_levels_are_one_uniform_time(horizon):
    time = times(Regimes(0, 1, 0), horizon)
    assert time.shape == (BATCH, horizon.planned)
    assert is_constant(time).all()
    drawn = time[:, 0].sort().values
    expected = (torch.arange(BATCH) + 0.5) / BATCH
    assert (drawn - expected).abs().max() < 1.95 / math.sqrt(BATCH)  # Kolmogorov-Smirnov, p = .001
    assert drawn[0] >= TIME_LEAST


@pytest.mark.parametrize("horizon", HORIZONS)
def test_staircases_have_the_times_of_the_paper(horizon):
    """2406.04806: block c of h is at time (c + 1 - u) / h with one u; here step by step."""
    blocks = (horizon.planned - horizon.past) // horizon.executed
    block_of = [
        min(max(0, (i - horizon.past) // horizon.executed), blocks - 1)
        for i in range(horizon.planned)
    ]
    for row in times(Regimes(1, 0, 0), horizon, 200).double():
        u = blocks - float(row[-1]) * blocks  # the last block has c = h - 1
        assert -1e-6 <= u < 1
        expected = [max((c + 1 - u) / blocks, TIME_LEAST) for c in block_of]
        torch.testing.assert_close(row, torch.tensor(expected).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_blocks_are_whole_chunks_after_the_past(horizon):
    blocks = block_index(horizon)
    first = horizon.past
    assert blocks[: first + horizon.executed].eq(0).all()  # the past belongs to the first block
    assert blocks.bincount().tolist()[1:-1] == [horizon.executed] * (horizon.blocks - 2)
    assert blocks[-1] == horizon.blocks - 1
    assert (blocks.diff() >= 0).all()


@pytest.mark.parametrize("horizon", HORIZONS)
def test_a_block_finished_is_the_next_one_begun(horizon):
    """At the end of a stair the second block has the time that the first one began with.

    The plan may roll.
    """
    has_plan, ended = (staircase_times(horizon, torch.tensor([u]).double())[0] for u in (0.0, 1.0))
    roll = horizon.executed
    assert ended[: horizon.past + roll].eq(0).all()
    whole = horizon.past + horizon.executed * (
        horizon.blocks - 1
    )  # up to where the tail and the new block follow
    torch.testing.assert_close(
        ended[horizon.past + roll : whole], has_plan[horizon.past : whole - roll]
    )


@pytest.mark.parametrize("horizon", [*HORIZONS, Horizon(2, 9, 8)])
def test_prefixes_are_clean_and_the_rest_has_one_time(horizon):
    time = times(Regimes(0, 0, 1), horizon)
    clean = clean_steps(time)
    longest = min(
        horizon.past + horizon.executed, horizon.planned - 1
    )  # something must be left to learn
    assert clean.unique().tolist() == list(range(1, longest + 1))
    prefix = torch.arange(horizon.planned) < clean.unsqueeze(1)
    assert (time[prefix] == 0).all()
    assert (time[~prefix] >= TIME_LEAST).all()
    rest = torch.where(prefix, time[:, -1:], time)
    assert is_constant(rest).all()


def test_a_single_sample_always_has_a_loss():
    """Were a plan clean all over, a batch of one would have nothing to average."""
    for seed in range(40):
        assert (times(Regimes(0, 0, 1), Horizon(1, 3, 3), 1, seed) > 0).any()


def test_a_clean_prefix_has_level_exactly_0():
    time = times(Regimes(0, 0, 1))
    for schedule in (VPCosine(), Flow()):
        assert torch.equal(schedule.level(time) == 0, time == 0)


def test_levels_depend_on_the_generator_alone():
    assert torch.equal(times(Regimes(), seed=5), times(Regimes(), seed=5))
    assert not torch.equal(times(Regimes(), seed=5), times(Regimes(), seed=6))


def test_a_staircase_needs_two_blocks():
    short = Horizon(observed=2, planned=16, executed=8)
    with pytest.raises(ConfigError, match=r"planned is 16.*two blocks of .*=8 steps, 17 or more"):
        times(Regimes(), short)
    assert is_constant(
        times(Regimes(0, 1, 0), short)
    ).all()  # without stairs the same horizon serves


def test_a_plan_of_one_step_cannot_be_given_a_prefix():
    one = Horizon(observed=1, planned=1, executed=1)
    with pytest.raises(ConfigError, match="prefix"):
        times(Regimes(0, 0, 1), one)
    assert times(Regimes(0, 1, 0), one, 5).shape == (5, 1)


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ConfigError, match=r"training\.regimes"):
        Regimes(*shares)


def test_the_checkpoint_is_told_what_was_trained():
    assert Regimes().names() == ["staircase", "constant", "prefix"]
    assert Regimes(0, 1, 0).names() == ["constant"]


# --- loss


class Oracle(Network):
    """Knows x0: answers what a perfect network of each kind of prediction would, plus `error`."""

    def __init__(self, x0: torch.Tensor, prediction: str, error: torch.Tensor | float = 0.0):
        super().__init__()
        self.x0, self.preconditioner, self.error = x0, Preconditioner(prediction), error

    def encode_context(self, tokens):
        return tokens

    def modulation(self, level):
        return level

    def forward(self, x, level, context, prepared=None):
        c_in, c_skip, c_out = self.preconditioner.coefficients(level)
        return (self.x0 - c_skip * x / c_in) / c_out + self.error


def batch(seed: int = 0, horizon: Horizon = HORIZON):
    generator = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, 16, horizon.planned, 3, generator=generator).unbind(0)
    return x0.double(), noise.double()


def loss_of(prediction, time, error: torch.Tensor | float = 0.0, schedule=None, seed=0):
    x0, noise = batch(seed)
    denoiser = Denoiser(Oracle(x0, prediction, error), Preconditioner(prediction))
    return denoising_loss(denoiser, schedule or VPCosine(), None, x0, time.double(), noise)[0]


@pytest.mark.parametrize("prediction", ["v", "x0", "edm"])
@pytest.mark.parametrize("schedule", [VPCosine(), Flow()])
def test_a_perfect_denoiser_has_no_loss(prediction, schedule):
    time = times(Regimes(1, 0, 1), batch=16)
    if prediction != "x0":
        time = time.clamp_min(TIME_LEAST)  # c_out is 0 at clean, and the oracle above divides by it
    assert float(loss_of(prediction, time, schedule=schedule)) < 1e-15


@pytest.mark.parametrize("schedule", [VPCosine(), Flow()])
def test_the_loss_is_the_mean_squared_error_in_v(schedule):
    """A v-network that is off by 0.3 everywhere has 0.09, times the schedule's weight.

    Flow's weight turns it into the error of u.
    """
    time = torch.full((16, 24), 0.4)
    alpha, sigma = alpha_sigma(schedule.level(torch.tensor(0.4).double()))
    weight = 1.0 if isinstance(schedule, VPCosine) else float(alpha + sigma) ** 2
    assert float(loss_of("v", time, 0.3, schedule)) == pytest.approx(0.09 * weight, rel=1e-6)


@pytest.mark.parametrize("prediction", ["v", "x0", "eps", "edm"])
@pytest.mark.parametrize("at", [0.02, 0.7, 0.99])
def test_an_error_counts_as_the_network_made_it(prediction, at):
    """Off by 0.1 in what it predicts is 0.01 at every level: no level drowns the rest."""
    assert float(loss_of(prediction, torch.full((16, 24), at), 0.1)) == pytest.approx(
        0.01, rel=1e-6
    )


def test_the_loss_of_a_case_worked_out_by_hand():
    """One row, two noisy steps of level 1/2 (alpha = sigma = 1/sqrt 2), F = 0 as v.

    Then x0^ = alpha x, and v^ - v = -v.
    """
    x0, noise = torch.tensor([[[1.0], [0.0]]]).double(), torch.tensor([[[0.0], [2.0]]]).double()

    class Zero(Oracle):
        def forward(self, x, level, context, prepared=None):
            return torch.zeros_like(x)

    denoiser = Denoiser(Zero(x0, "v"), Preconditioner("v"))
    loss, numbers = denoising_loss(
        denoiser, Flow(), None, x0, torch.full((1, 2), 0.5).double(), noise
    )
    # v = (noise - x0) / sqrt 2 = (-1, 2) / sqrt 2; weight (alpha + sigma)^2 = 2; mean of (1, 4)
    assert float(loss) == pytest.approx(2.5)
    assert float(numbers["loss"]) == pytest.approx(2.5)
    assert not numbers["loss"].requires_grad


def test_clean_steps_do_not_count_and_noisy_ones_all_do():
    time = torch.full((16, 24), 0.5)
    time[:, :9] = 0
    error = torch.zeros(16, 24, 3).double()
    error[:, :9] = 5.0  # wrong only where the plan is given
    assert float(loss_of("x0", time, error)) == 0
    error[:, 9] = 1.0
    one = float(loss_of("x0", time, error))
    assert one == pytest.approx(1 / 15, rel=1e-6)  # one of the 15 noisy steps


def test_the_network_sees_the_clean_prefix_as_it_is():
    x0, noise = batch()
    seen = []

    class Spy(Oracle):
        def forward(self, x, level, context, prepared=None):
            seen.append((x, level))
            return super().forward(x, level, context, prepared)

    time = times(Regimes(0, 0, 1), batch=16).double()
    denoising_loss(Denoiser(Spy(x0, "x0"), Preconditioner("x0")), VPCosine(), None, x0, time, noise)
    x, level = seen[0]
    assert torch.equal(x[time == 0], x0[time == 0])
    assert (level[time == 0] == 0).all()
    assert not torch.isclose(x[time > 0.05], x0[time > 0.05]).all(-1).any()


# --- strata and learned weights


def test_strata_draw_from_every_part_once():
    time = draw_times(
        Regimes(0, 1, 0), HORIZON, 64, torch.Generator().manual_seed(3), stratified=True
    )[:, 0]
    assert sorted((time * 64).long().tolist()) == list(range(64))
    assert time.tolist() != sorted(time.tolist())


def test_at_the_optimum_the_learned_weight_is_the_log_of_the_loss():
    """Losses of two levels, fixed; u is learned alone."""
    torch.manual_seed(0)
    learned_weighting, level = LearnedLossWeighting(), torch.tensor([0.2, 0.8]).repeat(64)
    losses = torch.where(level == 0.2, 0.05, 2.0)
    optimizer = torch.optim.Adam(learned_weighting.parameters(), 0.02)
    assert not learned_weighting(level).detach().any()  # every level counts as it is at first
    for _ in range(300):
        u = learned_weighting(level)
        optimizer.zero_grad()
        (torch.exp(-u) * losses + u).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(
        learned_weighting(level).detach()[:2], np.log([0.05, 2.0]), atol=0.02
    )


def test_with_learned_weights_the_logged_loss_stays_the_plain_one(tiny_model, tiny_dataset):
    model = tiny_model()
    x0, time = torch.rand(4, 12, 2), torch.full((4, 12), 0.5)
    context = model.encode({"state": torch.zeros(4, 2, 2)})
    learned_weighting = LearnedLossWeighting()
    torch.nn.init.constant_(learned_weighting.get_parameter("layers.2.bias"), 1.5)
    plain, _ = denoising_loss(
        model.denoiser, model.schedule, context, x0, time, torch.ones_like(x0)
    )
    weighed, numbers = denoising_loss(
        model.denoiser, model.schedule, context, x0, time, torch.ones_like(x0), learned_weighting
    )
    torch.testing.assert_close(numbers["loss"], plain)
    torch.testing.assert_close(weighed.detach(), plain * math.exp(-1.5) + 1.5)


def test_with_learned_weights_the_networks_own_losses_keep_their_share(tiny_model):
    """A weight that is the same at every level scales every gradient, the balance's too."""
    model = tiny_model("mode").requires_grad_(True)
    x0, time = torch.rand(4, 12, 2), torch.rand(4, 1).expand(4, 12)
    learned_weighting = LearnedLossWeighting().requires_grad_(False)
    torch.nn.init.constant_(learned_weighting.get_parameter("layers.2.bias"), 1.5)

    def gradients(weighting: LearnedLossWeighting | None = None) -> torch.Tensor:
        model.zero_grad()
        context = model.encode({"state": torch.zeros(4, 2, 2)})
        loss, numbers = denoising_loss(
            model.denoiser, model.schedule, context, x0, time, torch.ones_like(x0), weighting
        )
        loss.backward()
        assert float(numbers["balance"]) > 0
        return torch.cat(
            [p.grad.flatten() for p in model.network.parameters() if p.grad is not None]
        )

    plain, weighed = gradients(), gradients(learned_weighting)
    assert float(plain.abs().max()) > 0
    torch.testing.assert_close(weighed, plain * math.exp(-1.5), rtol=1e-4, atol=1e-7)
