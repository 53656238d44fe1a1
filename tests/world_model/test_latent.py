"""The latent world model: its categoricals, filter, imagination and training, at tiny sizes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hotstart.policy.filters.categoricals import (
    balance_kl,
    draw,
    kl,
    symlog,
    take_mean,
    take_mode,
)
from hotstart.spec import ConfigError, ObsKey, ObsSpec
from hotstart.world_model.latent import Belief, LatentModel, LatentOptions
from hotstart.world_model.latent_training import LatentSettings, SequenceBatches, fit_latent
from hotstart.world_model.latent_view import predict_strip
from hotstart.world_model.play import Play

from .column_play import SIDE, make_play

JUMP = 4
TINY: dict[str, Any] = {"hidden": 16, "groups": 4, "classes": 4, "channels": 2}
QUICK: dict[str, Any] = {"batch": 6, "length": 5, "imagined": 3, "pictures": 1}


def make_model(play: Play, jump: int = JUMP, **options: Any) -> LatentModel:
    torch.manual_seed(0)
    model = LatentModel(
        play.obs_spec, play.action_spec, play.rate_hz, jump, LatentOptions(**TINY, **options)
    )
    model.fit_statistics(play, np.arange(len(play.episode_ends)))
    return model


@pytest.fixture(scope="module")
def play() -> Play:
    return make_play()


@pytest.fixture(scope="module")
def model(play: Play) -> LatentModel:
    return make_model(play)


def test_categoricals_are_drawn_at_their_shares_and_pass_gradients() -> None:
    log_shares = torch.tensor([[0.7, 0.2, 0.1]]).log().requires_grad_()
    drawn = draw(log_shares.expand(4000, 1, 3), torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.mean(0), log_shares[0].exp(), atol=0.03)
    assert set(drawn.detach().round(decimals=4).unique().tolist()) == {0.0, 1.0}
    drawn[:, 0].sum().backward()
    assert log_shares.grad is not None
    assert float(log_shares.grad[0, 0]) > 0
    assert take_mode(log_shares[None]).tolist() == [[1.0, 0.0, 0.0]]
    assert torch.allclose(take_mean(log_shares[None]), log_shares.exp())


def test_kl_is_torchs_and_its_balance_moves_the_prior_most() -> None:
    posterior = torch.randn(5, 2, 3).log_softmax(-1).requires_grad_()
    prior = torch.randn(5, 2, 3).log_softmax(-1).requires_grad_()
    left = torch.distributions.Categorical(logits=posterior)
    right = torch.distributions.Categorical(logits=prior)
    wanted = torch.distributions.kl_divergence(left, right).sum(-1)
    assert torch.allclose(kl(posterior, prior), wanted, atol=1e-6)
    balance_kl(posterior, prior, 1.0, 0.0).sum().backward()
    assert not posterior.requires_grad or posterior.grad is None or not posterior.grad.any()
    assert prior.grad is not None and prior.grad.any()
    free = balance_kl(posterior, prior, 0.8, 100.0)
    assert torch.equal(free, torch.full((5,), 100.0))


def test_symlog_is_odd_and_logarithmic() -> None:
    values = torch.tensor([-9.0, 0.0, 9.0])
    assert torch.allclose(symlog(values), torch.tensor([-1.0, 0.0, 1.0]) * np.log(10))


def test_it_refuses_pictures_of_other_sizes_and_unknown_states(play: Play) -> None:
    odd = ObsSpec({"view": ObsKey((50, 64, 3), "uint8", "image")})
    with pytest.raises(ConfigError, match="50 x 64"):
        LatentModel(odd, play.action_spec, 10.0, JUMP)
    with pytest.raises(ConfigError, match="unseen names 'speed'"):
        make_model(play, unseen=("speed",))
    with pytest.raises(ConfigError, match="that it may read"):
        make_model(make_play(cameras=False), unseen=("place",))


def test_the_filter_gives_each_episode_what_it_gives_it_alone(
    play: Play, model: LatentModel
) -> None:
    together = model.encode(play)
    first, end = int(play.first[1]), int(play.episode_ends[1])
    alone = replace(
        play,
        observations={name: values[first:end] for name, values in play.observations.items()},
        actions=play.actions[first:end],
        episode_ends=np.array([end - first]),
    )
    for name, values in model.encode(alone).items():
        assert torch.allclose(values.double(), together[name][first:end].double(), atol=1e-5)


def test_a_belief_follows_from_the_past_alone(play: Play, model: LatentModel) -> None:
    encoded = model.encode(play)
    changed = play.observations["view"].copy()
    changed[6:] = 0
    later = model.encode(replace(play, observations={**play.observations, "view": changed}))
    assert torch.equal(encoded["z"][:6], later["z"][:6])
    assert not torch.equal(encoded["z"][6], later["z"][6])


def test_it_begins_with_what_was_recorded(play: Play, model: LatentModel) -> None:
    encoded = model.encode(play)
    first = int(play.first[1])
    state = model.begin(encoded, torch.tensor([first + 1, first + 6]))
    places = model.decode(state, JUMP)["place"].numpy()
    recorded = play.observations["place"]
    steps = first + np.array([[0, 0, 0, 1], [3, 4, 5, 6]])
    assert np.array_equal(places, recorded[steps])
    every = model.begin(encoded, torch.arange(len(play)))
    assert np.array_equal(model.decode(every, 1)["place"][:, 0].numpy(), recorded)
    with pytest.raises(ConfigError, match="keeps the last 4"):
        model.decode(state, JUMP + 1)


def test_decoded_observations_are_those_of_the_specification(
    play: Play, model: LatentModel
) -> None:
    state = model.begin(model.encode(play), torch.tensor([2, 20]))
    decoded = model.decode(state, 2)
    assert list(decoded) == list(play.obs_spec.keys)
    assert decoded["view"].dtype == torch.uint8
    assert decoded["view"].shape == (2, 2, SIDE, SIDE, 1)


def test_a_chunk_is_its_single_steps(play: Play, model: LatentModel) -> None:
    single = make_model(play, jump=1)
    actions = torch.randn(2, JUMP, 1)
    member = torch.tensor([0, 2])
    with torch.no_grad():
        chunk = model.step(model.begin(model.encode(play), torch.tensor([2, 20])), actions, member)
        state = single.begin(single.encode(play), torch.tensor([2, 20]))
        for number in range(JUMP):
            state = single.step(state, actions[:, number : number + 1], member).state
        assert torch.allclose(model.features(chunk.state), single.features(state), atol=1e-5)
        places = model.decode(chunk.state, 1)["place"]
    assert torch.allclose(places, single.decode(state, 1)["place"], atol=1e-5)
    assert torch.equal(places[..., 1], torch.full((2, 1), 7.0))  # never changes


def test_each_member_moves_its_rows(play: Play) -> None:
    model = make_model(play)
    state = model.begin(model.encode(play), torch.tensor([2, 2]))
    with torch.no_grad():
        jump = model.step(state, torch.zeros(2, JUMP, 1), torch.tensor([0, 1]))
    places = model.decode(jump.state, 1)["place"]
    assert not torch.equal(places[0], places[1])
    assert float(jump.disagreement.min()) > 0
    with torch.no_grad():
        now = Belief(*(torch.zeros(2, width) for width in (16, 16, 2, 2)))
        ahead = model.imagine(now, torch.zeros(2, 1), torch.tensor([2, 1]))
    chosen = ahead.changes[[2, 1], [0, 1]] * model.change_scale
    assert torch.equal(ahead.belief.change, chosen)
    with torch.no_grad():
        for layer in (model.prior_heads, model.change_heads):
            for weights in layer.parameters():
                weights.copy_(weights[:1].expand_as(weights).clone())
        same = model.step(state, torch.zeros(2, JUMP, 1), torch.tensor([0, 1]))
    assert float(same.disagreement.max()) < 1e-5


def test_states_that_are_unseen_are_decoded_and_never_read() -> None:
    play = make_play()
    model = make_model(play, unseen=("place",))
    encoded = model.encode(play)
    moved = {**play.observations, "place": play.observations["place"] + 1}
    again = model.encode(replace(play, observations=moved))
    assert torch.equal(encoded["h"], again["h"])
    index = torch.tensor([5])
    state = model.begin(encoded, index)
    assert torch.equal(model.features(state), model.features(model.begin(again, index)))
    assert torch.equal(
        model.decode(state, 1)["place"][0], torch.as_tensor(play.observations["place"][5:6])
    )


def test_batches_stay_within_episodes_and_repeat_by_their_number(
    play: Play, model: LatentModel
) -> None:
    settings = LatentSettings(**{**QUICK, "length": 15, "batch": 64})
    batches = SequenceBatches(model, play, np.array([0, 1]), settings)
    batch = batches.at(3)
    change = batch["values"].diff(dim=1)[..., 0]
    told = batch["actions"][:, :-1, 0]
    inside = batch["valid"][:, 1:]
    assert torch.allclose(change[inside], told[inside], atol=1e-5)
    assert not batch["valid"].all()  # episodes of 14 steps end before
    assert torch.equal(batches.at(3)["values"], batch["values"])
    assert not torch.equal(batches.at(4)["values"], batch["values"])


def test_it_learns_where_actions_lead() -> None:
    play = make_play(cameras=False, episodes=12)
    model = make_model(play)
    held_out = np.array([10, 11])
    fit_latent(model, play, np.arange(10), LatentSettings(**QUICK, steps=60, rate=2e-2), False)
    starts = play.list_windows(JUMP)
    starts = starts[np.isin(play.episode_of[starts], held_out)]
    with torch.no_grad():
        state = model.begin(model.encode(play), torch.as_tensor(starts))
        chunks = torch.as_tensor(play.actions[starts[:, None] + np.arange(JUMP)]).float()
        moved = model.step(state, chunks, torch.zeros(len(starts), dtype=torch.long))
        places = model.decode(moved.state, 1)["place"][:, 0, 0].numpy()
    recorded = play.observations["place"][:, 0]
    error = np.abs(places - recorded[starts + JUMP]).mean()
    assert error < 0.5 * np.abs(recorded[starts] - recorded[starts + JUMP]).mean()


def test_training_repeats_by_its_seed_and_lowers_the_loss(play: Play) -> None:
    settings = LatentSettings(**QUICK, steps=12, rate=1e-2)
    first, second = make_model(play), make_model(play)
    records = fit_latent(first, play, np.arange(5), settings, False, log_every=1)
    fit_latent(second, play, np.arange(5), settings, False)
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)
    assert records[-1]["picture"] < records[0]["picture"]


def test_a_strip_shows_truth_above_imagination(play: Play, model: LatentModel) -> None:
    strip = predict_strip(model, play, episode=1, start=2, steps=8, every=2)
    assert strip.shape == (2 * SIDE, 5 * SIDE, 3)
    first = int(play.first[1])
    assert np.array_equal(strip[:SIDE, :SIDE, :1], play.observations["view"][first + 2])
    with pytest.raises(ConfigError, match="which has 15 steps"):
        predict_strip(model, play, episode=1, start=10, steps=8)
