"""How far a new plan leaves the steps of the plan before that are executed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.store import Store
from ..evaluation.intervals import bootstrap_mean
from ..policy import checkpoint
from ..policy.failure import used_numbers
from ..policy.fitting.calibration import pairs_of_steps
from ..policy.model import PolicyModel
from ..policy.samplers.base import PlanRequest, Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.real_time_chunking import RealTimeChunking
from ..policy.samplers.warm_start import WarmStart
from ..spec import REQUIRED, ConfigError, option
from ._moments import continue_plan, request_at


@dataclass
class Options:
    """A fresh plan is made at moments of the data; after its chunk each sampler plans again."""

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: str = option(REQUIRED, "the store it was trained on")
    frozen: tuple[int, ...] = option(
        (2, 4, 8), "how many steps are executed while the new plan is made"
    )
    betas: tuple[float, ...] = option(
        (5.0, 20.0), "bounds of the guidance's weight (inference.beta)"
    )
    steps: int = option(10, "evaluations of a plan")
    moments: int = option(200, "moments to look at")


@dataclass(frozen=True)
class Held:
    """How two plans agree, per row (R,): root mean squares in normalised units."""

    frozen: Tensor  # over the frozen steps
    later: Tensor  # over the further steps that both plans know
    seam: (
        Tensor  # from the last frozen step of the plan before to the first free one of the new plan
    )


@torch.no_grad()
def run(options: Options) -> None:
    """Print, per sampler and number of frozen steps, the mean with its 95 % bootstrap interval."""
    model, _ = checkpoint.load(options.checkpoint)
    _check(model, options)
    apart = model.config.horizon.executed
    store = Store.open(options.data)
    pairs = pairs_of_steps(store, apart, options.moments, seed=0)
    before, now = request_at(model, store, pairs[:, 0]), request_at(model, store, pairs[:, 1])
    first, used = Fresh(options.steps)(before).plan, torch.as_tensor(used_numbers(model))
    print(
        f"{len(pairs)} moments, {options.steps} evaluations, "
        "root mean squares in normalised units [95 % of the mean]"
    )
    print(f"{'':<28}{'frozen steps':>24}{'further steps':>24}{'seam':>24}")
    for frozen in options.frozen:
        asked = continue_plan(now, first, apart, frozen)
        own = agreement(asked.shift_plan().plan, asked, used)
        print(f"{f'{frozen} frozen, the old plan':<76}{_shown(own.seam):>24}")
        for name, sampler in _samplers(model, options).items():
            held = agreement(sampler(asked).plan, asked, used)
            parts = (held.frozen, held.later, held.seam)
            print(f"  {name:<26}" + "".join(f"{_shown(part):>24}" for part in parts))


def agreement(plan: Tensor, asked: PlanRequest, used: Tensor) -> Held:
    """How plans (R, T, A) agree with those before them in `asked`, in the numbers `used` (A,)."""
    assert asked.previous is not None
    before = asked.shift_plan()
    past = asked.model.horizon.past
    free = past + int(asked.previous.frozen[0])
    known = int(before.known[0])
    old, new = before.plan[..., used], plan[..., used]
    apart = new - old
    seam = new[:, free] - old[:, free - 1]
    return Held(_size(apart[:, past:free]), _size(apart[:, free:known]), _size(seam))


def _size(values: Tensor) -> Tensor:
    """Root mean square of each row (R, ...)."""
    return values.flatten(1).square().mean(1).sqrt()


def _samplers(model: PolicyModel, options: Options) -> dict[str, Sampler]:
    samplers: dict[str, Sampler] = {"fresh": Fresh(options.steps)}
    for beta in options.betas:
        samplers[f"rtc full, beta {beta:g}"] = RealTimeChunking(options.steps, "full", beta)
        samplers[f"rtc identity, beta {beta:g}"] = RealTimeChunking(options.steps, "identity", beta)
    if "prefix" in (model.regimes or ()):
        samplers["rtc trained"] = RealTimeChunking(options.steps, "trained")
    samplers["rti, 2 evaluations"] = WarmStart().adapt_to(model.capabilities, model.config.horizon)
    return samplers


def _shown(values: Tensor) -> str:
    found = bootstrap_mean(values.detach().numpy())
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _check(model: PolicyModel, options: Options) -> None:
    """Raise ConfigError for what cannot be measured."""
    if model.actions.reads:
        raise ConfigError(
            "actions relative to the hand cannot be compared from call to call: "
            "take actions=rotation_6d"
        )
    horizon = model.config.horizon
    most = min(horizon.executed, horizon.planned - horizon.executed - horizon.past - 1)
    odd = []
    for count in options.frozen:
        if not 1 <= count <= most:
            odd.append(count)
    if odd or not options.frozen:
        given, steps = list(options.frozen), horizon.executed
        raise ConfigError(f"frozen is {given}; numbers from 1 to {most} are wanted, for Ta {steps}")
