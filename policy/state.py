"""All that a policy remembers between control periods, as a value.

Functions take a state and return a new one: a state is never changed in place. Numpy only, so that
a servo process needs no torch. Letters of the shapes: see `spec`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..datasets.kinds import read_key
from ..rows import Array, RowArrays, put_rows
from ..spec import (
    BoolArray,
    ConfigError,
    DataError,
    FloatArray,
    Horizon,
    IntArray,
    Observation,
    ObsKey,
    ObsSpec,
    shorten,
)


@dataclass(frozen=True)
class Plan:
    """The newest plan of each row, which the next one continues from: all that planning changes."""

    x: FloatArray  # (B, T, A') normalised actions, as the network sees them; NaN: no plan yet
    level: FloatArray  # (B, T) noise level of each step, 0 where it is clean
    count: IntArray  # (B,) plans made since the row's reset: counter of its noise
    observed: RowArrays  # key -> (B, To, ...) the observations that relative actions refer to


@dataclass(frozen=True)
class PolicyState:
    """All that a policy remembers of B rows. Every array has the row as its first axis."""

    history: RowArrays  # key -> (B, To, ...) newest last; a row's first observation fills it
    seen: IntArray  # (B,) observations since the row's reset
    seeds: IntArray  # (B,) key of the row's noise
    plan: Plan
    memory: RowArrays = field(default_factory=dict)
    """Name -> (B, ...): what else `observe` updates, as a filter's or a recurrent hidden state."""


def restart_rows(
    state: PolicyState,
    rows: IntArray,
    seeds: Sequence[int],
    begin: Callable[[Sequence[int]], PolicyState],
) -> PolicyState:
    """`state` with the states that `begin` makes of the seeds in `rows` (R,).

    Raises ConfigError unless there is one seed per row.
    """
    if len(seeds) != len(rows):
        raise ConfigError(
            f"{len(rows)} rows are to be reset with {len(seeds)} seeds; give one seed per row"
        )
    return put_rows(state, np.asarray(rows), begin(seeds))


def create_state(
    obs_spec: ObsSpec,
    horizon: Horizon,
    width: int,
    seeds: Sequence[int],
    relative_to: Collection[str] = (),
    memory: RowArrays | None = None,
) -> PolicyState:
    """A state with one row per seed, nothing observed and nothing planned.

    Plans have T steps of `width` (A') numbers. `relative_to` names the observations that actions
    are relative to. `memory` is what the rows begin with, (B, ...) each.
    """
    rows = len(seeds)
    history = {}
    for name, key in obs_spec.keys.items():
        history[name] = np.zeros((rows, horizon.observed, *key.shape), key.dtype)
    plan = Plan(
        x=np.full((rows, horizon.planned, width), np.nan, np.float32),
        level=np.zeros((rows, horizon.planned), np.float32),
        count=np.zeros(rows, np.int64),
        observed={name: history[name].copy() for name in relative_to},
    )
    return PolicyState(
        history, np.zeros(rows, np.int64), np.array(seeds, np.int64), plan, dict(memory or {})
    )


def push_observation(
    state: PolicyState, obs_spec: ObsSpec, observation: Observation, new: BoolArray | None = None
) -> PolicyState:
    """Push one control period's observation (B, ...) onto the histories.

    In rows that are not `new` (B,) it replaces the newest entry; None: all are new. Images may have
    channels first, and floats from 0 to 1, as in training data (`datasets.kinds`). Raises
    ConfigError for a missing key, and for a shape or dtype that the policy was not trained with.
    """
    read = read_observations(observation, obs_spec)
    if new is None:
        further = np.ones(len(state.seen), bool)
    else:
        further = new | (state.seen == 0)
    seen = state.seen + further
    history = {}
    for name, window in state.history.items():
        history[name] = _push(window, _convert(name, read[name], window), seen, further)
    return replace(state, history=history, seen=seen)


def adopt_plans(state: PolicyState, rows: IntArray, plan: Plan) -> PolicyState:
    """The state with a plan (R rows) in its `rows` (R,); what it has observed meanwhile stays."""
    return replace(state, plan=put_rows(state.plan, rows, plan))


def read_observations(observation: Observation, obs_spec: ObsSpec) -> dict[str, Array]:
    """An observation (B, ...) with the keys of `obs_spec`, each as `read_observation` reads it.

    Raises ConfigError for a key that is missing.
    """
    missing = [name for name in obs_spec.keys if name not in observation]
    if missing:
        raise ConfigError(
            f"the policy wants {shorten(list(obs_spec.keys), 400)}; the observation has no "
            f"{missing}, only {list(observation)}"
        )
    read = {}
    for name, key in obs_spec.keys.items():
        read[name] = read_observation(name, np.asarray(observation[name]), key)
    return read


def read_observation(name: str, values: Array, key: ObsKey) -> Array:
    """One key's values (..., *shape) in the form that the policy was trained with.

    Raises ConfigError for values that cannot be brought into it.
    """
    if values.dtype.kind == "f":
        scale = 255.0
    else:
        scale = 1.0
    try:
        return read_key(name, values, key, scale)
    except DataError as error:
        raise ConfigError(f"observation: {error}") from error


def _convert(name: str, newest: Array, window: Array) -> Array:
    """An observation (B, ...) in the dtype of its history; ConfigError where it does not fit."""
    wanted = (len(window), *window.shape[2:])
    if newest.shape != wanted:
        raise ConfigError(
            f"observation {shorten(name)} has shape {newest.shape}; {wanted} was expected"
        )
    # "same_kind": fractions would become zeros in a history of whole numbers
    if not np.can_cast(newest.dtype, window.dtype, "same_kind"):
        raise ConfigError(
            f"observation {shorten(name)} is {newest.dtype}; the policy was trained with "
            f"{window.dtype}: convert it"
        )
    return newest.astype(window.dtype)


def _push(window: Array, newest: Array, seen: IntArray, further: BoolArray) -> Array:
    """Put (B, ...) at the end of (B, To, ...), shifted by one in the rows of `further` (B,).

    As long as a row has `seen` one observation, that one fills the whole window.
    """
    pushed = np.concatenate((window[:, 1:], newest[:, None]), 1)
    pushed[~further, :-1] = window[~further, :-1]
    pushed[seen == 1] = newest[seen == 1][:, None]
    return pushed
