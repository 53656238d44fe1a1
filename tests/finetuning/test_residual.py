"""A residual behind a frozen base: what must hold exactly, and a task whose optimum is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.finetuning.replay import link_chunks
from hotstart.finetuning.residual import ResidualSettings, ResidualTuner, add_residual
from hotstart.finetuning.rollouts import Rollout
from hotstart.finetuning.tuner import Setup
from hotstart.policy import checkpoint
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import CheckpointError, ConfigError

from .analytic import BEST, TargetSource, load_both, make_base_that_says_nothing, plans_of

TINY = ResidualSettings(
    iterations=2, rows=4, chunks=3, warm_up=0, hidden=8, batch=16, scale=0.2, update_ratio=0.5
)
SAMPLERS = {
    "fresh": Fresh(2),
    "warm start": WarmStart(2, 0.4, cold=2),
    "streaming": Streaming(2, cold=2),
}


def tuner_of(base, folder, settings=TINY, sampler=None):
    source = TargetSource(settings.rows)
    return ResidualTuner(settings, Setup(base, sampler or Fresh(2), source, folder))


def chunks_of(tuner):
    assert tuner.chunks is not None
    return tuner.chunks


def correct_by_the_scale(model):
    torch.nn.init.constant_(model.residual.head.bias, 5.0)


def carried_of(model, sampler):
    """The plans that a policy carries from one call to the next, and the actions of the last."""
    policy = DiffusionPolicy(model, sampler)
    rows = np.arange(2)
    seen = {"state": np.array([[0.1, 0.2], [0.3, -0.4]], np.float32)}
    state = policy.observe(policy.initial_state([0, 1]), seen)
    plans = []
    for _ in range(3):
        planned = policy.plan(state, rows, np.full(2, policy.horizon.executed))
        state = policy.observe(policy.adopt(state, planned), seen)
        plans.append(planned.plan.x)
    return np.stack(plans), planned.actions


@pytest.mark.parametrize("name", SAMPLERS)
def test_before_the_first_update_the_policy_is_its_base_to_the_bit(name, base):
    model = add_residual(base, TINY, None)
    assert np.array_equal(plans_of(model, SAMPLERS[name]), plans_of(base, SAMPLERS[name]))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_plan_that_is_carried_on_stays_the_bases(name, base):
    model = add_residual(base, TINY, None)
    correct_by_the_scale(model)
    carried, actions = carried_of(base, SAMPLERS[name])
    same, corrected = carried_of(model, SAMPLERS[name])
    assert np.array_equal(carried, same)
    assert np.allclose(corrected, actions + TINY.scale, atol=1e-3)


def test_steps_behind_the_chunk_stay_the_bases(base):
    model = add_residual(base, TINY, None)
    correct_by_the_scale(model)
    chunks = []
    for each in (base, model):
        policy = DiffusionPolicy(each, Fresh(2), delay=3)
        state = policy.observe(policy.initial_state([0]), {"state": np.zeros((1, 2), np.float32)})
        chunks.append(policy.plan(state, np.arange(1), np.full(1, 4)).actions)
    assert not np.isclose(chunks[0][:, :4], chunks[1][:, :4]).any()
    assert np.array_equal(chunks[0][:, 4:], chunks[1][:, 4:])


def test_the_base_is_never_changed_and_corrections_stay_within_the_scale(base, tmp_path):
    tuner = tuner_of(base, tmp_path, replace(TINY, rate=0.1, noise=3.0))
    tuner.advance()
    weights = tuner.model.state_dict()
    for name, weight in base.state_dict().items():
        assert torch.equal(weights[name], weight), name
    assert weights["residual.head.weight"].abs().sum() > 0
    assert chunks_of(tuner).correction.abs().max() <= TINY.scale
    assert chunks_of(tuner).correction.std() > 0
    assert tuner.ledger.training == 4 * 3 * 4


def test_the_critics_learn_alone_at_first(base, tmp_path):
    tuner = tuner_of(base, tmp_path, replace(TINY, warm_up=1))
    numbers = tuner.advance()
    assert numbers["correction"] == 0
    assert "value" not in numbers
    assert tuner.advance()["correction"] > 0


def test_a_penalty_keeps_corrections_small(base, tmp_path):
    sizes = []
    for penalty in (0.0, 100.0):
        settings = replace(TINY, rate=0.03, penalty=penalty, update_ratio=2.0)
        sizes.append(tuner_of(base, tmp_path, settings).advance()["correction"])
    assert sizes[1] < 0.5 * sizes[0]


def make_rollout(reward, terminated, done):
    fields = dict.fromkeys(Rollout.__dataclass_fields__)
    return Rollout(**{**fields, "reward": reward, "terminated": terminated, "done": done})


def test_returns_are_those_of_a_brute_force_sum():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=(7, 5))
    done = rng.random((7, 5)) < 0.3
    terminated = done & (rng.random((7, 5)) < 0.5)
    names = torch.arange(35.0).reshape(7, 5, 1)
    recorded = {"tokens": names, "base": names, "correction": names}
    found = link_chunks(recorded, make_rollout(reward, terminated, done), 0.9, 3)
    wanted = []
    for first in range(7):
        for row in range(5):
            total, factor, place = 0.0, 1.0, first
            while place < first + 3 and factor > 0:
                cut_off = done[place, row] or place == 6
                if cut_off and not terminated[place, row]:
                    break
                total += factor * reward[place, row]
                factor *= 0.0 if terminated[place, row] else 0.9
                place += 1
            if place > first:
                wanted.append((names[first, row, 0], total, factor, names[min(place, 6), row, 0]))
    assert 0 < len(wanted) < 35
    wanted = torch.tensor(wanted, dtype=torch.float32)
    assert torch.equal(found.tokens[:, 0], wanted[:, 0])
    assert torch.allclose(found.reward, wanted[:, 1])
    assert torch.allclose(found.discount, wanted[:, 2])
    follows = found.discount > 0
    assert torch.equal(found.next_base[follows, 0], wanted[follows, 3])


def test_nothing_follows_a_termination(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    tuner.advance()
    batch = chunks_of(tuner).take(slice(0, 4))
    over = replace(batch, discount=torch.zeros(4))
    assert torch.equal(tuner.compute_target(over, torch.Generator()), batch.reward)
    assert not torch.equal(tuner.compute_target(batch, torch.Generator()), batch.reward)


def test_a_known_optimum_is_found(base, tmp_path):
    """From a base that says 0: a reward of -0.125; at most 0.2 nearer in each number, -0.025."""
    plain = make_base_that_says_nothing(base)
    settings = ResidualSettings(
        iterations=5, rows=32, chunks=4, hidden=16, batch=64, scale=0.2, rate=1e-2, follow=0.1
    )
    tuner = tuner_of(plain, tmp_path, settings, Fresh(1))
    for _ in range(settings.iterations):
        tuner.advance()
    actions = plans_of(tuner.model, Fresh(1))
    assert np.square(plans_of(plain, Fresh(1)) - BEST).mean() == pytest.approx(0.125, abs=1e-3)
    assert np.square(actions - BEST).mean() < 0.04


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    settings = replace(TINY, capacity=6)
    whole = tuner_of(base, tmp_path / "whole", settings)
    whole.run(progress=False)
    tuner_of(base, tmp_path / "part", replace(settings, iterations=1)).run(progress=False)
    rest = tuner_of(base, tmp_path / "part", settings)
    rest.run(progress=False)
    assert len(chunks_of(rest)) == 6
    assert torch.equal(chunks_of(rest).reward, chunks_of(whole).reward)
    other, _ = load_both(tmp_path)
    assert other.config.residual["scale"] == 0.2
    assert np.array_equal(plans_of(other, Fresh(2)), plans_of(whole.model, Fresh(2)))
    with pytest.raises(ConfigError, match="has a residual of scale"):
        tuner_of(other, tmp_path, replace(settings, scale=0.1))


def test_a_residual_that_does_not_fit_the_plans_is_refused(base, tmp_path):
    model = add_residual(base, TINY, None)
    checkpoint.save(tmp_path / "c", model, {})
    config = tmp_path / "c" / "config.yaml"
    config.write_text(config.read_text().replace("first: 1", "first: 11"))
    with pytest.raises(CheckpointError, match="the residual wants 4 action steps from step 11"):
        checkpoint.load(tmp_path / "c")
