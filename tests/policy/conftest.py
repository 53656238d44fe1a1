"""Policies with a few rows that have seen something, for the tests of policies."""

import shutil
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.solvers import DDIM
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.state import PolicyState
from hotstart.rows import take_rows
from hotstart.spec import Planned

ROWS = 7
torch.set_num_threads(
    1
)  # nets this small gain nothing from threads, and those of two test workers wait for each other


@pytest.fixture(scope="session")
def good(tmp_path_factory, tiny_model):
    """A whole checkpoint; copied by those who break it."""
    folder = tmp_path_factory.mktemp("good") / "last"
    checkpoint.save(folder, tiny_model(), {"step": 7, "task": "toy"})
    return folder


@pytest.fixture
def folder(good, tmp_path):
    """A copy of it, to be broken."""
    return shutil.copytree(good, tmp_path / "last")


@pytest.fixture
def policy(tiny_model) -> DiffusionPolicy:
    """A tiny policy whose solver draws noise at every step."""
    return DiffusionPolicy(tiny_model(), Fresh(3, DDIM(1.0)))


@pytest.fixture(scope="session")
def observation() -> Callable[..., dict[str, np.ndarray]]:
    """observation(rows, seed)."""
    return _observation


@pytest.fixture(scope="session")
def watched() -> Callable[..., PolicyState]:
    """watched(policy, seeds, ticks): a state in which each row has seen some ticks."""
    return _watched


@pytest.fixture(scope="session")
def plan() -> Callable[..., Planned]:
    """plan(policy, state, rows): chunks for some rows, or for all."""
    return _plan


@pytest.fixture(scope="session")
def replan() -> Callable[..., PolicyState]:
    """replan(policy, state, rows): the state with new plans for some rows, or for all."""
    return _replan


@pytest.fixture(scope="session")
def same_rows() -> Callable[..., bool]:
    """same_rows(one, other, rows): whether everything two states hold of these rows is
    bit-equal.
    """
    return _same_rows


@pytest.fixture(scope="session")
def row_of() -> Callable[..., list[np.ndarray]]:
    """row_of(state, row): everything that the state holds of one row."""
    return _row_of


def _observation(rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    return {"state": np.random.default_rng(seed).uniform(-3, 3, (rows, 2)).astype(np.float32)}


def _watched(policy, seeds=range(ROWS), ticks: int = 2) -> PolicyState:
    state = policy.initial_state(list(seeds))
    for tick in range(ticks):
        state = policy.observe(state, _observation(len(seeds), tick))
    return state


def _plan(policy, state, rows=None) -> Planned:
    rows = np.arange(len(state.seeds)) if rows is None else np.asarray(rows)
    return policy.plan(state, rows, np.full(len(rows), policy.horizon.executed))


def _replan(policy, state, rows=None) -> PolicyState:
    return policy.adopt(state, _plan(policy, state, rows))


def _row_of(state: PolicyState, row: int) -> list[np.ndarray]:
    arrays: list[np.ndarray] = []
    _collect(asdict(take_rows(state, [row])), arrays)
    return arrays


def _collect(value, arrays: list[np.ndarray]) -> None:
    if isinstance(value, dict):
        for part in value.values():
            _collect(part, arrays)
    else:
        arrays.append(value)


def _same_rows(one: PolicyState, other: PolicyState, rows) -> bool:
    pairs = (
        (a, b) for row in rows for a, b in zip(_row_of(one, row), _row_of(other, row), strict=True)
    )
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
