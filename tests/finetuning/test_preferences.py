"""Preferences between two episodes of one start: which is better, and what is learned from it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.finetuning.chains import explore
from hotstart.finetuning.choices import ChoicesWanted, compare_pairs, read_choices
from hotstart.finetuning.preferences import (
    PreferenceSettings,
    PreferenceTuner,
    compute_losses,
    find_usable,
    match_steps,
)
from hotstart.finetuning.rollouts import Collector, group_seeds
from hotstart.finetuning.tuner import Setup
from hotstart.policy import checkpoint
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import ConfigError

from .analytic import TargetSource, load_both, silence

TINY = PreferenceSettings(iterations=2, rows=8, chunks=4, trained_steps=2, by="return", batch=32)


def tuner_of(base, folder, settings=TINY, sampler=None):
    setup = Setup(base, sampler or Fresh(3), TargetSource(settings.rows), folder)
    return PreferenceTuner(settings, setup)


def collect(tuner):
    policy = DiffusionPolicy(tuner.model, explore(tuner.sampler, 0.1))
    starts, noise = group_seeds(np.arange(tuner.source.rows), 2)
    return Collector(policy, tuner.source, None, tuner.below).collect_groups(4, starts, noise)


def test_success_comes_before_the_return(base, tmp_path):
    rollout = collect(tuner_of(base, tmp_path))
    success = np.zeros((2, 8), bool)
    success[1, [0, 4, 5]] = True
    reward = np.zeros((2, 8))
    reward[0] = [1, 2, 1, 2, 3, 2, 4, 4]
    told = replace(rollout, success=success, reward=reward)
    assert compare_pairs(told, "success").tolist() == [1, -1, 1, 0]
    assert compare_pairs(told, "return").tolist() == [-1, -1, 1, 0]


def test_the_same_steps_of_both_episodes_are_matched_while_both_run(base, tmp_path):
    tuner = tuner_of(base, tmp_path)
    rollout = collect(tuner)
    better = np.array([1, -1, 0, 1])
    periods = rollout.periods.copy()
    periods[1, 7] = 0  # the last row's episode was over after its first chunk
    usable = find_usable(replace(rollout, periods=periods), better)
    assert usable.reshape(2, 8).tolist() == [
        [True, True, True, True, False, False, True, True],
        [True, True, True, True, False, False, False, False],
    ]
    scored = tuner.score_steps(rollout, explore(tuner.sampler, 0.1), usable)
    assert scored is not None
    pairs = match_steps(scored.steps, better)
    assert len(pairs) == 5 * 2  # plans of a row, and two trained steps of each
    chunk, later = scored.steps.chunk[pairs], scored.steps.later[pairs]
    assert torch.equal(later[:, 0], later[:, 1])
    apart = chunk[:, 1] - chunk[:, 0]
    assert torch.equal(apart, torch.where(chunk[:, 0] % 8 // 2 == 1, -1, 1))


def test_the_loss_is_dpos_by_a_closed_form(base, tmp_path):
    """log 2 where policy and base are the same; one number moved changes it as DPO says."""
    tuner = tuner_of(base, tmp_path)
    rollout = collect(tuner)
    better = np.ones(4, np.int64)
    noisy = explore(tuner.sampler, 0.1)
    scored = tuner.score_steps(rollout, noisy, find_usable(rollout, better))
    assert scored is not None
    pairs = match_steps(scored.steps, better)
    model = tuner.make_step_model(tuner.network.tuned, noisy)
    weight = torch.ones(len(pairs))
    with torch.no_grad():
        losses = compute_losses(model, rollout.tokens, scored, pairs, weight, TINY)
        assert float(losses.policy) == pytest.approx(np.log(2), abs=1e-4)
        assert float(losses.divergence) == pytest.approx(0, abs=1e-6)
        worse = scored.base_log_prob.clone()
        worse[pairs[:, 0]] -= 0.7  # the better steps have become more probable by 0.7
        moved = replace(scored, base_log_prob=worse)
        settings = replace(TINY, beta=2.0)
        losses = compute_losses(model, rollout.tokens, moved, pairs, weight, settings)
    assert float(losses.policy) == pytest.approx(np.log(1 + np.exp(-1.4)), abs=1e-3)


def test_a_known_optimum_is_found_from_preferences_alone(base, tmp_path):
    """From a base that says 0 with noise of 0.1: rewards begin at -0.135, the best is -0.01."""
    plain = silence(base)
    settings = PreferenceSettings(
        iterations=10,
        rows=32,
        chunks=2,
        trained_steps=1,
        by="return",
        rate=1e-2,
        batch=32,
        share=1.0,
        beta=0.3,
    )
    tuner = tuner_of(plain, tmp_path, settings, Fresh(1))
    rewards = [tuner.advance()["reward"] / 2 for _ in range(settings.iterations)]
    assert rewards[0] == pytest.approx(-0.135, abs=0.01)
    assert rewards[-1] > -0.06


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    tuner_of(base, tmp_path / "whole").run(progress=False)
    tuner_of(base, tmp_path / "part", replace(TINY, iterations=1)).run(progress=False)
    tuner_of(base, tmp_path / "part").run(progress=False)
    _, meta = load_both(tmp_path)
    assert meta["ledger"]["training"] == 2 * 8 * 2 * 4


def test_a_run_waits_for_a_persons_choices_and_goes_on_with_them(base, tmp_path):
    """With the choices that the return would make, it ends as the run that prefers by return."""
    by_return = tuner_of(base, tmp_path / "return")
    by_return.run(progress=False)
    settings = replace(TINY, by="file")
    for number in range(2):
        tuner = tuner_of(base, tmp_path / "file", settings)
        with pytest.raises(ChoicesWanted, match=r"wants choices\.json") as wanted:
            tuner.run(progress=False)
        assert wanted.value.folder == tmp_path / "file" / "choices" / f"00{number}"
        assert wanted.value.pairs == 4
        rollout = collect_again(tuner)
        words = {1: "left", -1: "right", 0: "same"}
        chosen = {}
        for pair, better in enumerate(compare_pairs(rollout, "return").tolist()):
            chosen[str(pair)] = words[better]
        wanted.value.folder.mkdir(parents=True)
        (wanted.value.folder / "choices.json").write_text(json.dumps(chosen))
    tuner_of(base, tmp_path / "file", settings).run(progress=False)
    one, meta = checkpoint.load(tmp_path / "return")
    other, meta_of_file = checkpoint.load(tmp_path / "file")
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name
    assert meta["ledger"] == meta_of_file["ledger"]


def collect_again(tuner):
    """The rollout of the round that a tuner has stopped in."""
    policy = DiffusionPolicy(tuner.model, explore(tuner.sampler, TINY.min_std))
    starts, noise = group_seeds(tuner.draw_seeds(0)[0], 2)
    return Collector(policy, tuner.source, None, tuner.below).collect_groups(4, starts, noise)


def test_choices_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "choices.json"
    path.write_text('{"0": "left", "2": "same"}')
    assert read_choices(path, 3).tolist() == [1, 0, 0]
    for text in ('{"3": "left"}', '{"0": "both"}', '{"0": 1}', '["left"]'):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"choices\.json"):
            read_choices(path, 3)
