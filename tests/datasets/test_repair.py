import numpy as np
import pytest
from hotstart.benchmarks._planted_sets import make_arm
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.checks.verify import verify
from hotstart.datasets.repair import repair
from hotstart.datasets.salvage import find_ends
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, ConfigError, DataError, ObsKey, ObsSpec


def walk(seed, steps=40):
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.normal(size=(steps, 2)), axis=0).astype(np.float32)
    image = rng.integers(0, 256, (steps, 4, 4, 3), dtype=np.uint8)
    return {"state": state, "action": state + 1, "image": image}


@pytest.fixture
def store(tmp_path):
    spec = ObsSpec({"state": ObsKey((2,)), "image": ObsKey((4, 4, 3), "uint8", "image")})
    made = Store.create(
        tmp_path / "data", fps=10, action_spec=ActionSpec.plain(2), obs_spec=spec, task="walk"
    )
    for seed in range(3):
        made.append(walk(seed))
    made.release()
    return made


def named(made):
    return [(done.what, list(done.episodes)) for done in made.done]


def test_a_sound_set_stays_as_it_is(store, tmp_path):
    made = repair(store.path, tmp_path / "b")
    assert made.done == []
    assert made.store.content_hash() == store.content_hash()
    assert made.store.task == "walk"


def test_episodes_that_cannot_be_read_are_left_out(store, tmp_path):
    chunk = store.path / "data/image/c/6/0/0/0"  # frames 48 to 55: of episode 1
    chunk.write_bytes(chunk.read_bytes()[:-9])
    made = repair(store.path, tmp_path / "b")
    assert named(made) == [("unreadable", [1])]
    assert np.array_equal(made.store.episode(1)["image"], walk(2)["image"])
    (store.path / "data/image/c/0/0/0/0").unlink()  # now Store.open refuses the store
    made = repair(store.path, tmp_path / "c")
    assert named(made) == [("unreadable", [0, 1])]
    assert len(made.store.episode_ends) == 1
    with pytest.raises(DataError):
        repair(store.path, tmp_path / "d", what=("nan",))


def test_lost_ends_are_found_by_the_timestamps(store, tmp_path):
    (store.path / "meta/episode_ends/c/0").write_bytes(b"lost")
    made = repair(store.path, tmp_path / "b")
    assert "found by the timestamps" in made.done[0].said
    assert made.store.content_hash() == Store.open(store.path.parent / "b").content_hash()
    assert made.store.episode_ends.tolist() == [40, 80, 120]


def test_a_lost_camera_leaves_the_other_keys(store, tmp_path):
    (store.path / "data/image/zarr.json").write_text("{}")
    made = repair(store.path, tmp_path / "b")
    assert made.store.keys == ("state", "action", "timestamp")
    assert np.array_equal(made.store.array("state"), store.array("state"))


def test_episodes_begin_where_the_clock_goes_back_to_its_beginning():
    stamps = np.concatenate([np.arange(5) / 10, np.arange(3) / 10, [0.25, 0.24, 0.3]])
    assert find_ends(stamps).tolist() == [5, 11]


def test_nan_is_left_out_or_cut_away(store, tmp_path):
    store._group["data/state"][50, 1] = np.nan
    assert named(repair(store.path, tmp_path / "b")) == [("nan", [1])]
    made = repair(store.path, tmp_path / "c", what=("nan", "cut"))
    assert named(made) == [("cut", [1])]
    kept = made.store.episode(1)
    assert np.array_equal(kept["action"], walk(1)["action"][11:])
    assert kept["timestamp"][0] == 0


def test_stamps_copies_and_short_episodes(tmp_path):
    stamps = np.arange(40) / 10
    stamps[7] = stamps[6]
    episodes = [walk(0), {**walk(1), "timestamp": stamps}, walk(0), walk(2, 1)]
    made = repair(Arrays(episodes, fps=10), tmp_path / "b")
    assert named(made) == [("short", [3]), ("duplicates", [2]), ("stamps", [1])]
    assert np.allclose(made.store.episode(1)["timestamp"], np.arange(40) / 10)
    assert verify(made.store) == []


def test_drifting_stamps_are_resampled_when_asked(tmp_path):
    episodes = []
    for seed in (0, 1):
        episodes.append({**walk(seed), "timestamp": np.arange(40) / 10 * 1.04})
    data = Arrays(episodes, fps=10)
    assert repair(data, tmp_path / "a").done == []
    made = repair(data, tmp_path / "b", what=("resample",))
    assert [done.what for done in made.done] == ["resample"]
    assert len(made.store.episode(0)["state"]) == 41
    assert [finding.code for finding in made.left.findings] == []


def test_standing_at_both_ends_is_cut_when_asked(tmp_path):
    still = walk(0)
    for key in ("state", "action"):
        still[key][25:] = still[key][25]
    made = repair(Arrays([still, walk(1)], fps=10), tmp_path / "b", what=("still",))
    assert made.store.lengths.tolist() == [26, 40]


def test_a_camera_is_shifted_in_step(tmp_path):
    for late in (2, -2):
        arm = make_arm(3, 4)
        whole = [episode["front"] for episode in arm.episodes]
        for episode in arm.episodes:
            places = np.clip(np.arange(len(episode["front"])) - late, 0, None)
            episode["front"] = episode["front"][np.minimum(places, len(places) - 1)]
        made = repair(arm, tmp_path / f"b{late}", shift={"front": late})
        shown = made.store.episode(2)
        first = max(-late, 0)
        last = first + len(shown["front"])
        assert len(shown["front"]) == len(whole[2]) - 2
        assert np.array_equal(shown["front"], whole[2][first:last])
        assert np.allclose(shown["state"], arm.episodes[2]["state"][first:last])


def test_wrong_words_are_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="nans"):
        repair(store.path, tmp_path / "b", what=("nans",))
    with pytest.raises(ConfigError, match="a camera is shifted"):
        repair(store.path, tmp_path / "b", shift={"state": 1})
    with pytest.raises(DataError, match="is there already"):
        repair(store.path, store.path)
