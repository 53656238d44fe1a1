"""Edits from the command line: the new store holds what was asked, sources are as before."""

import json
import shutil

import numpy as np
import pytest
from hotstart.cli import run_verb
from hotstart.datasets import editing
from hotstart.datasets.store import Store
from hotstart.datasets.windows import split_usable_episodes
from hotstart.spec import ActionSpec, ConfigError, DataError, ObsKey, ObsSpec

SPECS = {
    "action_spec": ActionSpec.plain(2),
    "obs_spec": ObsSpec({"state": ObsKey((3,)), "top": ObsKey((4, 4, 3), "uint8", "image")}),
}


@pytest.fixture
def make_store(tmp_path):
    def make(name, steps=(3, 5), seed=0, task="lift"):
        store = Store.create(tmp_path / name, fps=10, task=task, source=name, **SPECS)
        rng = np.random.default_rng(seed)
        for number, count in enumerate(steps):
            store.append(
                {
                    "state": rng.normal(size=(count, 3)).astype(np.float32),
                    "top": rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8),
                    "action": rng.normal(size=(count, 2)).astype(np.float32),
                    "success": np.arange(count) == count - 1 + number % 2,
                }
            )
        store.release()
        return store

    return make


def test_merge_writes_a_store_and_leaves_the_sources(make_store, tmp_path, capsys):
    one, two = make_store("a"), make_store("b", (4,), seed=1)
    before = [one.content_hash(), two.content_hash()]
    target = tmp_path / "out"
    assert run_verb("data", ["merge", str(one.path), str(two.path), str(target)]) == 0
    merged = Store.open(target)
    assert merged.lengths.tolist() == [3, 5, 4]
    assert merged.task == "lift" and merged.attrs["source"] == "a, b"
    np.testing.assert_array_equal(merged.episode(2)["top"], two.episode(0)["top"])
    assert [Store.open(tmp_path / name).content_hash() for name in "ab"] == before
    assert "3 episodes, 12 steps" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out"]
    with pytest.raises(DataError, match="is there already"):
        run_verb("data", ["merge", str(one.path), str(two.path), str(target)])
    with pytest.raises(ConfigError, match="two or more"):
        run_verb("data", ["merge", str(one.path), str(target)])


def test_a_disk_without_room_is_refused_before_anything_is_written(
    make_store, tmp_path, monkeypatch
):
    one, two = make_store("a"), make_store("b", (4,))
    full = editing.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(editing.shutil, "disk_usage", lambda _: full)
    with pytest.raises(DataError, match="the disk has 0 MB left"):
        run_verb("data", ["merge", str(one.path), str(two.path), str(tmp_path / "out")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_split_by_share_is_that_of_training(make_store, tmp_path):
    store = make_store("a", (3, 1, 4, 5, 2, 3))
    words = ["split", str(store.path), str(tmp_path / "train"), str(tmp_path / "test"), "share=0.4"]
    with pytest.warns(UserWarning, match="one step"):
        assert run_verb("data", [*words, "seed=3"]) == 0
        train, test = split_usable_episodes(store.episode_ends, 0.4, 3)
    for name, numbers in (("train", train), ("test", test)):
        written = Store.open(tmp_path / name)
        assert written.lengths.tolist() == store.lengths[numbers].tolist()
        for place, number in enumerate(numbers):
            for key, values in store.episode(number).items():
                np.testing.assert_array_equal(written.episode(place)[key], values)
    with pytest.raises(DataError, match="is there already"):
        run_verb("data", words)
    with pytest.raises(ConfigError, match="says how to split"):
        run_verb("data", ["split", str(store.path), "x", "y"])


def test_a_split_that_was_killed_between_its_stores_goes_on(make_store, tmp_path, capsys):
    store = make_store("a", (3, 4, 5))
    first, second = tmp_path / "train", tmp_path / "test"
    words = ["split", str(store.path), str(first), str(second), "share=0.4"]
    run_verb("data", words)
    wanted = [Store.open(path).content_hash() for path in (first, second)]
    shutil.rmtree(first)  # the second one is written first
    assert run_verb("data", words) == 0
    assert f"{second} is written already" in capsys.readouterr().out
    assert [Store.open(path).content_hash() for path in (first, second)] == wanted
    shutil.rmtree(first)
    shutil.rmtree(second)
    make_store("test", (4,), seed=1)
    with pytest.raises(DataError, match="is there already"):
        run_verb("data", words)
    assert not first.exists()


def test_filter_drop_trim_and_relabel_write_stores(make_store, tmp_path, capsys):
    path = str(make_store("a", (3, 5, 4)).path)
    asked = {
        "filter": ["success=true"],
        "drop": ["episodes=0", "cameras=true"],
        "trim": ["end_s=0.1"],
        "relabel": ["success=false", "units=action_0:m", "task=push it"],
    }
    found = {}
    for action, words in asked.items():
        assert run_verb("data", [action, path, str(tmp_path / action), *words]) == 0
        found[action] = Store.open(tmp_path / action)
    assert found["filter"].lengths.tolist() == [3, 4]
    assert found["drop"].lengths.tolist() == [5, 4] and "top" not in found["drop"].keys
    assert found["trim"].lengths.tolist() == [2, 4, 3]
    assert found["relabel"].action_spec.dims[0].unit == "m"
    assert found["relabel"].task == "push it" and not found["relabel"].array("success").any()
    assert "2 of 3 episodes fulfil the conditions" in capsys.readouterr().out
    with pytest.raises(DataError, match="no episode is left"):
        run_verb("data", ["filter", path, str(tmp_path / "none"), "min_steps=9"])
    with pytest.raises(ConfigError, match="actions cannot be left out"):
        run_verb("data", ["drop", path, str(tmp_path / "none"), "keys=action"])


def test_diff_tells_by_its_status_and_in_json(make_store, tmp_path, capsys):
    one, same, other = make_store("a"), make_store("b"), make_store("c", seed=1)
    assert run_verb("data", ["diff", str(one.path), str(same.path)]) == 0
    assert "they are the same" in capsys.readouterr().out
    assert run_verb("data", ["diff", str(one.path), str(other.path)]) == 1
    assert "top: differs in 8 steps, at most by " in capsys.readouterr().out
    assert run_verb("data", ["diff", str(one.path), str(other.path), "json=true"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["keys"]["state"]["steps"] == 8 and not found["equal"]


def test_info_of_a_foreign_data_set(tmp_path, capsys):
    numbers = {"action": np.ones((9, 2)), "obs": np.ones((9, 3)), "episode_ends": np.array([4, 9])}
    np.savez(tmp_path / "a.npz", **numbers)
    assert run_verb("data", ["info", str(tmp_path / "a.npz"), "fps=20"]) == 0
    shown = capsys.readouterr().out
    assert "2 episodes of 4 to 5 steps" in shown and "in the format dp-zarr" in shown
    with pytest.raises(ConfigError, match="Make a store of it first: hotstart data convert"):
        run_verb("data", ["trim", str(tmp_path / "a.npz"), str(tmp_path / "out"), "end_s=1"])
