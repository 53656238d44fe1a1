"""The loop that trains the networks of a world model: resumable, with its losses written down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..seeds import Purpose, torch_seed
from ..spec import ConfigError, option

LOG_EVERY = 100


@dataclass(frozen=True)
class FitSettings:
    """How the networks of a world model are trained."""

    updates: int = option(6000, "optimiser steps of the dynamics")
    batch: int = option(256, "windows in a step, for each member")
    rate: float = option(1e-3, "learning rate at the beginning; it falls to 0 by a cosine")
    weight_decay: float = option(1e-5, "weight decay")
    jitter: float = option(0.05, "noise on the inputs", "standard deviations of a change")
    events: float = option(3.0, "how much more often windows are drawn in which something happens")
    judge_updates: int = option(3000, "optimiser steps of the success model, and of the score's")
    score: bool = option(False, "whether the score is learned too, for method.reward=score")
    judge_members: int = option(5, "networks of the success model")
    seed: int = option(0, "seed of all that is random")

    def __post_init__(self) -> None:
        """Raise ConfigError for values that cannot be."""
        for name in ("updates", "batch", "judge_updates", "judge_members"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("rate", "events"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")


def fit(
    module: nn.Module,
    compute: Callable[[torch.Generator], Tensor],
    updates: int,
    settings: FitSettings,
    title: str,
    progress: bool = True,
    stream: int = 0,
) -> list[dict[str, float]]:
    """Train `module` for `updates` steps; `compute` gives the loss of a batch that it draws.

    Returns records to log. `stream` keeps what several trainings of a seed draw apart.
    """
    optimizer = torch.optim.AdamW(
        module.parameters(), settings.rate, weight_decay=settings.weight_decay
    )
    generator = torch.Generator()
    records: list[dict[str, float]] = []
    losses: list[Tensor] = []
    module.train()
    for number in tqdm(range(updates), desc=title, unit="update", disable=not progress):
        generator.manual_seed(torch_seed(settings.seed, Purpose.WORLD_MODEL, stream + number))
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * number / updates))
        loss = compute(generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.detach())
        if (number + 1) % LOG_EVERY == 0 or number + 1 == updates:
            records.append({"step": float(number + 1), "loss": float(torch.stack(losses).mean())})
            losses = []
    module.eval()
    return records


def draw_rows(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` places drawn in proportion to `weight` (M,)."""
    return torch.multinomial(weight, count, replacement=True, generator=generator)
