"""Filtered behaviour cloning: a policy learns from those of its episodes that succeeded.

The control beside every other method: the same episodes with success known, simply imitated.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..datasets.arrays import Arrays
from ..datasets.store import Store
from ..datasets.windows import window_index
from ..policy.checkpoint import BROKEN
from ..policy.diffusion.regimes import Regimes
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import PolicyModel
from ..policy.training.batches import Batch, WindowBatches
from ..policy.training.data import check_specs
from ..policy.training.learner import Learner
from ..policy.training.settings import TrainingSettings
from ..spec import CheckpointError, ConfigError, IntArray, option, shorten
from .chains import explore
from .critic import Critic
from .episodes import Episode, EpisodeBuffer, RecordingSource
from .rollouts import Collector, Rollout
from .tuner import MethodSettings, Setup, Tuner

KEPT_SETTINGS = ("weight_decay", "clip_norm", "ema_power", "observation_noise", "stratified")
"""Settings of the base's training that its cloning goes on with, beside the regimes."""


@dataclass(frozen=True)
class CloningSettings(MethodSettings):
    """Filtered behaviour cloning on the episodes that succeeded."""

    actor: Literal["base", "tuned"] = option(
        "base", "who acts in the rollouts: the base, or the policy as it is tuned so far"
    )
    min_std: float = option(
        0.0,
        "least noise of a denoising step in a rollout; 0: the sampler as it is deployed",
        "normalised units",
    )
    updates: int = option(200, "optimiser steps after each rollout, on all that was kept so far")
    batch: int = option(256, "windows in an optimiser step")
    rate: float = option(1e-4, "learning rate")
    demonstrations: str = option("", "store whose windows are mixed in; empty: none")
    share: float = option(0.5, "share of a batch that is taken from the demonstrations")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("updates", "batch"))
        self.check_least(0, ("min_std",))
        self.check_positive(("rate",))
        self.check_shares(("share",))
        if self.demonstration_rows == self.batch:
            raise ConfigError(
                f"method.share is {self.share}; it must leave some of the batch to new episodes"
            )

    @property
    def demonstration_rows(self) -> int:
        """Windows of a batch that come from the demonstrations."""
        if not self.demonstrations:
            return 0
        return round(self.share * self.batch)

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `CloningTuner`."""
        return CloningTuner(self, setup)


S = TypeVar("S", bound=CloningSettings)
"""Settings of a method that clones."""


class CloningTuner(Tuner[S]):
    """The base, a copy that clones episodes, the copy's average, and the episodes kept."""

    critic: Critic | None = None

    def __init__(self, settings: S, setup: Setup) -> None:
        """Tune `setup.base`; raises ConfigError where the sampler cannot explore as asked."""
        super().__init__(settings, setup)
        self.base = setup.base
        training = read_training(self.meta, self.base, settings.batch, settings.rate, settings.seed)
        self.learner = Learner(copy_for_training(self.base), training)
        self.model = self.learner.ema.model
        self.kept = EpisodeBuffer()
        self.demonstrations: WindowBatches | None = None
        if settings.demonstration_rows:
            self.demonstrations = self._open_demonstrations()

    def advance_round(self) -> dict[str, float]:
        """One rollout, and `updates` optimiser steps on all that was kept; numbers to log."""
        rollout, episodes = self._collect()
        numbers = self._keep(rollout, episodes)
        if self.kept.episodes:
            numbers |= self._clone()
        return {**rollout.describe(), "kept": float(len(self.kept.episodes)), **numbers}

    def parts(self) -> dict[str, nn.Module]:
        """The weights under training; the policy is their average."""
        return {"trained": self.learner.model}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """That of the weights under training."""
        return {"optimizer": self.learner.optimizer}

    def tensors(self) -> dict[str, Tensor]:
        """The episodes kept."""
        return self.kept.tensors()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back the episodes kept."""
        self.kept.load_tensors(tensors)

    def _collect(self) -> tuple[Rollout, list[Episode]]:
        """A rollout, and those of its episodes that came to their end."""
        sampler = self.sampler
        if self.settings.min_std > 0:
            sampler = explore(sampler, self.settings.min_std)
        model = self.model
        if self.settings.actor == "base":
            model = self.base
        source = RecordingSource(self.source, model.config.obs_spec)
        policy = DiffusionPolicy(model, sampler, self.executed)
        chunks = self.settings.chunks
        rollout = Collector(policy, source, self.critic).collect(chunks, self.draw_seeds(chunks))
        self.count_training(int(rollout.periods.sum()))
        return rollout, source.take_episodes()

    def _keep(self, rollout: Rollout, episodes: list[Episode]) -> dict[str, float]:
        """Put what is worth imitating into `kept`; returns numbers to log."""
        for episode in episodes:
            if episode.success:
                self.kept.add(episode.arrays)
        return {}

    def _choose_windows(self, index: IntArray) -> IntArray:
        """The windows (M, T) to learn from, of all windows (N, T), one for each step kept."""
        return index

    def _clone(self) -> dict[str, float]:
        """`updates` optimiser steps; the mean loss, to log."""
        own = self._cut_windows()
        losses: list[Tensor] = []
        for place in range(self.settings.updates):
            step = self.iteration * self.settings.updates + place
            batch = self._mix(own.at(step), step)
            losses.append(self.learner.take_step(batch, step, self.settings.rate)["loss"])
        self.learner.model.eval()
        self.model.network.note_written()
        return {"loss": float(torch.stack(losses).mean())}

    def _cut_windows(self) -> WindowBatches:
        """Batches of the episodes kept, cut and padded as those of any data set."""
        config = self.model.config
        dataset = self.kept.to_dataset(config.obs_spec, config.action_spec, self.source.rate_hz)
        index = self._choose_windows(_list_windows(dataset, self.model))
        settings = self.settings
        rows = settings.batch - settings.demonstration_rows
        return WindowBatches(dataset, config, index, rows, settings.seed, "cpu")

    def _mix(self, own: Batch, step: int) -> Batch:
        """The batch with the demonstrations' share of it."""
        if self.demonstrations is None:
            return own
        observation, actions = self.demonstrations.at(step)
        mixed = {name: torch.cat((own[0][name], observation[name])) for name in observation}
        return mixed, torch.cat((own[1], actions))

    def _open_demonstrations(self) -> WindowBatches:
        """The demonstrations' windows; those that the base did not have go into the ledger."""
        settings = self.settings
        store = Store.open(settings.demonstrations)
        check_specs(store, self.model.config)
        if store.content_hash() != self.meta.get("dataset_hash"):
            self.ledger = self.ledger.add("demonstrations", len(store))
        index = _list_windows(store, self.model)
        rows = settings.demonstration_rows
        return WindowBatches(store, self.model.config, index, rows, settings.seed, "cpu")


def copy_for_training(model: PolicyModel) -> PolicyModel:
    """A copy of a model whose weights can be trained, but for those that never are."""
    copied = PolicyModel(model.config)
    copied.load_state_dict(model.state_dict())
    copied.regimes = model.regimes
    copied.measured_start = model.measured_start
    return copied


def read_training(
    meta: Mapping[str, Any], base: PolicyModel, batch: int, rate: float, seed: int
) -> TrainingSettings:
    """How to clone: as the base's checkpoint says that it was trained, but for batch and rate.

    A base without such a record is trained in its own regimes, with equal shares. Raises
    CheckpointError for a record that cannot be read.
    """
    record = meta.get("training", {})
    names = base.regimes or ("constant",)
    shares = {name: float(name in names) for name in ("staircase", "constant", "prefix")}
    try:
        regimes = Regimes(**record.get("regimes", shares))
        chosen = {name: record[name] for name in KEPT_SETTINGS if name in record}
        return TrainingSettings(
            batch=batch,
            learning_rate=rate,
            seed=seed,
            regimes=regimes,
            device="cpu",
            **chosen,
        )
    except BROKEN as error:
        raise CheckpointError(
            f"meta.json of the base says training is {shorten(record)}: {shorten(error)}"
        ) from error


def _list_windows(dataset: Arrays | Store, model: PolicyModel) -> IntArray:
    """All windows (N, T) of a data set. Successes are often shorter than a plan: no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return window_index(dataset.episode_ends, model.config.horizon)
