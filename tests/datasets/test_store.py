import json
import shutil

import numpy as np
import pytest
import zarr
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, DataError, ObsKey, ObsSpec


@pytest.fixture
def store(tmp_path, episodes, specs):
    store = Store.create(tmp_path / "data", fps=20, task="reach", source="test", **specs)
    for episode in episodes:
        store.append(episode)
    return store


def test_what_is_appended_is_read_back(store, episodes, specs):
    opened = Store.open(store.path)
    assert opened.lengths.tolist() == [len(episode["action"]) for episode in episodes]
    assert len(opened) == opened.episode_ends[-1] == sum(opened.lengths)
    assert opened.keys == ("state", "image", "count", "action", "timestamp")
    assert (opened.action_spec, opened.obs_spec) == (specs["action_spec"], specs["obs_spec"])
    assert (opened.fps, opened.task, opened.attrs["source"], opened.attrs["version"]) == (
        20.0,
        "reach",
        "test",
        1,
    )
    for number, episode in enumerate(episodes):
        read = opened.episode(number)
        for key, values in episode.items():
            np.testing.assert_array_equal(read[key], values)
            assert read[key].dtype == values.dtype
        np.testing.assert_array_equal(read["timestamp"], np.arange(len(values)) / 20)
    for key in episodes[0]:
        np.testing.assert_array_equal(
            opened.array(key), np.concatenate([episode[key] for episode in episodes])
        )
    np.testing.assert_array_equal(opened.episode(-1)["state"], episodes[-1]["state"])


def test_other_zarr_readers_see_the_documented_layout(store, episodes):
    group = zarr.open_group(str(store.path), mode="r")
    assert group.metadata.zarr_format == 3
    ends = zarr.open_array(str(store.path / "meta/episode_ends"), mode="r")
    np.testing.assert_array_equal(np.asarray(ends[:]), store.episode_ends)
    assert group["data/action"].shape == (len(store), 3)
    assert group["data/image"].chunks == (8, 6, 5, 3)
    assert group.attrs["fps"] == 20


def test_images_take_less_space_than_their_bytes(tmp_path):
    spec = ObsSpec({"image": ObsKey((32, 32, 3), "uint8", "image")})
    store = Store.create(tmp_path / "data", fps=10, action_spec=ActionSpec.plain(1), obs_spec=spec)
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    store.append({"image": np.repeat(frame[None], 16, 0), "action": np.zeros((16, 1))})
    size = sum(
        file.stat().st_size for file in (tmp_path / "data/data/image").rglob("*") if file.is_file()
    )
    assert size < 16 * frame.nbytes / 6  # eight equal frames a chunk


def test_given_timestamps_and_extras_are_kept(tmp_path, specs, episode_maker):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    episode = episode_maker(1, 5)
    extras = {
        "timestamp": np.array([0, 0.1, 0.25, 0.3, 0.4]),
        "reward": np.ones(5),
        "success": np.arange(5) == 4,
        "score": np.linspace(0, 1, 5),
        "explored": np.ones(5, bool),
    }
    store.append({**episode, **extras})
    read = Store.open(store.path).episode(0)
    np.testing.assert_array_equal(read["timestamp"], extras["timestamp"])
    np.testing.assert_array_equal(read["success"], extras["success"])
    assert read["reward"].dtype == read["score"].dtype == np.float32
    assert read["explored"].dtype == np.bool_
    assert read["explored"].all()
    with pytest.raises(DataError, match=r"episode 1 has the extras \['timestamp'\].*'reward'"):
        store.append(episode)
    assert len(Store.open(store.path).lengths) == 1


def test_content_hash_depends_on_numbers_and_ends_only(store, episodes, specs, tmp_path):
    first = store.content_hash()
    assert (
        first
        == Store.open(store.path).content_hash()
        == Arrays(episodes, 20, **specs).content_hash()
    )
    assert Arrays([episodes[0], *episodes[1:][::-1]], 20, **specs).content_hash() != first
    joined = {}
    for key in episodes[0]:
        joined[key] = np.concatenate([episode[key] for episode in episodes])
    joined["timestamp"] = store.array("timestamp")
    assert Arrays([joined], 20, **specs).content_hash() != first  # same numbers, other ends
    episodes[2]["state"] = np.nextafter(episodes[2]["state"], 9)
    assert Arrays(episodes, 20, **specs).content_hash() != first


def test_a_refused_episode_leaves_the_store_as_it_was(store, episode_maker):
    before = store.content_hash()
    bad = episode_maker(7, 20)
    bad["action"] = bad["action"].copy()
    bad["action"][12, 2] = np.nan
    with pytest.raises(DataError, match=r"action\[12, 2\] is NaN in episode 4"):
        store.append(bad)
    assert Store.open(store.path).content_hash() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"action": np.zeros((5, 4))},
            r"'action' has shape \(5, 4\) in episode 4; it must be \(steps, 3\)",
        ),
        (
            {"state": np.zeros((4, 4), np.float32)},
            r"episode 4: the keys have different numbers of steps: .*'state': 4",
        ),
        ({"state": np.full((5, 4), np.inf)}, r"state\[0, 0\] is infinite in episode 4"),
        ({"state": np.full((5, 4), 1e300)}, r"state\[0, 0\] is infinite"),
        (
            {"image": np.full((5, 6, 5, 3), -0.5)},
            "episode 4: image 'image' holds numbers from -0.5 to -0.5",
        ),
        ({"image": np.zeros((5, 5, 6, 3), np.uint8)}, "'image' has shape"),
        (
            {"state": np.array(["a"] * 20).reshape(5, 4)},
            "episode 4: 'state' is <U1; real numbers are stored",
        ),
        ({"extra": np.zeros(5)}, r"unknown keys \['extra'\]"),
        ({"state": None}, "'state' is object"),
        ({"timestamp": np.array([0, 1, np.nan, 3, 4])}, r"timestamp\[2\] is NaN"),
    ],
)
def test_wrong_episodes_are_refused_by_name(store, episode_maker, change, message):
    with pytest.raises(DataError, match=message):
        store.append({**episode_maker(0, 5), **change})


def test_missing_keys_and_empty_episodes_are_refused(store, episode_maker):
    episode = episode_maker(0, 5)
    with pytest.raises(DataError, match="has no steps"):
        store.append({key: values[:0] for key, values in episode.items()})
    del episode["count"]
    with pytest.raises(DataError, match=r"missing keys \['count'\].*an episode holds \['state'"):
        store.append(episode)


@pytest.mark.parametrize("fps", [0, -1, np.nan, "10"])
def test_wrong_rates_are_refused(tmp_path, specs, fps):
    with pytest.raises(DataError, match="fps is"):
        Store.create(tmp_path / "data", fps=fps, **specs)


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("action", ObsKey((2,)), "cannot be called 'action'"),
        ("a/b", ObsKey((2,)), "'/' is not possible"),
        ("text", ObsKey((), "<U8", "language"), "numbers are stored"),
        ("cam", ObsKey((3, 8, 8), "float32", "image"), "images are uint8"),
    ],
)
def test_wrong_observation_keys_are_refused(tmp_path, name, key, message):
    with pytest.raises(DataError, match=message):
        Store.create(
            tmp_path / "data",
            fps=10,
            action_spec=ActionSpec.plain(1),
            obs_spec=ObsSpec({name: key}),
        )
    assert not (tmp_path / "data").exists()


def test_an_existing_store_is_not_overwritten(store, specs):
    before = store.content_hash()
    with pytest.raises(DataError, match="is there already"):
        Store.create(store.path, fps=10, **specs)
    assert Store.open(store.path).content_hash() == before


def test_unknown_keys_and_episodes_name_the_valid_ones(store):
    with pytest.raises(DataError, match=r"no key 'sate'; it has \['state'"):
        store.array("sate")
    with pytest.raises(DataError, match=r"no episode 4; the data set has 4 \(0 to 3\)"):
        store.episode(4)


def test_open_says_what_is_wrong(tmp_path, store):
    with pytest.raises(DataError, match="does not exist"):
        Store.open(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is not a hotstart data set"):
        Store.open(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not a hotstart data set"):
        Store.open(tmp_path / "file")
    zarr.open_group(str(tmp_path / "group"), mode="w", zarr_format=3)
    with pytest.raises(DataError, match="not a hotstart data set"):
        Store.open(tmp_path / "group")
    zarr.open_group(str(tmp_path / "old"), mode="w", zarr_format=2)
    with pytest.raises(DataError, match="hotstart data convert"):
        Store.open(tmp_path / "old")


def test_a_newer_version_asks_for_an_update(store):
    header = store.path / "zarr.json"
    content = json.loads(header.read_text())
    content["attributes"]["version"] = 99
    header.write_text(json.dumps(content))
    with pytest.raises(DataError, match="format 99, this hotstart reads up to 1: update hotstart"):
        Store.open(store.path)


@pytest.mark.parametrize(
    "changed",
    [
        {"source": 3},
        {"task": None},
        {"options": []},
        {"fps": "10"},
        {"fps": 0},
        {"action_spec": {}},
        {"action_spec": [{"nam": "x"}] * 3},
        {"action_spec": [{"name": "x"}] * 4},
        {"obs_spec": []},
        {"obs_spec": {"state": {"shape": [4], "dtype": "nothing"}}},
        {"obs_spec": {"state": {"shape": [5]}}},
        {"obs_spec": {"state": {"shape": [4], "dtype": "float64"}}},
    ],
)
def test_attributes_of_another_kind_are_refused_by_name(store, changed):
    metadata = store.path / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"] |= changed
    metadata.write_text(json.dumps(content))
    with pytest.raises(DataError):
        Store.open(store.path)


def test_a_store_that_says_nothing_of_its_source_is_read(store):
    metadata = store.path / "zarr.json"
    content = json.loads(metadata.read_text())
    for name in ("source", "options", "task"):
        del content["attributes"][name]
    metadata.write_text(json.dumps(content))
    opened = Store.open(store.path)
    assert (opened.task, opened.attrs["source"], opened.attrs["options"]) == ("", "", None)


@pytest.mark.parametrize(
    "lost", ["data/image/c/1/0/0/0", "data/action/c/0/0", "data/state", "meta/episode_ends/c/0"]
)
def test_lost_files_are_noticed_and_not_read_as_zeros(store, lost):
    place = store.path / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(DataError, match="copy, download or convert"):
        Store.open(store.path)


@pytest.mark.parametrize("name", ["data/action/c/0/0", "data/image/c/0/0/0/0"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_chunks_are_noticed(store, name, damage):
    place = store.path / name
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 0x10
    place.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    with pytest.raises(DataError, match="is damaged between steps 0 and"):
        Store.open(store.path).array(name.split("/")[1])


def test_arrays_shorter_than_the_episodes_are_noticed(store):
    zarr.open_group(str(store.path), mode="r+")["data/state"].resize((len(store) - 1, 4))
    with pytest.raises(
        DataError,
        match=f"data/state has {len(store) - 1} steps, but the episodes need {len(store)}",
    ):
        Store.open(store.path)


def test_chunks_of_zeros_are_kept_on_disk(tmp_path):
    spec = ObsSpec({"image": ObsKey((4, 4, 1), "uint8", "image")})
    store = Store.create(tmp_path / "data", fps=10, action_spec=ActionSpec.plain(1), obs_spec=spec)
    for _ in range(2):
        Store.open(store.path).append(
            {"image": np.zeros((20, 4, 4, 1), np.uint8), "action": np.zeros((20, 1))}
        )
    assert not Store.open(store.path).array("image").any()


def test_several_episodes_at_once_are_the_same_as_one_by_one(store, tmp_path, episodes, specs):
    together = Store.create(tmp_path / "together", fps=20, **specs)
    together.extend(episodes[:1])
    together.extend([])
    together.extend(episodes[1:])
    assert (
        together.content_hash() == Store.open(together.path).content_hash() == store.content_hash()
    )
    with pytest.raises(DataError, match="episode 5: missing keys"):
        together.extend([episodes[0], {"action": episodes[0]["action"]}])
    assert len(Store.open(together.path).lengths) == 4


def test_an_empty_store_opens(tmp_path, specs):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    assert len(store) == 0 and len(Store.open(store.path).lengths) == 0
    assert store.array("action").shape == (0, 3)
    assert store.content_hash() == Store.open(store.path).content_hash()
