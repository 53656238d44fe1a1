"""Recorded steps as a filter sees them, for policies that are conditioned on what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..datasets.episodes import ACTION, EXTRAS, Dataset
from ..datasets.store import Store
from ..policy.filters.latent import LATENT, LatentFilter
from ..spec import CheckpointError, ConfigError, ObsSpec, shorten
from .base import WorldModel
from .latent import LatentModel
from .play import Play


@torch.no_grad()
def add_latents(model: LatentModel, play: Play) -> Play:
    """The play with one observation more, `latent` (N, F): what the filter says at every step."""
    state = model.begin(model.encode(play), torch.arange(len(play), device=model.device))
    latents = model.features(state).cpu().numpy()
    return replace(
        play,
        observations={**play.observations, LATENT: latents},
        obs_spec=ObsSpec({**play.obs_spec.keys, LATENT: model.filter.key}),
    )


def write_latents(model: LatentModel, dataset: Dataset, path: Path) -> Store:
    """A new store at `path` with the data set's actions, and what the filter says as observation.

    A policy that is trained on it takes the filter afterwards (`PolicyModel.add_filter`). Raises
    ConfigError where the data set lacks what the filter reads, DataError where `path` exists.
    """
    observed = _as_play(model, dataset)
    latents = add_latents(model, observed).observations[LATENT]
    store = Store.create(
        path,
        fps=dataset.fps,
        action_spec=dataset.action_spec,
        obs_spec=ObsSpec({LATENT: model.filter.key}),
        source="the filter of a world model",
    )
    kept = [name for name in EXTRAS if name in dataset.keys]
    episodes = []
    for first, end in zip(observed.first, observed.episode_ends, strict=True):
        episode = {name: dataset.array(name)[first:end] for name in (ACTION, *kept)}
        episodes.append({**episode, LATENT: latents[first:end]})
    store.extend(episodes)
    return store


def check_filter(latent: LatentFilter, model: WorldModel) -> None:
    """Raise CheckpointError unless a policy's filter is that of the world model."""
    if not isinstance(model, LatentModel):
        raise CheckpointError(
            "the policy follows the filter of a latent world model, and this one has none: name "
            "the world model that its data were encoded with"
        )
    mine, theirs = latent.state_dict(), model.filter.state_dict()
    for name, values in theirs.items():
        if name not in mine or not torch.equal(mine[name].cpu(), values.cpu()):
            raise CheckpointError(
                "the policy follows another filter than the world model's: name the world model "
                "that its data were encoded with"
            )


def _as_play(model: LatentModel, dataset: Dataset) -> Play:
    """What the filter reads of a data set; states that it does not read count as 0."""
    ends = np.asarray(dataset.episode_ends, np.int64)
    observations = {}
    for name, key in model.obs_spec.keys.items():
        if name in dataset.obs_spec.keys:
            observations[name] = dataset.array(name)
        elif name in model.options.unseen:
            observations[name] = np.zeros((int(ends[-1]), *key.shape), key.dtype)
        else:
            raise ConfigError(
                f"the filter reads {shorten(name)}; the data set holds "
                f"{shorten(list(dataset.obs_spec.keys), 400)}"
            )
    nothing = np.zeros(int(ends[-1]), bool)
    return Play(
        observations=observations,
        actions=dataset.array(ACTION).astype(np.float64),
        reached=nothing,
        score=None,
        explored=nothing,
        episode_ends=ends,
        obs_spec=model.obs_spec,
        action_spec=dataset.action_spec,
        rate_hz=float(dataset.fps),
        content_hash="",
    )
