"""Solver steps against closed forms and against each other."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.schedule import Flow, VPCosine, alpha_sigma, ddpm_levels, grid
from hotstart.policy.diffusion.solvers import ADAMS_BASHFORTH, DDIM, PLMS, DPMSolverPP
from hotstart.policy.samplers.loop import sample
from hotstart.spec import ConfigError
from torch import Tensor

MEAN, STD = 0.4, 0.3
TABLE = ddpm_levels(100)
SOLVERS = [DDIM(), DDIM(0.5), DDIM(1.0), DPMSolverPP(1), DPMSolverPP(2)]


def exact(x: Tensor, level: Tensor) -> Tensor:
    """E[x0 | x] for data N(MEAN, STD^2)."""
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)


def toy(x: Tensor, level: Tensor) -> Tensor:
    """E[x0 | x] for the two points +-0.7: nothing about it is linear."""
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    return 0.7 * torch.tanh(0.7 * alpha * x / sigma**2)


def start(seed: int = 0) -> Tensor:
    return torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(solver, x: Tensor, levels: Tensor, denoise=exact, noises=None) -> Tensor:
    """Down `levels` (S + 1,) or (S + 1, T), written out: what the sampling loop must do."""
    history = None
    for number, (level_from, level_to) in enumerate(pairwise(levels)):
        pair = (level.expand(x.shape[:2]) for level in (level_from, level_to))
        x, std, history = solver.step(denoise, x, *pair, history)
        if noises is not None:
            x = x + std * noises[number]
    return x


# --- closed forms: data N(m, s^2)


def closed_form(x: Tensor, level_from: Tensor, level_to: Tensor) -> Tensor:
    """Where the probability-flow ODE takes x: the same quantile of the marginal N(alpha m,
    alpha^2 s^2 + sigma^2).
    """
    (alpha, sigma), (alpha_to, sigma_to) = alpha_sigma(level_from), alpha_sigma(level_to)
    z = (x - alpha * MEAN) / torch.sqrt(alpha**2 * STD**2 + sigma**2)
    return alpha_to * MEAN + torch.sqrt(alpha_to**2 * STD**2 + sigma_to**2) * z


def slopes(solver, levels_of) -> np.ndarray:
    """Fall of the error per halving of the steps, in powers of two."""
    errors = []
    for steps in (64, 128, 256, 512):
        levels = levels_of(steps)
        errors.append(
            float(
                (walk(solver, start(), levels) - closed_form(start(), levels[0], levels[-1]))
                .abs()
                .max()
            )
        )
    assert errors[-1] < 5e-3
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def times(begin: float, end: float):
    return lambda steps: VPCosine().level(
        torch.linspace(begin, end, steps + 1, dtype=torch.float64)
    )


def even_log_snr(steps: int) -> Tensor:
    inner = 1 / (1 + torch.exp(torch.linspace(-6, 8, steps + 1, dtype=torch.float64)))
    return torch.cat((inner, torch.zeros(1, dtype=torch.float64)))


@pytest.mark.parametrize(
    "levels", [times(1.0, 0.0), lambda n: Flow().level(torch.linspace(1, 0, n + 1).double())]
)
def test_ddim_converges_with_order_1(levels):
    assert np.abs(slopes(DDIM(), levels) - 1).max() < 0.1


# Where log-SNR is finite and its steps are small; a grid that ends in clean has first-order steps
# at its ends.
@pytest.mark.parametrize("levels", [times(0.9, 0.1), even_log_snr])
def test_dpm_solver_converges_with_order_2(levels):
    assert np.abs(slopes(DPMSolverPP(2), levels) - 2).max() < 0.2


@pytest.mark.parametrize("schedule", [VPCosine(), Flow()])
@pytest.mark.parametrize("steps", [10, 30])
def test_dpm_solver_beats_ddim_on_the_grids_that_are_used(schedule, steps):
    levels = grid(schedule, steps).double()
    truth = MEAN + STD * start()
    errors = [
        float((walk(solver, start(), levels) - truth).abs().max())
        for solver in (DDIM(), DPMSolverPP(2))
    ]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("order", [2, 4])
def test_plms_converges_with_order_2(order):
    """PNDM's own claim (2202.09778, section 3.3): its transfer takes the noise for even over a
    step, whatever the weights.
    """
    assert np.abs(slopes(PLMS(order), times(0.9, 0.1)) - 2).max() < 0.3


def test_plms_of_order_1_is_ddim_to_the_bit():
    levels = grid(VPCosine(), 9).double()
    assert torch.equal(walk(PLMS(1), start(), levels, toy), walk(DDIM(), start(), levels, toy))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_adams_and_bashforth_are_exact_for_polynomials(order):
    """The weights integrate polynomials below their order over the next step, from values at 0,
    -1, -2, -3.
    """
    for power in range(order):
        values = [(-k) ** power for k in range(order)]
        assert np.dot(ADAMS_BASHFORTH[order - 1], values) == pytest.approx(1 / (power + 1))


@pytest.mark.parametrize("steps", [10, 30])
def test_plms_beats_ddim_on_the_grid_that_is_used(steps):
    levels = grid(VPCosine(), steps).double()
    truth = MEAN + STD * start()
    errors = [
        float((walk(solver, start(), levels) - truth).abs().max()) for solver in (DDIM(), PLMS())
    ]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("schedule", [VPCosine(), Flow()])
def test_ancestral_sampling_converges_to_mean_and_variance(eta, schedule):
    """The exact denoiser is affine, so each step maps mean and variance in closed form: no
    sampling is needed.
    """

    def moments(steps: int) -> tuple[float, float]:
        mean, variance = torch.zeros(()).double(), torch.ones(()).double()
        for level_from, level_to in pairwise(
            schedule.level(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
        ):
            probe = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1)
            out, std, _ = DDIM(eta).step(
                exact, probe, level_from.expand(2, 1), level_to.expand(2, 1), None
            )
            gain = (out[1] - out[0]).squeeze()
            mean, variance = (
                gain * mean + out[0].squeeze(),
                gain**2 * variance + std[0].squeeze() ** 2,
            )
        return float(mean), float(variance.sqrt())

    errors = []
    for steps in (50, 100, 200, 400):
        mean, std = moments(steps)
        assert mean == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs(std - STD))
    assert errors[-1] < 0.02 * STD
    assert all(0.4 < fine / coarse < 0.7 for coarse, fine in pairwise(errors))  # order 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_of_two_points_keep_their_shares(solver):
    """Data +0.7 with probability .8: each solver's share of it lies within four standard errors."""

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        alpha, sigma = alpha_sigma(level.unsqueeze(-1))
        return 0.7 * torch.tanh(0.7 * alpha * x / sigma**2 + 0.5 * np.log(0.8 / 0.2))

    generator = torch.Generator().manual_seed(3)
    levels = grid(VPCosine(), 50).double()
    draws = torch.randn(51, 4000, 1, 1, generator=generator, dtype=torch.float64)
    x = walk(solver, draws[0], levels, denoise, draws[1:])
    assert float((x.abs() - 0.7).abs().quantile(0.98)) < 0.02
    assert float((x > 0).double().mean()) == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 4000))


# --- identities


def test_euler_in_the_flow_variable_is_ddim_on_the_flow_grid():
    x_ddim, levels = start(), grid(Flow(), 9).double()
    y = start()  # (1 - t) x0 + t eps; at t = 1 both variables are the noise itself
    for t, t_next in pairwise(levels):
        norm = torch.sqrt((1 - t) ** 2 + t**2)
        x0 = toy(y / norm, t.expand(3, 4))
        y = y + (t_next - t) * (y - x0) / t  # velocity eps - x0
    torch.testing.assert_close(walk(DDIM(), x_ddim, levels, toy), y, atol=1e-9, rtol=0)


@pytest.mark.parametrize("schedule", [VPCosine(), Flow()])
def test_dpm_solver_of_order_1_is_ddim(schedule):
    levels = grid(schedule, 7).double()
    torch.testing.assert_close(
        walk(DPMSolverPP(1), start(), levels, toy),
        walk(DDIM(), start(), levels, toy),
        atol=1e-9,
        rtol=0,
    )


def test_dpm_solver_of_order_2_is_another_method():
    levels = grid(VPCosine(), 7).double()
    assert (
        walk(DPMSolverPP(2), start(), levels) - walk(DDIM(), start(), levels)
    ).abs().max() > 1e-2


class Counted:
    """A denoiser as the sampling loop calls it; notes at which steps of the grid."""

    def __init__(self, function):
        self.function, self.steps = function, []

    def __call__(self, x, level, step=None):
        self.steps.append(step)
        return self.function(x, level)


def spread(levels: Tensor) -> Tensor:
    """Levels (S + 1,) for 3 rows of 4 action steps."""
    return levels[:, None, None].expand(-1, 3, 4)


@torch.no_grad()
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_sampling_loop_is_the_loop_written_out(solver):
    levels = grid(VPCosine(), 6).double()
    noises = torch.stack([start(50 + i) for i in range(6)])
    counted = Counted(toy)
    got = sample(counted, solver, start(), noises, spread(levels))
    assert torch.equal(got, walk(solver, start(), levels, toy, noises))
    assert counted.steps == list(range(6))
    without = sample(Counted(toy), solver, start(), None, spread(levels))
    assert torch.equal(without, walk(solver, start(), levels, toy))
    assert torch.equal(without, got) is not solver.stochastic


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_row_draws_the_same_noise_whatever_the_levels_beside_it(solver):
    """One row begins at once, one joins late, one is over early: each is bit-equal to itself
    alone.
    """
    falling = grid(VPCosine(), 6)
    rows = torch.stack(
        (falling, falling[[3, 3, 3, 3, 4, 5, 6]], falling[[2, 4, 6, 6, 6, 6, 6]])
    )  # (R, S + 1)

    def plan(chosen: list[int]) -> Tensor:
        noise = RowNoise([11, 12, 13], [0, 0, 0]).take(np.array(chosen))
        x, noises = noise.normal(4, 2), torch.stack([noise.normal(4, 2) for _ in range(6)])
        levels = rows[chosen].T.unsqueeze(-1).expand(-1, -1, 4)
        return sample(Counted(toy_clean), solver, x, noises, levels)

    together = plan([0, 1, 2])
    for row in range(3):
        assert torch.equal(plan([row])[0], together[row])


@pytest.mark.parametrize("solver", [DDIM(), DPMSolverPP(1)])
def test_single_steps_one_after_the_other_are_one_descent(solver):
    levels = spread(grid(VPCosine(), 6).double())
    x = start()
    for number in range(6):
        x = sample(Counted(toy), solver, x, None, levels[number : number + 2])
    assert torch.equal(x, sample(Counted(toy), solver, start(), None, levels))


@pytest.mark.parametrize("solver", SOLVERS)
def test_positions_with_nothing_to_remove_stay_to_the_bit(solver):
    level_from = torch.tensor([0.0, 0.3, 0.6, 1.0]).double().expand(3, 4)
    level_to = (
        torch.tensor([0.0, 0.3, 0.7, 0.5]).double().expand(3, 4)
    )  # clean, done, would be raised, moving
    history = solver.step(toy_clean, start(), level_from + 0.1, level_from, None).history
    x, std, _ = solver.step(toy_clean, start(), level_from, level_to, history)
    assert torch.equal(x[:, :3], start()[:, :3])
    assert torch.equal(std[:, :3], torch.zeros(3, 3, 1).double())
    assert not torch.allclose(x[:, 3], start()[:, 3])
    assert torch.isfinite(x).all()


def toy_clean(x: Tensor, level: Tensor) -> Tensor:
    """`toy` that also answers at level 0."""
    return toy(x, level.clamp_min(1e-3))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_staircase_is_a_run_of_its_own_for_each_position(solver):
    times_ = torch.tensor([0.2, 0.5, 0.8, 1.0]).double()
    levels = VPCosine().level(torch.linspace(1, 0, 6).double().unsqueeze(1) * times_)  # (S + 1, T)
    noises = torch.stack([start(20 + i) for i in range(5)])
    together = walk(solver, start(), levels, toy_clean, noises)
    for position in range(4):
        one = slice(position, position + 1)
        alone = walk(solver, start()[:, one], levels[:, one], toy_clean, noises[:, :, one])
        torch.testing.assert_close(together[:, one], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_pure_noise_to_clean_in_one_step_is_the_estimate_in_float32(solver):
    x = start().float()
    out, std, _ = solver.step(exact, x, torch.ones(3, 4), torch.zeros(3, 4), None)
    torch.testing.assert_close(out, torch.full_like(x, MEAN))
    assert not std.any()


def test_stochastic_steps_have_ddpms_posterior_variance():
    """(1 - abar') / (1 - abar) * (1 - abar / abar'), 2006.11239 eq. 7; eta scales its root."""
    level_from, level_to = TABLE[40].expand(3, 4), TABLE[39].expand(3, 4)
    abar, abar_next = (alpha_sigma(level)[0] ** 2 for level in (TABLE[40], TABLE[39]))
    variance = (1 - abar_next) / (1 - abar) * (1 - abar / abar_next)
    for eta in (0.4, 1.0):
        std = DDIM(eta).step(exact, start(), level_from, level_to, None).std
        torch.testing.assert_close(std**2, (eta**2 * variance).expand(3, 4, 1))


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match=r"eta is 1\.5.*\[0, 1\]"):
        DDIM(1.5)
    with pytest.raises(ConfigError, match="order is 3"):
        DPMSolverPP(3)
