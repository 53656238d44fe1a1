"""Solver steps against diffusers, over whole trajectories at the exact levels of its table."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.schedule import alpha_sigma, ddpm_levels
from hotstart.policy.diffusion.solvers import DDIM, DPMSolverPP
from torch import Tensor

TABLE = ddpm_levels(100)


def toy(x: Tensor, level: Tensor) -> Tensor:
    """E[x0 | x] for the two points +-0.7: nothing about it is linear."""
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    return 0.7 * torch.tanh(0.7 * alpha * x / sigma**2)


def start(seed: int = 0) -> Tensor:
    return torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(solver, x: Tensor, levels: Tensor, noises=None) -> Tensor:
    """Down `levels` (S + 1,) with the toy denoiser."""
    history = None
    for number, (level_from, level_to) in enumerate(pairwise(levels)):
        pair = (level.expand(x.shape[:2]) for level in (level_from, level_to))
        x, std, history = solver.step(toy, x, *pair, history)
        if noises is not None:
            x = x + std * noises[number]
    return x


def table_levels(timesteps) -> Tensor:
    """Exact levels of the table's indices, then clean."""
    return torch.cat(
        (TABLE[torch.as_tensor(np.asarray(timesteps))], torch.zeros(1, dtype=torch.float64))
    )


def make_scheduler(name: str, **options):
    diffusers = pytest.importorskip("diffusers")
    common = {
        "num_train_timesteps": 100,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "sample",
    }
    return getattr(diffusers, name)(**common, **options)


def diffusers_walk(scheduler, x: Tensor, **options) -> Tensor:
    for t in scheduler.timesteps:
        guess = toy(x, TABLE[int(t)].expand(x.shape[:2]))
        x = scheduler.step(guess, t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("steps", [5, 10, 50, 100])
def test_ddim_is_that_of_diffusers(steps):
    scheduler = make_scheduler("DDIMScheduler", clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    expected = diffusers_walk(scheduler, start())
    got = walk(DDIM(), start(), table_levels(scheduler.timesteps))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert (got.abs().sub(0.7).abs() < 0.05).float().mean() > 0.5  # it did sample the two points


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_stochastic_ddim_is_that_of_diffusers(eta):
    scheduler = make_scheduler("DDIMScheduler", clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(20)
    noises, expected = torch.stack([start(100 + i) for i in range(20)]), start()
    for t, noise in zip(scheduler.timesteps, noises, strict=True):
        guess = toy(expected, TABLE[int(t)].expand(3, 4))
        expected = scheduler.step(guess, t, expected, eta=eta, variance_noise=noise).prev_sample
    got = walk(DDIM(eta), start(), table_levels(scheduler.timesteps), noises)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(
        got, walk(DDIM(), start(), table_levels(scheduler.timesteps)), atol=0.05
    )


@pytest.mark.parametrize("steps", [20, 100])
def test_ddim_with_eta_1_is_ancestral_ddpm_of_diffusers(steps):
    scheduler = make_scheduler("DDPMScheduler", clip_sample=False, variance_type="fixed_small")
    scheduler.set_timesteps(steps)
    expected = diffusers_walk(scheduler, start(), generator=torch.Generator().manual_seed(7))
    twin = torch.Generator().manual_seed(
        7
    )  # draws what the scheduler drew; it draws nothing at its last step
    noises = [torch.randn(3, 4, 2, generator=twin, dtype=torch.float64) for _ in range(steps)]
    got = walk(DDIM(1.0), start(), table_levels(scheduler.timesteps), noises)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [4, 10, 25])
def test_dpm_solver_is_that_of_diffusers(order, steps):
    scheduler = make_scheduler(
        "DPMSolverMultistepScheduler",
        algorithm_type="dpmsolver++",
        solver_order=order,
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    expected = diffusers_walk(scheduler, start())
    got = walk(DPMSolverPP(order), start(), table_levels(scheduler.timesteps))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
