"""How often a warm start corrects a two-valued number that its guess has wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..datasets.store import Store
from ..policy import checkpoint
from ..policy.normalizer import ACTION
from ..policy.samplers.base import PlanRequest
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.warm_start import WarmStart
from ..spec import REQUIRED, ConfigError, IntArray, option
from ._moments import continue_plan, noise_of, request_at


@dataclass
class Options:
    """Where a demonstration's gripper has just changed, the guess has the old gripper value."""

    checkpoint: str = option(
        REQUIRED, "a checkpoint or a run whose actions hold a number of two values", positional=True
    )
    data: str = option(REQUIRED, "the store it was trained on")
    starts: tuple[float, ...] = option(
        (
            0.05,
            0.1,
            0.2,
            0.35,
            0.5,
        ),
        "schedule times to begin at",
    )
    steps: int = option(2, "evaluations of a warm start")
    moments: int = option(200, "moments to look at")


GUESSES = {
    "neutral guess": {},
    "neutral, flat": {"ramp": False},
    "wrong guess": {"neutral": False},
    "wrong guess, as it is": {"neutral": False, "renoise": False, "ramp": False},
    "neutral, as it is": {"renoise": False, "ramp": False},
}
"""Settings of the warm starts that are compared, by name."""


@torch.no_grad()
def run(options: Options) -> None:
    """Print, per start, the share of wrong gripper values that come out as in the fresh plan."""
    model, _ = checkpoint.load(options.checkpoint)
    discrete = torch.as_tensor(model.actions.discrete)
    if not bool(discrete.any()):
        raise ConfigError(
            f"{options.checkpoint} has no action number that takes two values only: "
            "there is nothing to flip"
        )
    store = Store.open(options.data)
    horizon = model.config.horizon
    changes = _changes(store, discrete.numpy(), horizon.executed, options.moments)
    request = request_at(model, store, changes)
    fresh = Fresh(10)(request).plan
    asked = continue_plan(request, torch.where(discrete, -fresh.sign(), fresh), 0, 0)
    print(
        f"{len(fresh)} moments, {options.steps} evaluations, "
        "share of gripper values that agree with the fresh plan's"
    )
    print(f"{'':<24}" + "".join(f"{f'start {start}':>12}" for start in options.starts))
    for name, settings in GUESSES.items():
        line = f"{name:<24}"
        for start in options.starts:
            sampler = WarmStart(options.steps, start, **settings)
            plan = sampler.adapt_to(model.capabilities, horizon)(asked).plan
            line += f"{_agreement(plan, fresh, request):>12.3f}"
        print(line)
    again = Fresh(10)(replace(request, noise=noise_of(len(fresh), plan=1))).plan
    print(f"two fresh plans agree in {_agreement(again, fresh, request):.3f}")


def _agreement(plan: Tensor, fresh: Tensor, request: PlanRequest) -> float:
    """Share of the chunks' two-valued numbers on the same side in two plans (R, T, A)."""
    horizon, discrete = request.model.horizon, request.model.discrete
    chunk = slice(horizon.past, horizon.past + horizon.executed)
    same = plan[:, chunk, discrete].sign() == fresh[:, chunk, discrete].sign()
    return float(same.float().mean())


def _changes(store: Store, discrete: np.ndarray, length: int, count: int) -> IntArray:
    """Steps at which a two-valued number has just changed and then stays for a chunk."""
    values = np.asarray(store.array(ACTION))[:, discrete][:, 0] > 0
    ends = np.asarray(store.episode_ends)
    episode = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    steps = np.arange(1, len(values) - length)
    changed = (values[steps] != values[steps - 1]) & (episode[steps - 1] == episode[steps + length])
    chunks = np.lib.stride_tricks.sliding_window_view(values, length)[steps]  # (N, length)
    found = steps[changed & (chunks == chunks[:, :1]).all(1)]
    if len(found) == 0:
        raise ConfigError("nowhere in the data does the gripper change and then stay for a chunk")
    return np.random.default_rng(0).permutation(found)[:count]
