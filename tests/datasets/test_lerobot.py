"""LeRobot's data sets: recorded ones, and small ones with something wrong."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import open_foreign
from hotstart.spec import ConfigError, DataError, bytes_to_text

LENGTHS = (3, 4)


def write_v21(path, **changes):
    """Two episodes of states and actions, with two tasks."""
    (path / "meta").mkdir(parents=True)
    (path / "data" / "chunk-000").mkdir(parents=True)
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        "action": {"dtype": "float32", "shape": [2], "names": ["pan", "grip"]},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "observation.note": {"dtype": "string", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    info = {"codebase_version": "v2.1", "fps": 10, "total_episodes": 2, "features": features}
    (path / "meta" / "info.json").write_text(json.dumps({**info, **changes}))
    episodes, tasks = [], ["push", "pull"]
    for number, length in enumerate(LENGTHS):
        steps = np.arange(length)
        values = (steps[:, None] + [[number, 0.5]]).astype(np.float32)
        rows = pa.FixedSizeListArray.from_arrays(values.ravel(), 2)
        columns = {
            "observation.state": rows,
            "action": pa.array(values.tolist(), pa.list_(pa.float32())),
            "next.reward": steps.astype(np.float32),
            "timestamp": (steps / 10 + 0.5 * number).astype(np.float32),
            "task_index": np.full(length, number),
        }
        place = path / "data" / "chunk-000" / f"episode_{number:06d}.parquet"
        pq.write_table(pa.table(columns), place)
        episodes.append({"episode_index": number, "tasks": [tasks[number]], "length": length})
    lines = [{"task_index": number, "task": task} for number, task in enumerate(tasks)]
    for name, rows in (("episodes", episodes), ("tasks", lines)):
        text = "\n".join(map(json.dumps, rows))
        (path / "meta" / f"{name}.jsonl").write_text(text)
    return path


@pytest.fixture
def folder(tmp_path):
    return write_v21(tmp_path / "recordings")


def change_info(folder, **changes):
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def change_feature(folder, name, **changes):
    features = json.loads((folder / "meta" / "info.json").read_text())["features"]
    features[name] |= changes
    return change_info(folder, features=features)


def test_rows_names_times_and_instructions_are_read(folder):
    data = open_foreign(folder)
    assert data.format == "lerobot-v2.1"
    assert data.keys == ("state", "instruction", "action", "reward", "timestamp")
    assert data.episode_ends.tolist() == [3, 7]
    assert [dim.name for dim in data.action_spec.dims] == ["pan", "grip"]
    assert data.rows("action", 2, 5).tolist() == [[2, 2.5], [1, 0.5], [2, 1.5]]
    assert data.rows("state", 6, 99).tolist() == [[4, 3.5]]
    assert data.rows("reward", 1, 4).dtype == np.float32
    assert [bytes_to_text(row) for row in data.rows("instruction", 2, 4)] == ["push", "pull"]
    # the number that float32 rounded, and the number as it was recorded
    assert data.rows("timestamp", 1, 4).tolist() == [0.1, 0.2, 0.5]
    said = "\n".join(data.notes)
    assert "left out observation.note: string is not read" in said
    assert "1 of 2 episodes leave frame / fps" in said
    assert "0.500 s in episode 1" in said
    chosen = open_foreign(folder, ReadOptions(keys={"action": "action", "x": "next.reward"}))
    assert chosen.rows("x", 0, 2).tolist() == [[0], [1]]
    with pytest.raises(ConfigError, match="has no feature 'nothing'"):
        open_foreign(folder, ReadOptions(keys={"action": "nothing"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebase_version": "v1.6"}, "convert it by LeRobot first"),
        ({"codebase_version": "v4.0"}, "read are v2.0, v2.1, v3.0"),
        ({"codebase_version": 3}, "read are v2.0, v2.1, v3.0"),
        ({"fps": 0}, "a positive number of steps"),
        ({"features": []}, "it must name the columns"),
        ({"data_path": "../../{episode_index}.parquet"}, "a path lies inside the folder"),
        ({"data_path": "/etc/{episode_index}"}, "a path lies inside the folder"),
        ({"data_path": "{episode_index:999999999d}"}, "a path lies inside the folder"),
        ({"data_path": "{episode_index.__class__}"}, "a path lies inside the folder"),
        ({"data_path": "{secret:03d}"}, "a path has the field 'secret'"),
        ({"chunks_size": 0}, "a number above 0"),
    ],
)
def test_what_info_says_is_checked(folder, changes, message):
    with pytest.raises(DataError, match=message):
        open_foreign(change_info(folder, **changes))


def test_columns_that_do_not_fit_are_refused(folder):
    with pytest.raises(DataError, match="at most"):
        open_foreign(change_feature(folder, "action", shape=[1 << 40]))
    change_feature(folder, "action", shape=[2])
    with pytest.raises(DataError, match="has no feature 'action'"):
        open_foreign(change_feature(folder, "action", dtype="string"))
    change_feature(folder, "action", dtype="float32")
    data = open_foreign(change_feature(folder, "observation.state", shape=[3]))
    with pytest.raises(DataError, match="6 numbers in 3 rows of shape"):
        data.rows("state", 0, 2)


def test_files_that_are_missing_or_cut_off_are_named(folder):
    table = folder / "data" / "chunk-000" / "episode_000001.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"stopped before LeRobot's finalize\(\)"):
        open_foreign(folder)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 24):
        table.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            data = open_foreign(folder)
            for key in data.keys:
                data.array(key)
        except DataError:
            continue
    table.unlink()
    with pytest.raises(DataError, match=r"episode_000001\.parquet is missing"):
        open_foreign(folder)
    shutil.rmtree(folder / "data")
    (folder / "meta" / "episodes.jsonl").unlink()
    with pytest.raises(DataError, match="the recording program never finished it"):
        open_foreign(folder)


def test_pusht_is_the_same_from_both_formats(pusht_data):
    theirs = open_foreign(pusht_data.parent / "lerobot_v30_pusht")
    ours = open_foreign(pusht_data / "pusht_cchi_v7_replay.zarr.zip")
    assert np.array_equal(theirs.episode_ends, ours.episode_ends)
    assert np.array_equal(theirs.array("action"), ours.array("action"))
    assert np.array_equal(theirs.array("state"), ours.array("agent_pos"))
    assert theirs.notes == ()
    for start in (0, 159, 25647):  # the second goes over an episode's end
        frames = theirs.rows("image", start, start + 3).astype(int)
        assert np.abs(frames - ours.rows("image", start, start + 3)).mean() < 1.5


def test_a_real_arms_times_are_kept_and_told_of(pusht_data):
    data = open_foreign(pusht_data.parent / "lerobot_v21_cr5_banana_first8")
    assert [dim.name for dim in data.action_spec.dims][-1] == "gripper"
    assert data.rows("top", 196, 198).shape == (2, 480, 640, 3)
    assert "8 of 8 episodes" in data.notes[0]
    assert "at most by 2.170 s in episode 2" in data.notes[0]
    assert len(data.notes) == 1  # as many frames as rows in every episode
