"""A policy with a filter follows observations and executed actions, row by row; it is saved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.policy import checkpoint
from hotstart.policy.agent import Agent
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.filters.latent import LATENT, LatentFilter
from hotstart.policy.model import PolicyModel
from hotstart.policy.normalizer import ACTION
from hotstart.rows import take_rows
from hotstart.spec import CheckpointError, ConfigError, Executed, ObsKey, ObsSpec

SEEN = ObsSpec({"place": ObsKey((2,)), "view": ObsKey((32, 32, 3), "uint8", "image")})
SECOND = 0.1


@pytest.fixture(scope="module")
def latent():
    torch.manual_seed(0)
    return LatentFilter(SEEN, actions=2, hidden=8, groups=2, classes=3, channels=2)


@pytest.fixture
def policy(tiny_model, latent):
    config = replace(tiny_model().config, obs_spec=ObsSpec({LATENT: latent.key}))
    model = PolicyModel(config)
    model.normalizer.set_range(LATENT, -np.ones(latent.width), np.ones(latent.width))
    model.normalizer.set_range(ACTION, -np.ones(2), np.ones(2))
    model.add_filter(latent)
    return DiffusionPolicy(model.eval().requires_grad_(False))


def observe(rows, tick):
    rng = np.random.default_rng(tick)
    place = rng.normal(size=(9, 2)).astype(np.float32)
    view = rng.integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)
    return {"place": place[:rows], "view": view[:rows]}


def execute(rows, tick, seconds=SECOND):
    return Executed(
        np.random.default_rng(100 + tick).normal(size=(9, 2))[:rows], np.full(rows, seconds)
    )


def drive(policy, rows=3, ticks=4):
    state = policy.observe(policy.initial_state(range(rows)), observe(rows, 0))
    for tick in range(1, ticks):
        state = policy.observe(state, observe(rows, tick), execute(rows, tick))
    return state


def write_out(latent, ticks=4, row=0):
    """What the filter says after `ticks` observations of one row, written out step by step."""
    h = torch.zeros(1, latent.hidden)
    z = before = None
    earlier = torch.zeros(1, 2)
    for tick in range(ticks):
        seen = observe(9, tick)
        values = torch.as_tensor(seen["place"][row : row + 1])
        if before is not None:
            told = torch.as_tensor(execute(9, tick).actions[row : row + 1]).float()
            h = latent.advance(h, z, latent.join_inputs(before, before - earlier, told))
        earlier = values
        if before is not None:
            earlier = before
        view = torch.as_tensor(seen["view"][row : row + 1])
        embedded = latent.embed(latent.embed_pictures({"view": view}), values, values - earlier)
        z = latent.pick(latent.judge(h, embedded))
        before = values
    return latent.describe(h, z, before)


def test_the_policy_sees_what_the_filter_says_of_all_it_was_told(policy, latent):
    state = drive(policy)
    assert policy.obs_spec.keys == SEEN.keys
    with torch.no_grad():
        wanted = write_out(latent, row=1)[0].numpy()
    np.testing.assert_allclose(state.history[LATENT][1, -1], wanted, atol=1e-5)
    planned = policy.plan(state, np.arange(3), np.zeros(3, int))
    assert planned.actions.shape == (3, policy.horizon.executed, 2)


def test_rows_are_filtered_alone_and_begin_anew_alone(policy):
    together, alone = drive(policy, rows=3), drive(policy, rows=1)
    for name, values in take_rows(together, [0]).memory.items():
        np.testing.assert_allclose(values, alone.memory[name], atol=1e-5)
    again = policy.reset_rows(together, np.array([1]), [9])
    again = policy.observe(again, observe(3, 0), new=np.zeros(3, bool))
    first = policy.observe(policy.initial_state([9]), take_rows(observe(3, 0), [1]))
    np.testing.assert_allclose(again.memory["h"][1], 0.0)
    np.testing.assert_allclose(again.history[LATENT][1], first.history[LATENT][0], atol=1e-5)
    np.testing.assert_array_equal(again.memory["h"][[0, 2]], together.memory["h"][[0, 2]])


def test_an_observation_within_a_period_replaces_and_actions_add_up(policy):
    """Two halves of a period, with an observation between them, are that period."""
    whole = drive(policy, ticks=2)
    state = policy.observe(policy.initial_state(range(3)), observe(3, 0))
    half = execute(3, 1, SECOND / 2)
    state = policy.observe(state, observe(3, 7), half, new=np.zeros(3, bool))
    state = policy.observe(state, observe(3, 0), Executed.nothing(3, 2), new=np.zeros(3, bool))
    state = policy.observe(state, observe(3, 1), half)
    for name, values in whole.memory.items():
        np.testing.assert_allclose(state.memory[name], values, atol=1e-5)


def test_where_nothing_was_executed_an_observation_replaces_the_one_before(policy):
    state = drive(policy)
    waiting = policy.observe(state, observe(3, 4), Executed.nothing(3, 2))
    np.testing.assert_array_equal(waiting.memory["h"], state.memory["h"])
    np.testing.assert_array_equal(waiting.memory["before"], state.memory["before"])
    np.testing.assert_array_equal(waiting.memory["values"], observe(3, 4)["place"])


def test_what_was_executed_counts_and_must_be_said(policy):
    state = drive(policy)
    moved = policy.observe(state, observe(3, 4), execute(3, 4))
    other = policy.observe(state, observe(3, 4), execute(3, 5))
    assert not np.array_equal(moved.history[LATENT], other.history[LATENT])
    with pytest.raises(ConfigError, match="give observe\\(\\) `executed`"):
        policy.observe(state, observe(3, 4))


def test_an_observation_that_holds_the_latent_needs_no_filter(policy, latent):
    said = np.full((2, latent.width), 0.5, np.float32)
    state = policy.observe(policy.initial_state([0, 1]), {LATENT: said})
    np.testing.assert_array_equal(state.history[LATENT][:, -1], said)


def test_an_agent_tells_the_filter_what_it_did(policy):
    agent = Agent(policy)
    seen = [{name: values[0] for name, values in observe(1, tick).items()} for tick in range(2)]
    action = agent.act(seen[0])
    agent.act(seen[1])
    state = policy.observe(policy.initial_state([0]), observe(1, 0))
    state = policy.observe(state, observe(1, 1), Executed(action[None], np.ones(1)))
    np.testing.assert_array_equal(agent._state.memory["h"], state.memory["h"])
    agent.reset()
    agent.act(seen[0])
    agent.note_executed(np.array([0.3, -0.2]))
    agent.act(seen[1])
    state = policy.observe(policy.initial_state([0]), observe(1, 0))
    state = policy.observe(state, observe(1, 1), Executed(np.array([[0.3, -0.2]]), np.ones(1)))
    np.testing.assert_array_equal(agent._state.memory["h"], state.memory["h"])


def test_a_checkpoint_keeps_the_filter(policy, tmp_path):
    checkpoint.save(tmp_path / "kept", policy.model, {})
    loaded = DiffusionPolicy.load(tmp_path / "kept")
    mine, theirs = drive(policy), drive(loaded)
    np.testing.assert_array_equal(mine.history[LATENT], theirs.history[LATENT])
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    text = (tmp_path / "kept" / "config.yaml").read_text()
    (tmp_path / "kept" / "config.yaml").write_text(text.replace("groups: 2", "grups: 2"))
    with pytest.raises(CheckpointError, match="grups"):
        checkpoint.load(tmp_path / "kept")


def test_a_model_refuses_a_filter_of_another_width(tiny_model, latent):
    with pytest.raises(ConfigError, match=f"{latent.width} numbers"):
        tiny_model().add_filter(latent)
