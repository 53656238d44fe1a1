"""Streams and data sets at a fixed rate; scipy's Slerp is the oracle for rotations."""

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.formats import registry
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.resampled import list_action_parts, resample
from hotstart.datasets.resampling import (
    Gap,
    Part,
    find_common_span,
    find_gaps,
    find_newest,
    make_grid,
    order_times,
    resample_numbers,
)
from hotstart.spec import ActionDim, ActionSpec, ConfigError, DataError, ObsKey, ObsPart, ObsSpec
from scipy.spatial.transform import Rotation, Slerp

RNG = np.random.default_rng(3)
TIMES = np.cumsum(RNG.uniform(0.02, 0.2, 40))
WANTED = make_grid(TIMES[0], TIMES[-1], 30)
TURNS = Rotation.random(40, rng=np.random.default_rng(4))
BETWEEN = Slerp(TIMES, TURNS)(np.clip(WANTED, TIMES[0], TIMES[-1]))


def test_a_ramp_stays_a_ramp_under_jittered_stamps():
    values = np.stack([3 * TIMES - 1, -TIMES], axis=1)
    found = resample_numbers(TIMES, values, WANTED)
    np.testing.assert_allclose(found, np.stack([3 * WANTED - 1, -WANTED], axis=1), atol=1e-12)
    held = resample_numbers(TIMES, values, WANTED, [Part(1), Part(1, "hold")])
    np.testing.assert_array_equal(held[:, 1], -TIMES[find_newest(TIMES, WANTED)])


def _columns(turns):
    return turns.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)


@pytest.mark.parametrize(
    ("how", "write", "read"),
    [
        ("quaternion", lambda turns: turns.as_quat(), Rotation.from_quat),
        (
            "quaternion",
            lambda turns: np.roll(turns.as_quat(), 1, axis=1),
            lambda numbers: Rotation.from_quat(np.roll(numbers, -1, axis=1)),
        ),
        ("rotation_vector", lambda turns: turns.as_rotvec(), Rotation.from_rotvec),
    ],
)
def test_rotations_follow_scipys_slerp(how, write, read):
    numbers = write(TURNS)
    if how == "quaternion":
        numbers = numbers * RNG.choice([-1, 1], (40, 1))
    found = read(resample_numbers(TIMES, numbers, WANTED, [Part(numbers.shape[1], how)]))
    assert (found * BETWEEN.inv()).magnitude().max() < 1e-7


def test_columns_of_a_matrix_follow_scipys_slerp():
    found = resample_numbers(TIMES, _columns(TURNS), WANTED, [Part(6, "rotation_6d")])
    np.testing.assert_allclose(found, _columns(BETWEEN), atol=1e-7)


def test_angles_go_the_short_way_round():
    angle = 2.5 * TIMES
    wrapped = np.arctan2(np.sin(angle), np.cos(angle))
    found = resample_numbers(TIMES, wrapped, WANTED, [Part(1, "angle")])
    assert found.min() > -np.pi
    assert found.max() <= np.pi
    np.testing.assert_allclose(np.exp(1j * found), np.exp(2.5j * WANTED), atol=1e-9)
    pairs = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    both = resample_numbers(TIMES, pairs, WANTED, [Part(2, "direction")])
    np.testing.assert_allclose(both[:, 0] + 0, np.sin(2.5 * WANTED), atol=1e-9)


def test_recorded_times_keep_their_numbers_bit_for_bit():
    numbers = TURNS.as_rotvec().astype(np.float32) * 3
    found = resample_numbers(TIMES, numbers, TIMES, [Part(3, "rotation_vector")])
    np.testing.assert_array_equal(found, numbers)


def test_opposite_and_equal_directions_stay_of_length_one():
    numbers = np.array([[1.0, 0], [-1, 0], [-1, 0]])
    found = resample_numbers(np.arange(3.0), numbers, np.array([0.5, 1.5]), [Part(2, "direction")])
    np.testing.assert_array_equal(found, [[1, 0], [-1, 0]])
    with pytest.raises(DataError, match="all zeros"):
        resample_numbers(np.arange(3.0), 0 * numbers, np.array([0.5]), [Part(2, "direction")])


def test_times_are_ordered_and_gaps_found():
    times = np.array([0.0, 0.2, 0.1, 0.2, 1.0])
    order = order_times(times)
    np.testing.assert_array_equal(order, [0, 2, 3, 4])  # of the two at 0.2 the later message
    assert find_gaps(times[order], 0.5) == [Gap(0.2, 0.8)]
    assert find_common_span([times[order], np.array([0.1, 0.9])]) == (0.1, 0.9)
    start, stop = find_common_span([np.zeros(0), times])
    assert len(make_grid(0.0, 1.0, 10)) == 11
    assert start > stop


def test_a_rounded_time_counts_as_reached():
    times = np.float32(np.arange(100) / 30).astype(float)
    np.testing.assert_array_equal(find_newest(times, np.arange(100) / 30), np.arange(100))


SPEC = ActionSpec(
    (
        ActionDim("x", "m"),
        *[ActionDim(f"r{i}", "rad", "rotation") for i in range(3)],
        ActionDim("grip", "", "discrete"),
    )
)
OBS = ObsSpec(
    {
        "pose": ObsKey((5,), parts=(ObsPart("at"), ObsPart("turn", 4, "quaternion"))),
        "camera": ObsKey((2, 2, 3), "uint8", "image"),
        "count": ObsKey((), "int64"),
    }
)


def _make_data():
    episodes = []
    for start in (0.0, 0.3):
        times = TIMES + start
        pose = np.concatenate([times[:, None], TURNS.as_quat()], axis=1)
        action = np.concatenate([times[:, None], TURNS.as_rotvec(), times[:, None] > 2], axis=1)
        camera = (
            np.zeros((40, 2, 2, 3), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None]
        )
        episodes.append(
            {
                "pose": pose,
                "camera": camera,
                "count": np.arange(40),
                "action": action,
                "timestamp": times,
                "made_s.camera": times - 0.01,
            }
        )
    return Arrays(episodes, 10, SPEC, OBS)


def test_a_data_set_at_a_fixed_rate():
    data = _make_data()
    even = resample(data, 30)
    count = len(WANTED)
    np.testing.assert_array_equal(even.episode_ends, [count, 2 * count])
    np.testing.assert_allclose(even.rows("timestamp", count, count + 3), [0, 1 / 30, 2 / 30])
    newest = find_newest(TIMES, WANTED)
    np.testing.assert_array_equal(even.array("count"), np.tile(newest, 2))
    np.testing.assert_array_equal(even.rows("camera", 5, 9)[:, 0, 0, 0], newest[5:9])
    action = even.array("action")
    assert action.dtype == np.float32
    np.testing.assert_allclose(action[:count, 0], WANTED, atol=1e-6)
    assert set(np.unique(action[:, 4])) == {0, 1}
    turned = Rotation.from_quat(even.rows("pose", 0, count)[:, 1:])
    assert (turned * BETWEEN.inv()).magnitude().max() < 1e-5
    made = TIMES[newest] - 0.01 - TIMES[0]
    np.testing.assert_allclose(even.rows("made_s.camera", count, 2 * count), made)
    np.testing.assert_array_equal(even.rows("pose", 7, 60), even.array("pose")[7:60])
    assert even.content_hash() != resample(data, 20).content_hash()
    held = resample(data, 30, hold=["pose"])
    np.testing.assert_array_equal(held.rows("pose", 0, count), data.rows("pose", 0, 40)[newest])


def test_a_number_of_two_values_is_held():
    times = TIMES - TIMES[0]
    action = np.stack([times, np.where(times > 1, 0.08, 0)], axis=1)
    data = Arrays([{"s": action, "action": action, "timestamp": times}], 10)
    even = resample(data, 30)
    for key in ("s", "action"):
        assert set(np.unique(even.array(key)[:, 1])) == {0, np.float32(0.08)}
        np.testing.assert_allclose(even.array(key)[:, 0], even.array("timestamp"), atol=1e-6)


def test_what_cannot_be_resampled_is_refused():
    data = _make_data()
    with pytest.raises(DataError, match=r"nothing for 0\.\d+ s after"):
        resample(data, 30, most_gap_s=0.1)
    relative = ActionSpec((ActionDim("dx", "m", absolute=False),))
    episode = {"s": np.zeros((3, 1)), "action": np.ones((3, 1))}
    with pytest.raises(ConfigError, match="change per step at 10 Hz"):
        resample(Arrays([episode], 10, relative), 20)
    backwards = {**episode, "timestamp": np.array([0, 0.2, 0.1])}
    with pytest.raises(DataError, match=r"timestamp 2 is 0\.1 s"):
        resample(Arrays([backwards], 10), 10)
    five = ActionSpec(tuple(ActionDim(f"r{i}", "rad", "rotation") for i in range(5)))
    with pytest.raises(ConfigError, match="5 rotation numbers in a row"):
        list_action_parts(five)
    with pytest.raises(ConfigError, match="a quaternion has 4 numbers"):
        Part(3, "quaternion")


def test_any_foreign_data_set_is_opened_at_a_fixed_rate(tmp_path, monkeypatch):
    class Foreign(Arrays):
        path, format, task, notes, closed = tmp_path, "drifting", "turn", ("as it is",), False

        def close(self):
            self.closed = True

    data = _make_data()
    source = Foreign([data.episode(0), data.episode(1)], 10, SPEC, OBS)
    monkeypatch.setattr(registry, "_load", lambda target: lambda path, options: source)
    found = registry.open_foreign(tmp_path, ReadOptions(fps=30, resample=True), "mcap")
    assert (found.fps, found.task) == (30, "turn")
    assert found.notes[0] == "as it is"
    assert "resampled to 30 Hz" in found.notes[1]
    np.testing.assert_array_equal(found.array("action"), resample(data, 30).array("action"))
    found.close()
    assert source.closed
    assert registry.open_foreign(tmp_path, ReadOptions(resample=True), "mcap").fps == 10
