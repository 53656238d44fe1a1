"""Every stream of random numbers: the same for one seed, apart for two, however large."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hotstart.datasets.windows import split_episodes
from hotstart.envs.base import TaskEnv
from hotstart.envs.demonstrators.demonstrate import DemonstratorPolicy
from hotstart.envs.demonstrators.play import RandomDemonstrator
from hotstart.planners import drawn_latency
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.objective import Regimes
from hotstart.policy.encoders.augment import random_crop
from hotstart.policy.training.batches import WindowBatches
from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer
from hotstart.seeds import Purpose, counter_generator, numpy_generator, seed_sequence, torch_seed
from hotstart.spec import ConfigError

from .conftest import make_config, make_dataset

SEEDS = [(0, 1), (1, 1 + 2**32), (3, 3 + 2**20), (7, 7 + 2**44), (5, 2**64 - 5)]
"""Pairs that differ in low bits, and in high bits alone."""


def train_one(seed: int, tmp_path: Any, **changes: Any) -> dict[str, Any]:
    """What a training step draws with a seed: see the keys."""
    seen: dict[str, Any] = {}

    def record(model: Any, inputs: tuple[Any, ...]) -> None:
        observation, actions, time, noise, *_ = inputs
        seen.update(observation=observation["state"], actions=actions, time=time, noise=noise)
        seen["layers"] = torch.rand(8)

    settings = TrainingSettings(
        steps=1,
        batch=16,
        seed=seed,
        warmup=0,
        validation_share=0.3,
        regimes=Regimes(0, 1, 0),
        **changes,
    )
    dataset = make_dataset(episodes=40)
    trainer = Trainer(dataset, make_config(dataset=dataset), settings, tmp_path / str(seed))
    seen["first weights"] = torch.cat(
        [p.detach().flatten() for p in trainer.model.parameters() if p.std() > 0]
    )
    trainer.model.register_forward_pre_hook(record)
    trainer.advance()
    assert trainer.held_out is not None
    seen["held out"] = torch.as_tensor(np.unique(trainer.held_out.index.numpy()))
    clean, _ = trainer.batches.at(0)
    seen["observation noise"] = seen["observation"] - clean["state"]
    return seen


@pytest.mark.parametrize(("one", "other"), SEEDS)
def test_two_training_seeds_draw_apart_in_every_stream(one: int, other: int, tmp_path: Any) -> None:
    first = train_one(one, tmp_path, observation_noise=0.1)
    again = train_one(one, tmp_path / "again", observation_noise=0.1)
    apart = train_one(other, tmp_path, observation_noise=0.1)
    for stream, values in first.items():
        assert torch.equal(values, again[stream]), stream
        assert values.shape != apart[stream].shape or not torch.equal(values, apart[stream]), stream


def test_what_a_training_step_draws_comes_from_streams_of_its_own(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two streams in one would tie the noise to the levels that it is scaled by."""
    drawn: list[int] = []

    def remember(seed: int, purpose: Purpose, step: int = 0) -> int:
        drawn.append(purpose)
        return torch_seed(seed, purpose, step)

    for module in ("trainer", "learner"):
        monkeypatch.setattr(f"hotstart.policy.training.{module}.torch_seed", remember)
    train_one(3, tmp_path, observation_noise=0.1)
    own = [
        Purpose.INITIALISATION,
        Purpose.LEVELS,
        Purpose.NOISE,
        Purpose.LAYERS,
        Purpose.OBSERVATIONS,
    ]
    assert sorted(drawn) == sorted(own)


@pytest.mark.parametrize(("one", "other"), SEEDS)
def test_two_training_seeds_draw_apart_in_layers_too(one: int, other: int) -> None:
    def crop(seed: int) -> torch.Tensor:
        torch.manual_seed(torch_seed(seed, Purpose.LAYERS, 4))
        return random_crop(torch.arange(8 * 3 * 12 * 12.0).reshape(8, 3, 12, 12), (8, 8))

    assert torch.equal(crop(one), crop(one))
    assert not torch.equal(crop(one), crop(other))


@pytest.mark.parametrize(("one", "other"), SEEDS)
def test_two_seeds_shuffle_and_split_apart(one: int, other: int) -> None:
    dataset = make_dataset(episodes=40)
    index = np.arange(400).reshape(200, 2)

    def shuffle(seed: int) -> list[int]:
        return (
            WindowBatches(dataset, make_config(dataset=dataset), index, 50, seed, "cpu")
            .windows(0)[:, 0]
            .tolist()
        )

    assert shuffle(one) == shuffle(one) != shuffle(other)
    assert split_episodes(100, 0.3, one)[1].tolist() != split_episodes(100, 0.3, other)[1].tolist()


def test_every_step_of_a_training_draws_apart() -> None:
    for purpose in Purpose:
        seeds = {torch_seed(3, purpose, step) for step in range(2000)}
        assert len(seeds) > 1998  # of 2^32 numbers two may meet


@pytest.mark.parametrize(("one", "other"), SEEDS)
def test_two_seeds_draw_apart_in_rollouts(one: int, other: int) -> None:
    noise = RowNoise([one, other, one], [0, 0, 1]).normal(4, 2)
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])
    assert torch.equal(noise[0], RowNoise([one], [0]).normal(4, 2)[0])
    times = np.arange(1000.0).tolist()
    latency = drawn_latency(times, times, [one, other])
    assert [latency(0, n) for n in range(6)] != [latency(1, n) for n in range(6)]


def test_the_streams_of_one_seed_share_nothing() -> None:
    firsts = [numpy_generator(9, purpose).integers(2**63) for purpose in Purpose]
    firsts += [counter_generator(9, purpose, (0, 0, 0)).integers(2**63) for purpose in Purpose]
    firsts += [numpy_generator(9, purpose, 1).integers(2**63) for purpose in Purpose]
    firsts.append(np.random.default_rng(9).integers(2**63))  # a scene's own
    assert len(set(firsts)) == len(firsts)


def test_a_large_seed_is_no_other_seed_and_step() -> None:
    joined = seed_sequence(4 + (2 << 32), Purpose.SPLIT).generate_state(4)
    parted = seed_sequence(4, Purpose(2), 2).generate_state(4)
    assert joined.tolist() != parted.tolist()


def test_a_demonstrator_does_not_repeat_what_its_scene_drew() -> None:
    class Demonstrator(RandomDemonstrator):
        """Remembers what it drew."""

        def reset(self, rng: np.random.Generator) -> None:
            self.drawn = rng.standard_normal(4)

    scene = SimpleNamespace(obs_spec=None, action_spec=None, rate_hz=10.0)
    demonstrator = Demonstrator()
    DemonstratorPolicy(cast(TaskEnv, scene), demonstrator).initial_state([11])
    drawn_by_scene = np.random.default_rng(11).standard_normal(4)  # as environments draw
    assert not np.allclose(drawn_by_scene, demonstrator.drawn)


@pytest.mark.parametrize("draw", [torch_seed, numpy_generator])
@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_cannot_be_is_refused(draw: Callable[[int, Purpose], Any], seed: int) -> None:
    with pytest.raises(ConfigError, match="the seed is"):
        draw(seed, Purpose.SPLIT)
