"""Anchors of a trained policy: the most frequent plans of its data, and a head that chooses one.

The anchored start of DiffusionDrive (2411.15139): plans are clustered, and sampling begins from a
cluster's middle instead of from pure noise. There the denoiser is trained from the anchors on.
Here a finished checkpoint gets them; encoder and denoiser stay as they are. The head chooses by the
observation before the denoiser works, so that one plan is denoised and not all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from ...datasets.episodes import Dataset
from ...datasets.windows import split_usable_episodes, window_index
from ...seeds import Purpose, numpy_generator, torch_seed
from ...spec import ConfigError, IntArray
from ..model import Anchors, PolicyModel
from ..normalizer import ACTION
from ..samplers.base import want_regime
from ..training.batches import WindowBatches

HELD_OUT = 0.05
"""Share of the episodes that the head is judged on."""

FITTED = 20_000
"""Most windows whose plans are clustered."""


@dataclass(frozen=True)
class AnchorReport:
    """How well anchors stand for the data, on held-out episodes."""

    distance: float  # root mean square from a plan to its nearest anchor, normalised units
    first: float  # share of windows whose nearest anchor the head puts first
    chosen: float  # root mean square from a plan to the anchor that the head puts first


def fit_anchors(
    model: PolicyModel,
    dataset: Dataset,
    count: int = 64,
    steps: int = 2000,
    batch: int = 256,
    seed: int = 0,
) -> AnchorReport:
    """Give `model` `count` anchors by k-means over its data's normalised plans, and train the head.

    The head is trained on cross-entropy for `steps`. Raises ConfigError where the data hold fewer
    different plans than anchors, or where the model's regimes rule the start out.
    """
    want_regime(model.capabilities, "constant", "an anchored start")
    train, held_out = split_usable_episodes(dataset.episode_ends, HELD_OUT, seed)
    tokens, plans = _windows(model, dataset, train, batch)
    middles = _cluster_plans(plans, count, seed)
    model.add_anchors(count)
    assert model.anchors is not None
    model.anchors.plans.copy_(middles)
    _train_head(model.anchors.requires_grad_(True), tokens, plans, steps, batch, seed)
    model.anchors.requires_grad_(False)
    if len(held_out):
        tokens, plans = _windows(model, dataset, held_out, batch)
    return _judge(model.anchors, tokens, plans)


def _cluster_plans(plans: Tensor, count: int, seed: int) -> Tensor:
    """Middles (count, T, A) of clusters of plans (N, T, A) by k-means over at most FITTED plans."""
    generator = numpy_generator(seed, Purpose.ANCHORS)
    rows = generator.choice(len(plans), min(len(plans), FITTED), replace=False)
    flat = plans[rows].flatten(1).cpu().numpy()
    different = np.unique(flat.astype(np.float64), axis=0)
    if not 1 <= count <= len(different):
        raise ConfigError(
            f"{count} anchors are asked for, and the data hold {len(different)} different plans: "
            "take fewer"
        )
    middles, _ = kmeans2(different, count, minit="++", rng=generator)
    return torch.as_tensor(middles).reshape(count, *plans.shape[1:])


@torch.no_grad()
def _windows(
    model: PolicyModel, dataset: Dataset, episodes: IntArray, batch: int
) -> tuple[Tensor, Tensor]:
    """Condition tokens (N, K, E) and normalised plans (N, T, A) of all windows."""
    index = window_index(np.asarray(dataset.episode_ends), model.config.horizon, episodes=episodes)
    device = str(next(model.parameters()).device)
    batches = WindowBatches(dataset, model.config, index, batch, 0, device)
    tokens, plans = [], []
    for observation, commands in batches.all(batches.names):
        tokens.append(model.encode_tokens(observation))
        actions = model.actions.encode(commands, observation)
        plans.append(model.normalizer.normalize(ACTION, actions))
    return torch.cat(tokens), torch.cat(plans)


def _train_head(
    anchors: Anchors, tokens: Tensor, plans: Tensor, steps: int, batch: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(torch_seed(seed, Purpose.ANCHORS, 1))
    wanted = anchors.find_nearest(plans)
    optimizer = torch.optim.AdamW(anchors.head.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(plans), (batch,), generator=generator).to(plans.device)
        loss = nn.functional.cross_entropy(anchors.score(tokens[rows]), wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _judge(anchors: Anchors, tokens: Tensor, plans: Tensor) -> AnchorReport:
    nearest, first = anchors.find_nearest(plans), anchors.score(tokens).argmax(1)
    distance = (plans - anchors.plans[nearest]).square().mean().sqrt()
    chosen = (plans - anchors.plans[first]).square().mean().sqrt()
    hits = (first == nearest).float().mean()
    return AnchorReport(float(distance), float(hits), float(chosen))
