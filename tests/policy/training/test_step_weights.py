"""What a step counts in a training: corrections more, what a policy did less or nothing."""

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy.training.data import prepare_data, weigh_steps
from hotstart.policy.training.learner import Learner
from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer
from hotstart.spec import Actor, ConfigError, DataError, Horizon

HORIZON = Horizon(observed=2, planned=8, executed=3)
STEPS = 12


def make_data(actors, **extras):
    """Two episodes of the same actors; the actions of a policy are -1, those of people 1."""
    actors = np.array(actors, np.uint8)
    people = np.isin(actors, (Actor.INTERVENTION, Actor.OPERATOR))
    episode = {
        "state": np.linspace(0, 1, len(actors))[:, None] * [1.0, 2.0],
        "action": np.where(people, 1.0, -1.0)[:, None] * [1.0, 0.5],
        "actor": actors,
    }
    return Arrays([{**episode, **extras}] * 2, fps=10)


ROLLOUT = [Actor.POLICY] * 4 + [Actor.INTERVENTION] * 5 + [Actor.HOLD] + [Actor.POLICY] * 2


def settings(**changes):
    return TrainingSettings(steps=5, batch=8, validation_share=0, device="cpu", **changes)


def test_steps_count_by_who_acted():
    data = make_data(ROLLOUT)
    assert weigh_steps(data, settings()) is None
    assert weigh_steps(make_data([Actor.OPERATOR] * STEPS), settings(policy_weight=0)) is None
    found = weigh_steps(data, settings(correction_weight=4, policy_weight=0.5))
    assert found is not None
    assert found.tolist() == ([0.5] * 4 + [4] * 5 + [0.5] * 3) * 2
    given = make_data(ROLLOUT, weight=np.arange(STEPS, dtype=np.float32))
    found = weigh_steps(given, settings(correction_weight=2))
    assert found is not None
    assert found[:STEPS].tolist() == [0, 1, 2, 3, 8, 10, 12, 14, 16, 9, 10, 11]


def test_what_cannot_be_weighted_is_refused():
    with pytest.raises(DataError, match="no step of the data set counts"):
        weigh_steps(make_data([Actor.POLICY] * STEPS), settings(policy_weight=0))
    plain = Arrays([{"state": np.zeros((9, 2)), "action": np.zeros((9, 1))}], fps=10)
    with pytest.raises(ConfigError, match="does not say it: record with"):
        weigh_steps(plain, settings(correction_weight=2))
    with pytest.raises(ConfigError, match=r"training.policy_weight is -1; it must not be negative"):
        settings(policy_weight=-1)


def test_windows_without_weight_are_left_out_and_the_mean_weight_is_one(tiny_config):
    data = make_data(ROLLOUT)
    config = tiny_config("unet", data, horizon=HORIZON)
    batches = prepare_data(data, config, settings(policy_weight=0), "cpu").batches
    assert batches.weights is not None
    planned = batches.index.numpy() % STEPS
    assert ((planned >= 4) & (planned < 9)).any(1).all()
    assert len(planned) == 2 * 10  # of the newest steps 0 to 9
    assert float(batches.weights[batches.index].mean()) == pytest.approx(1)
    found = batches.weigh(3)
    assert found is not None
    assert found.shape == (8, 8)
    _, actions = batches.at(3)
    assert torch.equal(found > 0, actions[..., 0] == 1)
    assert prepare_data(data, config, settings(), "cpu").batches.weigh(3) is None


def test_the_loss_is_that_of_the_steps_that_count(tiny_config, tiny_model):
    data = make_data(ROLLOUT)
    model = tiny_model("unet", dataset=data, horizon=HORIZON)
    learner = Learner(model, settings())
    batches = prepare_data(data, model.config, settings(), "cpu").batches
    batch = batches.at(0)

    def loss(weight):
        return float(learner.compute_loss(model, batch, 0, 0.0, weight)[0])

    whole = torch.ones(8, 8)
    first = whole.clone()
    first[:, 3:] = 0
    assert loss(whole) == loss(None)
    assert loss(first) + loss(whole - first) == pytest.approx(loss(None), rel=1e-5)
    assert loss(3 * first) == pytest.approx(3 * loss(first), rel=1e-5)


def test_the_trainer_weighs_the_steps_of_its_batches(tmp_path, tiny_config):
    data = make_data([Actor.POLICY, Actor.OPERATOR] * 6)
    config = tiny_config("unet", data, horizon=HORIZON)
    wanted = settings(policy_weight=0, log_every=5)
    trainer = Trainer(data, config, wanted, tmp_path / "one")
    same = Trainer(data, config, wanted, tmp_path / "two")
    losses = {}
    for name, weight in (("weighted", same.batches.weigh(0)), ("plain", None)):
        numbers = same.learner.compute_loss(same.model, same.batches.at(0), 0, 0.0, weight)[1]
        losses[name] = float(numbers["loss"])
    assert float(trainer.advance()["loss"]) == pytest.approx(losses["weighted"])
    assert losses["weighted"] != pytest.approx(losses["plain"])
