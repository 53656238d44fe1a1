"""Where warm starts of a checkpoint should begin, measured on its own samples (RTI-DP's K', chosen by rule).

A plan drifts from one call to the next, and of that error of the guess a warm start leaves a share, the gain g, which falls
with the noise it begins at. The gain of a Gaussian posterior is known (`warm_start.gain`) but promises too much: a network
trusts a plan with little noise more than it should. So it is measured, at every start. In the long run g / (1 - g) times the
drift is left; the least start is taken at which that is at most MEMORY times the drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.episodes import Dataset
from ...datasets.windows import window_index
from ...seeds import Purpose, numpy_generator
from ...spec import ConfigError, DataError, IntArray
from ..diffusion.noise import RowNoise
from ..model import PolicyModel
from ..samplers.base import PlanRequest, PreviousPlan, Sampler, shift, want_regime
from ..samplers.conditioning import condition
from ..samplers.fresh import Fresh
from ..samplers.warm_start import WarmStart
from ..training.batches import WindowBatches

STARTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
"""Schedule times that are tried."""
MEMORY = 5.0
"""Most that may be left of the drift in the long run, in drifts (chosen on Push-T, see BENCHMARKS.md)."""


@dataclass(frozen=True)
class Calibration:
    """Root mean squares per number, in normalised units; numbers that take two values only do not count."""

    spread: float  # of full samples about their mode's middle
    drift: float  # of that middle from one call to the next
    gains: tuple[float, ...]  # share of the drift that a warm start leaves, at each of STARTS
    ramp: bool = False  # whether the starts rose behind the chunk

    @property
    def start(self) -> float:
        """The least start that forgets enough; the last one where none does."""
        enough = (
            start
            for start, gain in zip(STARTS, self.gains, strict=True)
            if gain < 1 and gain / (1 - gain) <= MEMORY
        )
        return next(enough, STARTS[-1])

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint's meta.json."""
        return {
            "spread": self.spread,
            "drift": self.drift,
            "gains": list(self.gains),
            "start": self.start,
            "ramp": self.ramp,
        }


def calibrate(
    model: PolicyModel,
    dataset: Dataset,
    steps: int = 2,
    windows: int = 16,
    samples: int = 32,
    seed: int = 0,
) -> Calibration:
    """Sample `samples` plans at each of `windows` moments of the data and again Ta steps later, by DDIM in 10 steps, and
    warm-start the earlier ones there in `steps`. The start found is taken by policies once it is the model's `measured_start`.
    """
    want_regime(model.trained, "constant", "calibration")
    if model.actions.reads:
        raise ConfigError(
            "actions relative to the hand cannot be calibrated yet: give a start by hand, as inference.start=0.2"
        )
    horizon, device = model.config.horizon, next(model.parameters()).device
    index = window_index(np.asarray(dataset.episode_ends), horizon)
    batches = WindowBatches(dataset, model.config, index, samples, seed, str(device))
    warm_starts = [
        WarmStart(steps, start).adapt_to(model.trained, model.config.horizon) for start in STARTS
    ]
    ramp = bool(warm_starts[0].ramp)
    samplers = [Fresh(10), *warm_starts]
    used = torch.as_tensor(~model.actions.discrete)
    chunk, spreads, drifts, left = slice(horizon.past, horizon.past + horizon.executed), [], [], []
    for number, (first, second) in enumerate(
        pairs_of_steps(dataset, horizon.executed, windows, seed)
    ):
        before = _plans(model, batches, int(first), samples, 2 * number, samplers[0])
        guess = _mode(before[:, :, used])  # chosen by the whole plan
        kept = before[_nearest(before[:, :, used])]
        fresh, *warm = (
            _plans(model, batches, int(second), len(kept), 2 * number + 1, sampler, kept)
            for sampler in samplers
        )
        middle = _mode(fresh[:, chunk][..., used]).mean(0)
        moved = shift(guess, torch.full((len(guess),), horizon.executed))[:, chunk].mean(0)
        spreads.append(_size(_mode(fresh[:, chunk][..., used]) - middle))
        drifts.append(_size(moved - middle))
        left.append([_size(plans[:, chunk][..., used].mean(0) - middle) for plans in warm])
    drift = float(np.sqrt(np.mean(np.square(drifts))))
    gains = np.sqrt(np.mean(np.square(left), 0)) / drift
    return Calibration(
        float(np.sqrt(np.mean(np.square(spreads)))), drift, tuple(float(g) for g in gains), ramp
    )


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _nearest(plans: Tensor) -> Tensor:
    """Which half of the plans (M, n, A) lies nearest to the one that is nearest to all others."""
    apart = torch.cdist(plans.flatten(1), plans.flatten(1))  # (M, M)
    middle = apart.median(1).values.argmin()
    return apart[middle].argsort()[: max(2, len(plans) // 2)]


def _mode(plans: Tensor) -> Tensor:
    """That half itself."""
    return plans[_nearest(plans)]


@torch.no_grad()
def _plans(
    model: PolicyModel,
    batches: WindowBatches,
    step: int,
    rows: int,
    plan: int,
    sampler: Sampler,
    previous: Tensor | None = None,
) -> Tensor:
    """Plans (rows, T, A) at one moment of the data, going on from those of Ta steps before where they are given."""
    observation, _ = batches.of(batches.index[step : step + 1].expand(rows, -1))
    device = next(model.parameters()).device
    noise = RowNoise(np.arange(rows), np.full(rows, plan), device)
    before = None
    if previous is not None:
        executed = torch.full((rows,), model.config.horizon.executed, device=device)
        before = PreviousPlan(
            plan=previous.to(device),
            level=torch.zeros(previous.shape[:2], device=device),
            executed=executed,
            frozen=torch.zeros_like(executed),
        )
    request = PlanRequest(condition(model, observation), noise, before)
    return sampler(request).plan.cpu()


def pairs_of_steps(dataset: Dataset, apart: int, count: int, seed: int) -> IntArray:
    """Steps (count, 2) of the data that lie `apart` in one episode."""
    ends = np.asarray(dataset.episode_ends, np.int64)
    episode = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    firsts = np.flatnonzero(episode[:-apart] == episode[apart:])
    if len(firsts) == 0:
        raise DataError(
            f"no episode is longer than the {apart} steps of a chunk: there is no second plan to look at"
        )
    chosen = numpy_generator(seed, Purpose.CALIBRATION).choice(
        firsts, min(count, len(firsts)), replace=False
    )
    return np.stack((chosen, chosen + apart), 1)
