import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.policy.denoisers.mlp import DiffusionMLP
from hotstart.policy.diffusion.schedule import VPCosine
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.model import ModelConfig, PolicyModel
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.training.api import node
from hotstart.spec import CheckpointError, ConfigError, DataError, Horizon
from hotstart.world_model import files
from hotstart.world_model.audit import (
    AuditSettings,
    audit,
    list_faults,
    measure_judge,
    measure_open_loop,
    rank_policies,
)
from hotstart.world_model.fitting import FitSettings
from hotstart.world_model.jump import JumpSettings
from hotstart.world_model.learning import learn
from hotstart.world_model.play import read_play

from .gate_play import CHUNK, record_play


@pytest.fixture(scope="module")
def learned():
    """A world model of the gate, what it was learned from, and the play that is held out."""
    play = record_play(80, seed=3, steps=45)
    quick = FitSettings(updates=300, batch=64, judge_updates=150)
    found, held_out = learn(
        play, CHUNK, fitting=quick, parts=JumpSettings(hidden=48), progress=False
    )
    return found, play, held_out


@pytest.fixture(scope="module")
def policy():
    """A policy that does not move."""
    play = record_play(1)
    model = PolicyModel(
        ModelConfig(
            encoder=node(StateEncoder, token_width=4),
            denoiser=node(DiffusionMLP, steps=CHUNK, hidden=8, layers=1, level_width=8),
            schedule=node(VPCosine),
            obs_spec=play.obs_spec,
            action_spec=play.action_spec,
            horizon=Horizon(observed=1, planned=CHUNK, executed=CHUNK),
        )
    )
    statistics = {}
    for name, value in model.normalizer.state_dict().items():
        statistics[name] = torch.zeros_like(value)
        if name.endswith("scale"):
            statistics[name] = torch.ones_like(value)
    model.normalizer.load_state_dict(statistics)
    model.regimes = ("constant",)
    return DiffusionPolicy(model.eval().requires_grad_(False), Fresh(1))


def test_undisturbed_episodes_are_held_out_first(learned):
    _, play, held_out = learned
    known, again = play.split(0)
    assert again.content_hash == held_out.content_hash
    assert len(known) + len(held_out) == len(play)
    assert not held_out.explored.any()
    assert len(held_out.episode_ends) == round(0.25 * len(play.episode_ends))


def test_the_open_loop_error_is_told_part_by_part_beside_standing_still(learned):
    found, _, held_out = learned
    rows = measure_open_loop(found.model, held_out)
    assert {row["part"] for row in rows} == {"point"}
    assert [row["steps"] for row in rows] == [4, 20, 40]
    assert all(row["error"] < row["persistence"] for row in rows)
    seen = held_out.observations["state"].astype(float)
    index = held_out.list_windows(40)
    still = np.linalg.norm(seen[index + 4, :2] - seen[index, :2], axis=1)
    assert rows[0]["persistence"] == pytest.approx(still.mean(), rel=0.1)


def test_a_judge_that_knows_success_is_right_about_episodes(learned):
    found, _, held_out = learned
    figures = measure_judge(found.model, found.judge, held_out)
    assert figures["episodes_right"] >= 0.8
    assert figures["replays_right"] >= 0.6
    assert 0 <= figures["calibration_error"] < 0.3
    wrong = replace(held_out, reached=~held_out.reached)
    assert measure_judge(found.model, found.judge, wrong)["recall"] < 0.5


def test_a_policy_that_stands_still_is_found_to_differ_from_the_recorded_one(learned, policy):
    found, _, held_out = learned
    settings = AuditSettings(repeats=2, least_episodes=5)
    report = audit(found.model, found.judge, held_out, {"base": policy}, 40, settings)
    assert report["base"]["imagined"] < 0.5
    assert report["base"]["true"] > 0.7
    difference = report["base"]["imagined"] - report["base"]["true"]
    assert report["base"]["bias"] == pytest.approx(difference)
    assert not report["passed"]
    assert any("of its dreams" in fault for fault in report["faults"])
    assert 0 <= report["base"]["agreement"] <= report["base"]["self_agreement"] <= 1
    assert json.loads(json.dumps(report)) == report
    with pytest.raises(ConfigError, match="no undisturbed episode"):
        explored = replace(held_out, explored=np.ones_like(held_out.explored))
        audit(found.model, found.judge, explored, {"base": policy}, 40, settings)


def test_every_criterion_can_fail_an_audit():
    good = {
        "open_loop": [{"part": "hand", "steps": 4, "error": 1.0, "persistence": 2.0}],
        "success_model": {"replays_right": 0.9},
        "base": {"bias": 0.05, "imagined": 0.55, "true": 0.5, "starts": 40},
    }
    settings = AuditSettings()
    assert list_faults(good, settings) == []
    few = {**good, "base": {**good["base"], "starts": 29}}
    assert "29 undisturbed episodes of the base, and 30 are wanted" in list_faults(few, settings)[0]
    for error, faults in ((2.1, 0), (2.3, 1)):  # what nothing predicts is predicted to stand still
        row = {**good["open_loop"][0], "error": error}
        assert len(list_faults({**good, "open_loop": [row]}, settings)) == faults
    assert len(list_faults({**good, "success_model": {"replays_right": 0.5}}, settings)) == 1
    hopeless = {**good["base"], "true": 0.03, "imagined": 0.0}
    (fault,) = list_faults({**good, "base": hopeless}, settings)
    assert "a model in which nothing succeeds would pass" in fault
    for wrong in ({"bias": -0.2}, {"bias": 0.2}):
        assert len(list_faults({**good, "base": {**good["base"], **wrong}}, settings)) == 1


def test_ranks_of_policies_are_compared_with_an_interval():
    true = [0.1, 0.3, 0.5, 0.7, 0.9, 0.95]
    found = rank_policies([rate - 0.1 for rate in true], true)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["low"] == pytest.approx(1.0)
    assert found["mean_bias"] == pytest.approx(-0.1)
    assert rank_policies(true[::-1], true)["spearman"] == pytest.approx(-1.0)


def test_a_world_model_comes_back_from_its_folder(learned, tmp_path):
    found, play, _ = learned
    files.save(tmp_path / "world", found)
    again = files.load(tmp_path / "world")
    index = torch.arange(6)
    chunk = torch.as_tensor(play.take_chunks(index.numpy(), CHUNK))
    member = torch.zeros(6, dtype=torch.int64)
    outcomes = []
    for each in (found, again):
        state = each.model.begin(each.model.encode(play), index)
        moved = each.model.step(state, chunk, member).state
        outcomes.append(each.judge.rate(each.model.features(moved).float()))
    assert torch.equal(*outcomes)
    assert again.facts["play"]["hash"] == play.content_hash
    assert again.facts["kind"] == "jump"


def test_a_folder_that_is_no_world_model_is_refused(learned, tmp_path):
    with pytest.raises(CheckpointError, match="holds no world model"):
        files.load(tmp_path)
    files.save(tmp_path / "world", learned[0])
    facts = tmp_path / "world" / files.FACTS
    plain = json.loads(facts.read_text())
    for change, message in (
        ({"format": 99}, "format 1"),
        ({"kind": "oracle"}, "known: jump, latent"),
        ({"model": {}}, "cannot be read"),
    ):
        facts.write_text(json.dumps({**plain, **change}))
        with pytest.raises(CheckpointError, match=message):
            files.load(tmp_path / "world")
    facts.write_text(json.dumps(plain))
    weights = tmp_path / "world" / files.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="not as it was written"):
        files.load(tmp_path / "world")


class Bare:
    """A data set without what play must say."""

    def __init__(self, play, **extras):
        self.play = play
        self.fps, self.action_spec = play.rate_hz, play.action_spec
        self.obs_spec, self.episode_ends = play.obs_spec, play.episode_ends
        self.arrays = {"state": play.observations["state"], "action": play.actions, **extras}
        self.keys = tuple(self.arrays)

    def array(self, key):
        return self.arrays[key]

    def rows(self, key, start, stop):
        return self.arrays[key][start:stop]

    def content_hash(self):
        return "bare"


def test_what_a_step_led_to_belongs_to_the_observation_after_it():
    play = record_play(4)
    first = play.episode_ends[0]
    success = np.roll(play.reached, -1)
    success[play.episode_ends - 1] = False  # the frame after the last step is not recorded
    success[:first] = False
    reward = np.arange(len(play)) / len(play)
    read = read_play(Bare(play, success=success, reward=reward))
    assert np.array_equal(read.reached[first:], play.reached[first:])
    assert not read.reached[:first].any()
    assert read.score is not None
    assert read.score[1] == reward[0]
    assert read.explored.all()  # nobody says that an episode was not disturbed


def test_play_from_which_success_cannot_be_learned_is_refused():
    play = record_play(4)
    with pytest.raises(DataError, match="does not say where"):
        read_play(Bare(play))
    with pytest.raises(DataError, match="0 of 4 episodes"):
        read_play(Bare(play, success=np.zeros(len(play), bool)))
    with pytest.raises(ConfigError, match="no observation image"):
        read_play(Bare(play, success=play.reached), ["image"])
