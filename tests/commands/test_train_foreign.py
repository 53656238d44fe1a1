"""A policy trains on a data set in another format as it is, with the same batches as on a store."""

import numpy as np
import pytest
import yaml
from hotstart.cli import main
from hotstart.datasets.formats import registry
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.frames import ChunkFrames, open_frames
from hotstart.datasets.opening import open_dataset, open_for_training
from hotstart.datasets.writing import write_store
from hotstart.spec import DataError


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.normal(size=(30, 2)).astype(np.float32),
        "state": rng.normal(size=(30, 3)).astype(np.float32),
        "camera": rng.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8),
    }
    np.savez(tmp_path / "buffer.npz", episode_ends=np.array([13, 30]), **arrays)
    return tmp_path / "buffer.npz"


def test_a_foreign_data_set_and_its_store_train_alike(npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(open_dataset(npz, ReadOptions(fps=10)), tmp_path / "data.zarr")
    losses = []
    for name, words in (("npz", [str(npz), "read.fps=10"]), ("store", ["data.zarr"])):
        words += ["task.name=mine", "task.obs_keys=[state]", "denoiser=mlp", "denoiser.hidden=8"]
        words += ["training.steps=2", "training.batch=4", "training.validation_share=0.5"]
        assert main(["train", *words, f"name={name}"]) == 0
        losses.append((tmp_path / "runs" / name / "metrics.jsonl").read_text())
        config = yaml.safe_load((tmp_path / "runs" / name / "config.yaml").read_text())
        assert config["name"] == name
    first, second = losses
    assert [line.split('"loss":')[1].split(",")[0] for line in first.splitlines()] == [
        line.split('"loss":')[1].split(",")[0] for line in second.splitlines()
    ]


@pytest.mark.parametrize("cache", ["ram", "disk", "none"])
def test_pictures_are_the_same_whatever_keeps_them(npz, cache):
    data = open_dataset(npz, ReadOptions(fps=10))
    frames = open_frames(data, ["camera"], cache, 1 << 20)["camera"]
    assert isinstance(frames, ChunkFrames) == (cache == "none")
    steps = np.array([[29, 3], [8, 7]])
    np.testing.assert_array_equal(frames.take(steps), data.array("camera")[steps])


def test_a_format_that_is_read_slowly_is_refused_with_the_command(npz, monkeypatch):
    slow = registry.Format("slow", registry.FORMATS["dp-zarr"].recognise, "none:none")
    monkeypatch.setitem(registry.FORMATS, "dp-zarr", slow)
    with pytest.raises(DataError, match=r"make a store of it first, hotstart data convert .*npz"):
        open_for_training(npz)
