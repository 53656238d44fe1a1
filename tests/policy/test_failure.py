"""Failure detection: scores of plans, and alarms in the loop."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.evaluation.conformal import Threshold
from hotstart.planners import ImmediatePlanner
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.failure import (
    Detector,
    Disagreement,
    FailureError,
    FailureMonitor,
    Moment,
    Samples,
    StateDistance,
    WatchedPlanner,
    energy_distance,
)
from hotstart.rows import take_rows
from hotstart.spec import Actor, ConfigError, Robot


@pytest.fixture(scope="module")
def policy(tiny_model):
    return DiffusionPolicy(tiny_model())


def make_moment(policy, executed=4):
    """The second plan of a row, and the first one."""
    row = np.zeros(1, np.int64)
    state = policy.initial_state([3])
    state = policy.observe(state, {"state": np.zeros((1, 2), np.float32)})
    state = policy.adopt(state, policy.plan(state, row, row))
    planned = policy.plan(state, row, np.array([executed]))
    return Moment(0, state, planned, executed, 0)


def put_plan(moment, x):
    made = replace(moment.planned.plan, x=x.astype(np.float32))
    return replace(moment, planned=replace(moment.planned, plan=made))


def test_plans_disagree_by_how_far_they_differ_on_the_steps_that_both_name(policy):
    moment, score = make_moment(policy), Disagreement(policy)
    before = moment.state.plan.x
    same = np.concatenate((before[:, 4:], np.full((1, 4, 2), 9.0)), 1)
    same[:, 0] = 7.0  # To is 2: step 0 lies before the newest observation
    assert score(put_plan(moment, same))["disagreement"] == 0
    assert score(put_plan(moment, same + 0.5))["disagreement"] == pytest.approx(0.5, rel=1e-5)
    frozen = same.copy()
    frozen[:, 1:3] += 5.0
    kept = replace(put_plan(moment, frozen), frozen=2)
    assert score(kept)["disagreement"] == 0
    behind = replace(put_plan(moment, same), executed=12)
    assert np.isnan(score(behind)["disagreement"])


def test_a_first_plan_disagrees_with_nothing(policy):
    moment = make_moment(policy)
    state = policy.initial_state([3])
    assert np.isnan(Disagreement(policy)(replace(moment, state=state))["disagreement"])


def test_samples_are_the_same_for_the_same_seed_and_differ_among_themselves(policy):
    moment = make_moment(policy)
    one, other = Samples(policy, 4)(moment), Samples(policy, 4)(moment)
    assert one == pytest.approx(other, nan_ok=True)
    assert one["spread"] > 0
    assert np.isnan(one["energy"])  # there were none before
    samples = Samples(policy, 4)
    samples(replace(moment, state=replace(moment.state, plan=moment.planned.plan)))
    assert np.isfinite(samples(moment)["energy"])


def test_energy_distance_is_zero_for_the_same_sample_and_that_of_two_points():
    same = np.random.default_rng(0).standard_normal((5, 3))
    assert energy_distance(same, same) == 0
    assert energy_distance(np.zeros((4, 9)), np.ones((4, 9))) == pytest.approx(2.0)


def test_states_of_the_data_are_near_and_others_are_far(policy, tiny_dataset):
    moment, distance = make_moment(policy), StateDistance(policy, tiny_dataset)
    states = np.asarray(tiny_dataset.array("state"))

    def measure(state):
        seen = policy.observe(moment.state, {"state": state[None].astype(np.float32)})
        return distance(replace(moment, state=seen))

    assert measure(states[5])["nearest"] == pytest.approx(0, abs=1e-6)
    centre, spread = states.mean(0), states.std(0)
    assert measure(centre)["mahalanobis"] == pytest.approx(0, abs=1e-4)
    far = measure(centre + 9 * spread)
    assert far["nearest"] > 5
    assert far["mahalanobis"] > 5


def test_a_detector_is_read_as_it_was_written(tmp_path):
    threshold = Threshold(1.5, np.array([0.0, 1.0]), np.array([1.0, 2.0]), 0.1, 30)
    made = Detector.make("disagreement", threshold, "abc", "ddim-10")
    made.save(tmp_path / "a.json")
    found = Detector.load(tmp_path / "a.json")
    assert found.threshold.at(1) == 4.0
    assert (found.score, found.checkpoint, found.made) == ("disagreement", "abc", made.made)
    for text in ("[]", "{}", "nonsense", '{"threshold": {"factor": 1}}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(ConfigError, match=r"no failure detector|no threshold"):
            Detector.load(tmp_path / "b.json")


class Still(Robot):
    """Two rows that hold where they are told, far from what a policy plans."""

    rows, rate_hz = 2, 10.0

    def __init__(self, policy, scripted):
        self.obs_spec, self.action_spec = policy.obs_spec, policy.action_spec
        self.feedback, self.commands = scripted.feedback([False] * 2, [False] * 2, [0.0] * 2), []

    def reset(self, seeds):
        return None

    def observe(self):
        return {"state": np.zeros((2, 2), np.float32)}

    def act(self, actions, substeps=None, timed=None):
        self.commands.append(actions.copy())
        return self.feedback

    def hold_position(self):
        return np.full((2, 2), 1234.0)

    def stop(self):
        self.stopped = True


def alarm_at(row, number):
    """A score that is high for one plan of one row."""

    def score(moment):
        return {"score": float((moment.row, moment.number) == (row, number))}

    return score


def run_monitored(policy, scripted, on_failure, ask=None, ticks=16, listen=None):
    robot, told, ticks_seen = Still(policy, scripted), [], []
    planner = WatchedPlanner(ImmediatePlanner(policy), [alarm_at(1, 1)])
    detector = Detector.make("score", Threshold(0.5, np.zeros(1), np.ones(1), 0.1, 9), "", "")
    monitor = FailureMonitor(planner, detector, robot.hold_position, on_failure, ask, told.append)
    listeners = [ticks_seen.append]
    if listen is not None:
        listeners.append(listen)
    settings = LoopSettings(ticks)
    run(
        robot,
        policy,
        planner,
        VirtualClock(),
        [0, 1],
        settings,
        listeners,
        monitor.intervene,
    )
    held = [tick.number for tick in ticks_seen if tick.actors[1] == Actor.INTERVENTION]
    assert all(tick.actors[0] == Actor.POLICY for tick in ticks_seen)
    return robot, monitor, held, told


def test_an_alarm_is_told_and_changes_nothing(policy, scripted):
    watched, monitor, held, told = run_monitored(policy, scripted, "log")
    plain = Still(policy, scripted)
    run(plain, policy, ImmediatePlanner(policy), VirtualClock(), [0, 1], LoopSettings(16))
    np.testing.assert_array_equal(watched.commands, plain.commands)
    assert held == []
    (alarm,) = monitor.alarms
    assert (alarm.row, alarm.number, alarm.tick) == (1, 1, 4)
    assert "plan 1 of row 1" in told[0]


def test_a_row_holds_from_its_alarm_on(policy, scripted):
    robot, _, held, _ = run_monitored(policy, scripted, "hold")
    assert held == list(range(4, 16))
    assert (np.array(robot.commands)[4:, 1] == 1234.0).all()


def test_a_row_goes_on_when_the_operator_says_so(policy, scripted):
    asked, decided = [], threading.Event()

    def ask(alarm):
        asked.append(alarm)
        return decided.wait(5)

    def decide(tick):
        if tick.number == 6:
            decided.set()
            time.sleep(0.1)

    _, _, held, _ = run_monitored(policy, scripted, "ask", ask, 10, decide)
    assert held == [4, 5, 6]
    assert [alarm.row for alarm in asked] == [1]


def test_the_loop_stops_the_robot_when_the_operator_says_so(policy, scripted):
    with pytest.raises(FailureError, match="ended the rollout of row 1"):
        run_monitored(policy, scripted, "ask", lambda alarm: False, ticks=100_000)


def test_what_cannot_be_asked_for_is_refused(policy, scripted):
    with pytest.raises(ConfigError, match="somebody to ask"):
        run_monitored(policy, scripted, "ask")
    with pytest.raises(ConfigError, match="valid: log, hold, ask"):
        run_monitored(policy, scripted, "stop")


def test_rows_are_scored_by_themselves(policy, scripted):
    """Two rows in one call get the scores that each gets alone."""
    both = WatchedPlanner(ImmediatePlanner(policy), [Disagreement(policy)])
    run(Still(policy, scripted), policy, both, VirtualClock(), [5, 6], LoopSettings(9))
    second = [scored for scored in both.found if scored.row == 1]
    moments = []
    state = take_rows(policy.initial_state([5, 6]), [1])
    row = np.zeros(1, np.int64)
    for executed in (0, 4, 4):
        state = policy.observe(state, {"state": np.zeros((1, 2), np.float32)})
        planned = policy.plan(state, row, np.array([executed]))
        moments.append(Moment(1, state, planned, executed, 0))
        state = policy.adopt(state, planned)
    wanted = [Disagreement(policy)(moment)["disagreement"] for moment in moments]
    found = [scored.scores["disagreement"] for scored in second]
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    assert [scored.number for scored in second] == [0, 1, 2]
