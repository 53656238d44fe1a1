"""robomimic's HDF5: what others wrote is read, and what is written others read."""

import json
from typing import Any

import h5py
import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import find_writer, open_foreign, recognise
from hotstart.spec import ConfigError, DataError

RNG = np.random.default_rng(0)
LENGTHS = (5, 3, 4)
ENV_ARGS = {"env_name": "Lift", "env_version": "1.4.1", "type": 1, "env_kwargs": {}}


def open_file(path, mode="r") -> Any:
    """An HDF5 file; what lies in it may be anything."""
    return h5py.File(path, mode)


def write_theirs(path, rate: int | None = 20, **packing: Any):
    """A file as robomimic's documentation says: 11 demos, so that demo_10 comes after demo_9."""
    arrays = []
    with open_file(path, "w") as file:
        kwargs = {"control_freq": rate} if rate else {}
        file.create_group("data").attrs["env_args"] = json.dumps({**ENV_ARGS, "env_kwargs": kwargs})
        for number in range(11):
            n = 3 + number % 3
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs["num_samples"] = n
            held = {
                "actions": RNG.normal(size=(n, 2)),
                "rewards": RNG.normal(size=n),
                "dones": np.zeros(n, np.int64),
                "states": RNG.normal(size=(n, 7)),
                "obs/object": RNG.normal(size=(n, 3)),
                "obs/agentview_image": RNG.integers(0, 256, (n, 9, 8, 3), np.uint8),
                "obs/depth": RNG.normal(size=(n, 9, 8, 1)).astype("f4"),
                "next_obs/object": RNG.normal(size=(n, 3)),
            }
            for name, values in held.items():
                demo.create_dataset(name, data=values, **packing)
            arrays.append(held)
        file["mask/train"] = np.array(["demo_10", "demo_2"], "S")
        file["mask/valid"] = ["demo_1"]  # texts of any length
    return arrays


def read_by_hand(path):
    """A walk by h5py alone, as the format's description says: key -> arrays of the demos."""
    found = {}
    with open_file(path) as file:
        count = len(file["data"])
        total = 0
        for number in range(count):
            demo = file[f"data/demo_{number}"]
            total += demo.attrs["num_samples"]

            def note(name, item):
                if isinstance(item, h5py.Dataset):
                    found.setdefault(name, []).append(item[()])

            demo.visititems(note)
        assert file["data"].attrs["total"] == total
        found["env_args"] = json.loads(file["data"].attrs["env_args"])
    return found


def make_ours():
    episodes = []
    for n in LENGTHS:
        episodes.append(
            {
                "state": RNG.normal(size=(n, 3)).astype("f4"),
                "camera": RNG.integers(0, 256, (n, 9, 8, 3), np.uint8),
                "action": RNG.normal(size=(n, 2)).astype("f4"),
                "success": np.arange(n) >= n - 2,
                "instruction": f"task {n}",
            }
        )
    return Arrays(episodes, fps=12.5)


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip", "chunks": True}])
def test_what_robomimic_writes_is_read(tmp_path, packing):
    path = tmp_path / "low_dim.hdf5"
    arrays = write_theirs(path, **packing)
    assert recognise(path) == "robomimic"
    data = open_foreign(path)
    assert data.keys == ("agentview_image", "object", "action", "reward")
    assert data.fps == 20
    assert any("kinds=depth:state" in note for note in data.notes)
    assert any("'Lift'" in note and "1.4.1" in note for note in data.notes)
    for ours, theirs in (("object", "obs/object"), ("action", "actions"), ("reward", "rewards")):
        whole = np.concatenate([each[theirs] for each in arrays]).astype(np.float32)
        np.testing.assert_array_equal(data.array(ours), whole)
        np.testing.assert_array_equal(data.rows(ours, 2, 13), whole[2:13])
    pictures = np.concatenate([each["obs/agentview_image"] for each in arrays])
    np.testing.assert_array_equal(data.array("agentview_image"), pictures)
    data.close()


def test_a_mask_and_chosen_arrays_are_taken(tmp_path):
    path = tmp_path / "low_dim.hdf5"
    arrays = write_theirs(path)
    keys = {"action": "actions", "state": "states", "object": "object"}
    data = open_foreign(path, ReadOptions(keys=keys, layout="mask:train", fps=30))
    assert data.fps == 30
    chosen = [arrays[2], arrays[10]]  # in the order of their numbers
    whole = np.concatenate([each["states"] for each in chosen]).astype(np.float32)
    np.testing.assert_array_equal(data.array("state"), whole)
    with pytest.raises(ConfigError, match=r"mask:NAME with one of \['train', 'valid'\]"):
        open_foreign(path, ReadOptions(layout="mask:test"))
    with pytest.raises(DataError, match=r"no array 'joint'; it has .*obs/object"):
        open_foreign(path, ReadOptions(keys={"action": "actions", "state": "joint"}))


def test_a_file_without_a_rate_asks_for_it(tmp_path):
    write_theirs(tmp_path / "a.hdf5", rate=None)
    with pytest.raises(ConfigError, match="fps=20"):
        open_foreign(tmp_path / "a.hdf5")


def test_an_independent_walk_finds_what_was_written(tmp_path):
    ours = make_ours()
    path = tmp_path / "out.hdf5"
    told = []
    find_writer("robomimic")(ours, path, "lift it", lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    found = read_by_hand(path)
    assert found["env_args"]["env_kwargs"]["control_freq"] == 12.5
    for theirs, key in (("actions", "action"), ("obs/state", "state"), ("obs/camera", "camera")):
        np.testing.assert_array_equal(np.concatenate(found[theirs]), ours.array(key))
    for states, following in zip(found["obs/state"], found["next_obs/state"], strict=True):
        np.testing.assert_array_equal(following[:-1], states[1:])
    assert [dones.tolist()[-2:] for dones in found["dones"]] == [[1, 1]] * 3
    assert found["rewards"][0].tolist() == [0, 0, 0, 1, 1]


def test_written_and_read_every_number_is_the_same(tmp_path):
    ours = make_ours()
    path = tmp_path / "out.hdf5"
    find_writer("robomimic")(ours, path, "lift it", lambda *done: None)
    back = open_foreign(path)
    assert (back.keys, back.fps, back.task) == (ours.keys, 12.5, "lift it")
    assert back.obs_spec == ours.obs_spec
    assert back.action_spec == ours.action_spec
    for key in ours.keys:
        assert back.array(key).dtype == ours.array(key).dtype
        np.testing.assert_array_equal(back.array(key), ours.array(key))
    again = tmp_path / "again.hdf5"
    find_writer("robomimic")(back, again, back.task, lambda *done: None)
    assert open_foreign(again).content_hash() == back.content_hash()
    with pytest.raises(DataError, match="is there already"):
        find_writer("robomimic")(ours, path, "", lambda *done: None)


def test_env_args_and_masks_survive(tmp_path):
    write_theirs(tmp_path / "a.hdf5")
    data = open_foreign(tmp_path / "a.hdf5")
    find_writer("robomimic")(data, tmp_path / "b.hdf5", "", lambda *done: None)
    with open_file(tmp_path / "b.hdf5") as file:
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
        assert file["mask/train"][()].tolist() == [b"demo_2", b"demo_10"]


def test_demos_that_are_not_whole_are_refused(tmp_path):
    path = tmp_path / "a.hdf5"
    write_theirs(path)
    with open_file(path, "a") as file:
        file["data/demo_3"].attrs["num_samples"] = 99
    with pytest.raises(DataError, match=r"demo_3 says that it has .*99.* steps"):
        open_foreign(path)
    with open_file(path, "a") as file:
        del file["data/demo_3"].attrs["num_samples"]
        del file["data/demo_4/obs/object"]
        file["data/demo_4/obs/object"] = np.zeros((2, 3))
    with pytest.raises(DataError, match=r"'object' of episode 4 has 2 steps"):
        open_foreign(path)
