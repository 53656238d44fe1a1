"""Noise levels: one number in [0, 1] for every family of diffusion.

level = sigma / (alpha + sigma): 0 is clean, 1 is pure noise. The working variable is
variance-preserving, x = alpha x0 + sigma eps with alpha^2 + sigma^2 = 1, whatever the family. A
flow-matching interpolation (1 - t) x0 + t eps is the same variable up to a known factor, and its t
is the level. A schedule therefore says two things only: how schedule time maps to levels (training
draws times uniformly, inference walks down a grid of times), and how the error is weighted.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ...spec import ConfigError


def alpha_sigma(level: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) of the variance-preserving variable at `level`, each of its shape."""
    signal = 1 - level
    norm = torch.sqrt(signal * signal + level * level)
    return signal / norm, level / norm


def level_of_alpha_bar(alpha_bar: Tensor) -> Tensor:
    """Level of DDPM's alpha-bar = alpha^2 (any shape)."""
    alpha, sigma = torch.sqrt(alpha_bar), torch.sqrt(1 - alpha_bar)
    return sigma / (alpha + sigma)


def add_noise(x0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Forward process: alpha x0 + sigma noise; x0, noise (B, T, A), level (B, T)."""
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    return alpha * x0 + sigma * noise


def raise_noise(x: Tensor, noise: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """Forward process from where x is: x, noise (B, T, A) at `level` (B, T) to a higher `target`.

    x' = (alpha'/alpha) x + sqrt(sigma'^2 - (alpha'/alpha)^2 sigma^2) noise has exactly the noise
    that its label says. x stays as it is where `target` (B, T) is not higher.
    """
    alpha, sigma = alpha_sigma(level.unsqueeze(-1))
    alpha_to, sigma_to = alpha_sigma(target.unsqueeze(-1))
    ratio = alpha_to / alpha.clamp_min(1e-12)
    raised = ratio * x + torch.sqrt((sigma_to**2 - (ratio * sigma) ** 2).clamp_min(0)) * noise
    return torch.where((target > level).unsqueeze(-1), raised, x)


class Schedule(Protocol):
    """A monotone map between schedule time in [0, 1] and level, and the weight of the error."""

    def level(self, time: Tensor) -> Tensor:
        """Level at schedule time (any shape); 0 -> 0 and 1 -> 1."""
        ...

    def time(self, level: Tensor) -> Tensor:
        """Schedule time at a level: the inverse of `level`."""
        ...

    def weight(self, level: Tensor) -> Tensor:
        """Weight of the squared error of the network's output (any shape)."""
        ...


class VPCosine:
    """Cosine schedule of Improved DDPM (2102.09672, eq. 17), as in Diffusion Policy; continuous."""

    def __init__(self, offset: float = 0.008) -> None:
        """Build it with these options.

        offset: offset of the cosine near time 0
        """
        if not 0 <= offset < 1:
            raise ConfigError(f"schedule.offset is {offset}; it must lie in [0, 1)")
        self.offset = offset

    def _angle(self, time: Tensor) -> Tensor:
        return (time + self.offset) / (1 + self.offset) * (math.pi / 2)

    def _start(self) -> float:
        return math.cos(self.offset / (1 + self.offset) * math.pi / 2)

    def level(self, time: Tensor) -> Tensor:
        """Level at which alpha = cos(angle(time)) / cos(angle(0))."""
        alpha = (torch.cos(self._angle(time)) / self._start()).clamp(0, 1)
        sigma = torch.sqrt((1 - alpha * alpha).clamp_min(0))
        return sigma / (alpha + sigma)

    def time(self, level: Tensor) -> Tensor:
        """Schedule time at which `level` is reached."""
        alpha = alpha_sigma(level)[0] * self._start()
        time = torch.acos(alpha.clamp(0, 1)) * (2 / math.pi) * (1 + self.offset) - self.offset
        return time.clamp(0, 1)

    def weight(self, level: Tensor) -> Tensor:
        """One: plain error in v (2202.00512, appendix D)."""
        return torch.ones_like(level)


class Flow:
    """Rectified flow (2209.03003): uniform levels; the error counts as one in u = eps - x0."""

    def level(self, time: Tensor) -> Tensor:
        """The level is the time."""
        return time

    def time(self, level: Tensor) -> Tensor:
        """The time is the level."""
        return level

    def weight(self, level: Tensor) -> Tensor:
        """(alpha + sigma)^2, since u's error is (alpha + sigma) times v's at the same noisy x."""
        alpha, sigma = alpha_sigma(level)
        return (alpha + sigma) ** 2


class LogLogistic:
    """EDM's levels (2206.00364) with BESO's and MoDE's density: log sigma is logistic, truncated.

    sigma = level / (1 - level) is the noise on data of unit scale. Schedule time is the share of
    the training density below a sigma, so a grid of even times walks where the network has learned.
    `logistic` false draws log sigma uniformly instead, and the grid is then even in log sigma. Time
    0 is clean, time 1 is `sigma_max`.
    """

    def __init__(
        self,
        sigma_min: float = 0.005,
        sigma_max: float = 20.0,
        centre: float = 0.5,
        scale: float = 0.5,
        logistic: bool = True,
    ) -> None:
        """`centre` is the median sigma before truncation, `scale` the logistic's, of log sigma.

        sigma_min: least sigma that is trained on
        sigma_max: largest sigma, at schedule time 1
        centre: median sigma before the ends are cut off
        scale: scale of the logistic in log sigma
        logistic: whether log sigma is drawn logistic; false: uniformly
        """
        if not 0 < sigma_min < sigma_max or centre <= 0 or scale <= 0:
            raise ConfigError(
                f"schedule.sigma_min is {sigma_min}, sigma_max {sigma_max}, centre {centre} and "
                f"scale {scale}: all must be above 0, and sigma_min below sigma_max"
            )
        self.centre = math.log(centre)
        self.scale = scale
        self.logistic = logistic
        ends = torch.tensor([sigma_min, sigma_max], dtype=torch.float64).log()
        self.low, self.high = (float(end) for end in self._share(ends))

    def _share(self, log_sigma: Tensor) -> Tensor:
        if self.logistic:
            return torch.sigmoid((log_sigma - self.centre) / self.scale)
        return log_sigma

    def level(self, time: Tensor) -> Tensor:
        """Level at schedule time, 0 at 0."""
        share = self.low + time.double().clamp(0, 1) * (self.high - self.low)
        if self.logistic:
            log_sigma = self.centre + self.scale * torch.logit(share)
        else:
            log_sigma = share
        return torch.where(time > 0, torch.sigmoid(log_sigma), 0.0).to(time.dtype)

    def time(self, level: Tensor) -> Tensor:
        """Schedule time at which `level` is reached."""
        share = self._share(torch.logit(level.double()))
        return ((share - self.low) / (self.high - self.low)).clamp(0, 1).to(level.dtype)

    def weight(self, level: Tensor) -> Tensor:
        """One: plain error of the network's own output, 1 / c_out^2 on x0 with prediction=edm."""
        return torch.ones_like(level)


class IndexTable:
    """The discrete cosine schedule of networks with noise indices (Diffusion Policy, LeRobot).

    Schedule time (k + 1) / N is index k's level, 0 is clean, and levels between are interpolated: N
    fresh steps meet every index.
    """

    def __init__(self, indices: int = 100) -> None:
        """Build it with these options.

        indices: noise indices of the imported network
        """
        if indices < 2:
            raise ConfigError(
                f"schedule.indices is {indices}; at least two noise indices are needed"
            )
        self.knots = torch.cat(
            (torch.zeros(1, dtype=torch.float64), ddpm_levels(indices))
        )  # (N + 1,)

    def level(self, time: Tensor) -> Tensor:
        """Level at schedule time; at 1 that of the noisiest index, a little below pure noise."""
        knots = self.knots.to(time.device)
        place = time.double().clamp(0, 1) * (len(knots) - 1)
        below = place.floor().long().clamp(max=len(knots) - 2)
        return torch.lerp(knots[below], knots[below + 1], place - below).to(time.dtype)

    def time(self, level: Tensor) -> Tensor:
        """Schedule time at which `level` is reached."""
        knots, wanted = self.knots.to(level.device), level.double()
        above = torch.searchsorted(knots, wanted.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[above - 1], knots[above]
        return (
            ((above - 1 + (wanted - low) / (high - low)) / (len(knots) - 1))
            .clamp(0, 1)
            .to(level.dtype)
        )

    def weight(self, level: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(level)


def grid(schedule: Schedule, steps: int, start: float = 1.0) -> Tensor:
    """Falling levels (steps + 1,), even in schedule time, from time `start` down to clean."""
    times = torch.linspace(start, 0.0, check_steps(steps) + 1, dtype=torch.float64)
    return schedule.level(times).float()


def check_steps(steps: int, name: str = "steps") -> int:
    """`steps`; ConfigError unless there is at least one. `name` is that of the sampler's option."""
    if steps < 1:
        raise ConfigError(f"inference.{name} is {steps}; at least one step is needed")
    return steps


def ddpm_levels(
    schedule_steps: int = 100, beta_max: float = 0.999, offset: float = 0.008
) -> Tensor:
    """Exact level of each index k of DDPM's discrete cosine table, (schedule_steps,), float64.

    The table that imported networks were trained with, from the product of 1 - beta_k with
    beta_k = min(1 - abar(k+1)/abar(k), beta_max) (2102.09672, section 3.2).
    """
    edges = torch.arange(schedule_steps + 1, dtype=torch.float64) / schedule_steps
    alpha_bar = torch.cos((edges + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(beta_max)
    return level_of_alpha_bar(torch.cumprod(1 - beta, 0))
