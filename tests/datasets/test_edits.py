"""Choosing, trimming and relabelling: what is kept is as it was, to the last bit."""

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.choosing import Wish, choose, list_instructions, read_numbers
from hotstart.datasets.differences import compare
from hotstart.datasets.relabelling import Labels, relabel
from hotstart.datasets.selection import choose_episodes, leave_out, select
from hotstart.datasets.trimming import Cut, trim
from hotstart.spec import ConfigError, DataError


class Named(Arrays):
    task = "lift"


def make(lengths=(4, 2, 6), **extras):
    rng = np.random.default_rng(0)
    episodes = []
    for number, count in enumerate(lengths):
        episode = {
            "state": rng.normal(size=(count, 3)).astype(np.float32),
            "force": rng.normal(size=(count, 6)).astype(np.float32),
            "action": rng.normal(size=(count, 2)).astype(np.float32),
        }
        for name, values in extras.items():
            episode[name] = np.full(count, values[number])
        episodes.append(episode)
    return Named(episodes, fps=10)


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        (Wish(), [0, 1, 2]),
        (Wish(success=True), [0, 2]),
        (Wish(success=False), [1]),
        (Wish(min_steps=4), [0, 2]),
        (Wish(max_steps=4, success=True), [0]),
        (Wish(min_score=0.5), [1, 2]),
        (Wish(actor="intervention"), [2]),
        (Wish(task="lift", episodes="1-2"), [1, 2]),
    ],
)
def test_episodes_are_chosen_by_every_wish(wish, kept):
    data = make(
        success=[True, False, True], score=[0.2, 0.5, 0.9], actor=np.array([1, 1, 3], np.uint8)
    )
    assert choose(data, wish).tolist() == kept


def test_wishes_that_cannot_be_read_are_refused():
    data = make()
    with pytest.raises(DataError, match="no key 'success'"):
        choose(data, Wish(success=True))
    with pytest.raises(ConfigError, match=r"unknown task 'lift it'.*did you mean 'lift'"):
        choose(data, Wish(task="lift it"))
    with pytest.raises(ConfigError, match="valid: nobody, policy"):
        choose(make(actor=np.array([1, 1, 1], np.uint8)), Wish(actor="human"))
    with pytest.raises(ConfigError, match="not understood at '1-'"):
        read_numbers("0,1-", 3)
    with pytest.raises(DataError, match=r"no episodes 2-3; the data set has 3 \(0 to 2\)"):
        read_numbers("2-3", 3)
    assert read_numbers("2, 0-1,1", 3).tolist() == [0, 1, 2]


def test_a_selection_of_a_selection_reads_the_same_numbers():
    data = make()
    view = select(data, choose_episodes(data, [2, 0]))
    again = select(view, choose_episodes(view, [1, 0, 1]))
    assert again.episode_ends.tolist() == [4, 10, 14]
    wanted = [data.episode(number)["action"] for number in (0, 2, 0)]
    np.testing.assert_array_equal(again.array("action"), np.concatenate(wanted))
    np.testing.assert_array_equal(again.rows("force", 3, 5), again.array("force")[3:5])
    assert again.rows("state", 14, 20).shape == (0, 3)


def test_dropped_keys_are_gone():
    view = leave_out(make(reward=[1, 2, 3]), ["force", "reward"])
    assert view.keys == ("state", "action", "timestamp")
    assert "force" not in view.obs_spec.keys


def test_standing_still_is_cut_at_both_ends_and_times_begin_anew():
    state = np.zeros((20, 1), np.float32)
    state[:, 0] = np.repeat([0, 1, 2, 3], [6, 1, 3, 10])
    success = np.arange(20) == 19
    action = np.ones((20, 2), np.float32)
    still = {"state": np.zeros((5, 1), np.float32), "action": action[:5], "success": success[:5]}
    data = Arrays([{"state": state, "action": action, "success": success}, still], fps=10)
    view = trim(data, Cut(still=0.01))
    assert view.array("state")[:, 0].tolist() == [0, 1, 2, 2, 2, 3]
    np.testing.assert_allclose(view.array("timestamp"), np.arange(6) / 10)
    assert view.array("success").tolist() == [False] * 5 + [True]
    assert "1 episodes go" in view.notes[1]
    assert len(trim(data, Cut(still=0.01, keep_s=0.2)).array("state")) == 10
    assert len(trim(data, Cut(still=0.5)).array("state")) == 0


def test_seconds_are_cut_by_the_timestamps():
    times = np.array([0.1, 0.2, 0.6, 0.7, 1.1])
    episode = {"state": np.arange(5.0)[:, None], "action": np.ones((5, 1)), "timestamp": times}
    view = trim(Arrays([episode], fps=10), Cut(start_s=0.5, end_s=0.3))
    assert view.array("state")[:, 0].tolist() == [2, 3]
    np.testing.assert_allclose(view.array("timestamp"), [0.1, 0.2])
    with pytest.raises(ConfigError, match="at least 0"):
        trim(make(), Cut(start_s=-1))


def test_labels_change_and_numbers_stay():
    data = make()
    labels = Labels(
        task="push",
        rename={"state": "joints"},
        names={"action_1": "elbow"},
        units={"elbow": "rad"},
        fps=20,
    )
    view = relabel(data, labels)
    assert view.task == "push" and view.fps == 20
    assert list(view.obs_spec.keys) == ["joints", "force"]
    assert [(dim.name, dim.unit) for dim in view.action_spec.dims] == [
        ("action_0", ""),
        ("elbow", "rad"),
    ]
    np.testing.assert_array_equal(view.array("joints"), data.array("state"))
    assert view.rows("timestamp", 0, 6).tolist() == [0, 0.05, 0.1, 0.15, 0, 0.05]


def test_recorded_timestamps_stay():
    times = np.array([0.0, 0.11, 0.2])
    episode = {"state": np.ones((3, 1)), "action": np.ones((3, 1)), "timestamp": times}
    view = relabel(Arrays([episode], fps=10), Labels(fps=20))
    assert view.array("timestamp").tolist() == times.tolist() and "recorded" in view.notes[0]


def test_instructions_and_outcomes_of_single_episodes():
    data = make(success=[False, True, True])
    view = relabel(data, Labels(instruction="push", success=True, episodes="0-1"))
    assert list_instructions(view) == ["push", "push", "lift"]
    wanted = [False] * 3 + [True] * 9
    assert view.array("success").tolist() == wanted
    judged = relabel(make(), Labels(success=False, episodes="1"))
    assert judged.array("success").nonzero()[0].tolist() == [3, 11]


def test_labels_that_fit_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"unknown observation 'stat' \(did you mean 'state'"):
        relabel(make(), Labels(rename={"stat": "x"}))
    with pytest.raises(ConfigError, match="would both be called force"):
        relabel(make(), Labels(rename={"state": "force"}))
    with pytest.raises(ConfigError, match="unknown number of the action 'elbow'"):
        relabel(make(), Labels(units={"elbow": "rad"}))
    with pytest.raises(ConfigError, match="would have one name"):
        relabel(make(), Labels(names={"action_0": "action_1"}))
    nameless = make()
    nameless.task = ""
    with pytest.raises(DataError, match="episode 1 would have no instruction"):
        relabel(nameless, Labels(instruction="push", episodes="0"))


def test_a_comparison_finds_what_was_changed():
    data = make(reward=[1.0, 2.0, 3.0])
    assert compare(data, select(data, choose_episodes(data, range(3)))).equal
    changed = make(reward=[1.0, 2.0, 3.0])
    changed.array("state")[7, 1] += 0.5
    changed.array("reward")[1] = np.nan
    found = compare(data, changed)
    assert not found.equal and not any(found.only_episodes)
    state, reward = found.keys["state"], found.keys["reward"]
    assert (state.steps, state.episodes, state.step) == (1, (2, 2), 1)
    assert state.largest == pytest.approx(0.5) and state.statistics[0] != state.statistics[1]
    assert reward.largest == np.inf and found.keys["action"].steps == 0


def test_a_comparison_finds_episodes_wherever_they_stand():
    data = make()
    found = compare(data, leave_out(select(data, choose_episodes(data, [2, 0])), ["force"]))
    assert found.only_episodes == ([1], []) and found.moved
    assert found.only_keys == (["force"], []) and "force is state" in found.specs[0]
    assert not any(difference.steps for difference in found.keys.values())
