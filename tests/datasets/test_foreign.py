"""Data sets of other programs are named for what they are, with what works today."""

import json

import h5py
import numpy as np
import pytest
from hotstart.cli import main
from hotstart.datasets.formats.replay_buffer import read_replay_buffer
from hotstart.datasets.store import Store
from hotstart.spec import DataError


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 2))
    return path


def write_lerobot(path, **info):
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(info))
    return path


@pytest.mark.parametrize("door", [Store.open, read_replay_buffer])
def test_hdf5_and_lerobot_are_named_at_both_doors(door, tmp_path):
    named = write_hdf5(tmp_path / "low_dim.hdf5")
    nameless = named.read_bytes()
    (tmp_path / "demonstrations").write_bytes(nameless)
    (tmp_path / "act").mkdir()
    write_hdf5(tmp_path / "act" / "episode_0.hdf5")
    for path in (named, tmp_path / "demonstrations", tmp_path / "act"):
        with pytest.raises(
            DataError, match=r"no store of hotstart; hotstart data convert makes one of robomimic"
        ):
            door(path)
    lerobot = write_lerobot(tmp_path / "lerobot", codebase_version="v3.0", fps=30)
    with pytest.raises(
        DataError,
        match=r"is a LeRobot data set \('v3.0'\), no store: `hotstart data convert .* train",
    ):
        door(lerobot)
    with pytest.raises(
        DataError,
        match=r"not a hotstart data set|no meta/episode_ends|cannot be read as a replay buffer",
    ):
        door(write_lerobot(tmp_path / "other", version=1))


def test_the_commands_say_the_same(tmp_path, capsys):
    path = str(write_hdf5(tmp_path / "low_dim.hdf5"))
    assert main(["data", "info", path]) == 2
    assert "is HDF5 of no program that hotstart knows" in capsys.readouterr().err
