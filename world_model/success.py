"""What imagined states are worth: ensembles that say whether the task is fulfilled, and its score.

They learn from what was recorded and from what the model imagines of it, failures included: a state
that a model has drawn looks a little different from a real one. Letters: B rows, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .base import WorldModel
from .fitting import FitSettings, draw_rows, fit
from .nets import EnsembleMLP
from .play import Play

HIDDEN = 64
JITTER = 0.02
"""Noise on the normalised features in training."""
IMAGINED_STARTS = 3000
IMAGINED_JUMPS = 4
SUCCESS_STREAM = 1 << 40
SCORE_STREAM = 2 << 40


class Judge(nn.Module):
    """Success of features (B, F) by an ensemble, and a score where the play has one."""

    score_mean: Tensor
    score_std: Tensor

    def __init__(self, features: int, members: int, scores: bool) -> None:
        super().__init__()
        self.features, self.members = features, members
        self.scores = scores
        self.success = EnsembleMLP(members, features, 1, HIDDEN, 3)
        self.score = EnsembleMLP(members, features, 1, 2 * HIDDEN, 3)
        self.register_buffer("score_mean", torch.zeros(1))
        self.register_buffer("score_std", torch.ones(1))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` builds it from, weights apart."""
        return {"features": self.features, "members": self.members, "scores": self.scores}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Judge:
        """An untrained judge as `to_json` says."""
        return cls(int(plain["features"]), int(plain["members"]), bool(plain["scores"]))

    def rate_members(self, features: Tensor) -> Tensor:
        """Probability of success by each member, (members, B)."""
        return torch.sigmoid(self.success(features)).squeeze(-1)

    def rate(self, features: Tensor, pessimistic: bool = True) -> Tensor:
        """Probability of success (B,): the least of the ensemble, or its mean."""
        rated = self.rate_members(features)
        if pessimistic:
            return rated.amin(0)
        return rated.mean(0)

    def estimate_score(self, features: Tensor, pessimistic: bool = True) -> Tensor:
        """The environment's score (B,): the least of the ensemble, or its mean."""
        scored = self.score(features).squeeze(-1) * self.score_std + self.score_mean
        if pessimistic:
            return scored.amin(0)
        return scored.mean(0)


@dataclass(frozen=True)
class Rated:
    """Features (M, F), and what was true there."""

    features: Tensor
    reached: Tensor  # (M,) bool
    score: Tensor | None  # (M,)


@torch.no_grad()
def imagine_recorded(model: WorldModel, play: Play, seed: int) -> Rated:
    """States imagined under recorded actions from recorded steps, with what was true there."""
    rng = np.random.default_rng(seed)
    windows = play.list_windows(model.jump * IMAGINED_JUMPS)
    near = np.isin(play.episode_of[windows], np.unique(play.episode_of[play.reached]))
    weight = np.where(near, 1.0, 0.5)
    index = rng.choice(windows, min(IMAGINED_STARTS, len(windows)), p=weight / weight.sum())
    member = torch.as_tensor(rng.integers(0, model.members, len(index)))
    state = model.begin(model.encode(play), torch.as_tensor(index))
    parts: list[Rated] = []
    for number in range(IMAGINED_JUMPS):
        first = index + number * model.jump
        chunk = torch.as_tensor(play.take_chunks(first, model.jump))
        state = model.step(state, chunk, member).state
        parts.append(_rate_steps(model.features(state), play, first + model.jump))
    return join_rated(parts)


def join_rated(parts: Sequence[Rated]) -> Rated:
    """All of them in a row."""
    scores: list[Tensor] = []
    for part in parts:
        if part.score is not None:
            scores.append(part.score)
    score = None
    if scores:
        score = torch.cat(scores)
    features = torch.cat([part.features for part in parts])
    return Rated(features, torch.cat([part.reached for part in parts]), score)


@torch.no_grad()
def recall_recorded(model: WorldModel, play: Play) -> Rated:
    """All recorded states, with what was true there."""
    steps = np.arange(len(play))
    state = model.begin(model.encode(play), torch.as_tensor(steps))
    return _rate_steps(model.features(state), play, steps)


def _rate_steps(features: Tensor, play: Play, steps: np.ndarray) -> Rated:
    score = None
    if play.score is not None:
        score = torch.as_tensor(play.score[steps], dtype=torch.float32)
    return Rated(features.float(), torch.as_tensor(play.reached[steps]), score)


def fit_judge(
    model: WorldModel, play: Play, settings: FitSettings, progress: bool = True
) -> tuple[Judge, list[dict[str, float]]]:
    """A judge for a trained model; returns it and the records of its training."""
    recorded = recall_recorded(model, play)
    imagined = imagine_recorded(model, play, settings.seed)
    scores = settings.score and play.score is not None
    judge = Judge(recorded.features.shape[1], settings.judge_members, scores)

    def draw(rated: Rated, generator: torch.Generator) -> Tensor:
        share = rated.reached.float().mean().clamp(1e-6, 1 - 1e-6)
        weight = torch.where(rated.reached, 0.5 / share, 0.5 / (1 - share))
        return draw_rows(weight, settings.batch * judge.members // 2, generator)

    def compute(generator: torch.Generator) -> Tensor:
        losses = []
        for rated in (recorded, imagined):
            index = draw(rated, generator)
            features = _disturb(rated.features[index], generator)
            logits = judge.success(features.unflatten(0, (judge.members, -1))).squeeze(-1)
            wanted = rated.reached[index].float().view_as(logits)
            losses.append(nn.functional.binary_cross_entropy_with_logits(logits, wanted))
        return torch.stack(losses).mean()

    records = fit(
        judge.success,
        compute,
        settings.judge_updates,
        settings,
        "success model",
        progress,
        SUCCESS_STREAM,
    )
    if scores:
        records += _fit_score(judge, join_rated([recorded, imagined]), settings, progress)
    return judge.eval(), records


def _fit_score(
    judge: Judge, rated: Rated, settings: FitSettings, progress: bool
) -> list[dict[str, float]]:
    """Regression of the score on recorded and imagined states."""
    features = rated.features
    score = rated.score
    assert score is not None
    judge.score_mean.copy_(score.mean())
    judge.score_std.copy_(score.std().clamp_min(1e-6))
    wanted = (score - judge.score_mean) / judge.score_std

    def compute(generator: torch.Generator) -> Tensor:
        count = settings.batch * judge.members
        index = torch.randint(len(wanted), (count,), generator=generator)
        disturbed = _disturb(features[index], generator).unflatten(0, (judge.members, -1))
        predicted = judge.score(disturbed).squeeze(-1)
        return (predicted - wanted[index].view_as(predicted)).square().mean()

    updates = settings.judge_updates
    return fit(judge.score, compute, updates, settings, "score model", progress, SCORE_STREAM)


def _disturb(features: Tensor, generator: torch.Generator) -> Tensor:
    return features + JITTER * torch.randn(features.shape, generator=generator)
