import json
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from hotstart.datasets.formats.conversion import convert
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.replay_buffer import ReplayBuffer, read_replay_buffer
from hotstart.spec import ConfigError, DataError
from numcodecs import Blosc

ENDS = np.array([7, 19, 30])


def arrays():
    rng = np.random.default_rng(0)
    return {
        "action": rng.normal(size=(30, 3)).astype(np.float32),
        "obs": rng.normal(size=(30, 5)),
        "camera": rng.integers(0, 256, (30, 8, 9, 3)).astype(np.float32),
        "reward": rng.normal(size=(30, 1)).astype(np.float32),
    }


def write_zarr(path, data, ends=ENDS):
    """A version 2 group as zarr 2 wrote it: chunks in time only, Blosc zstd with bit shuffling."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    codec = Blosc("zstd", 5, Blosc.BITSHUFFLE)
    for key, values in data.items():
        made = group.create_array(
            f"data/{key}",
            shape=values.shape,
            dtype=values.dtype,
            chunks=(9, *values.shape[1:]),
            compressors=codec,
        )
        made[:] = values
    if ends is not None:
        group.create_array(
            "meta/episode_ends", shape=ends.shape, dtype=ends.dtype, compressors=None
        )[:] = ends
    return path


def pack(folder, target, prefix=""):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, prefix + str(file.relative_to(folder)))
    return target


@pytest.fixture
def folder(tmp_path):
    return write_zarr(tmp_path / "buffer.zarr", arrays())


@pytest.fixture(params=["folder", "parent", "zip", "zip with a prefix", "npz"])
def source(request, tmp_path, folder):
    if request.param == "npz":
        np.savez(tmp_path / "buffer.npz", episode_ends=ENDS, **arrays())
    return {
        "folder": lambda: folder,
        "parent": lambda: shutil.copytree(folder, tmp_path / "outer" / "inner.zarr").parent,
        "zip": lambda: pack(folder, tmp_path / "buffer.zarr.zip"),
        "zip with a prefix": lambda: pack(folder, tmp_path / "a.zip", "outer/inner.zarr/"),
        "npz": lambda: tmp_path / "buffer.npz",
    }[request.param]()


def test_every_form_reads_the_same(source):
    buffer = read_replay_buffer(source)
    assert set(buffer.keys) == set(arrays())
    np.testing.assert_array_equal(buffer.episode_ends, ENDS)
    for key, values in arrays().items():
        np.testing.assert_array_equal(buffer.array(key), values)
        np.testing.assert_array_equal(buffer.episode(1, (key,))[key], values[7:19])


def test_plain_conversion_keeps_the_numbers(source, tmp_path):
    store = convert(source, tmp_path / "data", ReadOptions(fps=20, images=True, task="lift"))
    assert store.lengths.tolist() == [7, 12, 11] and store.fps == 20 and store.task == "lift"
    np.testing.assert_array_equal(store.array("action"), arrays()["action"])
    np.testing.assert_array_equal(store.array("obs"), arrays()["obs"].astype(np.float32))
    np.testing.assert_array_equal(store.array("reward"), arrays()["reward"][:, 0])
    np.testing.assert_array_equal(store.array("camera"), arrays()["camera"])
    assert store.obs_spec.keys["camera"].kind == "image" and store.array("camera").dtype == np.uint8


def test_keys_can_be_chosen_and_renamed_and_images_are_optional(folder, tmp_path):
    assert "camera" not in convert(folder, tmp_path / "a", ReadOptions(fps=10, images=False)).keys
    store = convert(
        folder,
        tmp_path / "b",
        ReadOptions(fps=10, keys={"action": "action", "state": "obs", "front": "camera"}),
    )
    assert list(store.obs_spec.keys) == ["state", "front"]


def test_conversion_refuses_what_it_cannot_know(folder, tmp_path):
    with pytest.raises(ConfigError, match="fps=10"):
        convert(folder, tmp_path / "data")
    with pytest.raises(DataError, match="is not Push-T's data"):
        convert(folder, tmp_path / "data", ReadOptions(layout="pusht"))
    with pytest.raises(ConfigError, match="give keys=action:NAME"):
        convert(folder, tmp_path / "data", ReadOptions(fps=10, keys={"state": "obs"}))
    with pytest.raises(DataError, match="no key 'actions'"):
        convert(
            folder,
            tmp_path / "data",
            ReadOptions(fps=10, keys={"action": "actions", "state": "obs"}),
        )
    assert not (tmp_path / "data").exists()
    convert(folder, tmp_path / "data", ReadOptions(fps=10))
    with pytest.raises(DataError, match="is there already"):
        convert(folder, tmp_path / "data", ReadOptions(fps=10))


def test_a_conversion_that_fails_leaves_no_data_set_and_can_be_repeated(tmp_path):
    data = arrays()
    data["obs"][25, 2] = np.nan
    with pytest.raises(DataError, match=r"obs\[6, 2\] is NaN in episode 2"):
        convert(write_zarr(tmp_path / "bad.zarr", data), tmp_path / "data", ReadOptions(fps=10))
    assert not (tmp_path / "data").exists()
    assert (
        len(
            convert(
                write_zarr(tmp_path / "good.zarr", arrays()), tmp_path / "data", ReadOptions(fps=10)
            )
        )
        == 30
    )


def test_images_that_are_not_bytes_are_refused(tmp_path):
    data = arrays()
    data["camera"] /= 2
    with pytest.raises(
        DataError, match=r"'camera' holds numbers from 0\.0 to 127\.5 in float32; images are whole"
    ):
        convert(
            write_zarr(tmp_path / "bad.zarr", data),
            tmp_path / "data",
            ReadOptions(fps=10, images=True),
        )


FORMS = {
    "channels first": lambda pictures: np.moveaxis(pictures, -1, 1),
    "fractions": lambda pictures: pictures / np.float32(255),
    "int64": lambda pictures: pictures.astype(np.int64),
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_in_other_axes_and_numbers_are_the_same_data_set(tmp_path, form):
    data, said = arrays(), []
    whole = data["camera"].astype(np.uint8)
    data["camera"] = FORMS[form](whole)
    store = convert(
        write_zarr(tmp_path / "a.zarr", data),
        tmp_path / "data",
        ReadOptions(fps=10, images=True),
        say=said.append,
    )
    assert store.obs_spec.keys["camera"].shape == (8, 9, 3)
    np.testing.assert_array_equal(store.array("camera"), whole)
    assert len(said) == 1
    assert "'camera' is taken for a picture" in said[0]


def test_what_a_shape_leaves_open_is_settled_by_kinds(tmp_path):
    depth = np.random.default_rng(0).random((30, 20, 20))
    source, said = write_zarr(tmp_path / "a.zarr", {**arrays(), "depth": depth}), []
    with pytest.raises(
        DataError,
        match=r"'depth'.*a gray picture or a state.*kinds=depth:state or kinds=depth:image",
    ):
        convert(source, tmp_path / "data", ReadOptions(fps=10), say=said.append)
    kept = convert(
        source,
        tmp_path / "a",
        ReadOptions(fps=10, images=False, kinds={"depth": "state"}),
        say=said.append,
    )
    assert kept.obs_spec.keys["depth"].shape == (20, 20)
    gray = convert(
        source,
        tmp_path / "b",
        ReadOptions(fps=10, images=False, kinds={"depth": "image"}),
        say=said.append,
    )
    assert gray.obs_spec.keys["depth"].shape == (20, 20, 1)
    np.testing.assert_array_equal(gray.array("depth")[..., 0], np.rint(depth * 255))
    assert "left out the pictures camera: images=true takes them" in said
    with pytest.raises(ConfigError, match="kinds names 'deepth'"):
        convert(
            source, tmp_path / "c", ReadOptions(fps=10, kinds={"deepth": "state"}), say=said.append
        )


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]"])
def test_keys_that_hold_no_real_numbers_are_refused_by_name(tmp_path, dtype):
    np.savez(
        tmp_path / "a.npz",
        episode_ends=ENDS,
        **{**arrays(), "stamp": np.ones((30, 1)).astype(dtype)},
    )
    with pytest.raises(
        DataError,
        match=rf"'stamp' is {dtype.replace('[', '.').replace(']', '.')}; real numbers are stored",
    ):
        convert(tmp_path / "a.npz", tmp_path / "data", ReadOptions(fps=10))
    chosen = {"action": "action", "state": "obs"}
    assert (
        convert(tmp_path / "a.npz", tmp_path / "data", ReadOptions(fps=10, keys=chosen)).keys[0]
        == "state"
    )


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (None, r"no meta/episode_ends"),
        (np.array([7, 19, 31]), "has shape .30.*episodes end at step 31"),
        (np.array([7, 7, 30]), r"episode_ends\[1\] is 7, not above the one before"),
        (np.array([0, 7, 30]), r"episode_ends\[0\] is 0"),
        (np.array([7.0, 30.0]), "one whole number per episode"),
        (np.array([], np.int64), "one whole number per episode"),
    ],
)
def test_wrong_ends_are_refused(tmp_path, ends, message):
    with pytest.raises(DataError, match=message):
        read_replay_buffer(write_zarr(tmp_path / "bad.zarr", arrays(), ends))


def test_keys_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'obs' has shape \(29, 5\)"):
        read_replay_buffer(
            write_zarr(tmp_path / "bad.zarr", {**arrays(), "obs": arrays()["obs"][:29]})
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_zips_ask_for_another_download(folder, tmp_path, share):
    for whole in (pack(folder, tmp_path / "a.zarr.zip"), tmp_path / "b.npz"):
        if whole.suffix == ".npz":
            np.savez(whole, episode_ends=ENDS, **arrays())
        content = whole.read_bytes()
        whole.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match="download or copy it again"):
            read_replay_buffer(whole)


def test_a_damaged_entry_of_a_zip_is_noticed(folder, tmp_path):
    packed = pack(folder, tmp_path / "a.zarr.zip")
    with zipfile.ZipFile(packed) as archive:
        entry = archive.getinfo("data/action/1.0")
    content = bytearray(packed.read_bytes())
    content[entry.header_offset + 30 + len(entry.filename) + entry.file_size // 2] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(DataError, match=r"data/action/1.0 in .* is damaged"):
        read_replay_buffer(packed).array("action")


def test_chunks_that_are_not_stored_hold_the_fill_value_and_are_told(tmp_path, folder):
    data = arrays()
    data["reward"][:18] = 0  # zarr does not store chunks of zeros unless it is told to
    source = write_zarr(tmp_path / "sparse.zarr", data)
    assert not (source / "data" / "reward" / "0.0").exists()
    buffer = read_replay_buffer(source)
    np.testing.assert_array_equal(buffer.array("reward"), data["reward"])
    (note,) = buffer.notes
    assert "2 of 4 chunks of 'reward' are not stored: they are read as the fill value 0.0" in note
    assert read_replay_buffer(folder).notes == []


def test_chunks_that_are_not_stored_are_lost_where_there_is_no_fill_value(folder):
    metadata = folder / "data" / "action" / ".zarray"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "fill_value": None}))
    (folder / "data" / "action" / "2.0").unlink()
    with pytest.raises(DataError, match="data/action: 1 of 4 chunks are missing"):
        read_replay_buffer(folder).array("action")


def test_a_key_that_is_not_wanted_needs_no_codec(folder, tmp_path):
    metadata = folder / "data" / "camera" / ".zarray"
    metadata.write_text(
        json.dumps({**json.loads(metadata.read_text()), "compressor": {"id": "nobody_has_it"}})
    )
    (folder / "data" / "words").mkdir()
    (folder / "data" / "words" / ".zarray").write_text(
        '{"zarr_format": 2, "dtype": "|O", "shape": [30], "chunks": [30]}'
    )
    with pytest.raises(DataError, match=r"data/words/.zarray: 'words' is object.*keys=action:NAME"):
        convert(folder, tmp_path / "a", ReadOptions(fps=10))
    chosen = {"action": "action", "state": "obs"}
    assert len(convert(folder, tmp_path / "b", ReadOptions(fps=10, keys=chosen))) == 30
    with pytest.raises(DataError, match="data/camera is packed by codec 'nobody_has_it'"):
        convert(folder, tmp_path / "c", ReadOptions(fps=10, keys={**chosen, "image": "camera"}))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("names", [["x" * 60_000], [f"key{i}" for i in range(1000)], ["a\nb"]])
def test_names_that_no_message_could_show_are_refused(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as packed:
        for name in (*names, "episode_ends"):
            with packed.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.array([3]))
    with pytest.raises(DataError) as caught:
        read_replay_buffer(tmp_path / "a.npz").array("nothing")
    assert len(str(caught.value)) < 1000


def test_nested_groups_are_left_out_and_told(folder):
    zarr.open_group(str(folder), mode="r+", zarr_format=2).create_array(
        "data/inner/a", shape=(3,), dtype="f4"
    )
    assert read_replay_buffer(folder).notes == [
        "data/inner is a group, not an array: it is left out"
    ]


def test_other_things_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_replay_buffer(tmp_path / "nothing.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is not a replay buffer"):
        read_replay_buffer(tmp_path / "empty")
    np.savez(tmp_path / "a.npz", action=np.zeros((3, 2)))
    with pytest.raises(DataError, match="has no episode_ends"):
        read_replay_buffer(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", episode_ends=ENDS, action=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"'action'.*real numbers are stored"):
        read_replay_buffer(tmp_path / "b.npz").array("action")


def test_pusht_layout_turns_the_angle_into_sine_and_cosine(tmp_path):
    state = np.array([[10, 20, 30, 40, np.pi / 2], [11, 21, 31, 41, 2 * np.pi]], np.float32)
    keypoint = np.arange(36, dtype=np.float32).reshape(2, 9, 2)
    np.savez(
        tmp_path / "a.npz",
        action=state[:, :2] + 1,
        state=state,
        keypoint=keypoint,
        episode_ends=np.array([2]),
    )
    store = convert(tmp_path / "a.npz", tmp_path / "data", ReadOptions(layout="pusht"))
    np.testing.assert_allclose(
        store.array("state"), [[10, 20, 30, 40, 1, 0], [11, 21, 31, 41, 0, 1]], atol=1e-6
    )
    np.testing.assert_array_equal(store.array("agent_pos"), state[:, :2])
    np.testing.assert_array_equal(
        store.array("keypoints")[1], np.arange(18, 36)
    )  # x, y of a point stay side by side
    np.testing.assert_array_equal(store.array("action"), state[:, :2] + 1)


def test_pusht_zip_and_npz_give_the_same_data_set(pusht_data, tmp_path):
    zipped = convert(
        pusht_data / "pusht_cchi_v7_replay.zarr.zip", tmp_path / "a", ReadOptions(images=False)
    )
    plain = convert(
        pusht_data / "pusht_cchi_v7_replay_lowdim.npz", tmp_path / "b", ReadOptions(layout="pusht")
    )
    assert zipped.content_hash() == plain.content_hash()
    assert (len(zipped.lengths), len(zipped), zipped.lengths.min(), zipped.lengths.max()) == (
        206,
        25_650,
        49,
        246,
    )
    assert zipped.fps == 10 and [dim.unit for dim in zipped.action_spec.dims] == ["px", "px"]
    with np.load(pusht_data / "pusht_cchi_v7_replay_lowdim.npz") as raw:
        state = raw["state"]
        np.testing.assert_array_equal(zipped.array("action"), raw["action"])
        np.testing.assert_array_equal(zipped.array("keypoints"), raw["keypoint"].reshape(-1, 18))
    np.testing.assert_array_equal(zipped.array("agent_pos"), state[:, :2])
    np.testing.assert_array_equal(zipped.array("state")[:, :4], state[:, :4])
    turned = zipped.array("state")[:, 4:].astype(np.float64)
    np.testing.assert_allclose(
        np.exp(1j * state[:, 4].astype(np.float64)), turned[:, 1] + 1j * turned[:, 0], atol=1e-6
    )


def test_pusht_images_are_kept_whole(pusht_data, tmp_path):
    whole = read_replay_buffer(pusht_data / "pusht_cchi_v7_replay.zarr.zip")
    first = {}  # one episode: all 206 take half a minute
    for key in whole.keys:
        first[key] = whole.rows(key, 0, 161)
    store = convert(
        ReplayBuffer(whole.path, first, whole.episode_ends[:1]),
        tmp_path / "data",
        ReadOptions(layout="pusht", images=True),
    )
    assert store.obs_spec.keys["image"].kind == "image" and store.array("image").dtype == np.uint8
    np.testing.assert_array_equal(store.array("image"), first["img"])
