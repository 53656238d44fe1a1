"""Fine-tuning in the dreams of an offline world model (DiWA, 2508.03645): no real step is taken.

The optimiser is that of `trainer`; rollouts come from `world_model.dreams`. What keeps the policy
where the model is right: pessimism of the dreams, the divergence to the policy that it begins as,
and an end when the dreams' disagreement has grown beyond a budget. The last iterate is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ..spec import CheckpointError, ConfigError, option
from ..world_model.audit import AuditSettings
from ..world_model.dreams import DreamSource, Pessimism
from ..world_model.fitting import FitSettings
from .ledger import Ledger
from .play_cloning import PlayCloning
from .trainer import FineTuner, PPOSettings
from .tuner import Setup

T = TypeVar("T")


@dataclass(frozen=True)
class DreamSettings(PPOSettings, PlayCloning, Pessimism):
    """PPO in the dreams of a world model that was learned from recorded play (2508.03645)."""

    rows: int = option(128, "imagined episodes side by side in a rollout")
    batch: int = option(512, "denoising steps in a batch: imagined steps are cheap, updates count")
    iterations: int = option(40, "rollouts in dreams, each followed by an update")
    reward: Literal["success", "score"] = option(  # pyright: ignore[reportIncompatibleVariableOverride]
        "success", "success (1 when first fulfilled), or score (how much it rises)"
    )
    begin: Literal["best", "base", "cloned"] = option(
        "cloned", "which policy dreams: the clone, the base, or what succeeds more often in dreams"
    )
    key_frames: float = option(0.0, "share of the dreams that begin shortly before a success")
    stop_disagreement: float = option(
        2.0, "tuning ends when the dreams disagree this many times as much as at first; 0: never"
    )
    force: bool = option(False, "whether to tune in a model that fails its audit")
    repeats: int = option(4, "dreams of the audit from every recorded start")
    max_bias: float = option(0.1, "largest difference of imagined and true success in the audit")
    min_agreement: float = option(0.7, "least share of replayed episodes that end as recorded")
    model_updates: int = option(6000, "optimiser steps of the world model, where none is given")
    model_seed: int = option(0, "seed of the world model, where none is given")

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that cannot be."""
        super().__post_init__()
        Pessimism.__post_init__(self)
        self.check_least(0, ("clone_updates",))
        self.check_least(1, ("clone_batch", "repeats", "model_updates"))
        self.check_positive(("clone_rate",))
        self.check_shares(("key_frames",))
        if self.begin == "cloned" and not self.clone_updates:
            raise ConfigError("method.clone_updates is 0: say method.begin=base too")

    def make_tuner(self, setup: Setup) -> DreamTuner:
        """A `DreamTuner`; raises ConfigError for a source that is real."""
        return DreamTuner(self, setup)

    def choose(self, part: type[T]) -> T:
        """The options of a part that is mixed in, as that part."""
        return part(**{each.name: getattr(self, each.name) for each in fields(part)})  # type: ignore[arg-type]

    def with_limit(self, limit: float) -> Pessimism:
        """How pessimistic dreams are, with the disagreement that was found to be usual."""
        return replace(self.choose(Pessimism), limit=limit)

    def audit_settings(self) -> AuditSettings:
        """How the world model is judged."""
        return AuditSettings(self.repeats, self.max_bias, self.min_agreement)

    def fit_settings(self) -> FitSettings:
        """How a world model is trained where none is given."""
        score = self.reward == "score"
        return FitSettings(updates=self.model_updates, seed=self.model_seed, score=score)


class DreamTuner(FineTuner):
    """PPO in dreams: it fails itself where a real step was used."""

    def __init__(self, settings: DreamSettings, setup: Setup) -> None:
        """Tune `setup.base` in the dreams of `setup.source`, whose usual disagreement is known."""
        if not isinstance(setup.source, DreamSource):
            raise ConfigError("method=diwa tunes in dreams: give it play=PLAY.zarr")
        super().__init__(settings, setup)
        self.dreams = setup.source
        self.stop_disagreement = settings.stop_disagreement
        self.before = Ledger.from_json(self.meta.get("ledger", {}))
        self._first = 0.0
        self._over = False

    def advance_round(self) -> dict[str, float]:
        """One rollout in dreams and one update; numbers to log."""
        numbers = super().advance_round()
        check_offline(self.before, self.ledger)
        taken = self.dreams.take_account()
        if self._first == 0:
            self._first = taken.disagreement
        grown = taken.disagreement / max(self._first, 1e-12)
        self._over = 0 < self.stop_disagreement < grown
        return {
            **numbers,
            "disagreement": taken.disagreement,
            "disagreement_growth": grown,
        }

    def is_over(self) -> bool:
        """Whether the dreams disagree too much to go on."""
        return self._over

    def tensors(self) -> dict[str, Tensor]:
        """How much the first dreams disagreed."""
        return {"first": torch.tensor([self._first]).double()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self._first = float(tensors["first"].item())


def check_offline(before: Ledger, after: Ledger) -> None:
    """Raise CheckpointError where a run that is called offline used a real step."""
    if after.training > before.training or after.selection > before.selection:
        raise CheckpointError(
            f"the run is offline, and its ledger went from {before.in_words()} to "
            f"{after.in_words()}: real steps were used for training or selection"
        )


def choose_beginning(
    settings: DreamSettings, imagined: Mapping[str, float], cloned: str, base: str
) -> str:
    """The name of the policy to begin with, by imagined success alone."""
    if settings.begin == "base" or cloned not in imagined:
        return base
    if settings.begin == "cloned" or imagined[cloned] > imagined[base]:
        return cloned
    return base
