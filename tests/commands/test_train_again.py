"""The same training once more: a finished run says so at once, and pictures are checked once."""

import shutil
import warnings

import numpy as np
import pytest
from hotstart import Arrays, TrainingSettings, load, train
from hotstart.cli import main
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, ObsKey, ObsSpec

SMALL = [
    "task.name=mine",
    "task.obs_keys=[state]",
    "denoiser.channels=[8,16]",
    "denoiser.groups=4",
    "denoiser.level_width=8",
    "training.steps=2",
    "training.batch=4",
]


@pytest.fixture
def words(tmp_path):
    """A training on a store whose camera shows one colour only, which is worth a warning."""
    store = Store.create(
        tmp_path / "mine.zarr",
        fps=20,
        action_spec=ActionSpec.plain(2),
        obs_spec=ObsSpec({"state": ObsKey((3,)), "camera": ObsKey((8, 8, 3), "uint8", "image")}),
    )
    rng = np.random.default_rng(0)
    for _ in range(2):
        episode = {
            "state": rng.normal(size=(40, 3)).astype(np.float32),
            "action": rng.normal(size=(40, 2)).astype(np.float32),
            "camera": np.full((40, 8, 8, 3), 9, np.uint8),
        }
        store.append(episode)
    return ["train", str(tmp_path / "mine.zarr"), f"runs={tmp_path}", *SMALL]


def break_pictures(store):
    for file in (store / "data" / "camera" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"no picture")


def test_a_finished_run_says_so_without_decoding_a_picture(words, tmp_path, capsys):
    assert main(words) == 0
    break_pictures(tmp_path / "mine.zarr")
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'mine'} is finished, step 2 of 2" in said
    assert f"checkpoint: {tmp_path / 'mine' / 'checkpoints' / 'last'}" in said
    assert said.count("training.steps=4") == 1
    assert "name=mine_2" in said
    assert f"next: hotstart evaluate {tmp_path / 'mine'} rate=any out=" in said
    assert "parameters," not in said


def test_a_run_that_goes_on_is_not_looked_through_again(words, capsys):
    assert main(words) == 0
    assert "frames of one colour only" in capsys.readouterr().out
    longer = [word.replace("steps=2", "steps=3") for word in words]
    assert main(longer) == 0
    said = capsys.readouterr().out
    assert "done in" in said
    assert "frames of one colour only" not in said


def test_a_finished_run_of_other_data_is_refused(words, tmp_path, capsys):
    assert main(words) == 0
    store = Store.open(tmp_path / "mine.zarr")
    store.append(store.episode(0))
    assert main(words) == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_a_finished_run_is_loaded_from_python(tmp_path):
    rng = np.random.default_rng(0)
    episode = {"state": rng.normal(size=(40, 3)), "action": rng.normal(size=(40, 2))}
    data = Arrays([{name: array.astype(np.float32) for name, array in episode.items()}], fps=20)
    settings = TrainingSettings(steps=1, batch=4, validation_share=0.0)
    first = train(data, tmp_path / "run", settings, progress=False)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "last" / "training_state")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = train(data, tmp_path / "run", settings, progress=False)
    for name, tensor in first.state_dict().items():
        assert tensor.equal(again.state_dict()[name])
    assert load(tmp_path / "run").act({"state": np.zeros(3, np.float32)}).shape == (2,)
