"""Makes the graphs of a policy before its first control period."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...spec import Executed
from ..diffusion_policy import DiffusionPolicy
from .base import find_engine

PLANS = 3
"""A first plan, a later one, and one more: the kinds of plans that a sampler makes."""


def warm_up(policy: DiffusionPolicy, rows: Sequence[int]) -> None:
    """Plan from zeros for each number of rows, and compile nothing afterwards.

    Does nothing for a policy that PyTorch evaluates.
    """
    engine = find_engine(policy.model)
    if engine is None:
        return
    for count in rows:
        plan_from_zeros(policy, count)
    engine.seal()


def plan_from_zeros(policy: DiffusionPolicy, rows: int) -> None:
    """A few plans of all rows, each continued from the one before."""
    frame = {}
    for name, key in policy.obs_spec.keys.items():
        frame[name] = np.zeros((rows, *key.shape), key.dtype)
    nothing = Executed.nothing(rows, policy.action_spec.width)
    state = policy.initial_state(range(rows))
    executed = np.zeros(rows, np.int64)
    for _ in range(PLANS):
        state = policy.observe(state, frame, nothing)
        state = policy.adopt(state, policy.plan(state, np.arange(rows), executed))
        executed = np.full(rows, policy.horizon.executed)


def list_rows(most: int) -> list[int]:
    """Numbers of rows to make graphs for: 1, 4, 16 and so on, padding costs at most four times."""
    found = []
    count = 1
    while count < most:
        found.append(count)
        count *= 4
    return [*found, most]
