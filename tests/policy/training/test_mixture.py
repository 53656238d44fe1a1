"""Several data sets that each give a share of the training windows."""

from dataclasses import replace

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.mixture import Mixture
from hotstart.datasets.opening import open_mixture
from hotstart.datasets.statistics import dataset_statistics, statistics
from hotstart.datasets.store import Store
from hotstart.policy.training.data import prepare_data
from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer
from hotstart.spec import CheckpointError, ConfigError, DataError

SETTINGS = TrainingSettings(
    steps=4, batch=16, validation_share=0.3, device="cpu", threads=1, save_every=2, log_every=2
)


def make_source(value, count, reward=True):
    """Episodes of 14 steps whose numbers lie around `value`."""
    rng = np.random.default_rng(count)
    episodes = []
    for _ in range(count):
        episode = {key: value + rng.normal(size=(14, 2)) for key in ("state", "action")}
        if reward:
            episode["reward"] = np.zeros(14)
        episodes.append({key: array.astype(np.float32) for key, array in episode.items()})
    return Arrays(episodes, fps=10)


@pytest.fixture
def sources():
    return {"few": make_source(100, 4), "many": make_source(0, 20, reward=False)}


def test_a_mixture_is_its_sources_one_after_the_other(sources):
    mixture = Mixture(sources)
    joined = np.concatenate([source.array("state") for source in sources.values()])
    np.testing.assert_array_equal(mixture.array("state"), joined)
    for start, stop in ((0, 3), (50, 60), (56, 56), (57, 336), (330, 400), (400, 410)):
        np.testing.assert_array_equal(mixture.rows("state", start, stop), joined[start:stop])
    assert mixture.episode_ends.tolist() == list(range(14, 337, 14))
    assert "reward" not in mixture.keys
    train, held_out = mixture.split(0.25, 0)
    assert ((held_out < 4).sum(), (held_out >= 4).sum()) == (1, 5)
    assert sorted([*train, *held_out]) == list(range(24))


def test_windows_and_statistics_follow_the_shares(sources, tiny_config):
    mixture = Mixture(sources, [3, 1])
    config = tiny_config(dataset=mixture)
    data = prepare_data(mixture, config, SETTINGS, "cpu")
    few = []
    for step in range(40):
        few.append((data.batches.windows(step)[:, 0] < 56).float().mean().item())
    assert np.mean(few) == pytest.approx(0.75, abs=0.06)
    assert data.held_out is not None
    assert (data.held_out.windows(0)[:, 0] < 56).float().mean() > 0.4
    again = prepare_data(mixture, config, SETTINGS, "cpu")
    assert again.batches.windows(7).equal(data.batches.windows(7))
    assert data.batches.mixed is not None
    drawn = data.batches.mixed.draw(7, 16)
    data.batches.mixed.seed = 1
    assert not data.batches.mixed.draw(7, 16).equal(drawn)
    assert data.statistics["state"]["mean"] == pytest.approx([75, 75], abs=1)
    assert data.statistics["state"]["q01"].max() < 0 < 100 < data.statistics["state"]["q99"].min()
    assert data.sources["few"]["share"] == 0.75
    assert data.sources["many"]["statistics"]["state"]["mean"] == pytest.approx([0, 0], abs=1)
    plain = prepare_data(Mixture(sources), config, SETTINGS, "cpu")
    assert plain.batches.mixed is None
    assert plain.sources["few"]["share"] == pytest.approx(1 / 6, abs=0.03)


def test_weighted_statistics_of_equal_weights_are_the_plain_ones():
    values = np.random.default_rng(0).normal(size=(4000, 3))
    plain, weighted = statistics(values), statistics(values, np.full(4000, 0.3))
    repeated = statistics(np.concatenate([values[:1000]] * 3 + [values[1000:]]))
    weights = np.where(np.arange(4000) < 1000, 3.0, 1.0)
    for name in plain:
        np.testing.assert_allclose(weighted[name], plain[name], atol=1e-9)
        if name != "count":
            np.testing.assert_allclose(statistics(values, weights)[name], repeated[name], atol=2e-2)


def test_a_run_goes_on_with_the_same_mixture_only(sources, tiny_config, tmp_path):
    mixture = Mixture(sources, [1, 1])
    config = tiny_config(dataset=mixture)
    half = replace(SETTINGS, steps=2)
    Trainer(mixture, config, half, tmp_path / "a").run(progress=False)
    with pytest.raises(CheckpointError, match="trained on other data"):
        other = Mixture(sources, [1, 2])
        Trainer(other, config, SETTINGS, tmp_path / "a").run(progress=False)
    meta = Trainer(mixture, config, half, tmp_path / "b").meta
    assert meta["sources"]["few"]["windows"] == 42
    assert "statistics" in meta["sources"]["few"]


def test_what_cannot_be_mixed_is_refused(sources, tmp_path):
    few, many = sources["few"], sources["many"]
    wide = Arrays([{"state": np.zeros((5, 3)), "action": np.zeros((5, 2))}], fps=20)
    with pytest.raises(
        DataError, match=r"few and wide cannot be mixed: fps is 10 and 20; state is"
    ):
        Mixture({"few": few, "wide": wide})
    for shares in ([1], [1, -1], [0, 0], [1, np.nan]):
        with pytest.raises(ConfigError, match="shares"):
            Mixture(sources, shares)
    with pytest.raises(ConfigError, match="a mixture has several data sets"):
        open_mixture("a.zarr", [1.0])
    for name, source in (("a", few), ("b", many)):
        store = Store.create(
            tmp_path / name, fps=10, action_spec=few.action_spec, obs_spec=few.obs_spec
        )
        store.extend([source.episode(0), source.episode(1)])
    found = open_mixture(f"{tmp_path / 'a'},{tmp_path / 'b'}", [0.7, 0.3])
    assert isinstance(found, Mixture)
    assert found.shares is not None
    assert found.shares.tolist() == pytest.approx([0.7, 0.3])
    assert len(dataset_statistics(found)) == 2
    with pytest.raises(ConfigError, match="stands twice"):
        open_mixture(f"{tmp_path / 'a'},{tmp_path / 'a'}")
