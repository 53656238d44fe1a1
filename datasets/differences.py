"""How two data sets differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionDim, FloatArray, ObsKey
from .episodes import ACTION, Dataset, count_steps, episode_slice, lengths_of
from .statistics import statistics

Pair = tuple[int, int]
SHOWN = ("min", "max", "mean", "std")


@dataclass
class KeyDifference:
    """How one key differs in the episodes that both data sets hold."""

    steps: int = 0
    """In so many steps."""
    largest: float = 0.0
    """Of all differences; infinite where one number is not finite, in the key's unit."""
    episodes: Pair = (0, 0)
    """Where it is, in the one and in the other."""
    step: int = 0
    """Counted from the episode's first."""
    statistics: list[dict[str, list[float]]] = field(default_factory=list)
    """min, max, mean and std of every number, of the one and of the other."""


@dataclass
class Comparison:
    """How two data sets differ; everything is empty or equal where they do not."""

    specs: list[str]
    episodes: Pair
    steps: Pair
    only_keys: tuple[list[str], list[str]]
    only_episodes: tuple[list[int], list[int]]
    """Those whose actions and states the other does not hold."""
    moved: bool
    """Whether common episodes follow each other in another order."""
    keys: dict[str, KeyDifference]
    """Every common key."""

    @property
    def equal(self) -> bool:
        """Whether specifications, episodes and every number are the same."""
        changed = any(found.steps for found in self.keys.values())
        keys, episodes = self.only_keys, self.only_episodes
        return not (self.specs or any(keys) or any(episodes) or self.moved or changed)


def compare(one: Dataset, other: Dataset) -> Comparison:
    """Compare specifications, episodes and every number of two data sets.

    Episodes are the same where their actions and states are, wherever they stand. Those that are
    not, but have the same number and the same length, are compared with each other. Raises
    DataError where one of them cannot be read.
    """
    ours, theirs = _list_keys(one), _list_keys(other)
    common = [key for key in ours if ours[key] == theirs.get(key)]
    pairs, moved = _pair_episodes(one, other, common)
    found = Comparison(
        specs=compare_specs(one, other),
        episodes=(len(one.episode_ends), len(other.episode_ends)),
        steps=(count_steps(one), count_steps(other)),
        only_keys=([k for k in ours if k not in theirs], [k for k in theirs if k not in ours]),
        only_episodes=(
            _list_rest(one, [pair[0] for pair in pairs]),
            _list_rest(other, [pair[1] for pair in pairs]),
        ),
        moved=moved,
        keys={key: _compare_key(one, other, key, pairs) for key in common},
    )
    for key, difference in found.keys.items():
        observed = key in one.obs_spec.keys
        if difference.steps and (_is_state(one, key) or not observed):
            difference.statistics = [_summarise(data, key) for data in (one, other)]
    return found


def _list_keys(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The shape of a step of every key."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key in dataset.keys:
        shapes[key] = ()
        if key == ACTION:
            shapes[key] = (dataset.action_spec.width,)
        elif key in dataset.obs_spec.keys:
            shapes[key] = tuple(dataset.obs_spec.keys[key].shape)
    return shapes


def _is_state(dataset: Dataset, key: str) -> bool:
    spec = dataset.obs_spec.keys.get(key)
    return spec is not None and spec.kind == "state"


def _pair_episodes(one: Dataset, other: Dataset, common: Sequence[str]) -> tuple[list[Pair], bool]:
    """Episodes that are compared, and whether equal ones are in another order."""
    hashed = [key for key in common if key == ACTION or _is_state(one, key)]
    places: dict[str, list[int]] = {}
    for number, digest in enumerate(_hash_episodes(other, hashed)):
        places.setdefault(digest, []).append(number)
    pairs: list[Pair] = []
    for number, digest in enumerate(_hash_episodes(one, hashed)):
        if places.get(digest):
            pairs.append((number, places[digest].pop(0)))
    order = [pair[1] for pair in pairs]
    moved = order != sorted(order)
    ours, theirs = lengths_of(one.episode_ends), lengths_of(other.episode_ends)
    left, right = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    for number in range(min(len(ours), len(theirs))):
        if number not in left and number not in right and ours[number] == theirs[number]:
            pairs.append((number, number))
    return sorted(pairs), moved


def _hash_episodes(dataset: Dataset, keys: Sequence[str]) -> Iterator[str]:
    for number in range(len(dataset.episode_ends)):
        steps = episode_slice(dataset.episode_ends, number)
        digest = hashlib.sha256()
        for key in keys:
            values = dataset.rows(key, steps.start, steps.stop)
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
        yield digest.hexdigest()


def _list_rest(dataset: Dataset, paired: Sequence[int]) -> list[int]:
    """The episodes that stand in no pair."""
    rest = set(range(len(dataset.episode_ends))) - set(paired)
    return sorted(rest)


def _compare_key(one: Dataset, other: Dataset, key: str, pairs: Sequence[Pair]) -> KeyDifference:
    """One key in all pairs; an episode at a time."""
    found = KeyDifference()
    for pair in pairs:
        ours = _read_flat(one, key, pair[0])
        theirs = _read_flat(other, key, pair[1])
        if np.array_equal(ours, theirs):
            continue
        away = _measure(ours, theirs)
        found.steps += int((away > 0).sum())
        if away.size and away.max() > found.largest:
            found.largest = float(away.max())
            found.episodes, found.step = pair, int(away.argmax())
    return found


def _read_flat(dataset: Dataset, key: str, number: int) -> NDArray[Any]:
    steps = episode_slice(dataset.episode_ends, number)
    values = dataset.rows(key, steps.start, steps.stop)
    return values.reshape(len(values), -1)


def _measure(ours: NDArray[Any], theirs: NDArray[Any]) -> FloatArray:
    """The largest difference of every step, (n,); infinite where only one number is finite."""
    one, other = ours.astype(np.float64), theirs.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        away = np.abs(one - other)
    away[~np.isfinite(away)] = np.inf
    away[same] = 0
    return away.max(1, initial=0.0)


def _summarise(dataset: Dataset, key: str) -> dict[str, list[float]]:
    """min, max, mean and std of every number of a key; empty where one is not finite."""
    values = dataset.array(key)
    if not len(values) or not np.isfinite(values).all():
        return {}
    found = statistics(values)
    return {name: np.ravel(found[name]).tolist() for name in SHOWN}


def compare_specs(one: Dataset, other: Dataset) -> list[str]:
    """How rate, actions and observations differ, a line each; empty where they are equal."""
    found: list[str] = []
    if one.fps != other.fps:
        found.append(f"fps is {one.fps:g} and {other.fps:g}")
    return found + _compare_actions(one, other) + _compare_observations(one, other)


def _compare_actions(one: Dataset, other: Dataset) -> list[str]:
    ours, theirs = one.action_spec.dims, other.action_spec.dims
    if len(ours) != len(theirs):
        return [f"an action is {len(ours)} numbers and {len(theirs)}"]
    found: list[str] = []
    for number, (dim, its) in enumerate(zip(ours, theirs, strict=True)):
        if dim != its:
            found.append(f"action {number} is {_describe_dim(dim)} and {_describe_dim(its)}")
    return found


def _compare_observations(one: Dataset, other: Dataset) -> list[str]:
    ours, theirs = one.obs_spec.keys, other.obs_spec.keys
    found: list[str] = []
    for name in dict.fromkeys([*ours, *theirs]):
        if ours.get(name) != theirs.get(name):
            here, there = _describe_key(ours, name), _describe_key(theirs, name)
            found.append(f"{name} is {here} and {there}")
    return found


def _describe_dim(dim: ActionDim) -> str:
    form = "a change"
    if dim.absolute:
        form = "absolute"
    return f"{dim.name} ({dim.unit or 'no unit'}, {dim.kind}, {form})"


def _describe_key(keys: Mapping[str, ObsKey], name: str) -> str:
    if name not in keys:
        return "not there"
    key = keys[name]
    return f"{key.kind} {key.dtype} {tuple(key.shape)}"
