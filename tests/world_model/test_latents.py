"""A policy with a filter: what it learns from, what it dreams with, what it is deployed with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart import cli
from hotstart.commands import train
from hotstart.configs.compose import compose_config
from hotstart.datasets.store import Store
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.filters.latent import LATENT, LatentFilter
from hotstart.policy.model import PolicyModel
from hotstart.policy.normalizer import ACTION
from hotstart.spec import CheckpointError, ConfigError, Executed, Horizon
from hotstart.world_model import files
from hotstart.world_model.audit import imagine
from hotstart.world_model.dreams import DreamSource, Starts
from hotstart.world_model.latent import LatentModel, LatentOptions
from hotstart.world_model.latents import add_latents, check_filter, write_latents
from hotstart.world_model.success import Judge
from matplotlib.image import imread

from .column_play import SIDE, make_play

JUMP = 4
TINY = LatentOptions(hidden=8, groups=2, classes=3, channels=2)


@pytest.fixture(scope="module")
def play():
    return make_play()


@pytest.fixture(scope="module")
def model(play):
    torch.manual_seed(0)
    made = LatentModel(play.obs_spec, play.action_spec, 10.0, JUMP, TINY)
    made.fit_statistics(play, np.arange(6))
    return made.eval().requires_grad_(False)


@pytest.fixture
def policy(tiny_model, play, model):
    seen = add_latents(model, play)
    config = replace(
        tiny_model().config,
        obs_spec=seen.take(np.arange(1)).obs_spec,
        action_spec=play.action_spec,
        horizon=Horizon(2, 12, JUMP),
    )
    keys = {LATENT: config.obs_spec.keys[LATENT]}
    made = PolicyModel(replace(config, obs_spec=replace(config.obs_spec, keys=keys)))
    made.normalizer.set_range(LATENT, -np.ones(model.filter.width), np.ones(model.filter.width))
    made.normalizer.set_range(ACTION, -np.ones(1), np.ones(1))
    made.add_filter(model.filter)
    return DiffusionPolicy(made.eval().requires_grad_(False))


def test_deployed_it_sees_what_it_learned_from(play, model, policy):
    """Three recorded episodes side by side, as the control loop shows them."""
    recorded = add_latents(model, play).observations[LATENT]
    first = play.first[:3]
    state = policy.initial_state(range(3))
    executed = None
    for tick in range(10):
        seen = {name: values[first + tick] for name, values in play.observations.items()}
        state = policy.observe(state, seen, executed)
        np.testing.assert_allclose(state.history[LATENT][:, -1], recorded[first + tick], atol=1e-4)
        executed = Executed(play.actions[first + tick], np.full(3, 0.1))


def test_in_a_dream_it_is_shown_what_the_priors_say(play, model, policy):
    judge = Judge(model.filter.width, members=2, scores=False).requires_grad_(False)
    source = DreamSource(model, judge, Starts(play), 2, 40, frames=2, filtered=True)
    seen = source.begin_at(np.arange(2), play.first[:2], np.zeros(2, int))
    recorded = add_latents(model, play).observations[LATENT]
    np.testing.assert_allclose(seen[LATENT], recorded[play.first[:2]], atol=1e-5)
    turn = source.step(np.zeros((2, JUMP, 1)))
    assert list(turn.frames[0]) == [LATENT]
    state = model.begin(model.encode(play), torch.as_tensor(play.first[:2]))
    moved = model.step(state, torch.zeros(2, JUMP, 1), torch.zeros(2, dtype=torch.int64)).state
    np.testing.assert_allclose(turn.frames[1][LATENT], model.features(moved), atol=1e-5)
    dreams = imagine(policy, source, play.first[:2])
    assert dreams.success.shape == (2,)


@pytest.fixture(scope="module")
def plain(play, tmp_path_factory):
    """The play as a store."""
    path = tmp_path_factory.mktemp("data") / "plain.zarr"
    store = Store.create(path, fps=10.0, action_spec=play.action_spec, obs_spec=play.obs_spec)
    for first, end in zip(play.first, play.episode_ends, strict=True):
        episode = {name: values[first:end] for name, values in play.observations.items()}
        actions = play.actions[first:end].astype(np.float32)
        store.append({**episode, "action": actions, "success": play.reached[first:end]})
    return store


def test_a_data_set_is_written_as_the_filter_sees_it(play, model, plain, tmp_path):
    written = write_latents(model, plain, tmp_path / "latents.zarr")
    assert list(written.obs_spec.keys) == [LATENT]
    recorded = add_latents(model, play).observations[LATENT]
    np.testing.assert_allclose(written.array(LATENT), recorded, atol=1e-4)
    np.testing.assert_array_equal(written.array("success"), play.reached)
    blind = replace(plain.obs_spec, keys={"place": plain.obs_spec.keys["place"]})
    other = LatentModel(blind, play.action_spec, 10.0, JUMP, TINY)
    assert write_latents(other, plain, tmp_path / "blind.zarr").obs_spec.keys[LATENT].shape == (16,)
    renamed = replace(plain.obs_spec, keys={"where": plain.obs_spec.keys["place"]})
    lacking = LatentModel(renamed, play.action_spec, 10.0, JUMP, TINY)
    with pytest.raises(ConfigError, match="the filter reads 'where'"):
        write_latents(lacking, plain, tmp_path / "no.zarr")


def test_the_command_line_trains_a_policy_that_carries_the_filter(play, model, plain, tmp_path):
    judge = Judge(model.filter.width, members=2, scores=False)
    files.save(tmp_path / "model", files.Learned(model, judge))
    words = [
        str(plain.path),
        f"filter={tmp_path / 'model'}",
        f"runs={tmp_path}",
        "name=run",
        "task=gate",
        "denoiser=mlp",
        "denoiser.hidden=16",
        "training.batch=4",
        "horizon.planned=12",
        "horizon.executed=4",
    ]
    for steps in (1, 2):  # the second goes on
        config = compose_config("train", [*words, f"training.steps={steps}"])
        store, latent = train.open_data(config, tmp_path / "run")
        train.build(config, store, tmp_path / "run", latent).run(progress=False)
    policy = DiffusionPolicy.load(tmp_path / "run")
    assert policy.model.filter is not None
    check_filter(policy.model.filter, model)
    assert policy.obs_spec.keys == play.obs_spec.keys
    assert policy.model.config.obs_spec.keys == {LATENT: model.filter.key}


def test_a_strip_is_drawn_from_the_command_line(play, model, plain, tmp_path):
    facts = {"play": {"hash": plain.content_hash()}, "fitting": {"seed": 0}}
    judge = Judge(model.filter.width, members=2, scores=False)
    files.save(tmp_path / "model", files.Learned(model, judge, facts))
    out = tmp_path / "strip.png"
    words = [str(tmp_path / "model"), f"play={plain.path}", f"out={out}", "start=1", "every=4"]
    assert cli.main(["world-model", "strip", *words, "steps=8", "episodes=1", "zoom=2"]) == 0
    assert imread(out).shape[:2] == (2 * 2 * SIDE, 2 * 3 * SIDE)
    assert cli.main(["world-model", "strip", *words, "overwrite=true"]) != 0  # too many steps


def test_another_world_models_filter_is_refused(model):
    check_filter(model.filter, model)
    other = LatentFilter.from_json(model.filter.to_json())
    with pytest.raises(CheckpointError, match="another filter"):
        check_filter(other, model)
