"""An agent in one's own environment: its actions, and what it refuses."""

from typing import Any

import numpy as np
import pytest
from hotstart.policy import checkpoint
from hotstart.policy.agent import Agent, load
from hotstart.spec import ConfigError


def test_an_agent_executes_its_chunks_one_action_a_tick(tmp_path, policy, observation, plan):
    """Every action is the one that the policy, fed by hand, plans for that tick."""
    checkpoint.save(tmp_path / "c", policy.model, {})
    agent = load(tmp_path / "c", policy.sampler)
    agent.reset(seed=5)
    got = []
    expected = []
    state = policy.initial_state([5])
    chunk = np.zeros((0, 2))
    for tick in range(10):
        seen = observation(1, tick)
        got.append(agent.act({"state": seen["state"][0]}))
        state = policy.observe(state, seen)
        if tick % 4 == 0:
            planned = plan(policy, state)
            state = policy.adopt(state, planned)
            chunk = planned.actions[0]
        expected.append(chunk[tick % 4])
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(ConfigError, match="shape"):
        Agent(policy).act(observation(1))  # with a batch axis


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            np.zeros(2, np.float32),
            r"was given a ndarray; it takes a mapping: {'state': array of shape \(2,\)}",
        ),
        (
            ({"state": np.zeros(2)}, {}),
            "was given a tuple; it takes a mapping",
        ),  # what an environment's reset() returns
        (None, "was given a NoneType; it takes a mapping"),
        ({"pose": np.zeros(2)}, r"no \['state'\]"),
        (
            {"state": np.zeros(3)},
            r"'state' has shape \(3,\); \(2,\) is wanted, without a batch axis",
        ),
        (
            {"state": np.zeros((1, 2))},
            r"'state' has shape \(1, 2\); \(2,\) is wanted, without a batch axis",
        ),
        ({"state": [[1.0], [1.0, 2.0]]}, "'state' is no array"),
        ({"state": [None, None]}, "'state' is object"),
        ({"state": ["a", "b"]}, "'state' is <U1"),
    ],
)
def test_what_is_no_observation_is_refused_by_name(given, match, policy):
    agent = Agent(policy)
    with pytest.raises(ConfigError, match=match):
        agent.act(given)
    unread: Any = None
    assert agent.act({"state": [0.5, 1], "unused": unread}).shape == (2,)  # lists are arrays
