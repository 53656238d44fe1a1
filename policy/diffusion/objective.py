"""The training objective: which noise levels the steps of a training plan get, and the loss.

Each sample is trained in one of three regimes, so that one checkpoint serves every sampler:
  constant   one level for the whole plan: fresh sampling (Diffusion Policy) and warm starts (RTI)
  staircase  SDP's stairs (2406.04806, section 3): block c of h has the schedule time
             (c + 1 - u) / h, with one u for the plan
  prefix     a random number of first steps is clean, the rest has one level: a frozen prefix is
             continued (2512.05964)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...spec import Horizon
from ..denoisers.base import LevelEmbedding
from .contract import Denoiser
from .regimes import Regimes, check_regimes
from .schedule import Schedule, add_noise

TIME_LEAST = 1e-3
"""Lowest schedule time of a noisy step in training; nearer to clean there is nothing to learn."""


def block_index(horizon: Horizon) -> Tensor:
    """Number of the block of each planned step, (T,).

    Past steps belong to the first block, steps left over at the end to the last one.
    """
    step = torch.arange(horizon.planned) - horizon.past
    return torch.div(step, horizon.executed, rounding_mode="floor").clamp(0, horizon.blocks - 1)


def staircase_times(horizon: Horizon, progress: Tensor) -> Tensor:
    """Schedule times (B, T) of SDP's staircase (2406.04806, section 3).

    `progress` (B,), in [0, 1), is the share of a stair that is already removed.
    """
    return (block_index(horizon).to(progress) + 1 - progress.unsqueeze(-1)) / horizon.blocks


def draw_times(
    regimes: Regimes,
    horizon: Horizon,
    batch: int,
    generator: torch.Generator,
    stratified: bool = False,
) -> Tensor:
    """Schedule times (B, T) in [0, 1]: 0 on the clean prefix, at least TIME_LEAST elsewhere.

    `stratified` draws one time from each of B equal parts of [0, 1], in random order, so that every
    batch sees all of them (ANT, 2306.00354, has as many samples from every interval). Raises
    ConfigError as `check_regimes` does.
    """
    check_regimes(regimes, horizon)
    shares = torch.from_numpy(regimes.shares())
    regime = torch.multinomial(shares, batch, True, generator=generator)  # (B,)
    uniform = torch.rand(batch, generator=generator)
    if stratified:
        uniform = (torch.randperm(batch, generator=generator) + uniform) / batch
    # At most one chunk is ever frozen, and one step is left to learn.
    longest = max(1, min(horizon.past + horizon.executed, horizon.planned - 1))
    clean = torch.randint(1, longest + 1, (batch, 1), generator=generator)
    constant = uniform.unsqueeze(1).expand(-1, horizon.planned).clamp_min(TIME_LEAST)
    stairs = staircase_times(horizon, uniform).clamp_min(TIME_LEAST)
    prefixed = torch.where(torch.arange(horizon.planned) < clean, 0.0, constant)
    choices = torch.stack((stairs, constant, prefixed))  # (3, B, T)
    return choices[regime, torch.arange(batch)]


class LearnedLossWeighting(nn.Module):
    """u(level), learned beside the network: a level's loss L counts as exp(-u) L + u.

    At the optimum u = log E[L], and every level counts the same (EDM2, 2312.02696, equation 21).
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        embedding = LevelEmbedding(width, width)
        out = nn.Linear(width, 1)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.layers = nn.Sequential(embedding, nn.SiLU(), out)

    def forward(self, level: Tensor) -> Tensor:
        """Levels (...) -> u (...)."""
        return self.layers(level).squeeze(-1)


def denoising_loss(
    denoiser: Denoiser,
    schedule: Schedule,
    context: Any,
    x0: Tensor,
    time: Tensor,
    noise: Tensor,
    learned_weighting: LearnedLossWeighting | None = None,
    whole_time: Tensor | None = None,
    step_weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted mean squared error over the noisy steps of plans.

    The plans x0 (B, T, A) are normalised, `noise` is standard normal (B, T, A), and `time` (B, T)
    holds schedule times. Clean steps are given, not asked for, and do not count. With
    `learned_weighting` each level counts as exp(-u) L + u; the logged loss stays the plain one.
    `step_weight` (B, T) says what each step counts beside that; None: all the same.

    Where several processes share a batch, `whole_time` (G, T) holds the times of all its rows. The
    loss is then scaled so that the mean over the processes is the loss of the whole batch. The
    network's own losses depend on levels alone and are those of the whole batch in every process.

    Returns the loss, the network's own losses added, and detached numbers to log.
    """
    level = schedule.level(time)
    predicted = denoiser(add_noise(x0, noise, level), level, context)
    error = denoiser.preconditioner.error(predicted, x0, level).square().mean(-1)  # (B, T)
    noisy = time > 0
    if whole_time is None:
        counted = noisy.sum()
        own = denoiser.network.losses(level)
    else:
        counted = (whole_time > 0).sum() * (len(time) / len(whole_time))
        own = denoiser.network.losses(schedule.level(whole_time))
    counts = noisy
    if step_weight is not None:
        counts = noisy * step_weight
    weight = schedule.weight(level) * counts
    plain = (weight * error).sum() / counted
    numbers = {"loss": plain.detach()}
    for name, value in own.items():
        numbers[name] = value.detach()
    if learned_weighting is None:
        return plain + sum(own.values()), numbers
    u = learned_weighting(level)
    loss = (torch.exp(-u) * weight * error + u * counts).sum() / counted
    pull = ((torch.exp(-u) * noisy).sum() / counted).detach()  # scales the own losses alike
    return loss + pull * sum(own.values()), numbers
