"""Cloning of the episodes that succeeded: what is kept, what is learned, and going on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.datasets.store import Store
from hotstart.finetuning.cloning import CloningSettings, CloningTuner
from hotstart.finetuning.episodes import RecordingSource
from hotstart.finetuning.tuner import Setup
from hotstart.policy.samplers.bidirectional import BidirectionalDecoding
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import CheckpointError, ConfigError

from .analytic import (
    ACTIONS,
    BEST,
    OBS,
    TargetSource,
    load_both,
    make_base_that_says_nothing,
    plans_of,
)

TINY = CloningSettings(iterations=2, rows=16, chunks=4, updates=3, batch=32, rate=1e-3)
META = {"training": {"regimes": {"staircase": 0.5, "constant": 0.5, "prefix": 0.0}}}


class CountingSource(TargetSource):
    """Its second state is the number of control periods since the episode's beginning."""

    def begin(self, rows, seeds):
        super().begin(rows, seeds)
        self.state[rows, 1] = 0
        return {"state": self.state.copy()}

    def step(self, actions):
        turn = super().step(actions)
        frames = []
        for _ in range(actions.shape[1]):
            self.state[:, 1] += 1
            frames.append({"state": self.state.copy()})
        return replace(turn, frames=frames)


def tuner_of(base, folder, settings=TINY, tolerance=10.0, sampler=None, meta=META, length=2):
    source = TargetSource(settings.rows, length, tolerance)
    return CloningTuner(settings, Setup(base, sampler or Fresh(2), source, folder, meta))


def test_an_episode_holds_each_observation_with_the_action_that_followed():
    source = RecordingSource(CountingSource(rows=3, length=2), OBS)
    source.begin(np.arange(3), [0, 1, 2])
    actions = np.arange(3 * 4 * 2, dtype=np.float64).reshape(3, 4, 2)
    source.step(actions)
    source.begin(np.array([1]), [3])  # its first chunk is forgotten
    source.step(-actions)
    source.begin(np.array([0, 2]), [4, 5])
    source.step(actions)
    episodes = source.take_episodes()
    assert [episode.row for episode in episodes] == [0, 2, 1]
    for episode in episodes:
        chunks = np.stack([actions, -actions, actions])[:, episode.row]
        first = int(episode.row == 1)
        assert np.array_equal(episode.arrays["action"], chunks[first : first + 2].reshape(8, 2))
        assert np.array_equal(episode.turns, first + np.arange(8) // 4)
        assert np.array_equal(episode.arrays["state"][:, 1], np.arange(8))
    assert source.take_episodes() == []


def test_where_nothing_succeeds_the_policy_stays_its_base_to_the_bit(base, tmp_path):
    tuner = tuner_of(base, tmp_path, tolerance=0.0)
    numbers = tuner.advance()
    assert numbers["kept"] == 0
    assert np.array_equal(plans_of(tuner.model, Fresh(2)), plans_of(base, Fresh(2)))


def test_only_episodes_that_succeeded_are_kept_over_the_rounds(base, tmp_path):
    settings = replace(TINY, chunks=2, min_std=0.3, updates=1)
    tuner = tuner_of(base, tmp_path, settings, tolerance=0.2)
    successes = 0.0
    for _ in range(2):
        numbers = tuner.advance()
        successes += numbers["success"] * numbers["episodes"]
    assert 0 < successes < 2 * numbers["episodes"]
    assert numbers["kept"] == len(tuner.kept.episodes) == successes
    for episode in tuner.kept.episodes:
        errors = np.square(episode["action"] - BEST).reshape(2, -1).mean(1)  # of its two chunks
        assert errors.min() < 0.2


def test_a_known_optimum_is_approached(base, tmp_path):
    """From a base that says 0, with noise of 0.3: rewards begin near -0.215, the best is -0.09."""
    plain = make_base_that_says_nothing(base)
    settings = CloningSettings(
        iterations=5, rows=64, chunks=2, actor="tuned", min_std=0.3, updates=30, batch=64, rate=1e-2
    )
    tuner = tuner_of(plain, tmp_path, settings, 0.15, Fresh(1), length=1)
    rewards = [tuner.advance()["reward"] / 2 for _ in range(settings.iterations)]
    assert rewards[0] == pytest.approx(-0.215, abs=0.02)
    assert rewards[-1] > rewards[0] + 0.06


def test_the_base_acts_unless_the_tuned_policy_is_asked_for(base, tmp_path):
    kept = {}
    for actor in ("base", "tuned"):
        tuner = tuner_of(base, tmp_path, replace(TINY, actor=actor, rate=0.1))
        tuner.advance()
        tuner.iteration = 0  # the same episodes again
        tuner.advance()
        first, again = np.split(tuner.kept.join("action"), 2)
        kept[actor] = np.array_equal(first, again)
    assert kept == {"base": True, "tuned": False}


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(base, tmp_path):
    settings = replace(TINY, min_std=0.3)
    tuner_of(base, tmp_path / "whole", settings, 0.2).run(progress=False)
    tuner_of(base, tmp_path / "part", replace(settings, iterations=1), 0.2).run(progress=False)
    rest = tuner_of(base, tmp_path / "part", settings, 0.2)
    rest.run(progress=False)
    other, meta = load_both(tmp_path)
    assert any(not torch.equal(w, base.state_dict()[n]) for n, w in other.state_dict().items())
    assert meta["ledger"]["training"] == 2 * 16 * 4 * 4
    assert other.regimes == base.regimes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("demonstrations") / "d.zarr"
    made = Store.create(path, fps=10, action_spec=ACTIONS, obs_spec=OBS)
    actions = np.full((20, 2), 0.9, np.float32)
    made.append({"state": np.full((20, 2), 7.0, np.float32), "action": actions})
    return made


def test_demonstrations_are_a_share_of_every_batch_and_stand_in_the_ledger(store, base, tmp_path):
    settings = replace(TINY, demonstrations=str(store.path), share=0.25)
    tuner = tuner_of(base, tmp_path, settings)
    tuner.advance()
    observation, actions = tuner._mix(tuner._cut_windows().at(5), 5)
    ours = (observation["state"] == 7).all(2).all(1)
    assert len(ours) == 32
    assert int(ours.sum()) == 8
    assert (actions[ours] == 0.9).all()
    assert tuner.ledger.demonstrations == 20
    known = {**META, "dataset_hash": store.content_hash(), "ledger": {"demonstrations": 20}}
    assert tuner_of(base, tmp_path, settings, meta=known).ledger.demonstrations == 20
    with pytest.raises(ConfigError, match="leave some"):
        replace(settings, share=1.0)


def test_the_base_is_cloned_as_it_was_trained(base, tmp_path):
    learner = tuner_of(base, tmp_path).learner
    assert learner.settings.regimes.names() == ["staircase", "constant"]
    record = {"weight_decay": 0.5, "ema_power": 0.5, "batch": 4, "seed": 9}
    learner = tuner_of(base, tmp_path, meta={"training": record}).learner
    assert learner.settings.regimes.names() == list(base.regimes)
    assert learner.optimizer.param_groups[0]["weight_decay"] == 0.5
    assert learner.ema.power == 0.5
    assert learner.settings.batch == TINY.batch
    with pytest.raises(CheckpointError, match="training is"):
        tuner_of(base, tmp_path, meta={"training": {"regimes": {"stairs": 1.0}}})


def test_any_sampler_can_collect_unless_noise_is_asked_for(base, tmp_path):
    sampler = BidirectionalDecoding()
    tuner_of(base, tmp_path, replace(TINY, rows=2, chunks=1), sampler=sampler).advance()
    noisy = replace(TINY, rows=2, chunks=1, min_std=0.1)
    with pytest.raises(ConfigError, match="BidirectionalDecoding"):
        tuner_of(base, tmp_path, noisy, sampler=sampler).advance()
