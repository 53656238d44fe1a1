"""Training windows whose pictures come from shards on object storage."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.shards import ShardData, open_shards
from hotstart.datasets.formats.shards_writer import write_shards
from hotstart.datasets.mixture import Mixture
from hotstart.policy.training.data import prepare_data
from hotstart.policy.training.settings import TrainingSettings
from hotstart.spec import ConfigError

ADDRESS = Path("memory://bucket/streamed")
SETTINGS = TrainingSettings(
    steps=6, batch=16, buffer=40, cache="none", validation_share=0.1, device="cpu", threads=1
)


@pytest.fixture(scope="module")
def data() -> Arrays:
    generator = np.random.default_rng(0)
    episodes: list[dict[str, Any]] = []
    for _ in range(16):
        episode: dict[str, Any] = {}
        episode["image"] = generator.integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
        for key in ("state", "action"):
            episode[key] = generator.normal(size=(20, 2)).astype(np.float32)
        episodes.append(episode)
    return Arrays(episodes, fps=10)


@pytest.fixture(autouse=True)
def written(data: Arrays) -> Iterator[None]:
    write_shards(data, ADDRESS, "", lambda done, count: None, 12 * 12 * 3 * 16)
    yield
    MemoryFileSystem.store.clear()


def fetch(cache: Path, most: float = 1.0) -> ShardData:
    return open_shards(ADDRESS, ReadOptions(cache=cache, cache_gb=most))


def test_an_epoch_takes_every_window_once_from_few_shards_at_a_time(
    data: Arrays, tmp_path: Path, tiny_config: Any
):
    source = fetch(tmp_path)
    config = tiny_config(dataset=data)
    batches = prepare_data(source, config, SETTINGS, "cpu").batches
    assert batches.streamed is not None
    width, count = batches.streamed.width, batches.count
    assert (width, count) == (3, 280)  # 2 of 16 episodes are held out; 20 shards of 16 steps
    seen = torch.cat([batches.windows(step)[:, config.horizon.past] for step in range(35)])
    for epoch in (seen[:count], seen[count : 2 * count]):
        assert sorted(epoch.tolist()) == sorted(batches.chosen.newest.tolist())
    assert not seen[:count].equal(seen[count : 2 * count])
    shards = (seen[:count] // 16).numpy()
    uses = [np.flatnonzero(shards == shard) for shard in np.unique(shards)]
    at_once = [sum(use[0] <= place <= use[-1] for use in uses) for place in range(count)]
    assert max(at_once) <= 2 * width
    assert np.mean([len(set(shards[place : place + 16])) for place in range(count - 16)]) > 3
    again = prepare_data(fetch(tmp_path), config, SETTINGS, "cpu").batches
    assert again.windows(22).equal(batches.windows(22))
    other = prepare_data(source, config, replace(SETTINGS, seed=1), "cpu")
    assert not other.batches.windows(22).equal(batches.windows(22))
    observed, actions = batches.at(3)
    wanted = batches.windows(3).numpy()
    assert np.array_equal(observed["image"], data.array("image")[wanted[:, :2]])
    assert np.array_equal(actions, data.array("action")[wanted])


def test_windows_of_a_shard_are_read_from_it_alone(data: Arrays, tmp_path: Path, tiny_config: Any):
    source = fetch(tmp_path)
    batches = prepare_data(source, tiny_config(dataset=data), SETTINGS, "cpu").batches
    group = source.pictures
    assert group is not None
    source.cache.open(group.shards[5])
    (tmp_path / f"{group.shards[4].sha256}.zip").unlink(missing_ok=True)
    first = batches.frames["image"].take(np.array([79, 80]))  # shard 5 begins at step 80
    assert np.array_equal(first, data.array("image")[79:81])
    assert not source.cache.has(group.shards[4])


def test_a_buffer_for_all_windows_gives_the_batches_of_data_in_memory(
    data: Arrays, tmp_path: Path, tiny_config: Any
):
    config = tiny_config(dataset=data)
    settings = replace(SETTINGS, buffer=280)
    held = prepare_data(data, config, settings, "cpu")
    streamed = prepare_data(fetch(tmp_path), config, settings, "cpu")
    assert held.held_out is not None and streamed.held_out is not None
    pairs = ((held.batches, streamed.batches), (held.held_out, streamed.held_out))
    for ours, theirs in pairs:
        (observed, actions), (found, same) = ours.at(18), theirs.at(18)
        assert actions.equal(same)
        for key, values in observed.items():
            assert values.equal(found[key]), key
    for key, numbers in held.statistics.items():
        for word, values in numbers.items():
            assert np.array_equal(values, streamed.statistics[key][word])
    assert replace(SETTINGS, buffer=60).find_difference(asdict(SETTINGS)) == "buffer"


def test_a_buffer_that_the_cache_cannot_hold_is_refused(
    data: Arrays, tmp_path: Path, tiny_config: Any
):
    config = tiny_config(dataset=data)
    with pytest.raises(ConfigError, match=r"read\.cache_gb allows 2e-05: raise it, or lower"):
        prepare_data(fetch(tmp_path, 2e-5), config, SETTINGS, "cpu")
    with pytest.raises(ConfigError, match=r"the shards of far do not fit into read\.cache_gb"):
        mixture = Mixture({"far": fetch(tmp_path, 2e-5), "near": data})
        prepare_data(mixture, config, SETTINGS, "cpu")
