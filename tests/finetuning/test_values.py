"""Values of chunks: the policy stays as it is, and what they learn ranks its plans."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.finetuning.sources import SimulatorSource
from hotstart.finetuning.tuner import Setup
from hotstart.finetuning.values import NoisyPolicy, ValuesSettings, add_values, weigh_episodes
from hotstart.policy.model import PolicyModel
from hotstart.policy.samplers.best_of import BestOf
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.spec import ConfigError

from .analytic import (
    BEST,
    TargetSource,
    load_both,
    make_base_that_says_nothing,
    plans_of,
)

TINY = ValuesSettings(
    iterations=2, rows=4, chunks=3, warm_up=0, hidden=8, members=3, updates=4, batch=16
)


def tuner_of(base, folder, settings=TINY, sampler=None):
    source = TargetSource(settings.rows)
    return settings.make_tuner(Setup(base, sampler or Fresh(2), source, folder))


def test_the_policy_stays_its_base_to_the_bit_and_steps_are_counted(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    before = {name: weight.clone() for name, weight in tuner.values.state_dict().items()}
    tuner.advance()
    for name, weight in base.state_dict().items():
        assert torch.equal(tuner.model.state_dict()[name], weight), name
    for name, weight in tuner.values.state_dict().items():
        assert not torch.equal(weight, before[name]), name
    assert np.array_equal(plans_of(tuner.model, Fresh(2)), plans_of(base, Fresh(2)))
    assert tuner.ledger.training == 4 * 3 * 4


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_what_is_learned_from_is_what_was_executed(std, base):
    model = add_values(base, TINY, None)
    policy = NoisyPolicy(model, Fresh(2), None, std, torch.Generator().manual_seed(0))
    seen = {"state": np.linspace(-1, 1, 4, dtype=np.float32).reshape(2, 2)}  # as in plans_of
    state = policy.observe(policy.initial_state([0, 1]), seen)
    rows = np.arange(2)
    chunks = []
    for _ in range(2):
        planned = policy.plan(state, rows, np.full(2, policy.horizon.executed))
        state = policy.adopt(state, planned)
        chunks.append(planned.actions)
    recorded = policy.join(2, 2)["chunk"].unflatten(2, (4, 2)).numpy()
    assert np.array_equal(recorded, np.stack(chunks))
    plain = plans_of(model, Fresh(2), count=2)[0]
    assert np.array_equal(recorded[0], plain) == (std == 0)


def test_a_member_counts_the_chunks_of_an_episode_alike():
    done = np.array([[False, True], [True, False], [False, False], [False, True]])
    weight = weigh_episodes(done, 500, torch.Generator().manual_seed(0))
    assert torch.equal(weight[0, 0], weight[1, 0])
    assert torch.equal(weight[2, 0], weight[3, 0])
    assert torch.equal(weight[1, 1], weight[3, 1])
    for one, other in [((1, 0), (2, 0)), ((0, 1), (1, 1)), ((0, 0), (0, 1))]:
        assert not torch.equal(weight[one], weight[other])
    assert weight.mean() == pytest.approx(1.0, abs=0.1)


def test_a_member_learns_nothing_from_episodes_that_it_does_not_count(base, tmp_path):
    tuner = tuner_of(base, tmp_path, replace(TINY, updates=1))
    tuner.advance()
    tuner.chunks["weight"] = torch.tensor([0.0, 1.0, 2.0]).expand(12, 3)
    weight = tuner.values.layers[0].weight
    tuner.optimizer.state.clear()
    before = weight.clone()
    tuner._learn(torch.Generator())
    moved = (weight - before).abs().amax((1, 2))
    assert moved[0] < 1e-5 < 1e-4 < moved[1:].min()  # the decay of weights moves them all a little


def test_episodes_of_the_critics_warm_up_are_not_learned_from(base, tmp_path):
    tuner = tuner_of(base, tmp_path, replace(TINY, warm_up=1, capacity=5))
    assert "value_loss" not in tuner.advance()
    assert tuner.chunks == {}
    assert tuner.advance()["value_loss"] > 0
    assert len(tuner.chunks["target"]) == 5


def test_what_was_learned_tells_the_better_plans(base, tmp_path):
    """The reward of a chunk falls with its distance from the best action."""
    plain = make_base_that_says_nothing(base)
    settings = ValuesSettings(
        iterations=4, rows=32, chunks=4, hidden=32, updates=60, noise=0.3, discount=0.5
    )
    tuner = tuner_of(plain, tmp_path, settings, Fresh(1))
    numbers = [tuner.advance() for _ in range(settings.iterations)]
    assert numbers[-1]["agreement"] > 0.5
    chunk = 0.3 * torch.randn(500, 4, 2)
    said = tuner.values(torch.zeros(500, 16), chunk).amin(1)
    error = (chunk - torch.tensor(BEST)).square().mean((1, 2)).float()
    assert torch.corrcoef(torch.stack((said, -error)))[0, 1] > 0.5


def make_gate_base(base):
    """A policy of the gate that stands still."""
    with SimulatedRobot("gate", {}, 1, 0) as robot:
        config = replace(base.config, obs_spec=robot.obs_spec, action_spec=robot.action_spec)
    model = PolicyModel(config)
    for name, value in model.normalizer.state_dict().items():
        value.fill_(float(name.endswith("scale")))
    return make_base_that_says_nothing(model)


def test_values_of_the_gate_rank_chunks_better_than_chance(base, tmp_path):
    """Paid for the way to the goal. Chunks are noise: those that lead there are to be found."""
    settings = ValuesSettings(
        iterations=2, rows=48, chunks=5, hidden=32, updates=60, noise=0.5, reward="score"
    )
    with SimulatedRobot("gate", {}, settings.rows, 0) as robot:
        source = SimulatorSource(robot, robot.max_steps, settings.reward)
        setup = Setup(make_gate_base(base), Fresh(1), source, tmp_path)
        tuner = settings.make_tuner(setup)
        for _ in range(settings.iterations):
            tuner.advance()
    tokens = tuner.chunks["tokens"][: settings.rows]
    scores = []
    for dx in (-0.5, 0.5):
        chunk = torch.tensor([dx, 0.0]).expand(settings.rows, 4, 2)
        scores.append(tuner.values(tokens, chunk).amin(1))
    assert (scores[1] > scores[0]).float().mean() > 0.9


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    tuner_of(base, tmp_path / "whole").run(progress=False)
    tuner_of(base, tmp_path / "part", replace(TINY, iterations=1)).run(progress=False)
    rest = tuner_of(base, tmp_path / "part")
    rest.run(progress=False)
    assert len(rest.chunks["target"]) == 2 * 4 * 3
    other, _ = load_both(tmp_path)
    assert other.config.values["members"] == 3
    assert np.array_equal(plans_of(other, BestOf(4, 2)), plans_of(rest.model, BestOf(4, 2)))


def test_a_sampler_that_draws_no_fresh_plans_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="inference=ddim or another fresh sampler, not Streaming"):
        tuner_of(base, tmp_path, sampler=Streaming(2))
