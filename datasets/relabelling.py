"""Changes what a data set says of itself: names, units, tasks, outcomes, its rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import (
    TEXT_KEY,
    ActionDim,
    ActionSpec,
    ConfigError,
    DataError,
    ObsSpec,
    text_to_bytes,
    unknown,
)
from .arrays import check_fps
from .choosing import find_successes, list_instructions, read_numbers
from .episodes import MADE, TIMESTAMP, Dataset
from .merging import INSTRUCTION
from .selection import (
    Piece,
    Selection,
    add_observation,
    make_times,
    read_origin,
    view_all,
)

REGULAR_S = 1e-6
"""Timestamps this near to frame / fps were made, not recorded."""


@dataclass(frozen=True)
class Labels:
    """What is to be changed; None and empty leave things as they are."""

    task: str | None = None
    instruction: str | None = None
    success: bool | None = None
    episodes: str = ""
    """Those whose instruction and success are changed, as in 0-9,17; empty: all."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Observation -> its new name."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Number of the action -> its new name."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Number of the action, by its new name -> its unit."""
    fps: float | None = None


def relabel(dataset: Dataset, labels: Labels) -> Selection:
    """A data set with other labels; no state, action or picture changes.

    A new `fps` makes timestamps anew where they were frame / fps, and leaves recorded ones. Where
    the data set has no `success`, episodes that are not named get the opposite. Raises DataError
    and ConfigError for names that are not there or taken, and for what cannot be stored.
    """
    notes: list[str] = []
    dataset = _instruct(dataset, labels)
    keys = _rename_keys(dataset, labels.rename)
    fps = dataset.fps
    if labels.fps is not None:
        fps = check_fps(labels.fps)
    pieces = view_all(dataset)
    if labels.success is not None:
        pieces = _judge(dataset, pieces, labels)
        keys["success"] = "success"
    if fps != dataset.fps and TIMESTAMP in dataset.keys:
        pieces = _retime(dataset, pieces, fps, notes)
    origin = read_origin(dataset)
    if labels.task is not None:
        origin = replace(origin, task=labels.task)
    observed: dict[str, Any] = {}
    for ours, theirs in keys.items():
        if theirs in dataset.obs_spec.keys:
            observed[ours] = dataset.obs_spec.keys[theirs]
    return Selection(
        pieces,
        keys,
        fps=fps,
        action_spec=_rename_dims(dataset.action_spec, labels),
        obs_spec=ObsSpec(observed),
        origin=origin,
        notes=notes,
    )


def _instruct(dataset: Dataset, labels: Labels) -> Dataset:
    """The data set with the new instruction in the episodes that are named."""
    if labels.instruction is None:
        return dataset
    texts = list_instructions(dataset)
    for number in _read_episodes(dataset, labels):
        texts[number] = labels.instruction
    if not all(texts):
        raise DataError(
            f"episode {texts.index('')} would have no instruction, since the data set has no task: "
            "name all episodes, or give the data set a task first"
        )
    words = [text_to_bytes(text) for text in texts]
    return add_observation(dataset, INSTRUCTION, TEXT_KEY, words)


def _read_episodes(dataset: Dataset, labels: Labels) -> list[int]:
    count = len(dataset.episode_ends)
    if not labels.episodes:
        return list(range(count))
    return read_numbers(labels.episodes, count).tolist()


def _rename_keys(dataset: Dataset, rename: Mapping[str, str]) -> dict[str, str]:
    """New name -> old name of every key; times when an observation was made go with it."""
    for old in rename:
        if old not in dataset.obs_spec.keys:
            raise ConfigError(unknown("observation", old, list(dataset.obs_spec.keys)))
    keys: dict[str, str] = {}
    for old in dataset.keys:
        new = rename.get(old, old)
        if old.startswith(MADE):
            observed = old.removeprefix(MADE)
            new = MADE + rename.get(observed, observed)
        if new in keys:
            raise ConfigError(f"{keys[new]} and {old} would both be called {new}")
        keys[new] = old
    return keys


def _rename_dims(spec: ActionSpec, labels: Labels) -> ActionSpec:
    """The numbers of an action with their new names and units."""
    held = [dim.name for dim in spec.dims]
    new = [labels.names.get(name, name) for name in held]
    for given, valid in ((labels.names, held), (labels.units, new)):
        for name in given:
            if name not in valid:
                raise ConfigError(unknown("number of the action", name, valid))
    if len(set(new)) < len(set(held)):
        raise ConfigError(f"numbers of the action would have one name: {', '.join(new)}")
    dims: list[ActionDim] = []
    for dim, name in zip(spec.dims, new, strict=True):
        dims.append(replace(dim, name=name, unit=labels.units.get(name, dim.unit)))
    return ActionSpec(tuple(dims))


def _judge(dataset: Dataset, pieces: list[Piece], labels: Labels) -> list[Piece]:
    """The pieces with the new outcome of those that are named."""
    assert labels.success is not None
    known = "success" in dataset.keys
    outcomes = np.full(len(pieces), not labels.success)
    if known:
        outcomes = find_successes(dataset)
    changed = outcomes.copy()
    changed[_read_episodes(dataset, labels)] = labels.success
    judged: list[Piece] = []
    for number, piece in enumerate(pieces):
        if not known or changed[number] != outcomes[number]:
            values: NDArray[np.bool_] = np.zeros(len(piece), bool)
            values[-1] = changed[number]
            piece = replace(piece, values={**piece.values, "success": values})
        judged.append(piece)
    return judged


def _retime(dataset: Dataset, pieces: list[Piece], fps: float, notes: list[str]) -> list[Piece]:
    """The pieces with timestamps of the new rate, unless theirs were recorded."""
    timed: list[Piece] = []
    for piece in pieces:
        times = dataset.rows(TIMESTAMP, piece.start, piece.stop)
        if (np.abs(times - make_times(len(piece), dataset.fps)) > REGULAR_S).any():
            notes.append(
                "timestamps stay: they were recorded. hotstart data verify says what rate they have"
            )
            return pieces
        made = make_times(len(piece), fps)
        timed.append(replace(piece, values={**piece.values, TIMESTAMP: made}))
    return timed
