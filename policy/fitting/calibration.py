"""Where warm starts of a checkpoint should begin, measured on its own samples.

RTI-DP calls the start K' and chooses it by hand; here a rule does. A plan drifts from one call to
the next. Of that error of the guess a warm start leaves a share, the gain g, which falls with the
noise that it begins at. The gain of a Gaussian posterior is known (`warm_start.gain`) but promises
too much: a network trusts a plan with little noise more than it should. So the gain is measured at
every start. In the long run g / (1 - g) times the drift is left. The lowest start is taken at
which that is at most MEMORY times the drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...datasets.episodes import Dataset
from ...datasets.windows import window_index
from ...seeds import Purpose, numpy_generator
from ...spec import ConfigError, DataError, FloatArray, IntArray
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
"""Most that may be left in the long run, in drifts.

Chosen on Push-T: docs/notebook/2026-11-25-how-settings-were-chosen.md.
"""


@dataclass(frozen=True)
class Calibration:
    """Root mean squares per number, in normalised units; discrete numbers do not count."""

    spread: float  # of full samples about their mode's middle
    drift: float  # of that middle from one call to the next
    gains: tuple[float, ...]  # share of the drift that a warm start leaves, at each of STARTS
    ramp: bool = False  # whether the starts rose behind the chunk

    @property
    def start(self) -> float:
        """The lowest start that forgets enough [schedule time]; the last one where none does."""
        for start, gain in zip(STARTS, self.gains, strict=True):
            if gain < 1 and gain / (1 - gain) <= MEMORY:
                return start
        return STARTS[-1]

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
    """Measure spread, drift and gains on `windows` moments of the data.

    At each moment `samples` plans are sampled by DDIM in 10 steps, and again Ta steps later, where
    the earlier ones are warm-started too, in `steps`. Policies take the start that is found once it
    is the model's `measured_start`. Raises ConfigError for a model that cannot be warm-started or
    whose actions are relative to the hand, DataError for data without two chunks in a row.
    """
    want_regime(model.capabilities, "constant", "calibration")
    if model.actions.reads:
        raise ConfigError(
            "actions relative to the hand cannot be calibrated yet: "
            "give a start by hand, as inference.start=0.2"
        )
    horizon, device = model.config.horizon, next(model.parameters()).device
    index = window_index(np.asarray(dataset.episode_ends), horizon)
    batches = WindowBatches(dataset, model.config, index, samples, seed, str(device))
    sample = partial(_sample_plans, model, batches)
    warm_starts = []
    for start in STARTS:
        warm_starts.append(WarmStart(steps, start).adapt_to(model.capabilities, horizon))
    used = torch.as_tensor(~model.actions.discrete)
    chunk = slice(horizon.past, horizon.past + horizon.executed)
    spreads, drifts = [], []
    left = []  # per moment and start
    pairs = pairs_of_steps(dataset, horizon.executed, windows, seed)
    for number, (first, second) in enumerate(pairs.tolist()):
        before = sample(Fresh(10), first, samples, 2 * number)
        kept = before[_nearest(before[..., used])]  # chosen by the whole plan
        after = partial(sample, step=second, rows=len(kept), plan=2 * number + 1, previous=kept)
        mode = _mode(after(Fresh(10))[:, chunk][..., used])
        middle = mode.mean(0)
        moved = shift(kept, torch.full((len(kept),), horizon.executed))
        spreads.append(_size(mode - middle))
        drifts.append(_size(moved[:, chunk][..., used].mean(0) - middle))
        for warm_start in warm_starts:
            left.append(_size(after(warm_start)[:, chunk][..., used].mean(0) - middle))
    drift = float(_root_mean_square(drifts))
    gains = _root_mean_square(np.reshape(left, (len(pairs), len(STARTS)))) / drift
    spread = float(_root_mean_square(spreads))
    return Calibration(spread, drift, tuple(gains.tolist()), bool(warm_starts[0].ramp))


def _root_mean_square(values: ArrayLike) -> FloatArray:
    """Of values (N, ...), (...)."""
    return np.sqrt(np.mean(np.square(values), 0))


def _size(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _nearest(plans: Tensor) -> Tensor:
    """Numbers of the half of the plans (M, n, A) nearest to the most central plan."""
    apart = torch.cdist(plans.flatten(1), plans.flatten(1))  # (M, M)
    middle = apart.median(1).values.argmin()
    return apart[middle].argsort()[: max(2, len(plans) // 2)]


def _mode(plans: Tensor) -> Tensor:
    """That half itself."""
    return plans[_nearest(plans)]


@torch.no_grad()
def _sample_plans(
    model: PolicyModel,
    batches: WindowBatches,
    sampler: Sampler,
    step: int,
    rows: int,
    plan: int,
    previous: Tensor | None = None,
) -> Tensor:
    """Plans (rows, T, A), normalised, at one step of the data.

    `plan` is the counter of their noise. They go on from `previous`, those of Ta steps before.
    """
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
    """Steps (count, 2) of the data that lie `apart` in one episode; fewer where there are fewer.

    Raises DataError where there are none.
    """
    ends = np.asarray(dataset.episode_ends, np.int64)
    episode = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    firsts = np.flatnonzero(episode[:-apart] == episode[apart:])
    if len(firsts) == 0:
        raise DataError(
            f"no episode is longer than the {apart} steps of a chunk: "
            "there is no second plan to look at"
        )
    generator = numpy_generator(seed, Purpose.CALIBRATION)
    chosen = generator.choice(firsts, min(count, len(firsts)), replace=False)
    return np.stack((chosen, chosen + apart), 1)
