"""HDF5 of ALOHA, LIBERO, Minari and of nobody known: what is in the files comes out."""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import open_foreign, recognise
from hotstart.spec import ConfigError, DataError, bytes_to_text
from PIL import Image

RNG = np.random.default_rng(0)
RED = np.full((16, 24, 3), (250, 10, 20), np.uint8)


def open_file(path, mode="r", **settings: Any) -> Any:
    """An HDF5 file; what lies in it may be anything."""
    return h5py.File(path, mode, **settings)


def make_jpeg(picture):
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=95, subsampling=0)
    return np.frombuffer(packed.getvalue(), np.uint8)


def write_aloha(folder, jpeg, lengths=(3, 2)):
    """Episodes 2 and 10: their order is that of the numbers."""
    written = []
    for number, n in zip((2, 10), lengths, strict=True):
        with open_file(folder / f"episode_{number}.hdf5", "w") as file:
            file.attrs["sim"] = True
            held: dict[str, Any] = {
                "action": RNG.normal(size=(n, 14)),
                "observations/qpos": RNG.normal(size=(n, 14)),
                "observations/qvel": RNG.normal(size=(n, 14)),
            }
            pictures = np.tile(RED, (n, 1, 1, 1))
            if jpeg:
                rows = make_jpeg(RED[..., ::-1])  # OpenCV takes the channels the other way round
                pictures = np.tile(np.pad(rows, (0, 9)), (n, 1))
            held["observations/images/top"] = pictures
            for name, values in held.items():
                file[name] = values
        written.append(held)
    return written


@pytest.mark.parametrize("jpeg", [False, True])
def test_aloha(tmp_path, jpeg):
    written = write_aloha(tmp_path, jpeg)
    assert recognise(tmp_path) == "aloha"
    data = open_foreign(tmp_path)
    assert (data.fps, data.keys) == (50, ("qpos", "qvel", "top", "action"))
    assert data.episode_ends.tolist() == [3, 5]
    whole = np.concatenate([each["observations/qpos"] for each in written]).astype(np.float32)
    np.testing.assert_array_equal(data.array("qpos"), whole)
    assert np.abs(data.rows("top", 2, 4).astype(int) - RED).max() <= 3
    assert any("fps= says another" in note for note in data.notes)
    if jpeg:
        turned = open_foreign(tmp_path, ReadOptions(layout="rgb"))
        assert np.abs(turned.rows("top", 2, 4).astype(int) - RED[..., ::-1]).max() <= 3
    assert open_foreign(tmp_path, ReadOptions(images=False)).keys == ("qpos", "qvel", "action")


def test_a_jpeg_that_is_cut_off_is_named(tmp_path):
    write_aloha(tmp_path, jpeg=True)
    with open_file(tmp_path / "episode_2.hdf5", "a") as file:
        file["observations/images/top"][1, 200:] = 0
    with pytest.raises(DataError, match=r"images/top\[1\] is no whole picture"):
        open_foreign(tmp_path).array("top")


def write_libero(path, words):
    with open_file(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": words})
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        data.attrs["macros_image_convention"] = "opengl"
        demo = data.create_group("demo_0")
        demo.attrs["num_samples"] = 2
        pictures = RNG.integers(0, 256, (2, 9, 8, 3), np.uint8)
        demo["obs/agentview_rgb"] = pictures
        demo["obs/ee_pos"] = np.ones((2, 3))
        demo["actions"] = np.ones((2, 7))
    return pictures


def test_libero(tmp_path):
    first = write_libero(tmp_path / "a_demo.hdf5", "close the drawer")
    second = write_libero(tmp_path / "b_demo.hdf5", ["open", "the drawer"])
    assert recognise(tmp_path / "a_demo.hdf5") == recognise(tmp_path) == "libero"
    one = open_foreign(tmp_path / "a_demo.hdf5")
    assert (one.task, one.fps, one.keys) == (
        "close the drawer",
        20,
        ("agentview_rgb", "ee_pos", "action"),
    )
    assert any("upside down" in note for note in one.notes)
    both = open_foreign(tmp_path)
    assert bytes_to_text(both.rows("instruction", 2, 3)[0]) == "open the drawer"
    np.testing.assert_array_equal(both.array("agentview_rgb"), np.concatenate([first, second]))
    turned = open_foreign(tmp_path, ReadOptions(layout="upright"))
    np.testing.assert_array_equal(turned.rows("agentview_rgb", 2, 4), second[:, ::-1])


def write_minari(folder, episodes=2):
    """As Minari 0.5 lays it out: N + 1 observations, JPEGs of any length."""
    place = folder / "data"
    place.mkdir()
    spec = json.dumps({"id": "Push-v0"})
    (place / "metadata.json").write_text(
        json.dumps({"total_episodes": 2, "total_steps": 8, "env_spec": spec})
    )
    with open_file(place / "main_data.hdf5", "w", track_order=True) as file:
        for number in range(episodes):
            n = 3 + number
            group = file.create_group(f"episode_{number}")
            held = {
                "observations/agent/pos": np.arange(2 * n + 2.0).reshape(n + 1, 2),
                "actions": np.full((n, 2), 0.5, np.float32),
                "rewards": np.arange(n) * 1.0,
                "terminations": np.zeros(n, bool),
                "infos/success": np.arange(n + 1) >= n,
            }
            for name, values in held.items():
                shape = (None, *values.shape[1:])
                group.create_dataset(name, data=values, chunks=True, maxshape=shape)
            rows = group.create_dataset(
                "observations/camera", (n + 1,), h5py.vlen_dtype(np.uint8), chunks=True
            )
            for step in range(n + 1):
                rows[step] = make_jpeg(RED // (step + 1))


def check_minari(path, **wanted):
    data = open_foreign(path, ReadOptions(fps=20))
    for key, values in wanted.items():
        np.testing.assert_array_equal(data.array(key), values.astype(data.array(key).dtype))
    return data


def test_minari(tmp_path):
    write_minari(tmp_path)
    assert recognise(tmp_path) == recognise(tmp_path / "data") == "minari"
    positions = np.concatenate([np.arange(6.0).reshape(3, 2), np.arange(8.0).reshape(4, 2)])
    data = check_minari(
        tmp_path,
        **{"agent.pos": positions},
        success=np.array([0, 0, 1, 0, 0, 0, 1]),
        reward=np.array([0, 1, 2, 0, 1, 2, 3]),
    )
    assert np.abs(data.rows("camera", 1, 2).astype(int) - RED // 2).max() <= 3
    assert any("Push-v0" in note for note in data.notes)
    (found,) = data.check_files()
    assert "total_steps is 8; there are 7" in found.message
    with pytest.raises(ConfigError, match="fps=20"):
        open_foreign(tmp_path)


def test_minari_that_lost_an_episode_is_refused(tmp_path):
    write_minari(tmp_path, episodes=1)
    with pytest.raises(DataError, match="counts 2 episodes, the file holds 1"):
        open_foreign(tmp_path, ReadOptions(fps=20))


def test_a_damaged_file_of_minari_is_named(tmp_path):
    write_minari(tmp_path)
    file = tmp_path / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"main_data\.hdf5"):
        open_foreign(tmp_path, ReadOptions(fps=20))


@pytest.mark.parametrize("format", ["aloha", "libero", "hdf5"])
def test_a_folder_without_hdf5_is_refused(tmp_path, format):
    with pytest.raises(DataError, match="holds no HDF5 file"):
        open_foreign(tmp_path, ReadOptions(keys={"action": "a"}, fps=20), format)


def test_other_hdf5_is_explained_and_then_read(tmp_path):
    path = tmp_path / "mine.h5"
    with open_file(path, "w") as file:
        for number in (0, 1):
            file[f"runs/{number}/joints"] = np.full((2, 6), number)
            file[f"runs/{number}/command"] = np.zeros((2, 3))
    assert recognise(path) == "hdf5"
    message = r"no program.*runs/0/command \(2, 3\).*keys=action:NAME,state:NAME fps=RATE"
    with pytest.raises(DataError, match=message):
        open_foreign(path)
    keys = {"action": "command", "state": "joints"}
    data = open_foreign(path, ReadOptions(keys=keys, fps=10))
    assert data.episode_ends.tolist() == [2, 4]
    assert data.array("state")[:, 0].tolist() == [0, 0, 1, 1]


def test_robosuites_raw_collections_name_the_command_that_reads_them():
    folder = Path(__file__).parents[3] / "shared" / "data" / "robosuite_demos"
    path = folder / "panda_v1.0.1" / "lift" / "panda" / "demo.hdf5"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with pytest.raises(DataError, match="hotstart data recompute"):
        open_foreign(path)
