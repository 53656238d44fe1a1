"""A policy's state: no field is forgotten, numpy suffices, and some rows can be sent elsewhere."""

import pickle
import subprocess
import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hotstart.policy.state import (
    Plan,
    PolicyState,
    adopt_plans,
    create_state,
    push_observation,
)
from hotstart.rows import RowArrays, put_rows, take_rows
from hotstart.spec import Horizon, ObsKey, ObsSpec

ROWS = 5
SPEC = ObsSpec({"where": ObsKey((2,)), "pose": ObsKey((3,))})
HORIZON = Horizon(2, 12, 4)


@dataclass(frozen=True)
class LaterPlan(Plan):
    """A field that somebody adds later."""

    history_of_solver: np.ndarray = field(default_factory=lambda: np.zeros((ROWS, 3)))


@dataclass(frozen=True)
class LaterState(PolicyState):
    """Two fields that somebody adds later."""

    weight: np.ndarray = field(default_factory=lambda: np.zeros(ROWS))
    filters: RowArrays = field(default_factory=lambda: {"mean": np.zeros((ROWS, 2))})


def later_state(rows: int, value: float) -> LaterState:
    """Every array of it holds `value` everywhere."""
    made = create_state(SPEC, HORIZON, 2, [0] * rows, ["pose"], {"hidden": np.zeros((rows, 6))})
    plan = LaterPlan(**vars(made.plan), history_of_solver=np.zeros((rows, 3)))
    parts = {**vars(made), "plan": plan}
    state = LaterState(**parts, weight=np.zeros(rows), filters={"mean": np.zeros((rows, 2))})
    arrays: list[np.ndarray] = []
    collect(state, arrays)
    for array in arrays:
        array[...] = value
    return state


def collect(value, arrays: list[np.ndarray]) -> None:
    """All arrays of a state or a plan, in a fixed order."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
    else:
        for part in (value if isinstance(value, dict) else vars(value)).values():
            collect(part, arrays)


def changed_arrays(one, other) -> list[bool]:
    """Of each array, whether rows 1 and 3 differ; the other rows never do."""
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    collect(one, ours)
    collect(other, theirs)
    changed = []
    for mine, yours in zip(ours, theirs, strict=True):
        differs = (mine != yours).reshape(ROWS, -1)
        assert not differs[[0, 2, 4]].any()
        assert differs[[1, 3]].all() == differs[[1, 3]].any()
        changed.append(bool(differs[1].all()))
    return changed


def test_a_reset_forgets_every_field_and_those_that_are_added_later():
    state, fresh = later_state(ROWS, 7.0), later_state(2, 0.0)
    reset = put_rows(state, np.array([1, 3]), fresh)
    assert changed_arrays(reset, state) == [True] * 12


def test_adopting_takes_every_field_of_a_plan_and_nothing_else():
    state, answer = later_state(ROWS, 7.0), later_state(2, 1.0)
    adopted = adopt_plans(state, np.array([1, 3]), answer.plan)
    assert changed_arrays(adopted.plan, state.plan) == [True] * 5
    assert changed_arrays(replace(adopted, plan=state.plan), state) == [False] * 12


@pytest.mark.parametrize("memory", [None, {"hidden": np.ones((2, 3))}])
def test_memory_lasts_over_observations(memory):
    state = create_state(SPEC, HORIZON, 2, [5, 6], memory=memory)
    seen = {"where": np.zeros((2, 2)), "pose": np.zeros((2, 3))}
    assert push_observation(state, SPEC, seen).memory == (memory or {})


ALONE = """
import sys
import hotstart.policy.state
print(*sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))
"""


def test_the_state_needs_numpy_only():
    """A servo process that holds one starts without torch, h5py and zarr."""
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "hotstart"} <= loaded
    assert not loaded & {"torch", "h5py", "zarr", "numcodecs", "scipy", "pyarrow", "av", "hydra"}


def test_a_planner_elsewhere_needs_the_asked_rows_only(policy, watched, replan, plan):
    """Their part of the state there, their plans back: the same as from the whole state."""
    state = replan(policy, watched(policy))
    rows = np.array([4, 1])
    sent = pickle.dumps(take_rows(state, rows))
    answer = plan(policy, pickle.loads(sent))
    answer = replace(pickle.loads(pickle.dumps(answer)), rows=rows)
    here = plan(policy, state, rows)
    np.testing.assert_array_equal(answer.actions, here.actions)
    one, other = policy.adopt(state, answer), policy.adopt(state, here)
    np.testing.assert_array_equal(one.plan.x, other.plan.x)
    assert one.plan.count.tolist() == [1, 2, 1, 1, 2, 1, 1]
    assert len(sent) < len(pickle.dumps(state)) - 4 * state.plan.x[0].nbytes
