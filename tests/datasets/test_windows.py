import warnings

import numpy as np
import pytest
from hotstart.datasets.windows import (
    list_windows,
    split_episodes,
    split_usable_episodes,
    window_index,
)
from hotstart.spec import ConfigError, DataError, Horizon


def windows_by_hand(ends, horizon):
    """Plain loops over episodes, steps and columns."""
    rows, start = [], 0
    for end in ends:
        for newest in range(start, end):
            first = newest - (horizon.observed - 1)
            rows.append(
                [min(max(first + column, start), end - 1) for column in range(horizon.planned)]
            )
        start = end
    return np.array(rows)


@pytest.mark.parametrize(
    "horizon", [Horizon(), Horizon(1, 4, 4), Horizon(3, 16, 8), Horizon(2, 5, 4)]
)
@pytest.mark.filterwarnings("ignore:.*shorter than a window")
def test_windows_agree_with_plain_loops(horizon):
    ends = np.array([5, 42, 44, 74])
    np.testing.assert_array_equal(window_index(ends, horizon), windows_by_hand(ends, horizon))


@pytest.mark.filterwarnings("ignore:.*shorter than a window")
def test_every_step_is_the_newest_observation_once_and_no_window_leaves_its_episode():
    ends, horizon = np.array([5, 42, 44, 74]), Horizon(3, 16, 8)
    index = window_index(ends, horizon)
    assert index.shape == (74, 16) and index.dtype == np.int64
    np.testing.assert_array_equal(index[:, horizon.observed - 1], np.arange(74))
    owner = np.searchsorted(ends, index, side="right")
    assert (owner == owner[:, :1]).all()


def test_edges_repeat_the_first_and_last_step():
    index = window_index(np.array([30, 60]), Horizon(2, 24, 8))
    assert index[0, :3].tolist() == [0, 0, 1]
    assert index[30, :3].tolist() == [30, 30, 31]
    assert index[29].tolist() == [28] + [29] * 23


def test_pad_after_counts_windows_as_diffusion_policy_does():
    length, horizon = 50, Horizon(2, 16, 8)
    index = window_index(np.array([length]), horizon, pad_after=7)
    assert len(index) == length - 16 + 1 + 7 + 1  # n - T + pad_before + pad_after + 1
    np.testing.assert_array_equal(index, window_index(np.array([length]), horizon)[: len(index)])
    assert (index[-1] == length - 1).sum() == 1 + 7  # the last real step and seven copies of it
    everything = window_index(
        np.array([length]), horizon, pad_after=horizon.planned - horizon.observed
    )
    np.testing.assert_array_equal(everything, window_index(np.array([length]), horizon))


def test_chosen_episodes_only():
    ends = np.array([30, 60, 95])
    np.testing.assert_array_equal(
        np.unique(window_index(ends, Horizon(), episodes=[2, 0])), np.r_[0:30, 60:95]
    )
    with pytest.raises(DataError, match=r"the data set has 3 \(0 to 2\)"):
        window_index(ends, Horizon(), episodes=[3])


def test_an_episode_shorter_than_the_window():
    ends = np.array([40, 47])
    with pytest.warns(
        UserWarning,
        match=r"1 of 2 episodes are shorter than a window of 24 steps \(the shortest has 7\)",
    ):
        assert len(window_index(ends, Horizon())) == 47
    with pytest.raises(
        DataError,
        match=r"episode 1 has 7 steps, at least 24 are needed.*lower horizon.planned to 7 or less",
    ):
        window_index(ends, Horizon(), short="refuse")
    with pytest.warns(UserWarning):
        assert len(window_index(np.array([7]), Horizon(), pad_after=7)) == 1


def test_episodes_of_one_step_are_left_out():
    with pytest.warns(
        UserWarning, match="1 episodes of one step are left out, the first is episode 1"
    ):
        index = window_index(np.array([10, 11, 20]), Horizon(1, 2, 2))
    assert sorted(set(index[:, 0])) == [*range(10), *range(11, 20)]
    assert 10 not in index


def test_episodes_of_one_step_are_neither_trained_on_nor_held_out():
    with pytest.warns(
        UserWarning, match="2 episodes of one step are left out, the first is episode 1"
    ):
        train, held_out = split_usable_episodes(np.array([10, 11, 20, 21, 30]), 0.3, seed=0)
    assert sorted([*train, *held_out]) == [0, 2, 4]
    assert len(held_out) == 1
    whole = split_usable_episodes(np.array([10, 20, 30, 40, 50]), 0.3, seed=0)
    assert [part.tolist() for part in whole] == [
        part.tolist() for part in split_episodes(5, 0.3, seed=0)
    ]
    with pytest.raises(DataError, match="none of the 2 episodes has 2 steps"):
        split_usable_episodes(np.array([1, 2]), 0.3, seed=0)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([], "no episodes"),
        ([10, 10], "episode 1 has no steps"),
        ([10, 8], "episode 1 has no steps"),
        ([1, 2], r"none of the 2 episodes has 2 steps \(the first is episode 0\)"),
    ],
)
def test_what_cannot_work_is_refused(ends, message):
    with pytest.raises(DataError, match=message):
        window_index(np.array(ends, np.int64), Horizon(1, 2, 2))


@pytest.mark.parametrize("count", [2, 3, 10, 206])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_splits_are_disjoint_whole_and_never_empty(count, share):
    train, validation = split_episodes(count, share, seed=3)
    assert sorted([*train, *validation]) == list(range(count))
    assert len(train) and len(validation)
    again = split_episodes(count, share, seed=3)
    np.testing.assert_array_equal(train, again[0])
    np.testing.assert_array_equal(validation, again[1])


def test_split_sizes_and_seeds():
    assert [len(part) for part in split_episodes(200, 0.1, 0)] == [180, 20]
    assert [len(part) for part in split_episodes(5, 0.0, 0)] == [5, 0]
    assert [len(part) for part in split_episodes(1, 0.5, 0)] == [1, 0]
    assert split_episodes(200, 0.1, 0)[1].tolist() != split_episodes(200, 0.1, 1)[1].tolist()
    with pytest.raises(ConfigError, match=r"validation_share is 1\.5"):
        split_episodes(5, 1.5, 0)
    with pytest.raises(DataError, match="no episodes"):
        split_episodes(0, 0.1, 0)


def test_windows_are_held_as_one_number_each_and_computed_when_asked_for(monkeypatch):
    monkeypatch.setattr("hotstart.datasets.windows.BLOCK", 7)
    ends, horizon = np.array([30, 33, 60]), Horizon(2, 8, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        windows = list_windows(ends, horizon, episodes=[2, 1])
        index = window_index(ends, horizon, episodes=[2, 1])
    assert windows.newest.nbytes == 8 * len(index)
    np.testing.assert_array_equal(np.concatenate(list(windows.blocks())), index)
    rows = np.array([29, 3, 3, 0])
    np.testing.assert_array_equal(windows.take(rows).steps(slice(None)), index[rows])
    np.testing.assert_array_equal(windows.count_uses(), np.bincount(index.ravel(), minlength=60))
    np.testing.assert_array_equal(windows.used_steps(), np.unique(index))
    few = windows.take(np.array([2, 20]))
    np.testing.assert_array_equal(few.used_steps(), np.unique(index[[2, 20]]))
