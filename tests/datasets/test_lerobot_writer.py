"""Data sets written as LeRobot's, read back; what LeRobot itself makes of them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hotstart import Arrays
from hotstart.benchmarks.lerobot_data import check
from hotstart.datasets.formats import lerobot_parts, lerobot_writer, video_writer
from hotstart.datasets.formats.lerobot_statistics import choose_samples, describe_numbers
from hotstart.datasets.formats.registry import find_writer, open_foreign
from hotstart.spec import TEXT_KEY, ActionDim, ActionSpec, DataError, ObsKey, ObsSpec

ACTION_SPEC = ActionSpec((ActionDim("x", "m"), ActionDim("grip", "", "discrete", False)))
OBS_SPEC = ObsSpec(
    {
        "state": ObsKey((3,)),
        "count": ObsKey((), "int64"),
        "matrix": ObsKey((2, 3), "float64"),
        "top": ObsKey((32, 48, 3), "uint8", "image"),
        "gray": ObsKey((32, 48, 1), "uint8", "image"),
        "odd": ObsKey((7, 9, 3), "uint8", "image"),
        "instruction": TEXT_KEY,
    }
)
LENGTHS = (5, 2, 7)
FORMATS = ("lerobot-v3", "lerobot-v2.1")
PEER = os.environ.get("HOTSTART_LEROBOT_PYTHON", "")
"""A Python with LeRobot 0.6 installed, in an environment of its own."""


def make_mixed(lengths=LENGTHS):
    """Episodes with everything that the format can hold; the second is told something else."""
    rng = np.random.default_rng(0)
    slope = np.mgrid[0:32, 0:48].sum(0)[:, :, None] + np.array([0, 40, 80])
    episodes = []
    for number, length in enumerate(lengths):
        steps = np.arange(length)
        top = (slope + (21 * steps + 50 * number)[:, None, None, None]).astype(np.uint8)
        episodes.append(
            {
                "state": rng.normal(size=(length, 3)).astype(np.float32),
                "count": steps * number,
                "matrix": rng.normal(size=(length, 2, 3)),
                "top": top,
                "gray": top[..., :1],
                "odd": rng.integers(0, 255, (length, 7, 9, 3), dtype=np.uint8),
                "instruction": "pull" if number == 1 else "push",
                "action": rng.normal(size=(length, 2)).astype(np.float32),
                "reward": rng.random(length).astype(np.float32),
                "success": steps == length - 1,
                "timestamp": steps / 10 + 0.001 * number,
            }
        )
    return Arrays(episodes, 10, ACTION_SPEC, OBS_SPEC)


def write(data, path, format):
    told = []
    find_writer(format)(data, path, "the task", lambda done, count: told.append((done, count)))
    return told


@pytest.mark.parametrize("format", FORMATS)
def test_every_number_comes_back(format, tmp_path):
    data = make_mixed()
    assert write(data, tmp_path / "out", format) == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    back = open_foreign(tmp_path / "out")
    assert back.format == format
    assert back.task == "the task"
    assert back.obs_spec == data.obs_spec
    assert back.action_spec == data.action_spec
    assert back.fps == data.fps
    assert back.episode_ends.tolist() == data.episode_ends.tolist()
    assert set(back.keys) == set(data.keys)
    for key in data.keys:
        found, wanted = back.array(key), data.array(key)
        assert found.dtype == wanted.dtype
        if key in ("top", "gray"):  # video
            assert np.abs(found.astype(int) - wanted).mean() < 8
        else:
            assert np.array_equal(found, wanted), key
    assert "0.002 s in episode 2" in "\n".join(back.notes)


def read_pieces(data, places):
    """The camera's rows of some places, by four threads."""
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda place: data.rows("top", place, place + 3), places))


def test_h264_and_several_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer, "CODEC", "h264")
    data = make_mixed()
    write(data, tmp_path / "out", "lerobot-v3")
    info = json.loads((tmp_path / "out" / "meta" / "info.json").read_text())
    assert info["features"]["observation.images.top"]["info"]["video.codec"] == "h264"
    back = open_foreign(tmp_path / "out")
    whole = back.array("top")
    assert np.abs(whole.astype(int) - data.array("top")).mean() < 8
    places = np.random.default_rng(0).integers(0, 12, 40).tolist()
    for place, piece in zip(places, read_pieces(back, places), strict=True):
        assert np.array_equal(piece, whole[place : place + 3])


def test_videos_that_do_not_fit_their_rows_are_told_of(tmp_path):
    data = make_mixed()
    write(data, tmp_path / "out", "lerobot-v2.1")
    folder = tmp_path / "out" / "videos" / "chunk-000" / "observation.images.top"
    video_writer.write_video(folder / "episode_000002.mp4", [data.rows("top", 7, 12)], 10)
    back = open_foreign(tmp_path / "out")
    said = "\n".join(back.notes)
    assert "top of episode 2 has 5 frames for 7 rows" in said
    assert "at most 0.200 s away" in said
    frames = back.rows("top", 7, 14)
    assert np.array_equal(frames[4], frames[6])  # the last frame stands for what is missing
    assert not np.array_equal(frames[3], frames[4])
    (folder / "episode_000000.mp4").unlink()
    back = open_foreign(tmp_path / "out")
    assert "top of episode 0 cannot be read" in "\n".join(back.notes)
    with pytest.raises(DataError, match=r"episode_000000\.mp4 is missing"):
        back.rows("top", 0, 1)


def test_damaged_files_are_refused_or_read(tmp_path):
    write(make_mixed(), tmp_path / "out", "lerobot-v3")
    rng = np.random.default_rng(0)
    files = sorted(file for file in (tmp_path / "out").rglob("*") if file.is_file())
    for file in [*files, *files]:
        whole = file.read_bytes()
        damaged = bytearray(whole[: rng.integers(len(whole) // 2, len(whole))])
        if rng.random() < 0.6:
            damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= 0x10
        file.write_bytes(bytes(damaged))
        try:
            back = open_foreign(tmp_path / "out")
            for key in back.keys:
                back.array(key)
        except DataError:
            pass
        file.write_bytes(whole)


def test_files_are_split_by_size_and_frames_stay_with_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_writer, "VIDEO_MB", 0)
    monkeypatch.setattr(lerobot_writer, "TABLE_MB", 0)
    monkeypatch.setattr(lerobot_writer, "EPISODES_PER_FILE", 2)
    data = make_mixed()
    write(data, tmp_path / "out", "lerobot-v3")
    assert len(list((tmp_path / "out").glob("videos/observation.images.top/*/*.mp4"))) == 3
    assert len(list((tmp_path / "out").glob("data/*/*.parquet"))) == 3
    assert len(list((tmp_path / "out").glob("meta/episodes/*/*.parquet"))) == 2
    back = open_foreign(tmp_path / "out")
    assert np.array_equal(back.array("matrix"), data.array("matrix"))
    across = back.rows("top", 4, 8).astype(int) - data.rows("top", 4, 8)
    assert np.abs(across).mean() < 8


def test_a_killed_writing_goes_on_behind_the_last_finished_episode(tmp_path, monkeypatch):
    data = make_mixed()
    write(data, tmp_path / "whole", "lerobot-v3")
    written = []

    def write_or_die(plan, folder, number, tasks, original=lerobot_parts.write_part):
        written.append(number)
        if written == [0, 1, 2]:
            raise KeyboardInterrupt
        return original(plan, folder, number, tasks)

    monkeypatch.setattr(lerobot_writer, "write_part", write_or_die)
    with pytest.raises(KeyboardInterrupt):
        write(data, tmp_path / "out", "lerobot-v3")
    assert not (tmp_path / "out").exists()
    write(data, tmp_path / "out", "lerobot-v3")
    assert written == [0, 1, 2, 2]
    for name in ("data/chunk-000/file-000.parquet", "meta/stats.json", "meta/info.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_the_format_cannot_hold_is_refused(tmp_path):
    spec = ObsSpec({"x": ObsKey((4, 4, 4), "uint8", "image")})
    episode = {"x": np.zeros((2, 4, 4, 4), np.uint8), "action": np.zeros((2, 1))}
    with pytest.raises(DataError, match="pictures of 1 or 3"):
        write(Arrays([episode], 10, None, spec), tmp_path / "out", "lerobot-v3")
    steps = {"images.x": np.zeros((2, 3)), "action": np.zeros((2, 1))}
    with pytest.raises(DataError, match="would be read back as 'x'"):
        write(Arrays([steps], 10), tmp_path / "out", "lerobot-v3")


def test_statistics_by_hand():
    found = describe_numbers(np.array([[0.0], [1], [2], [3]]))
    assert found["mean"] == 1.5
    assert found["std"] == pytest.approx(np.sqrt(1.25))
    assert found["q50"] == pytest.approx(1, abs=1e-3)
    assert found["count"].tolist() == [4]
    assert describe_numbers(np.array([7]))["q99"] == 7
    assert choose_samples(1000).tolist() == np.round(np.linspace(0, 999, 177)).tolist()


@pytest.mark.parametrize("format", FORMATS)
def test_lerobots_own_library_finds_the_same(format, tmp_path):
    if not PEER:
        pytest.skip("set HOTSTART_LEROBOT_PYTHON to a Python with lerobot 0.6")
    data = make_mixed()
    write(data, tmp_path / "out", format)
    told = check(PEER, data, tmp_path / "out", format, "the task", 1)
    assert told["episodes"] == 3
    assert told["rows"] == {"rows": 14, "columns": 13, "wrong": []}
    assert told["frames"]["frames"] == 14
    assert told["frames"]["wrong_tasks"] == told["frames"]["unlike_ours"] == 0
    assert told["frames"]["largest"]["observation.images.odd"] == 0
    if format == "lerobot-v3":
        assert told["statistics"]["numbers"] > 500
        assert told["statistics"]["unequal"] == told["statistics"]["missing"] == 0
