"""Dreams by Gymnasium's vector API."""

import numpy as np
import pytest
from hotstart.commands.imagined import ImaginedVectorEnv
from hotstart.spec import ConfigError
from hotstart.world_model import files
from hotstart.world_model.dreams import DreamSource, Starts
from hotstart.world_model.play import load_play

from .dream_world import save_play, save_world_model


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagined")
    path = save_play(folder)
    learned = files.load(save_world_model(path, folder))
    play = load_play(path)
    jump = learned.model.jump
    source = DreamSource(learned.model, learned.judge, Starts(play), 3, max_steps=2 * jump)
    return ImaginedVectorEnv(source)


def test_seeds_fix_where_dreams_begin_and_spaces_hold_what_they_show(env):
    one, _ = env.reset(seed=5)
    other, _ = env.reset(seed=[5, 6, 7])
    for name, values in one.items():
        assert np.array_equal(values, other[name])
    assert env.observation_space.contains(one)
    observation, reward, *_, info = env.step(np.zeros(env.action_space.shape))
    assert env.observation_space.contains(observation)
    assert reward.shape == info["success"].shape == info["disagreement"].shape == (3,)


def test_a_row_that_is_over_begins_anew_in_the_next_step(env):
    env.reset(seed=0)
    chunk = np.zeros(env.action_space.shape)
    env.step(chunk)
    *_, terminated, truncated, _ = env.step(chunk)
    assert (terminated | truncated).all()
    before = env.source.begun.copy()
    observation, reward, terminated, truncated, _ = env.step(chunk)
    assert not (terminated | truncated).any()
    assert reward.tolist() == [0.0] * 3
    state = env.source.encoded["states"][env.source.begun]
    width = observation["state"].shape[-1]
    assert np.allclose(observation["state"], state[:, :width].numpy())
    assert not np.array_equal(before, env.source.begun)


def test_what_is_no_chunk_or_no_seed_is_refused(env):
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="actions have shape"):
        env.step(np.zeros((3, 1)))
    with pytest.raises(ConfigError, match="2 seeds for 3 rows"):
        env.reset(seed=[1, 2])
    with pytest.raises(ConfigError, match="reset options"):
        env.reset(options={"state": 1})
