"""The control loop: every tick its action, rows that end apart, robots that are always stopped."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest
from hotstart.control import LoopSettings, RealClock, VirtualClock, run
from hotstart.planners import ImmediatePlanner, ThreadedPlanner
from hotstart.spec import Clock, ConfigError, Feedback, Planner, Policy, Robot, StopError
from hotstart.system import stopping


def test_the_parts_of_this_test_are_what_the_protocols_say(scripted):
    robot: Robot = scripted.Robot(1)
    policy: Policy = scripted.Policy()
    planners: list[Planner] = [
        ImmediatePlanner(policy),
        scripted.late_planner(policy, 0.1),
        ThreadedPlanner(policy),
    ]
    clocks: list[Clock] = [VirtualClock(), RealClock()]
    for protocol, parts in (
        (Robot, [robot]),
        (Policy, [policy]),
        (Planner, planners),
        (Clock, clocks),
    ):
        names = [name for name in vars(protocol) if not name.startswith("_")]
        assert names
        assert all(hasattr(part, name) for part in parts for name in names)


# --- the loop with a planner that answers at once


@pytest.mark.parametrize("executed", [1, 3, 4])
def test_every_tick_gets_the_action_that_was_planned_for_it(executed, scripted):
    robot, policy, (log,) = scripted.episode(ticks=11, executed=executed)
    commands = np.stack(robot.commands)[:, 0]
    np.testing.assert_array_equal(commands[:, 0], np.arange(11))
    np.testing.assert_array_equal(commands[:, 2], 1000 * (np.arange(11) // executed))
    assert [tick for tick, _, _ in policy.asked] == list(range(0, 11, executed))
    assert [count for _, _, [count] in policy.asked] == [0] + [executed] * (
        len(policy.asked) - 1
    )  # nothing before the first
    assert log.nfe == [3] * len(policy.asked)
    assert (log.steps, log.late_actions, log.starved_ticks) == (11, 0, 0)
    np.testing.assert_array_equal(log.commands, commands)


def test_asking_early_gives_newer_plans(scripted):
    robot, policy, (log,) = scripted.episode(ticks=9, executed=4, replan_at=2)
    assert [tick for tick, _, _ in policy.asked] == [0, 2, 4, 6, 8]
    assert [count for _, _, [count] in policy.asked] == [0, 2, 2, 2, 2]
    np.testing.assert_array_equal(np.stack(robot.commands)[:, 0, 0], np.arange(9))
    np.testing.assert_array_equal(
        np.stack(robot.commands)[:, 0, 2] // 1000, [0, 0, 1, 1, 2, 2, 3, 3, 4]
    )
    assert (log.late_actions, log.starved_ticks) == (0, 0)


def test_rows_end_each_at_its_own_tick_and_idle_rows_get_nothing(scripted):
    robot, policy, logs = scripted.episode(ticks=20, rows=3, ends=(5, 9, 2))
    assert [log.steps for log in logs] == [5, 9, 2]
    assert [len(log.commands) for log in logs] == [5, 9, 2]
    assert all(log.success for log in logs)
    assert [log.score for log in logs] == pytest.approx([0.5, 0.9, 0.2])
    assert len(robot.commands) == 9  # the loop ends with its last row
    commands = np.stack(robot.commands)  # (ticks, rows, A)
    assert not commands[5:, 0].any()
    assert not commands[2:, 2].any()
    assert [rows for _, rows, _ in policy.asked] == [[0, 1, 2], [0, 1], [1]]


def test_fewer_seeds_than_rows_leave_the_rest_idle(scripted):
    robot, policy = scripted.Robot(4), scripted.Policy()
    logs = run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [70, 71], LoopSettings(6))
    assert [log.seed for log in logs] == [70, 71]
    assert robot.seeds == [70, 71]
    assert np.stack(robot.commands).shape == (6, 4, 4)
    assert not np.stack(robot.commands)[:, 2:].any()
    assert all(rows == [0, 1] for _, rows, _ in policy.asked)


def test_what_a_row_achieved_is_kept(scripted):
    """Success at any tick counts, and of the scores the newest one; feedback after the end does
    not.
    """

    class Wavering(scripted.Robot):
        def act(self, actions, substeps=None, timed=None):
            super().act(actions)
            score = [0.0, 0.7, 0.2, 5.0][min(self.tick - 1, 3)]
            return scripted.feedback(
                np.array([self.tick >= 3]), np.array([self.tick == 2]), np.array([score])
            )

    robot, policy = Wavering(1), scripted.Policy()
    (log,) = run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(50))
    assert (log.success, log.score, log.steps) == (True, 0.2, 3)


@pytest.mark.parametrize("scores", [[3.0, -4.0], [-2.0, -1291.0]])
def test_a_score_may_fall_and_be_negative(scores, scripted):
    class Falling(scripted.Robot):
        def act(self, actions, substeps=None, timed=None):
            super().act(actions)
            return scripted.feedback(
                np.array([self.tick >= 2]), np.zeros(1, bool), np.array([scores[self.tick - 1]])
            )

    policy = scripted.Policy()
    (log,) = run(Falling(1), policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(9))
    assert (log.success, log.score) == (False, scores[-1])


def test_success_that_a_robot_does_not_report_is_not_known(scripted):
    """Row 0 never says, row 1 says it at last, row 2 says that it has failed."""

    class Reserved(scripted.Robot):
        def act(self, actions, substeps=None, timed=None):
            super().act(actions)
            reports = np.array([False, self.tick == 3, True])
            return scripted.feedback(
                np.full(3, self.tick >= 3), np.array([True, True, False]), np.zeros(3), reports
            )

    policy = scripted.Policy()
    logs = run(
        Reserved(3), policy, ImmediatePlanner(policy), VirtualClock(), [0, 1, 2], LoopSettings(9)
    )
    assert [log.success for log in logs] == [None, True, False]
    silent = Feedback.silent(2)
    assert [silent.fulfilled(row) for row in range(2)] == [None, None]


def test_what_was_fulfilled_before_the_first_action_is_noted(scripted):
    class Solved(scripted.Robot):
        def reset(self, seeds):
            super().reset(seeds)
            solved, reports = np.array([True, False, True]), np.array([True, True, False])
            return scripted.feedback(np.zeros(3, bool), solved, np.zeros(3), reports)

    policy = scripted.Policy()
    logs = run(
        Solved(3), policy, ImmediatePlanner(policy), VirtualClock(), [0, 1, 2], LoopSettings(2)
    )
    assert [log.solved_at_reset for log in logs] == [True, False, False]


def test_listeners_hear_every_tick(scripted):
    heard = []
    robot, policy = scripted.Robot(2, ends=(3, 3)), scripted.Policy()

    def listener(tick):
        shown = float(tick.observation["tick"][0, 0])
        heard.append((tick.number, shown, tick.actions.copy(), bool(tick.feedback.done.all())))

    run(
        robot,
        policy,
        ImmediatePlanner(policy),
        VirtualClock(),
        [0, 1],
        LoopSettings(9),
        [listener, listener],
    )
    assert [(tick, seen) for tick, seen, _, _ in heard[::2]] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert [done for *_, done in heard[::2]] == [False, False, True]
    np.testing.assert_array_equal([actions for _, _, actions, _ in heard[1::2]], robot.commands)


def test_the_immediate_planner_takes_no_virtual_time_but_counts_the_real_one(scripted):
    class Slow(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            time.sleep(0.02)
            return super().plan(state, rows, executed, frozen)

    policy, clock = Slow(), VirtualClock()
    planner = ImmediatePlanner(policy)
    (log, _) = run(scripted.Robot(2), policy, planner, clock, [0, 1], LoopSettings(8))
    assert clock.now_s() == pytest.approx(0.7)
    assert log.starved_ticks == 0
    assert [rows for rows, _ in planner.seconds] == [2, 2]
    assert all(0.02 <= seconds < 1 for _, seconds in planner.seconds)
    assert planner.poll(np.full(2, 99.0)) == []  # each answer once


# --- always stopped


@pytest.mark.parametrize("where", ["robot", "policy", "listener", "reset", "interrupt"])
def test_the_robot_is_stopped_however_it_ends(where, scripted):
    robot, policy = scripted.Robot(1, fails_at=3 if where == "robot" else None), scripted.Policy()

    def fail(*_, error: BaseException):
        raise error

    error: BaseException = (
        KeyboardInterrupt() if where == "interrupt" else RuntimeError("the cable came off")
    )
    if where == "policy":
        policy.plan = lambda *_: fail(error=error)
    if where == "reset":
        robot.reset = lambda _: fail(error=error)
    listeners = [lambda *_: fail(error=error)] if where in ("listener", "interrupt") else []
    with pytest.raises(type(error)):
        run(
            robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(9), listeners
        )
    assert robot.calls[-1] == "stop"
    assert robot.calls.count("stop") == 1


def test_it_is_stopped_after_a_good_end_too(scripted):
    robot, _, _ = scripted.episode(ticks=3)
    assert robot.calls == ["reset", "stop"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_robot_and_ends_the_program(number, scripted):
    class Told(scripted.Robot):
        def act(self, actions, substeps=None, timed=None):
            if self.tick == 2:
                os.kill(os.getpid(), number)
            return super().act(actions, substeps)

    before = signal.getsignal(number)
    robot, policy = Told(1), scripted.Policy()
    with pytest.raises(SystemExit) as ended:
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(9))
    assert ended.value.code == 128 + number
    assert robot.calls == ["reset", "stop"]
    assert len(robot.commands) <= 3
    assert signal.getsignal(number) is before


def test_a_signal_that_was_swallowed_stops_the_robot_in_the_next_turn(scripted):
    class Deaf(scripted.Robot):
        def act(self, actions, substeps=None, timed=None):
            if self.tick == 2:
                with contextlib.suppress(BaseException):
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.01)
            return super().act(actions, substeps)

    robot, policy = Deaf(1), scripted.Policy()
    with pytest.raises(SystemExit, match="143"):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(9))
    assert robot.calls == ["reset", "stop"]
    assert len(robot.commands) == 3


def test_a_signal_that_somebody_handles_is_theirs(scripted):
    heard = []

    class Told(scripted.Robot):
        def act(self, actions, substeps=None, timed=None):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().act(actions, substeps)

    robot, policy = Told(1), scripted.Policy()
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(3))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] * 3
    assert robot.calls == ["reset", "stop"]


def test_in_a_thread_no_signal_is_touched(scripted):
    done = []

    def work():
        robot, policy = scripted.Robot(1), scripted.Policy()
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(3))
        done.append(robot.calls)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [["reset", "stop"]]


def failing_robot(scripted, failures):
    """A robot whose `stop` raises these in turn before it stops."""

    class Failing(scripted.Robot):
        def stop(self):
            super().stop()
            if self.calls.count("stop") <= len(failures):
                raise failures[self.calls.count("stop") - 1]

    return Failing(1)


def test_a_stop_that_fails_is_tried_again(scripted, monkeypatch):
    monkeypatch.setattr(stopping, "PAUSE_S", 0.0)
    robot, policy = failing_robot(scripted, [OSError("bus off")]), scripted.Policy()
    with pytest.warns(RuntimeWarning, match="OSError: bus off"):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(3))
    assert robot.calls == ["reset", "stop", "stop"]


def test_a_ctrl_c_while_the_robot_is_stopped_waits_until_it_stands(scripted, monkeypatch):
    monkeypatch.setattr(stopping, "PAUSE_S", 0.0)
    robot, policy = (
        failing_robot(scripted, [KeyboardInterrupt(), KeyboardInterrupt()]),
        scripted.Policy(),
    )
    with pytest.raises(KeyboardInterrupt):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(3))
    assert robot.calls == ["reset", "stop", "stop", "stop"]


def test_a_robot_that_cannot_be_stopped_is_said_to_be_so(scripted, monkeypatch):
    monkeypatch.setattr(stopping, "PAUSE_S", 0.0)
    robot, policy = failing_robot(scripted, [OSError("bus off")] * 99), scripted.Policy()
    robot.fails_at = 1
    with pytest.raises(
        StopError, match=r"stop\(\) raised 5 times, at last OSError: bus off; cut its power"
    ) as failed:
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(3))
    assert robot.calls.count("stop") == 5
    assert isinstance(failed.value.__cause__, OSError)
    assert "the cable came off" in repr(
        failed.value.__cause__.__context__
    )  # what came first is in the traceback


@pytest.mark.parametrize("seeds", [[], [1, 2, 3]])
def test_seeds_must_fit_the_rows(seeds, scripted):
    robot, policy = scripted.Robot(2), scripted.Policy()
    with pytest.raises(ConfigError, match=f"{len(seeds)} seeds for 2 rows; give between 1 and 2"):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), seeds, LoopSettings(3))
    assert "reset" not in robot.calls  # nothing was begun


@pytest.mark.parametrize("numbers", [(0, 0), (5, -1)])
def test_impossible_settings_are_refused(numbers):
    with pytest.raises(ConfigError, match="at least 1 and 0"):
        LoopSettings(*numbers)


def test_the_loop_keeps_its_rate_on_a_real_clock(scripted):
    class Fast(scripted.Robot):
        def __init__(self):
            super().__init__(1)
            self.rate_hz, self.times_s = 100.0, []

        def act(self, actions, substeps=None, timed=None):
            self.times_s.append(time.monotonic())
            return super().act(actions)

    robot, policy = Fast(), scripted.Policy()
    run(robot, policy, ImmediatePlanner(policy), RealClock(), [0], LoopSettings(10))
    assert (
        robot.times_s[-1] - robot.times_s[0] >= 0.09 - 0.005
    )  # ticks are never early; how late, the machine decides


# --- with a real policy


def test_a_real_policy_in_the_loop_is_what_it_plans_by_hand(tiny_model, scripted):
    """The loop's commands are those of a policy that is fed and asked by hand, row by row, and
    the same for the same seeds.
    """
    from hotstart.policy.diffusion.solvers import DDIM
    from hotstart.policy.diffusion_policy import DiffusionPolicy
    from hotstart.policy.samplers.fresh import Fresh

    policy = DiffusionPolicy(tiny_model(), Fresh(2, DDIM(1.0)))

    class Integrator(scripted.Robot):
        """Its state is where it was told to go, scaled back."""

        def __init__(self):
            super().__init__(3)
            self.action_spec, self.obs_spec = policy.action_spec, policy.obs_spec

        def reset(self, seeds):
            super().reset(seeds)
            self.where = np.stack(
                [np.random.default_rng(seed).uniform(-1, 1, 2) for seed in seeds]
            ).astype(np.float32)

        def observe(self):
            return {"state": self.where}

        def act(self, actions, substeps=None, timed=None):
            self.where = (actions * [0.01, 5.0] - [2.0, 0.0]).astype(np.float32)
            return super().act(actions)

    first, second = Integrator(), Integrator()
    for robot in (first, second):
        logs = run(
            robot, policy, ImmediatePlanner(policy), VirtualClock(), [5, 6, 7], LoopSettings(10)
        )
        assert [log.nfe for log in logs] == [[2, 2, 2]] * 3
    np.testing.assert_array_equal(first.commands, second.commands)

    by_hand = Integrator()
    by_hand.reset([5, 6, 7])
    state = policy.initial_state([5, 6, 7])
    for tick in range(10):
        state = policy.observe(state, by_hand.observe())
        if tick % 4 == 0:
            planned = policy.plan(state, np.arange(3), np.full(3, 4))
            state = policy.adopt(state, planned)
        by_hand.act(planned.actions[:, tick % 4].astype(np.float64))
    np.testing.assert_array_equal(first.commands, by_hand.commands)
