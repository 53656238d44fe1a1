"""Training of a latent world model: what a batch costs, and the loop.

Letters: B sequences, L steps, R = imagined stretches of all sequences, M members.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss
from tqdm import tqdm

from ..policy.filters.categoricals import balance_kl
from ..seeds import Purpose, numpy_generator, torch_seed
from ..spec import ConfigError, DataError, IntArray, option
from .latent import Belief, LatentModel
from .nets import choose_members
from .play import Play

Batch = Mapping[str, Tensor]
"""`values`, `change` (B, L, S), `actions` (B, L, A), `valid` (B, L), cameras (B, L, H, W, C)."""


@dataclass(frozen=True)
class LatentSettings:
    """How a latent model is trained."""

    steps: int = option(1500, "optimiser steps")
    batch: int = option(16, "sequences of a batch")
    length: int = option(32, "steps of a sequence; each begins from an empty state")
    imagined: int = option(8, "steps that are imagined ahead of filtered ones")
    pictures: int = option(8, "steps of a sequence whose pictures are decoded")
    rate: float = option(1e-3, "learning rate at its highest; it falls to a tenth")
    weight_decay: float = option(1e-5, "decay of the weights")
    clip_norm: float = option(10.0, "largest norm of a gradient")
    balance: float = option(0.8, "share of the KL divergence that moves the prior")
    free_nats: float = option(0.1, "KL divergence of a step that costs nothing", "nats")
    kl_weight: float = option(1.0, "weight of the KL divergence")
    change_weight: float = option(10.0, "weight of the changes of states, filtered and imagined")
    picture_weight: float = option(100.0, "weight of the pictures, filtered and imagined")
    seed: int = option(0, "seed of all that is random")

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that cannot be."""
        for name in ("steps", "batch", "imagined", "pictures"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.length < self.imagined + 2:
            raise ConfigError(
                f"length is {self.length}; {self.imagined} imagined steps need "
                f"{self.imagined + 2} or more"
            )


class SequenceBatches:
    """Sequences of play; those of a step are drawn from the seed and the step's number."""

    def __init__(
        self, model: LatentModel, play: Play, episodes: IntArray, settings: LatentSettings
    ) -> None:
        """Raises DataError where the episodes hold no two steps in a row."""
        self.model, self.settings = model, settings
        self.play = play
        last = play.episode_ends[play.episode_of] - 1
        first = play.first[play.episode_of]
        steps = np.arange(len(play))
        latest = np.maximum(last - settings.length + 1, first)
        begins = (steps <= latest) & (last > first) & np.isin(play.episode_of, episodes)
        self.begins = np.flatnonzero(begins)
        if not len(self.begins):
            raise DataError("the play holds no episode of two steps or more")

    def at(self, step: int) -> Batch:
        """The batch of an optimiser step, on the model's device."""
        settings, play = self.settings, self.play
        rng = numpy_generator(settings.seed, Purpose.WORLD_MODEL, 2 * step + 1)
        begins = self.begins[rng.integers(len(self.begins), size=settings.batch)]
        wanted = begins[:, None] + np.arange(settings.length)
        episode = play.episode_of[begins][:, None]
        steps = np.minimum(wanted, play.episode_ends[episode] - 1)
        before = np.maximum(steps - 1, play.first[episode])
        values = self.model.join_values(play, steps)
        batch = {
            "values": values,
            "change": values - self.model.join_values(play, before),
            "actions": torch.as_tensor(play.actions[steps], dtype=torch.float32),
            "valid": torch.as_tensor(wanted == steps),
        }
        for name in self.model.cameras:
            batch[name] = torch.as_tensor(play.observations[name][steps])
        return {name: values.to(self.model.device) for name, values in batch.items()}


class LatentLoss:
    """What a batch costs a latent model."""

    def __init__(self, model: LatentModel, settings: LatentSettings) -> None:
        self.model, self.settings = model, settings

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts; latents and members are drawn for this step."""
        generator = torch.Generator()
        generator.manual_seed(torch_seed(self.settings.seed, Purpose.WORLD_MODEL, 2 * step + 2))
        model = self.model
        pictures = model.filter.embed_pictures(batch)
        embedded = model.embed(pictures, batch["values"], batch["change"])
        belief, posterior = model.filter_steps(
            embedded, batch["values"], batch["change"], batch["actions"], generator
        )
        numbers = self._judge_filter(batch, belief, posterior)
        numbers |= self._judge_imagination(batch, belief, posterior, generator)
        numbers["picture"] = self._judge_pictures(batch, belief, generator)
        settings = self.settings
        loss = (
            settings.kl_weight * (numbers["kl"] + numbers["imagined_kl"])
            + settings.change_weight * (numbers["change"] + numbers["imagined_change"])
            + settings.picture_weight * (numbers["picture"] + numbers["imagined_picture"])
        )
        return loss, {"loss": loss, **numbers}

    def _judge_filter(self, batch: Batch, belief: Belief, posterior: Tensor) -> dict[str, Tensor]:
        """KL divergence and error of the changes, one step ahead, from an episode's second step."""
        model = self.model
        valid = batch["valid"][:, 1:].flatten()
        h, z = belief.h[:, 1:].flatten(0, 1)[valid], belief.z[:, 1:].flatten(0, 1)[valid]
        settings = self.settings
        divergence = balance_kl(
            posterior[:, 1:].flatten(0, 1)[valid],
            model.foresee(h),
            settings.balance,
            settings.free_nats,
        )
        changes = model.predict_changes(h, z)
        true = belief.change[:, 1:].flatten(0, 1)[valid]
        return {"kl": divergence.mean(), "change": self._compare(changes, true)}

    def _compare(self, changes: Tensor, true: Tensor) -> Tensor:
        """Error of changes (..., S) [standard deviations] against true ones, in units (..., S)."""
        moving = self.model.change_scale > 0
        if not bool(moving.any()):
            return changes.new_zeros(())
        wanted = (true[..., moving] / self.model.change_scale[moving]).expand_as(
            changes[..., moving]
        )
        return smooth_l1_loss(changes[..., moving], wanted)

    def _judge_imagination(
        self, batch: Batch, belief: Belief, posterior: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The same, and pictures, of stretches that begin at filtered steps and see nothing."""
        settings, model = self.settings, self.model
        begins = _list_begins(settings.length, settings.imagined, generator)
        now = Belief(*(_take_steps(getattr(belief, name), begins) for name in _FIELDS))
        member = torch.randint(model.members, (len(now.h),), generator=generator)
        member = member.to(now.h.device)
        start = now.values
        divergences, errors = [], []
        for ahead in range(1, settings.imagined + 1):
            actions = _take_steps(batch["actions"], begins + ahead - 1)
            imagined = model.imagine(now, actions, member)
            now = imagined.belief
            valid = _take_steps(batch["valid"], begins + ahead)
            target = _take_steps(posterior, begins + ahead)
            divergence = balance_kl(
                target,
                choose_members(imagined.log_shares, member),
                settings.balance,
                settings.free_nats,
            )
            divergences.append(divergence[valid].sum() / valid.sum().clamp_min(1))
            moved = (now.values - start)[valid] / model.change_scale.clamp_min(1e-12)
            true = (_take_steps(batch["values"], begins + ahead) - start)[valid]
            errors.append(self._compare(moved / math.sqrt(ahead), true / math.sqrt(ahead)))
        return {
            "imagined_kl": torch.stack(divergences).mean(),
            "imagined_change": torch.stack(errors).mean(),
            "imagined_picture": self._compare_pictures(batch, now, begins + settings.imagined),
        }

    def _judge_pictures(self, batch: Batch, belief: Belief, generator: torch.Generator) -> Tensor:
        """Error of pictures decoded from filtered steps; which steps is drawn."""
        steps = torch.randperm(self.settings.length, generator=generator)
        steps = steps[: self.settings.pictures]
        shown = Belief(*(_take_steps(getattr(belief, name), steps) for name in _FIELDS))
        return self._compare_pictures(batch, shown, steps)

    def _compare_pictures(self, batch: Batch, belief: Belief, steps: Tensor) -> Tensor:
        """Error of pictures at `steps`, see `PictureDecoder.measure_error`, over all cameras."""
        total = belief.h.new_zeros(())
        if not self.model.cameras:
            return total
        valid = _take_steps(batch["valid"], steps)
        decoded = self.model.decode_pictures(belief.h, belief.z)
        for name, decoder in self.model.decoders.items():
            errors = decoder.measure_error(decoded[name], _take_steps(batch[name], steps))
            total = total + errors[valid].sum() / valid.sum().clamp_min(1)
        return total


_FIELDS = ("h", "z", "values", "change")


def _list_begins(length: int, imagined: int, generator: torch.Generator) -> Tensor:
    """Steps that stretches of `imagined` steps begin at, one after the other, from a drawn one."""
    spare = length - 1
    count = max(1, spare // imagined - 1)
    latest = spare - count * imagined
    first = int(torch.randint(latest + 1, (1,), generator=generator))
    return first + imagined * torch.arange(count)


def _take_steps(values: Tensor, steps: Tensor) -> Tensor:
    """Steps (K,) of (B, L, ...), as rows (B K, ...)."""
    return values[:, steps.to(values.device)].flatten(0, 1)


def fit_latent(
    model: LatentModel,
    play: Play,
    episodes: IntArray,
    settings: LatentSettings | None = None,
    progress: bool = True,
    log_every: int = 50,
) -> list[dict[str, float]]:
    """Train on these episodes; returns the parts of the loss every `log_every` steps."""
    settings = settings or LatentSettings()
    model.fit_statistics(play, episodes)
    batches, loss_of = SequenceBatches(model, play, episodes, settings), LatentLoss(model, settings)
    optimizer = torch.optim.AdamW(model.parameters(), 1.0, weight_decay=settings.weight_decay)
    records = []
    for step in tqdm(range(settings.steps), desc="world model", disable=not progress):
        for group in optimizer.param_groups:
            group["lr"] = find_rate(settings, step)
        loss, numbers = loss_of(batches.at(step), step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        if (step + 1) % log_every == 0 or step + 1 == settings.steps:
            record = {name: float(value.detach()) for name, value in numbers.items()}
            records.append({"step": step + 1, **record})
    return records


def find_rate(settings: LatentSettings, step: int) -> float:
    """The learning rate: it rises for a twentieth of the steps and falls as a cosine to a tenth."""
    warm = max(1, settings.steps // 20)
    rising = min(1.0, (step + 1) / warm)
    falling = 0.55 + 0.45 * math.cos(math.pi * step / settings.steps)
    return settings.rate * rising * falling
