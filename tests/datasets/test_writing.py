"""Any data set becomes a store; a killed writing goes on, and long episodes go in pieces."""

import numpy as np
import pytest
from hotstart import Arrays
from hotstart.datasets import writing
from hotstart.datasets.store import Store
from hotstart.datasets.writing import write_store
from hotstart.spec import DataError

LENGTHS = (3, 5, 4, 6)


def make_arrays(seed=0):
    rng = np.random.default_rng(seed)
    episodes = []
    for length in LENGTHS:
        camera = rng.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8)
        state = rng.normal(size=(length, 2)).astype(np.float32)
        episodes.append(
            {"camera": camera, "state": state, "action": state, "reward": state[:, 0] > 0}
        )
        episodes[-1]["reward"] = episodes[-1]["reward"].astype(np.float32)
    return Arrays(episodes, fps=10)


class Stopped(Exception):
    """The process is killed here."""


def stop_after(monkeypatch, episodes):
    """Let a store take so many episodes, one at a time, and then nothing more."""
    whole, left = Store.extend, [episodes]
    monkeypatch.setattr(writing, "BATCH_BYTES", 6 * writing.step_bytes(make_arrays()))

    def extend(store, batch):
        if batch and not left[0]:
            raise Stopped
        left[0] -= len(batch) > 0
        whole(store, batch)

    monkeypatch.setattr(Store, "extend", extend)


@pytest.mark.parametrize("batch_steps", [1, 4, 1000])
def test_every_number_is_kept_in_pieces_and_in_batches(tmp_path, monkeypatch, batch_steps):
    data = make_arrays()
    monkeypatch.setattr(writing, "BATCH_BYTES", batch_steps * writing.step_bytes(data))
    store = write_store(data, tmp_path / "data", task="lift", source="arrays")
    assert store.content_hash() == data.content_hash()
    assert (store.task, store.attrs["source"]) == ("lift", "arrays")
    assert [path.name for path in tmp_path.iterdir() if "converting" in path.name] == []


def test_a_killed_writing_goes_on_behind_the_last_finished_episode(tmp_path, monkeypatch):
    data, target = make_arrays(), tmp_path / "data"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            write_store(data, target)
    assert not target.exists()
    assert len(Store.open(tmp_path / "data.converting").episode_ends) == 2
    read, rows = [], Arrays.rows
    monkeypatch.setattr(Arrays, "rows", lambda *asked: read.append(asked[1:]) or rows(*asked))
    store = write_store(data, target)
    assert min(start for key, start, _ in read if key == "camera") == sum(LENGTHS[:2])
    assert store.content_hash() == data.content_hash()


def test_what_a_killed_writing_left_of_other_data_is_thrown_away(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            write_store(make_arrays(seed=0), tmp_path / "data")
    other = make_arrays(seed=1)
    assert write_store(other, tmp_path / "data").content_hash() == other.content_hash()


def test_a_target_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="is there already: choose another target"):
        write_store(make_arrays(), tmp_path / "data")
