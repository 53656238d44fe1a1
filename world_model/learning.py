"""Learns a world model from play: dynamics, then what success and score look like."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from ..spec import ConfigError
from ..system.versions import versions
from .base import WorldModel
from .files import Learned
from .fitting import FitSettings
from .jump import JumpSettings
from .jump_training import train_jump
from .latent import LatentModel, LatentOptions
from .latent_training import LatentSettings, fit_latent
from .play import Play
from .success import fit_judge

Kind = Literal["auto", "jump", "latent"]


def learn(
    play: Play,
    jump: int,
    kind: Kind = "auto",
    fitting: FitSettings | None = None,
    parts: JumpSettings | None = None,
    latent: LatentOptions | None = None,
    latent_fitting: LatentSettings | None = None,
    progress: bool = True,
) -> tuple[Learned, Play]:
    """A world model that jumps `jump` (Ta) steps, learned from a play; and the play held out.

    kind: jump (states), latent (pictures, or states); auto: latent where there are pictures
    """
    fitting = fitting or FitSettings()
    learned_from, held_out = play.split(fitting.seed)
    kinds = {key.kind for key in play.obs_spec.keys.values()}
    if kind == "auto":
        kind = "jump"
        if "image" in kinds:
            kind = "latent"
    records: list[dict[str, float]]
    model: WorldModel
    if kind == "jump":
        if "image" in kinds:
            raise ConfigError("kind=jump reads states only; the play has pictures: kind=latent")
        model, records = train_jump(learned_from, jump, parts or JumpSettings(), fitting, progress)
    else:
        model = LatentModel(play.obs_spec, play.action_spec, play.rate_hz, jump, latent)
        everything = np.arange(len(learned_from.episode_ends))
        records = fit_latent(model, learned_from, everything, latent_fitting, progress)
        model.eval().requires_grad_(False)
    judge, more = fit_judge(model, learned_from, fitting, progress)
    facts: dict[str, Any] = {
        "play": {
            "hash": play.content_hash,
            "steps": len(play),
            "episodes": len(play.episode_ends),
            "held_out": len(held_out.episode_ends),
        },
        "fitting": asdict(fitting),
        "records": [*records, *more],
        "versions": versions(),
    }
    return Learned(model, judge.requires_grad_(False), facts), held_out
