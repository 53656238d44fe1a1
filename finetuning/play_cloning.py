"""Filtered behaviour cloning of recorded play: a policy learns from the episodes that succeeded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..datasets.arrays import Arrays
from ..datasets.windows import LEAST_STEPS, window_index
from ..policy.model import PolicyModel
from ..policy.training.batches import WindowBatches
from ..policy.training.learner import Learner
from ..spec import ConfigError, option
from ..world_model.play import Play
from .cloning import copy_for_training, read_training


@dataclass(frozen=True)
class PlayCloning:
    """Cloning of the successes in recorded play."""

    clone_updates: int = option(1500, "optimiser steps on the play's successes; 0: no cloning")
    clone_rate: float = option(3e-4, "learning rate at the beginning; it falls to 0 by a cosine")
    clone_batch: int = option(256, "windows in an optimiser step")


def clone_play(
    base: PolicyModel,
    meta: Mapping[str, Any],
    play: Play,
    settings: PlayCloning,
    seed: int,
    progress: bool = True,
) -> PolicyModel:
    """The base after cloning the play's successes, each up to the step that fulfilled the task.

    Raises ConfigError where no episode of the play is both successful and long enough.
    """
    dataset = take_successes(play, base)
    training = read_training(meta, base, settings.clone_batch, settings.clone_rate, seed)
    learner = Learner(copy_for_training(base), training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # successes are often shorter than a plan
        index = window_index(dataset.episode_ends, base.config.horizon)
    batches = WindowBatches(dataset, base.config, index, settings.clone_batch, seed, "cpu")
    steps = tqdm(range(settings.clone_updates), desc="cloning", unit="update", disable=not progress)
    for step in steps:
        falling = 0.5 * (1 + math.cos(math.pi * step / settings.clone_updates))
        learner.take_step(batches.at(step), step, settings.clone_rate * falling)
    cloned = learner.ema.model
    cloned.network.note_written()
    return cloned.eval().requires_grad_(False)


def take_successes(play: Play, base: PolicyModel) -> Arrays:
    """The successful episodes of a play, as the base observes them."""
    names = list(base.config.obs_spec.keys)
    missing = [name for name in names if name not in play.observations]
    if missing:
        raise ConfigError(f"the policy observes {missing}, which the play does not hold")
    episodes: list[dict[str, Any]] = []
    for begin, end in zip(play.first, play.episode_ends, strict=True):
        reached = np.flatnonzero(play.reached[begin:end])
        if len(reached) == 0 or reached[0] < LEAST_STEPS:
            continue
        steps = slice(begin, begin + reached[0])
        episode: dict[str, Any] = {name: play.observations[name][steps] for name in names}
        episode["action"] = play.actions[steps].astype(np.float32)
        episodes.append(episode)
    if not episodes:
        raise ConfigError("no episode of the play fulfils its task: there is nothing to clone")
    return Arrays(episodes, play.rate_hz, base.config.action_spec, base.config.obs_spec)
