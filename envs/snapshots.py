"""Saving a simulation in the middle of an episode and going on from there, exactly, in the same or
in another object.

MuJoCo's own state is not enough: controllers and grippers remember goals and integrate actions in
Python. Those are plain fields of the simulation's objects, so a snapshot holds a deep copy of the
plain fields too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arms.rendering import load_mujoco
from ..spec import Feedback, FloatArray

Fields = dict[str, Any]
SIMPLE = (bool, int, float, complex, str, bytes, type(None), np.ndarray, np.generic)


@dataclass(frozen=True)
class Snapshot:
    """Everything that the rest of an episode depends on, but its actions; made by
    `TaskEnv.snapshot`.
    """

    made_by: tuple[Any, ...]
    """What an environment must be to take it: its class and what else fixes its scene."""
    elapsed: int  # substeps since the episode began
    best_score: float | None
    rng_state: Mapping[str, Any]
    state: Any  # the suite's own


@dataclass(frozen=True)
class RowSnapshot:
    """One row of a vector environment: its environment, and what was last said of it."""

    env: Snapshot
    feedback: Feedback  # (1,) each


def is_plain(value: Any) -> bool:
    """Whether a value consists of numbers, texts and arrays only, in lists, tuples, sets and dicts
    at most.
    """
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | set):
        return all(is_plain(item) for item in value)
    return isinstance(value, SIMPLE)


def plain_fields(thing: Any, also: Callable[[Any], bool] | None = None) -> Fields:
    """A deep copy of the plain fields of an object, and of those that `also` says yes to."""
    kept = {}
    for name, value in vars(thing).items():
        if is_plain(value) or (also is not None and also(value)):
            kept[name] = value
    return copy.deepcopy(kept)


def set_plain_fields(thing: Any, fields: Fields) -> None:
    """Put back what `plain_fields` took; arrays that others may hold on to are written to, not
    replaced.
    """
    for name, value in copy.deepcopy(fields).items():
        present = getattr(thing, name, None)
        if isinstance(present, np.ndarray) and _fits_into(value, present):
            present[...] = value
        else:
            setattr(thing, name, value)


def _fits_into(value: Any, present: NDArray[Any]) -> bool:
    """Whether a value is an array that can be written over the present one."""
    same = isinstance(value, np.ndarray) and (present.shape, present.dtype) == (
        value.shape,
        value.dtype,
    )
    return same and present.flags.writeable


def physics_state(model: Any, data: Any) -> FloatArray:
    """All that MuJoCo's next step depends on, warm starts included (mjSTATE_INTEGRATION)."""
    mujoco = load_mujoco()
    which = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, which))
    mujoco.mj_getState(model, data, state, which)
    return state


def set_physics_state(model: Any, data: Any, state: FloatArray) -> None:
    """Put back what `physics_state` took, and all that is derived from it."""
    mujoco = load_mujoco()
    which = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(model, data, state, which)
    mujoco.mj_forward(model, data)  # positions in the world ...
    mujoco.mj_setState(model, data, state, which)  # ... which also moved the solver's warm start
