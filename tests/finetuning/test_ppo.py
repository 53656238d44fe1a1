"""Fine-tuning over denoising steps: what must hold exactly, and a task whose optimum is known."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.finetuning.advantages import estimate_advantages
from hotstart.finetuning.chains import explore, split_model, trained_level
from hotstart.finetuning.ppo import compute_losses, limit_ratio
from hotstart.finetuning.rollouts import Collector
from hotstart.finetuning.trainer import FineTuner, PPOSettings
from hotstart.finetuning.tuner import Setup
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.bidirectional import BidirectionalDecoding
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import CheckpointError, ConfigError

from .analytic import TargetSource, load_both, plans_of, silence

TINY = PPOSettings(iterations=2, rows=16, chunks=4, trained_steps=3, warm_up=0, batch=64)
SAMPLERS = {
    "fresh": Fresh(5),
    "one step": Fresh(1),
    "warm start": WarmStart(2, 0.4, cold=5),
    "streaming": Streaming(2, cold=4),
}


def tuner_of(base, folder, sampler=None, settings=TINY):
    return FineTuner(settings, Setup(base, sampler or Fresh(5), TargetSource(), folder))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_policy_that_was_not_tuned_yet_plans_as_its_base_to_the_bit(name, base):
    sampler = SAMPLERS[name]
    split = split_model(base, trained_level(base, sampler, 2))
    assert np.array_equal(plans_of(split, sampler), plans_of(base, sampler))


@pytest.mark.parametrize("name", SAMPLERS)
def test_ratios_are_one_before_the_first_update(name, base, tmp_path):
    tuner = tuner_of(base, tmp_path, SAMPLERS[name])
    noisy = explore(tuner.sampler, 0.1)
    policy = DiffusionPolicy(tuner.model, noisy)
    collector = Collector(policy, tuner.source, tuner.critic, tuner.below)
    rollout = collector.collect(3, tuner.draw_seeds(3))
    experience = tuner._prepare(rollout, noisy)
    scored = experience.scored
    assert scored is not None
    everything = torch.arange(len(scored.steps))
    model = tuner.make_step_model(tuner.network.tuned, noisy)
    with torch.no_grad():
        losses = compute_losses(model, experience, scored, tuner.settings, everything)
    assert float(losses.clipped) == 0
    assert float(losses.moved) < 1e-9
    assert float(losses.divergence) < 1e-9
    log_prob, taken = model.log_prob(scored.steps, rollout.tokens[scored.steps.chunk])
    assert torch.allclose(log_prob, scored.old_log_prob, atol=1e-5)
    # What was sampled lies as far from the mean as a standard normal number does.
    noise = ((taken.next_x - taken.mean) / taken.std)[scored.steps.counts]
    assert float(noise.mean().abs()) < 0.1
    assert float(noise.std()) == pytest.approx(1.0, abs=0.1)


def test_with_no_trained_step_nothing_changes(base, tmp_path):
    tuner = tuner_of(base, tmp_path, settings=replace(TINY, trained_steps=0))
    numbers = tuner.advance()
    assert "policy_loss" not in numbers
    assert numbers["critic_loss"] > 0
    assert np.array_equal(plans_of(tuner.model, Fresh(5)), plans_of(base, Fresh(5)))


def test_steps_before_the_trained_ones_keep_the_weights_of_the_base(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    before = copy.deepcopy(tuner.network.base.state_dict())
    tuner.advance()
    for name, weight in tuner.network.base.state_dict().items():
        assert torch.equal(weight, before[name])
    moved = [
        not torch.equal(weight, before[name])
        for name, weight in tuner.network.tuned.state_dict().items()
    ]
    assert any(moved)
    assert all(parameter.grad is None for parameter in tuner.network.base.parameters())


def test_noisy_steps_are_held_tighter():
    later = torch.tensor([2, 1, 0, 0])
    total = torch.tensor([3, 3, 3, 1])
    limit = limit_ratio(PPOSettings(clip=0.03, clip_first=0.003), later, total)
    assert limit[0] == pytest.approx(0.003)
    assert limit[0] < limit[1] < limit[2]
    assert limit[2] == limit[3] == pytest.approx(0.03)


def test_advantages_are_those_of_a_brute_force_sum():
    rng = np.random.default_rng(0)
    reward, value, following = rng.normal(size=(3, 6, 4))
    done = rng.random((6, 4)) < 0.4
    terminated = done & (rng.random((6, 4)) < 0.5)
    found = estimate_advantages(reward, value, following, terminated, done, 0.9, 0.8)
    for row in range(4):
        for first in range(6):
            total = 0.0
            for offset, chunk in enumerate(range(first, 6)):
                bootstrap = 0.0 if terminated[chunk, row] else following[chunk, row]
                error = reward[chunk, row] + 0.9 * bootstrap - value[chunk, row]
                total += (0.9 * 0.8) ** offset * error
                if done[chunk, row]:
                    break
            assert found[first, row] == pytest.approx(total)


def test_rows_whose_episode_is_over_are_valued_by_their_final_observation(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    policy = DiffusionPolicy(tuner.model, explore(Fresh(5), 0.1))
    rollout = Collector(policy, tuner.source, tuner.critic, tuner.below).collect(
        4, tuner.draw_seeds(4)
    )
    assert rollout.done[1].all()
    assert rollout.done[3].all()
    # The state stands still, and only the time differs: within an episode the value of what a
    # chunk leads to is the value of the next chunk, and at its end it is not.
    assert np.allclose(rollout.next_value[0], rollout.value[1])
    assert not np.isclose(rollout.next_value[1], rollout.value[2]).any()


def test_early_successes_do_not_count_more_often(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    policy = DiffusionPolicy(tuner.model, explore(Fresh(5), 0.1))
    rollout = Collector(policy, tuner.source, tuner.critic, tuner.below).collect(
        4, tuner.draw_seeds(4)
    )
    done = np.zeros((4, 3), bool)
    done[1:, 0] = True  # three episodes that succeed at once
    done[3, 1] = True  # one that fails
    success = done & (np.arange(3) == 0)
    success[0, 2] = True  # and one that is over at the first turn
    done[0, 2] = True
    assert replace(rollout, done=done, success=success).count_episodes() == (3, 2)


@pytest.mark.parametrize("name", ["one step", "warm start"])
def test_a_known_optimum_is_found(name, base, tmp_path):
    """From a base that says 0 with noise of 0.1: rewards begin at -0.135, the best is -0.01."""
    plain = silence(base)
    settings = PPOSettings(
        iterations=12,
        rows=32,
        chunks=2,
        trained_steps=5,
        rate=1e-2,
        critic_rate=1e-2,
        batch=128,
        share=1.0,
        epochs=6,
        clip=0.2,
        clip_first=0.1,
        divergence=0.0,
    )
    sampler = {"one step": Fresh(1), "warm start": WarmStart(2, 0.4, cold=2)}[name]
    tuner = FineTuner(settings, Setup(plain, sampler, TargetSource(32), tmp_path))
    rewards = [tuner.advance()["reward"] / 2 for _ in range(settings.iterations)]
    assert rewards[0] == pytest.approx(-0.135, abs=0.01)
    assert rewards[-1] > -0.06


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    whole = tuner_of(base, tmp_path / "whole")
    whole.run(progress=False)
    part = tuner_of(base, tmp_path / "part", settings=replace(TINY, iterations=1))
    part.run(progress=False)
    rest = tuner_of(base, tmp_path / "part")
    rest.run(progress=False)
    _, meta = load_both(tmp_path)
    assert meta["ledger"]["training"] == 2 * 16 * 4 * 4
    with pytest.raises(CheckpointError, match="tuned with another rate"):
        tuner_of(base, tmp_path / "part", settings=replace(TINY, rate=0.1)).run(progress=False)


def test_samplers_whose_steps_have_no_probability_are_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="BidirectionalDecoding cannot be fine-tuned"):
        tuner_of(base, tmp_path, BidirectionalDecoding())
    with pytest.raises(ConfigError, match="fallback"):
        explore(WarmStart(fallback=0.1), 0.1)
