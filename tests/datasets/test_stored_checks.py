"""What formats say of themselves, their counts, videos and statistics, against what they hold."""

import json
import shutil
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hotstart import Arrays
from hotstart.datasets.checks.stored import Moments, find_differences
from hotstart.datasets.checks.verify import examine
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import find_writer, open_foreign
from hotstart.datasets.formats.video_writer import write_video

VERSIONS = ("lerobot-v3", "lerobot-v2.1")
CODES = ("frame-count", "frames-near", "index-differs", "unlisted-file", "statistics")
CAMERA = "observation.images.top"


def make_data():
    """Three episodes of a drifting picture and smooth states far from zero."""
    rng = np.random.default_rng(0)
    slope = np.mgrid[0:32, 0:32].sum(0)[:, :, None] + np.zeros(3)
    episodes = []
    for length in (6, 9, 7):
        steps = 4 * np.arange(length)[:, None, None, None]
        state = 1000 + np.cumsum(rng.normal(size=(length, 2)), axis=0)
        camera = (slope + steps).astype(np.uint8)
        episodes.append({"top": camera, "state": state.astype(np.float32), "action": state})
    return Arrays(episodes, 10)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One data set a version, not to be changed."""
    folder = tmp_path_factory.mktemp("sets")
    for name in VERSIONS:
        find_writer(name)(make_data(), folder / name, "push", lambda done, count: None)
    return folder


def copy(written, tmp_path, version):
    return shutil.copytree(written / version, tmp_path / version)


def find(path, **options: Any):
    """The findings about files, without those of motion and the like."""
    found = examine(open_foreign(path, ReadOptions(**options))).findings
    return [finding for finding in found if finding.code in CODES]


@pytest.mark.parametrize("version", VERSIONS)
def test_sound_sets_have_no_such_findings(written, version):
    assert find(written / version) == []


def shorten_video(path, episode, length):
    """Another video of the second version, with so many frames."""
    begin = (0, 6, 15)[episode]
    frames = make_data().rows("top", begin, begin + length)
    file = path / "videos" / "chunk-000" / CAMERA / f"episode_{episode:06d}.mp4"
    write_video(file, [frames], 10)


def test_a_video_one_frame_short_and_one_far_too_short(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v2.1")
    shorten_video(path, 1, 8)
    (near,) = find(path)
    assert (near.code, near.severity, list(near.episodes)) == ("frames-near", "warning", [1])
    assert "top of episode 1 has 8 frames for 9 rows" in near.message
    shorten_video(path, 2, 3)
    far, _ = find(path)
    assert (far.code, far.severity, list(far.episodes)) == ("frame-count", "error", [2])


def test_a_missing_video(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v2.1")
    folder = path / "videos" / "chunk-000" / CAMERA
    (folder / "episode_000000.mp4").unlink()
    (found,) = find(path)
    assert (found.code, list(found.episodes)) == ("frame-count", [0])
    assert "is missing" in found.message


def test_a_joined_video_that_ends_early_names_the_episodes(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v3")
    file = path / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
    raw = file.read_bytes()
    begin = raw.index(b"mdat") - 4
    size = int.from_bytes(raw[begin : begin + 4], "big")
    if begin + size < len(raw):  # the index lies behind the pictures: it goes before them
        raw = move_index(raw, begin, size)
    file.write_bytes(raw[:-40])
    (found,) = find(path)
    assert (found.code, list(found.episodes)) == ("frame-count", [2])
    assert "the file ends before" in found.message


def move_index(raw, begin, size):
    """The same film with its index first, whose offsets are put right."""
    index = raw[begin + size :]
    moved = bytearray(raw[:begin] + index + raw[begin : begin + size])
    place = moved.index(b"stco") + 4
    count = int.from_bytes(moved[place + 4 : place + 8], "big")
    for number in range(count):
        at = place + 8 + 4 * number
        offset = int.from_bytes(moved[at : at + 4], "big") + len(index)
        moved[at : at + 4] = offset.to_bytes(4, "big")
    return bytes(moved)


def change_line(path, name, number, change):
    file = path / "meta" / f"{name}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows[number])
    file.write_text("\n".join(map(json.dumps, rows)))


def test_a_wrong_mean_of_one_episode(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v2.1")
    change_line(
        path,
        "episodes_stats",
        1,
        lambda row: row["stats"]["action"].update(mean=[1000.5, 1001.0]),
    )
    (found,) = find(path, images=False)
    assert (found.code, found.key, list(found.episodes)) == ("statistics", "action", [1])
    assert list(found.numbers) == ["mean"]


def test_statistics_that_are_no_numbers(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v2.1")
    change_line(
        path, "episodes_stats", 2, lambda row: row["stats"]["action"].update(mean=["a", {}])
    )
    (found,) = find(path, images=False)
    assert "mean is no list of numbers" in found.message


def change_column(path, name, change):
    """Other values in a column of version 3's list of episodes."""
    file = path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file).to_pylist()
    for row in table:
        row[name] = change(row[name])

    pq.write_table(pa.Table.from_pylist(table), file)


def test_statistics_of_version_3(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v3")
    change_column(path, "stats/observation.state/std", lambda values: [2 * each for each in values])
    (found,) = find(path, images=False)
    assert (found.key, list(found.episodes)) == ("state", [0, 1, 2])
    file = path / "meta" / "stats.json"
    whole = json.loads(file.read_text())
    whole["action"]["max"][0] += 0.5
    file.write_text(json.dumps(whole))
    _, other = find(path, images=False)
    assert (other.key, list(other.episodes), list(other.numbers)) == ("action", [], ["max"])


def test_lists_that_count_otherwise_and_files_that_nobody_names(written, tmp_path):
    path = copy(written, tmp_path, "lerobot-v2.1")
    change_line(path, "episodes", 0, lambda row: row.update(length=5))
    folder = path / "data" / "chunk-000"
    shutil.copy(folder / "episode_000000.parquet", folder / "episode_000009.parquet")
    info = json.loads((path / "meta" / "info.json").read_text())
    (path / "meta" / "info.json").write_text(json.dumps({**info, "total_frames": 99}))
    lengths, steps, unlisted = find(path, images=False)
    assert list(lengths.episodes) == [0]
    assert "total_frames is 99; there are 22" in steps.message
    assert "episode_000009.parquet: what is in it is not read" in unlisted.message
    three = copy(written, tmp_path, "lerobot-v3")
    change_column(three, "dataset_to_index", lambda end: end + 1)
    (found,) = find(three, images=False)
    assert list(found.episodes) == [0, 1, 2]


def test_sums_in_float32_are_no_difference():
    values = (4567.8 + np.random.default_rng(1).normal(size=(3000, 1)) / 100).astype(np.float32)
    moments = Moments()
    moments.add(values.astype(np.float64))
    total = np.float32(0)
    for value in values[:, 0]:
        total += value
    mean = total / np.float32(len(values))
    stored = {"mean": np.array([mean]), "std": values.std(0)}
    assert abs(float(mean) - values.astype(np.float64).mean()) > 1e-3
    assert find_differences(moments, stored) == {}
    assert list(find_differences(moments, {"mean": np.array([4600.0])})) == ["mean"]


def test_totals_of_hdf5(tmp_path):
    path = tmp_path / "a.hdf5"
    find_writer("robomimic")(make_data(), path, "push", lambda done, count: None)
    data = open_foreign(path)
    assert list(data.check_files()) == []
    data.close()
    with h5py.File(path, "a") as file:
        file["data"].attrs["total"] = 23
    (found,) = find(path)
    assert "attribute total is 23; there are 22" in found.message
