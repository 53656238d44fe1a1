"""Smoothness against closed forms; the result file against its own promise."""

import copy
import json
import math

import numpy as np
import pytest
from hotstart.benchmarks import _fuzz_damage, _fuzz_files
from hotstart.cli import run_verb
from hotstart.control import RowLog
from hotstart.evaluation import intervals, latency, measures, results
from hotstart.spec import ActionDim, ActionSpec, DataError

YES = np.array([True])
NO = np.array([False])


def test_jerk_of_a_cubic_is_its_third_derivative():
    """x = c t^3 has the jerk 6 c everywhere, and third differences of a cubic are exact."""
    rate_hz, c, scale = 10.0, 0.7, 2.0
    t = np.arange(30) / rate_hz
    path = (c * t**3)[:, None]
    found = measures.smoothness([path, path[:20]], rate_hz, np.array([scale]), YES, YES)
    assert found["jerk_rms"] == pytest.approx(6 * c / scale)
    assert found["max_step"] == pytest.approx(np.abs(np.diff(path[:, 0])).max() / scale)


def test_a_relative_number_is_a_velocity():
    """v = c t^2 has the jerk 2 c."""
    t = np.arange(12) / 20.0
    found = measures.smoothness([(3.0 * t**2)[:, None]], 20.0, np.array([0.5]), YES, NO)
    assert found["jerk_rms"] == pytest.approx(2 * 3.0 / 0.5)


def test_what_cannot_jerk_stays_out():
    rough = np.random.default_rng(0).normal(size=(9, 3))
    rough[:, 0] = np.arange(9)  # a straight line: no jerk, steps of 1
    flags = np.array([True, False, True])
    found = measures.smoothness(
        [rough], 10.0, np.array([1.0, 1.0, 0.0]), flags, np.array([True] * 3)
    )
    assert found["jerk_rms"] == pytest.approx(0.0, abs=1e-9)
    assert found["max_step"] == pytest.approx(1.0)


def test_short_episodes_are_left_out():
    line = np.zeros((3, 1))
    assert measures.smoothness([line[:1], line[:0]], 10.0, np.ones(1), YES, YES) == {
        "jerk_rms": None,
        "max_step": None,
    }
    assert measures.smoothness([line], 10.0, np.ones(1), YES, YES) == {
        "jerk_rms": None,
        "max_step": 0.0,
    }


def _summary():
    spec = ActionSpec((ActionDim("x"), ActionDim("gripper", kind="discrete")))
    logs = [
        RowLog(
            100_000,
            True,
            1.0,
            40,
            [np.array([i / 40, i % 2]) for i in range(40)],
            [1.0] * 40,
            [10, 2, 2, 2, 2],
            3,
            1,
        ),
        RowLog(
            100_001,
            False,
            0.25,
            40,
            [np.array([i / 20, 1.0]) for i in range(40)],
            [1.0] * 40,
            [10, 4, 4, 4, 4],
            0,
            2,
        ),
    ]
    setting = results.Setting(
        "pusht", "runs/pusht", "rti", rate_hz=10.0, executed=8, latency_s=0.05
    )
    return results.summarise(
        logs, [(2, 0.1), (2, 0.02), (1, 0.03)], setting, spec, np.array([1.0, 1.0])
    )


def test_summary_counts_what_happened():
    found = _summary()
    assert (found["task"], found["checkpoint"], found["inference"]) == (
        "pusht",
        "runs/pusht",
        "rti",
    )
    assert (found["episodes"], found["seed"], found["late_actions"], found["starved_ticks"]) == (
        2,
        100_000,
        3,
        3,
    )
    assert found["success"]["rate"] == 0.5
    assert found["score"]["mean"] == pytest.approx(0.625)
    assert found["nfe"] == {"cold": 10.0, "warm": 3.0, "per_action": 3 / 8}
    assert found["inference_ms"]["p50"] == pytest.approx(30.0)
    assert found["inference_ms"]["rows"] == pytest.approx(5 / 3)
    assert found["inference_ms"]["per_second_of_motion"] == pytest.approx(150 / 5 * 10 / 8)
    assert found["smoothness"]["max_step"] == pytest.approx(0.05)
    episode = {
        "seed": 100_001,
        "success": False,
        "score": 0.25,
        "steps": 40,
        "solved_at_reset": False,
    }
    assert found["per_episode"][1] == episode
    assert found["solved_at_reset"] == {"episodes": 0, "success_of_others": found["success"]}
    assert results.solved_words(found) == ""
    assert found["reaction_s"] is None
    assert found["versions"]["numpy"] == np.__version__
    assert found["machine"]["cores"] >= 1


def _summary_of(successes, solved=()):
    spec, setting = (
        ActionSpec.plain(1),
        results.Setting("reach", "runs/reach", "ddim", rate_hz=25.0, executed=8),
    )
    logs = [
        RowLog(seed, success, -3.5, solved_at_reset=seed in solved)
        for seed, success in enumerate(successes)
    ]
    return results.summarise(logs, [], setting, spec, np.ones(1))


def test_what_was_solved_at_reset_is_no_success_of_the_policy():
    found = _summary_of([True, True, False, True, False], solved=(0, 3))
    assert found["success"]["rate"] == pytest.approx(0.6)
    others = intervals.wilson(1, 3)
    assert found["solved_at_reset"] == {
        "episodes": 2,
        "success_of_others": {"rate": others.rate, "low": others.low, "high": others.high},
    }
    assert [episode["solved_at_reset"] for episode in found["per_episode"]] == [
        True,
        False,
        False,
        True,
        False,
    ]
    words = results.solved_words(found)
    assert (
        words == "2 of 5 episodes were solved at reset; success of the others 0.333 [0.061, 0.792]"
    )
    assert results.solved_words({"episodes": 5}) == ""  # a result of an older hotstart


def test_a_success_that_nobody_reports_is_no_failure(tmp_path):
    found = _summary_of([None, None])
    assert found["success"] == {"rate": None, "low": None, "high": None}
    assert not results.reports_success(found)
    assert results.success_words(found["success"]) == "not reported"
    assert [episode["success"] for episode in found["per_episode"]] == [None, None]
    assert found["score"]["mean"] == -3.5
    results.save(found, tmp_path / "result.json")
    assert results.load(tmp_path / "result.json")["success"] == found["success"]
    assert (
        _summary_of([None, True])["success"]["rate"] == 0.5
    )  # said in one episode: silence in the other is no success
    tasks = results.by_task([RowLog(0), RowLog(1, True)], ["push", "open"])["tasks"]
    assert (tasks["push"]["rate"], tasks["open"]["rate"]) == (None, 1.0)


def test_the_time_to_react_is_that_of_a_moment_drawn_at_random():
    """Plans observed at 0, 0.8 and 1.6 s, acted on 0.1 s later: a moment waits 0.4 s for the
    next look, then 0.1 s.
    """
    steady = RowLog(0, reactions=[(0.0, 0.1, 0), (0.8, 0.9, 8), (1.6, 1.7, 16)])
    assert measures.reaction_s([steady]) == pytest.approx(0.5)
    uneven = RowLog(
        1, reactions=[(0.0, 0.0, 0), (0.2, 0.2, 2), (1.2, 1.2, 12)]
    )  # a long gap holds more of the moments
    assert measures.reaction_s([uneven]) == pytest.approx((0.2 * 0.1 + 1.0 * 0.5) / 1.2)
    moments = np.random.default_rng(0).uniform(0, 1.2, 20_000)
    waits = [
        min(acted - moment for observed, acted, _ in uneven.reactions if observed >= moment)
        for moment in moments
    ]
    assert measures.reaction_s([uneven]) == pytest.approx(np.mean(waits), abs=0.005)
    assert measures.reaction_s([RowLog(2, reactions=[(0.0, 0.1, 0)])]) is None


def test_a_plans_cost_is_shared_by_the_actions_that_were_executed_of_it():
    spans = [
        RowLog(0, reactions=[(0.0, 0.0, 0), (0.4, 0.4, 4), (0.8, 0.8, 8)]),
        RowLog(1, reactions=[(0.0, 0.0, 0)]),
    ]
    assert measures.actions_per_plan(spans) == 4
    assert measures.actions_per_plan([RowLog(1)]) is None


def test_commands_are_judged_at_the_ticks_even_where_a_hold_was_cut_short():
    log = RowLog(
        0, commands=[np.array([float(k)]) for k in range(4)], durations=[0.4, 1.0, 1.0, 0.1]
    )
    assert measures.at_ticks(log).ravel().tolist() == [
        0.0,
        1.0,
        2.0,
    ]  # in force at 0, 1 and 2 periods
    assert measures.at_ticks(RowLog(1)).shape[0] == 0


def test_a_result_survives_the_disk(tmp_path):
    path = tmp_path / "deep" / "result.json"
    results.save(_summary(), path)
    assert results.load(path) == json.loads(
        json.dumps(_summary() | {"date": results.load(path)["date"]})
    )
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_what_cannot_be_written_leaves_the_old_result(tmp_path):
    path = tmp_path / "result.json"
    results.save(_summary(), path)
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON compliant"):
        results.save({"score": math.nan}, path)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_loading_says_what_is_missing(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(DataError, match="there is no result"):
        results.load(path)
    for text, wanted in (
        ("no json", "not a result"),
        ("[1]", "lacks task, checkpoint"),
        ("{}", "lacks task"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=wanted):
            results.load(path)
    broken = _summary()
    del broken["nfe"]["warm"], broken["smoothness"], broken["per_episode"][0]["seed"]
    path.write_text(json.dumps(broken))
    with pytest.raises(
        DataError,
        match=r"lacks smoothness, nfe\.warm, seed, success, score or steps in per_episode",
    ):
        results.load(path)


def test_each_task_has_its_own_interval():
    logs = [RowLog(seed, seed % 2 == 0 or seed > 6, 1.0, 3) for seed in range(8)]
    found = results.by_task(logs, ["push", "open"] * 4)
    assert {task: (share["rate"], share["episodes"]) for task, share in found["tasks"].items()} == {
        "push": (1.0, 4),
        "open": (0.25, 4),
    }
    assert found["tasks"]["open"]["low"] == intervals.wilson(1, 4).low
    assert [episode["task"] for episode in found["per_episode"][:2]] == ["push", "open"]


ODD = (None, True, -1, 10**15, 1e300, float("nan"), "", "x" * 10_000, [], {}, [None], {"a": 1})


def test_no_value_in_a_result_gets_past_as_anything_but_ours(tmp_path):
    """Each value of a good result is replaced by each odd one; what is read can be compared."""
    good = json.loads(json.dumps(_fuzz_files.RESULT))
    (tmp_path / "good.json").write_text(json.dumps(good))
    refused = 0
    for place in _fuzz_damage.list_places(good):
        for odd in ODD:
            changed = copy.deepcopy(good)
            container = changed
            for key in place[:-1]:
                container = container[key]
            container[place[-1]] = odd
            (tmp_path / "odd.json").write_text(json.dumps(changed))
            try:
                run_verb("compare", [str(tmp_path / "odd.json"), str(tmp_path / "good.json")])
            except DataError as error:
                assert len(str(error)) < 600 + len(str(tmp_path))
                refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": 3}, "task is 3; it must be text"),
        ({"episodes": 2.5}, "episodes is 2.5; it must be a whole number"),
        ({"success": {"rate": 0.5, "low": None, "high": 1.0}}, "none where it is not reported"),
        ({"score": {"mean": "x", "low": 0.0, "high": 1.0}}, "score.mean is 'x'"),
        ({"per_episode": []}, "per_episode is empty"),
        ({"per_episode": [3]}, "seed, success, score or steps in per_episode"),
        (
            {"per_episode": [{"seed": 1, "success": "yes", "score": 0.0, "steps": 3}]},
            "per_episode 0 says success is 'yes'",
        ),
        ({"latency_s": None}, "latency_s is None"),
        ({"versions": []}, r"versions is \[\]"),
    ],
)
def test_what_is_odd_in_a_result_is_named(changes, words, tmp_path):
    (tmp_path / "odd.json").write_text(json.dumps({**_fuzz_files.RESULT, **changes}))
    with pytest.raises(DataError, match=f"is not a result of `hotstart evaluate`: .*{words}"):
        results.load(tmp_path / "odd.json")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "is no latency profile"),
        ({"rti-2": None}, "as times of cold plans; a list of seconds"),
        ({"rti-2": {"cold": [], "warm": [1.0]}}, "as times of cold plans"),
        ({"rti-2": {"cold": [1.0], "warm": ["x"]}}, "as times of warm plans"),
        ({"rti-2": {"cold": [1.0], "warm": [-1.0]}}, "that are none"),
        ({"rti-2": {"cold": [float("nan")], "warm": [1.0]}}, "that are none"),
        ({"ddim-10": {}}, "holds no times of rti-2, only of ddim-10"),
    ],
)
def test_what_is_odd_in_a_profile_is_named(seconds, words, tmp_path):
    (tmp_path / "profile.json").write_text(json.dumps({"seconds": seconds}))
    with pytest.raises(DataError, match=words):
        latency.read_profile(tmp_path / "profile.json", "rti-2")
