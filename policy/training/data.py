"""The data of a run: windows for training and validation, and their statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ...datasets.episodes import Dataset, count_steps
from ...datasets.frames import ChunkFrames, Frames, open_frames
from ...datasets.mixture import Mixture
from ...datasets.statistics import Statistics, dataset_statistics, statistics
from ...datasets.windows import Windows, list_windows, split_usable_episodes
from ...spec import Actor, ConfigError, DataError, FloatArray, IntArray, shorten
from ..model import ModelConfig, PolicyModel
from ..normalizer import ACTION, COMMAND, Normalizer
from .batches import WindowBatches, balance_windows, image_keys
from .mixing import MixedDraw
from .settings import TrainingSettings
from .streaming import ShardOrder, order_shards

ACTOR, WEIGHT = "actor", "weight"
"""Extras of a data set: who acted in a step, and what it counts."""


@dataclass(frozen=True)
class TrainingData:
    """Batches of the training episodes and of those held out for validation."""

    batches: WindowBatches
    held_out: WindowBatches | None  # None where no episode is held out
    statistics: Mapping[str, Statistics]  # of the training episodes, by key
    sources: Mapping[str, Any] = field(default_factory=dict)
    """Of a mixture: what is known of each source, plain values by its name."""


def prepare_data(
    dataset: Dataset, config: ModelConfig, settings: TrainingSettings, device: str
) -> TrainingData:
    """Split the episodes, cut windows, decode pictures as `settings.cache` says.

    Raises DataError where too few episodes are usable, ConfigError as `balance_windows` does.
    """
    ends = dataset.episode_ends
    train, held_out = _split(dataset, settings)
    index = list_windows(ends, config.horizon, episodes=train)
    weigh = None
    if isinstance(dataset, Mixture):
        weigh = dataset.weigh
    found = dataset_statistics(dataset, index, weigh)
    weights = weigh_steps(dataset, settings)
    index = drop_weightless(index, weights)
    if settings.balanced:
        index = balance_windows(dataset, config, index)
    frames = _open_pictures(dataset, config, settings)
    make_batches = partial(
        WindowBatches,
        dataset,
        config,
        batch=settings.batch,
        seed=settings.seed,
        device=device,
        frames=frames,
        weights=weights,
    )

    def order(windows: Windows) -> dict[str, Any]:
        return {
            "mixed": _mix(dataset, windows, settings),
            "streamed": _stream(dataset, windows, settings, frames),
        }

    validation = None
    if len(held_out):
        others = list_windows(ends, config.horizon, episodes=held_out)
        others = drop_weightless(others, weights)
        if len(others):
            validation = make_batches(others, **order(others))
    batches = make_batches(index, **order(index))
    return TrainingData(batches, validation, found, describe_sources(dataset, index))


def _split(dataset: Dataset, settings: TrainingSettings) -> tuple[IntArray, IntArray]:
    """Episodes for training and for validation, of a mixture from each source."""
    if isinstance(dataset, Mixture):
        return dataset.split(settings.validation_share, settings.seed)
    return split_usable_episodes(dataset.episode_ends, settings.validation_share, settings.seed)


def _mix(dataset: Dataset, windows: Windows, settings: TrainingSettings) -> MixedDraw | None:
    """How windows are drawn from a mixture with shares; None where all are shuffled together."""
    if not isinstance(dataset, Mixture) or dataset.shares is None:
        return None
    if settings.balanced:
        raise ConfigError("training.balanced=true and the shares of a mixture exclude each other")
    return MixedDraw(dataset, windows, settings.seed)


def _stream(
    dataset: Dataset, windows: Windows, settings: TrainingSettings, frames: Mapping[str, Frames]
) -> ShardOrder | None:
    """The order of windows whose pictures come from shards; None where there are none."""
    if not frames:
        return None
    held = not any(isinstance(found, ChunkFrames) for found in frames.values())
    return order_shards(dataset, windows, settings.seed, settings.buffer, held)


def describe_sources(dataset: Dataset, windows: Windows) -> dict[str, Any]:
    """Share, windows and statistics of each source of a mixture; empty for other data."""
    if not isinstance(dataset, Mixture):
        return {}
    used = windows.used_steps()
    ends = np.searchsorted(windows.newest, dataset.step_ends)
    counts = np.diff(ends, prepend=0)
    shares = dataset.shares
    if shares is None:
        shares = counts / counts.sum()
    found: dict[str, Any] = {}
    before = 0
    for number, name in enumerate(dataset.names):
        end = int(dataset.step_ends[number])
        steps = used[(used >= before) & (used < end)] - before
        plain: dict[str, Any] = {}
        if len(steps):
            for key, values in dataset_statistics(dataset.sources[number], steps).items():
                plain[key] = {word: array.tolist() for word, array in values.items()}
        found[name] = {
            "share": float(shares[number]),
            "windows": int(counts[number]),
            "statistics": plain,
        }
        before = end
    return found


def weigh_steps(dataset: Dataset, settings: TrainingSettings) -> FloatArray | None:
    """What each step of the data counts in the loss (N,); None where all count the same.

    That is its `weight`, where the data set has one, times the setting for who acted in it. Raises
    ConfigError where the settings ask who acted and the data set does not say it.
    """
    weights = np.ones(count_steps(dataset))
    if WEIGHT in dataset.keys:
        weights = dataset.array(WEIGHT).astype(np.float64)
    asked = (settings.correction_weight, settings.policy_weight)
    if asked != (1.0, 1.0):
        if ACTOR not in dataset.keys:
            raise ConfigError(
                "training.correction_weight and training.policy_weight go by who acted in a step, "
                "and the data set does not say it: record with `hotstart record` or "
                "`hotstart deploy`, or leave them out"
            )
        actors = dataset.array(ACTOR)
        people = np.isin(actors, (Actor.INTERVENTION, Actor.OPERATOR))
        weights = np.where(people, weights, weights * settings.policy_weight)
        corrected = actors == int(Actor.INTERVENTION)
        weights = np.where(corrected, weights * settings.correction_weight, weights)
    if not (weights > 0).any() or (weights < 0).any():
        raise DataError("no step of the data set counts anything: a weight above 0 is wanted")
    if (weights == weights[0]).all():
        return None
    return weights


def drop_weightless(windows: Windows, weights: FloatArray | None) -> Windows:
    """The windows in which some step counts."""
    if weights is None:
        return windows
    kept = [(weights[steps] > 0).any(1) for steps in windows.blocks()]
    return windows.take(np.concatenate(kept))


def _open_pictures(
    dataset: Dataset, config: ModelConfig, settings: TrainingSettings
) -> dict[str, Frames]:
    images = image_keys(config)
    if not images:
        return {}
    return open_frames(dataset, images, settings.cache, int(settings.memory_gb * 1e9))


def fit_normalizer(model: PolicyModel, data: TrainingData) -> None:
    """Fit a new model's normaliser to the data, to actions in the form that the network sees."""
    found = dict(data.statistics)
    if model.actions.changes:
        encoded = []
        for observation, commands in data.batches.all(model.actions.reads):
            actions = model.actions.encode(commands, observation).cpu().numpy()
            encoded.append(actions.reshape(-1, actions.shape[-1]))
        found[COMMAND] = found[ACTION]
        weights: FloatArray | None = None
        if data.batches.mixed is not None:
            weights = np.repeat(data.batches.mixed.weigh(), model.config.horizon.planned)
        found[ACTION] = statistics(np.concatenate(encoded), weights)
    if ACTION in found:
        found[ACTION] = model.actions.set_known_ranges(found[ACTION])
    fitted = Normalizer.fit(found, model.normalizer.shapes, model.config.obs_spec)
    model.normalizer.load_state_dict(fitted.state_dict())


def check_specs(dataset: Dataset, config: ModelConfig) -> None:
    """Raise DataError where the data set's action or observations are not those of the model."""
    have, want = dataset.action_spec.width, config.action_spec.width
    if have != want:
        raise DataError(
            f"actions of the data set are {have} wide, the model's specification says {want}: "
            "use the data set of this task, or another task"
        )
    keys = dataset.obs_spec.keys
    for name, key in config.obs_spec.keys.items():
        if name not in keys:
            raise DataError(
                f"the data set has no observation {shorten(name)}; "
                f"it has {shorten(list(keys), 400)}"
            )
        if keys[name].shape != key.shape:
            raise DataError(
                f"observation {shorten(name)} has shape {keys[name].shape} in the data set, "
                f"{key.shape} in the specification"
            )
