"""Joining data sets: every number arrives, and what does not fit is named."""

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.merging import merge
from hotstart.datasets.selection import leave_out, read_origin
from hotstart.spec import ActionSpec, ConfigError, DataError, bytes_to_text


class Named(Arrays):
    task = "lift"


def make(seed, steps, task="lift", fps=10, width=2, **extras):
    rng = np.random.default_rng(seed)
    episodes = []
    for count in steps:
        episode = {
            "state": rng.normal(size=(count, 3)).astype(np.float32),
            "action": rng.normal(size=(count, width)).astype(np.float32),
        }
        for name, value in extras.items():
            episode[name] = np.full(count, value)
        episodes.append(episode)
    data = Named(episodes, fps=fps)
    data.task = task
    return data


def test_all_episodes_follow_each_other_and_common_extras_stay():
    one = make(0, [3, 2], reward=1.0)
    two = make(1, [4], reward=2.0, success=True)
    view = merge({"A": one, "B": two})
    assert view.episode_ends.tolist() == [3, 5, 9]
    assert view.keys == ("state", "action", "reward", "timestamp")
    for key in view.keys:
        whole = np.concatenate([one.array(key), two.array(key)])
        np.testing.assert_array_equal(view.array(key), whole)
        np.testing.assert_array_equal(view.rows(key, 2, 7), whole[2:7])
    assert view.task == "lift"
    assert any("left out success: A has none" in note for note in view.notes)


def test_an_extra_that_a_source_lacks_is_given():
    view = merge({"A": make(0, [2]), "B": make(1, [3], weight=0.5)}, fill={"weight": 2})
    assert view.array("weight").tolist() == [2, 2, 0.5, 0.5, 0.5]
    with pytest.raises(ConfigError, match=r"wight.*did you mean 'weight'"):
        merge({"A": make(0, [2]), "B": make(1, [3])}, fill={"wight": 2})


def test_different_tasks_become_instructions():
    sources = {"A": make(0, [2]), "B": make(1, [3], task="stack")}
    view = merge(sources)
    words = [bytes_to_text(row) for row in view.array("instruction")]
    assert words == ["lift"] * 2 + ["stack"] * 3
    assert view.task == ""
    again = merge({"AB": view, "C": make(2, [1], task="push")})
    assert bytes_to_text(again.array("instruction")[-1]) == "push"
    assert merge(sources, task="move").keys == ("state", "action", "timestamp")
    assert read_origin(merge(sources, task="move")).task == "move"


def test_a_source_without_a_task_takes_the_only_one_or_is_refused():
    view = merge({"A": make(0, [2]), "B": make(1, [3], task="")})
    assert view.task == "lift" and view.notes == ("B names no task: taken for 'lift'",)
    with pytest.raises(DataError, match="C names no task"):
        merge({"A": make(0, [2]), "B": make(1, [3], task="push"), "C": make(2, [3], task="")})


def test_what_does_not_fit_is_named():
    base = make(0, [2])
    with pytest.raises(DataError, match="A and B do not fit: fps is 10 and 20"):
        merge({"A": base, "B": make(1, [2], fps=20)})
    with pytest.raises(DataError, match="an action is 2 numbers and 3"):
        merge({"A": base, "B": make(1, [2], width=3)})
    renamed = make(1, [2])
    renamed.action_spec = ActionSpec.from_json([{"name": "x", "unit": "m"}, {"name": "action_1"}])
    with pytest.raises(DataError, match=r"action 0 is action_0 \(no unit.* and x \(m, cont"):
        merge({"A": base, "B": renamed})


def test_observations_that_not_all_have_are_refused_or_left_out():
    base = make(0, [2])
    more = Named([{**base.episode(0), "force": np.zeros((2, 6), np.float32)}], fps=10)
    with pytest.raises(DataError, match=r"force is not there and state float32 \(6,\)"):
        merge({"A": base, "B": more})
    view = merge({"A": base, "B": more}, common=True)
    assert list(view.obs_spec.keys) == ["state"] and "force" in view.notes[0]
    with pytest.raises(DataError, match="no observation is left"):
        leave_out(base, ["state"])
