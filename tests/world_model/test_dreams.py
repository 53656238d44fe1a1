from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.world_model.dreams import DreamSource, Pessimism, Starts
from hotstart.world_model.fitting import FitSettings
from hotstart.world_model.jump import JumpModel, JumpSettings
from hotstart.world_model.jump_training import train_jump
from hotstart.world_model.success import fit_judge

from .gate_play import CHUNK, record_play

QUICK = FitSettings(updates=500, batch=64, judge_updates=100)


@pytest.fixture(scope="module")
def trained():
    """Play at the gate, and a jump model and a judge of it."""
    play = record_play()
    model, records = train_jump(play, CHUNK, JumpSettings(hidden=48), QUICK, progress=False)
    judge, _ = fit_judge(model, play, QUICK, progress=False)
    assert records[-1]["loss"] < records[0]["loss"]
    return play, model, judge


def imagine(source, index, actions, member=0):
    rows = np.arange(source.rows)
    source.begin_at(rows, index, np.full(len(index), member))
    return source.step(actions)


def test_a_jump_lands_nearer_than_standing_still(trained):
    _, model, _ = trained
    fresh = record_play(20, seed=7)
    index = fresh.list_windows(5 * CHUNK)
    state = model.begin(model.encode(fresh), torch.as_tensor(index))
    member = torch.as_tensor(np.arange(len(index)) % model.members)
    for number in range(5):
        chunk = torch.as_tensor(fresh.take_chunks(index + number * CHUNK, CHUNK))
        state = model.step(state, chunk, member).state
    seen = fresh.observations["state"]
    error = np.abs(model.decode(state, 1)["state"][:, 0].numpy() - seen[index + 5 * CHUNK])
    still = np.abs(seen[index] - seen[index + 5 * CHUNK])
    assert error[:, :2].mean() < 0.5 * still[:, :2].mean()
    assert error[:, 2:].max() == 0  # the gate and the goal stay where they are


def test_the_same_weights_come_back_from_plain_values(trained):
    play, model, _ = trained
    twin = JumpModel.from_json(model.to_json())
    twin.load_state_dict(model.state_dict())
    index = torch.arange(8)
    chunk = torch.as_tensor(play.take_chunks(index.numpy(), CHUNK))
    member = torch.zeros(8, dtype=torch.int64)
    one = model.step(model.begin(model.encode(play), index), chunk, member)
    other = twin.step(twin.begin(twin.encode(play), index), chunk, member)
    assert torch.equal(one.state["states"], other.state["states"])


def test_rows_of_a_dream_do_not_depend_on_each_other(trained):
    play, model, judge = trained
    seeds = list(range(6))
    many = DreamSource(model, judge, Starts(play), 6, 40)
    one = DreamSource(model, judge, Starts(play), 1, 40)
    seen = many.begin(np.arange(6), seeds)["state"]
    actions = np.random.default_rng(0).uniform(-1, 1, (6, CHUNK, 2))
    turn = many.step(actions)
    for row in (0, 5):
        assert np.array_equal(one.begin(np.arange(1), [seeds[row]])["state"][0], seen[row])
        alone = one.step(actions[row : row + 1])
        moved = alone.frames[-1]["state"][0]
        np.testing.assert_allclose(moved, turn.frames[-1]["state"][row], atol=1e-6)
        assert one.disagreement[0] == pytest.approx(many.disagreement[row], rel=1e-4)
    assert not many.real


def test_rows_that_are_over_stand_still_and_rows_that_begin_anew_disturb_nobody(trained):
    play, model, judge = trained
    source = DreamSource(model, judge, Starts(play), 3, max_steps=2 * CHUNK)
    source.begin(np.arange(3), [1, 2, 3])
    actions = np.ones((3, CHUNK, 2))
    source.step(actions)
    before = source.step(actions)
    assert (before.truncated | before.terminated).all()
    assert before.elapsed.tolist() == [1.0, 1.0, 1.0]
    source.begin(np.array([1]), [9])
    after = source.step(actions)
    assert after.steps.tolist() == [0, CHUNK, 0]
    for row in (0, 2):
        assert np.array_equal(after.frames[-1]["state"][row], before.frames[-1]["state"][row])


def test_disagreement_costs_reward_and_ends_episodes(trained):
    play, model, judge = trained
    first = np.repeat(play.first[:4], 1)
    actions = np.zeros((4, CHUNK, 2))
    free = DreamSource(model, judge, Starts(play), 4, 40, pessimism=Pessimism().lift())
    assert imagine(free, first, actions).reward.tolist() == [0.0] * 4
    usual = float(free.disagreement.min())
    strict = replace(Pessimism(), limit=usual / 3, cut=0.0)
    costly = DreamSource(model, judge, Starts(play), 4, 40, pessimism=strict)
    turn = imagine(costly, first, actions)
    assert turn.reward.max() <= -2 * 0.02 * 0.99
    assert turn.reward.min() >= -5 * 0.02
    assert not turn.terminated.any()
    cutting = DreamSource(model, judge, Starts(play), 4, 40, pessimism=replace(strict, cut=2.0))
    assert imagine(cutting, first, actions).terminated.all()


def test_key_frames_lie_shortly_before_a_success(trained):
    play, model, judge = trained
    keys = Starts(play, key_frames=1.0, reach=5)
    steps = keys.list_key_frames()
    assert len(steps)
    for step in steps:
        episode = play.episode_of[step]
        later = play.reached[step + 1 : min(step + 6, play.episode_ends[episode])]
        assert later.any() and not play.reached[step]
    source = DreamSource(model, judge, keys, 8, 40)
    source.begin(np.arange(8), list(range(8)))
    assert np.isin(source.begun, steps).all()


def test_a_second_member_that_sees_no_success_makes_it_doubtful(trained, monkeypatch):
    play, model, judge = trained
    source = DreamSource(model, judge, Starts(play), 4, 40)
    answers = iter([np.array([True, True, False, False]), np.array([True, False, False, False])])
    monkeypatch.setattr(source, "_judge", lambda state, whole=None: next(answers))
    turn = imagine(source, play.first[:4], np.zeros((4, CHUNK, 2)))
    assert turn.success.tolist() == [True, True, False, False]
    assert turn.doubtful is not None
    assert turn.doubtful.tolist() == [False, True, False, False]
