"""The control loop with planners that answer late: what is dropped, bridged, held and counted;
clocks of each row's own.
"""

import gc
import threading
import time
from typing import Any, cast

import numpy as np
import pytest
from hotstart.control import LoopSettings, RealClock, VirtualClock, run
from hotstart.control.loop import _Episode
from hotstart.planners import (
    DelayedPlanner,
    ImmediatePlanner,
    ThreadedPlanner,
    constant_latency,
    drawn_latency,
)
from hotstart.spec import ConfigError, Horizon, HotstartError, PlanQuery, SilentError, TimedActions


@pytest.mark.parametrize("latency", [1, 2, 3])
def test_a_robot_that_waits_holds_and_then_goes_on_where_it_is(latency, scripted):
    """Chunks of four, each asked for when the last is used up: nothing was executed meanwhile,
    so nothing is dropped.
    """
    cycles, length = 3, 4 + latency
    robot, policy, (log,) = scripted.episode(ticks=length * cycles, latency=latency)
    assert log.late_actions == 0
    assert log.starved_ticks == latency * cycles
    assert log.nfe == [3] * cycles
    assert [tick for tick, _, _ in policy.asked] == [0, length, 2 * length]
    assert [count for _, _, [count] in policy.asked] == [0, 4, 4]
    commands = np.stack(robot.commands)[:, 0]
    for tick in range(length * cycles):
        cycle, place = divmod(tick, length)
        if place >= latency:  # the scripted action names the tick that it was planned for
            assert (commands[tick, 0], commands[tick, 2]) == (
                cycle * length + place - latency,
                1000 * cycle,
            )
        elif cycle == 0:
            assert not commands[tick].any()  # never told anything: it rests
        else:
            assert (commands[tick, 0], commands[tick, 2], commands[tick, 3]) == (
                commands[cycle * length - 1, 0],
                0,
                1,
            )


@pytest.mark.parametrize("latency", [1, 2])
def test_asking_early_bridges_the_latency(latency, scripted):
    """With as many actions left as the answer takes ticks, nobody starves but at the start;
    what others did is dropped.
    """
    robot, policy, (log,) = scripted.episode(
        ticks=30, latency=latency, executed=6, replan_at=latency
    )
    assert log.starved_ticks == latency  # only the first plan is waited for
    assert log.late_actions == latency * (len(log.nfe) - 1)
    commands = np.stack(robot.commands)[latency:, 0]
    # the first chunk goes on where the robot is; every later one is of the tick it is executed at
    np.testing.assert_array_equal(commands[:6, 0], np.arange(6))
    np.testing.assert_array_equal(commands[6:, 0], np.arange(6 + latency, 30))
    asked = [tick for tick, _, _ in policy.asked]
    assert asked == [0, *range(6, 30, 6 - latency)]
    assert [count for _, _, [count] in policy.asked] == [0] + [6 - latency] * (
        len(asked) - 1
    )  # places in the newest plan


def test_what_will_be_executed_meanwhile_is_told(scripted):
    """The planner says how long it takes; of the actions that are left, so many are frozen."""
    told = []

    class Noting(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            assert frozen is not None
            told.append(frozen.tolist())
            return super().plan(state, rows, executed, frozen)

    policy = Noting(6)
    run(
        scripted.Robot(1),
        policy,
        scripted.late_planner(policy, 0.15),
        VirtualClock(),
        [0],
        LoopSettings(25, 3),
    )
    assert told[0] == [0]
    assert set(map(tuple, told[1:])) == {(2,)}  # 0.15 s are two ticks begun


def test_an_answer_whose_whole_chunk_others_have_executed_is_no_use_and_another_is_asked_for(
    scripted,
):
    """Chunks of two, asked for at once and five ticks late: both actions of the one before were
    executed meanwhile.
    """
    policy = scripted.Policy(2)
    (log,) = run(
        scripted.Robot(1), policy, late_with(policy, 0.5), VirtualClock(), [0], LoopSettings(25, 3)
    )
    assert [tick for tick, _, _ in policy.asked] == [0, 5, 10, 15, 20]
    assert [count for _, _, [count] in policy.asked] == [0, 0, 2, 0, 2]
    assert log.late_actions == 4  # the plans of ticks 5 and 15
    assert log.starved_ticks == 25 - 4  # those of ticks 0 and 10 were executed
    assert len(log.reactions) == 2


def late_with(policy, latency_s):
    return DelayedPlanner(policy, constant_latency(latency_s), latency_s)


def test_a_row_is_not_asked_for_twice_while_its_answer_is_under_way(scripted):
    _, policy, (log,) = scripted.episode(ticks=12, latency=3, executed=8, replan_at=6)
    asked = [tick for tick, _, _ in policy.asked]
    assert min(np.diff(asked)) >= 3
    assert len(log.nfe) in (len(asked), len(asked) - 1)  # the last answer may not have come


def test_rows_wait_each_for_its_own_answer(scripted):
    """Row 0 gets its plans two ticks late, row 1 at once."""
    robot, policy = scripted.Robot(2), scripted.Policy()
    planner = DelayedPlanner(policy, lambda row, number: 0.2 if row == 0 else 0.0, 0.0)
    logs = run(robot, policy, planner, VirtualClock(), [0, 1], LoopSettings(8))
    assert [log.late_actions for log in logs] == [0, 0]
    assert [log.starved_ticks for log in logs] == [4, 0]
    commands = np.stack(robot.commands)
    np.testing.assert_array_equal(commands[:, 1, 0], np.arange(8))
    np.testing.assert_array_equal(commands[:, 0, 0], [0, 0, 0, 1, 2, 3, 3, 3])
    assert [len(log.nfe) for log in logs] == [1, 2]


def test_an_answer_for_a_row_whose_episode_is_over_counts_for_nothing(scripted):
    _, _, logs = scripted.episode(ticks=12, latency=3, rows=2, ends=(2, 11))
    _, _, (alone,) = scripted.episode(ticks=12, latency=3, ends=(2,))
    assert logs[0].steps == logs[0].starved_ticks == 2
    assert (logs[0].late_actions, logs[0].nfe) == (alone.late_actions, alone.nfe) == (0, [])
    assert len(logs[1].nfe) == 2


def test_the_state_of_the_answer_is_adopted_into_the_newer_one(scripted):
    """A policy that is asked two ticks later still knows which plan it made last, and what it
    has seen since.
    """
    seen = []

    class Noting(scripted.Policy):
        def adopt(self, state, planned):
            seen.append((float(planned.plan["tick"][0]), float(state["tick"][0])))
            return super().adopt(state, planned)

    policy = Noting()
    run(
        scripted.Robot(1),
        policy,
        scripted.late_planner(policy, 0.2),
        VirtualClock(),
        [0],
        LoopSettings(9),
    )
    assert seen == [(0.0, 2.0), (6.0, 8.0)]


# --- time below the tick


def make_fine(scripted: Any, rows: int = 1) -> Any:
    """A scripted robot of ten substeps a period; keeps how long each command lasted."""

    class Robot(scripted.Robot):
        def __init__(self):
            super().__init__(rows)
            self.substeps, self.lasted = 10, []

        def act(self, actions, substeps=None, timed=None):
            assert substeps is not None
            self.lasted.append(substeps.copy())
            return super().act(actions, substeps)

    return Robot()


def test_a_plan_is_used_at_the_substep_it_comes(scripted):
    """37 ms are four substeps of 10 ms: the hold is cut there, and the chunk's periods are
    counted from there on.
    """
    robot, policy = make_fine(scripted), scripted.Policy()
    (log,) = run(robot, policy, late_with(policy, 0.037), VirtualClock(), [0], LoopSettings(11))
    lasted = [int(one[0]) for one in robot.lasted]
    assert lasted[:10] == [4, 10, 10, 10, 10, 4, 10, 10, 10, 10]
    assert sum(lasted) == 110  # the last one is cut where the episode ends
    assert log.starved_ticks == pytest.approx(1.2)
    assert log.durations[:2] == [0.4, 1.0]
    assert log.reactions[:2] == [
        (0.0, pytest.approx(0.04), 0),
        (pytest.approx(0.44), pytest.approx(0.48), 4),
    ]


def test_a_late_row_has_a_clock_of_its_own(scripted):
    robot, policy = make_fine(scripted, 2), scripted.Policy()
    planner = DelayedPlanner(policy, lambda row, number: 0.25 * row, 0.0)
    logs = run(robot, policy, planner, VirtualClock(), [0, 1], LoopSettings(10))
    assert [log.starved_ticks for log in logs] == [0.0, 5.0]
    assert [log.steps for log in logs] == [10, 10]  # both had ten periods, in other turns


def test_a_turn_shorter_than_a_period_is_no_further_entry_of_the_history(tiny_model, scripted):
    """Plans come 30 ms late at 10 Hz in row 1 and at once in row 0; what the policy saw when it
    was asked, in ms.
    """
    from hotstart.policy.diffusion_policy import DiffusionPolicy
    from hotstart.policy.samplers.fresh import Fresh

    class Noting(DiffusionPolicy):
        def plan(self, state, rows, executed, frozen=None, trace=None):
            for row in rows:
                seen[row].append(state.history["state"][row, :, 0].round().astype(int).tolist())
            return super().plan(state, rows, executed, frozen, trace)

    policy = Noting(tiny_model(horizon=Horizon(3, 14, 1)), Fresh(1))

    class Timed(scripted.Robot):
        def __init__(self):
            super().__init__(2)
            self.substeps, self.obs_spec, self.action_spec = 10, policy.obs_spec, policy.action_spec
            self.ms = np.zeros(2)

        def observe(self):
            return {"state": np.stack((self.ms, self.ms), -1).astype(np.float32)}

        def act(self, actions, substeps=None, timed=None):
            assert substeps is not None
            self.ms = self.ms + 10 * substeps
            return super().act(actions)

    seen = {0: [], 1: []}
    planner = DelayedPlanner(policy, lambda row, number: 0.03 * row, 0.0)
    run(Timed(), policy, planner, VirtualClock(), [0, 1], LoopSettings(7))
    assert seen[0][:4] == [[0, 0, 0], [0, 0, 100], [0, 100, 200], [100, 200, 300]]
    assert seen[1][:4] == [
        [0, 0, 0],
        [30, 30, 130],
        [30, 160, 260],
        [160, 290, 390],
    ]  # not [0, 30, 130], [130, 160, 260]
    for history in seen[1][2:]:
        assert np.diff(history).tolist() == [130, 100]  # a hold of 30 ms lies in between


def test_a_listening_policy_is_told_the_very_actions_that_the_robot_was_given(scripted):
    """Row 1 starves for 30 ms before every plan, and its episode is over first; row 2 is idle."""
    told = []

    class Listening(scripted.Policy):
        def observe(self, state, observation, executed=None, new=None):
            told.append(executed)
            return super().observe(state, observation)

    class Timed(scripted.Robot):
        def __init__(self):
            super().__init__(3, ends=(99, 7, 99))
            self.substeps, self.given = 10, []

        def hold_position(self):
            return np.full((3, 4), 0.5)

        def act(self, actions, substeps=None, timed=None):
            assert substeps is not None
            self.given.append((actions.copy(), substeps.copy()))
            return super().act(actions)

    robot, policy = Timed(), Listening()
    planner = DelayedPlanner(policy, lambda row, number: 0.03 * row, 0.0)
    run(robot, policy, planner, VirtualClock(), [0, 1], LoopSettings(9))
    assert np.isnan(told[0].actions).all()
    assert not told[0].duration_s.any()
    for executed, (actions, substeps) in zip(told[1:], robot.given, strict=False):
        np.testing.assert_allclose(executed.duration_s, 0.01 * substeps)
        np.testing.assert_array_equal(executed.actions[substeps > 0], actions[substeps > 0])
        assert np.isnan(executed.actions[substeps == 0]).all()
    assert len(told) == len(robot.given) >= 9
    assert told[1].actions[1].tolist() == [0.5] * 4  # the hold of the starved row
    assert told[1].duration_s.tolist() == pytest.approx([0.1, 0.03, 0.0])
    assert told[-1].duration_s[1] == 0


def test_what_is_not_new_takes_the_newest_entrys_place(tiny_model):
    from hotstart.policy.diffusion_policy import DiffusionPolicy
    from hotstart.policy.samplers.fresh import Fresh

    policy = DiffusionPolicy(tiny_model(horizon=Horizon(3, 14, 4)), Fresh(1))
    state = policy.initial_state([0, 1])
    shown = (
        (1, [True, True]),
        (2, [False, True]),
        (3, [True, False]),
        (4, [True, True]),
        (5, [False, True]),
    )
    for value, new in shown:
        shown_now = {"state": np.full((2, 2), value, np.float32)}
        state = policy.observe(state, shown_now, new=np.array(new))
    assert state.history["state"][:, :, 0].tolist() == [[2, 3, 5], [3, 4, 5]]
    assert state.seen.tolist() == [3, 4]
    fresh = policy.observe(
        policy.initial_state([0]), {"state": np.ones((1, 2), np.float32)}, new=np.array([False])
    )
    assert fresh.history["state"][0, :, 0].tolist() == [
        1,
        1,
        1,
    ]  # a row that has seen nothing takes it in


@pytest.mark.parametrize("stall", range(2, 14))
def test_after_lost_time_every_action_still_comes_at_its_own_tick(stall, scripted):
    """A camera that takes 120 ms at one tick, with a plan under way or without; a plan takes
    200 ms.
    """

    class Stalling(scripted.Robot):
        def observe(self):
            if self.tick == stall:
                clock.sleep_until(clock.now_s() + 0.12)
            return super().observe()

    robot, policy, clock = Stalling(1), scripted.Policy(6), VirtualClock()
    (log,) = run(robot, policy, scripted.late_planner(policy, 0.2), clock, [0], LoopSettings(24, 2))
    commands = np.stack(robot.commands)[:, 0]
    np.testing.assert_array_equal(
        commands[2:7, 0], np.arange(5)
    )  # the first plan goes on where the robot stood
    assert commands[7, 0] == (7 if stall == 6 else 5)  # the planner worked while the camera stalled
    np.testing.assert_array_equal(commands[8:, 0], np.arange(8, 24))
    assert log.starved_ticks == pytest.approx(2 + 1.2)
    assert clock.now_s() == pytest.approx(2.3 + 0.12)


def test_lost_time_puts_off_what_is_queued_and_what_was_asked(scripted):
    robot, policy = scripted.Robot(2), scripted.Policy()
    episode = _Episode(
        robot, policy, ImmediatePlanner(policy), VirtualClock(), [0, 1], LoopSettings(9)
    )
    episode.queue.write(0, TimedActions(np.array([0.1, 0.2]), np.zeros((2, 4))))
    episode.asked_s, episode.done = np.array([0.1, 0.3]), np.array([False, True])
    episode._put_off(0.25, np.full(2, 0.35))
    np.testing.assert_allclose(episode.queue.read(0).times_s, [0.35, 0.45])
    np.testing.assert_allclose(episode.asked_s, [0.35, 0.55])
    assert [log.starved_ticks for log in episode.logs] == [
        pytest.approx(2.5),
        0.0,
    ]  # a row that is done loses nothing


# --- measured times


def test_drawn_times_depend_on_the_rows_seed_and_the_number_of_the_plan_alone():
    cold, warm = [0.5, 0.6], [0.1, 0.2, 0.3, 0.4]
    one = drawn_latency(cold, warm, [11, 12, 13])
    other = drawn_latency(cold, warm, [13, 11])
    assert [one(0, k) for k in range(20)] == [other(1, k) for k in range(20)]
    assert one(2, 3) == other(0, 3)
    assert {one(row, 0) for row in range(3)} <= set(cold)
    assert {one(0, k) for k in range(1, 60)} == set(warm)
    with pytest.raises(HotstartError, match="cold and warm"):
        drawn_latency([], warm, [1])
    with pytest.raises(ConfigError, match="latency is -1"):
        constant_latency(-1.0)


# --- a thread beside the loop


def test_a_thread_plans_while_the_loop_goes_on(scripted):
    class Slow(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            time.sleep(0.03)
            assert threading.current_thread().name.startswith("planner")
            return super().plan(state, rows, executed, frozen)

    class Quick(scripted.Robot):
        def __init__(self):
            super().__init__(1)
            self.rate_hz = 50.0

    policy = Slow(8)
    starved = []
    # After the first plan it is asked in time. How many are late, the machine decides, which other
    # programs may use: one run of five is enough.
    while len(starved) < 5 and min(starved, default=40) >= 20:
        with ThreadedPlanner(policy, 0.05) as planner:
            (log,) = run(Quick(), policy, planner, RealClock(), [0], LoopSettings(40, 5))
            assert planner.expected_s >= 0.03
        assert log.steps == 40
        starved.append(log.starved_ticks)
    assert min(starved) < 20
    assert len(log.nfe) >= 3
    planner.close()


def test_an_error_in_the_thread_stops_the_robot(scripted):
    class Broken(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            raise RuntimeError("no weights")

    robot, policy = scripted.Robot(1), Broken()
    with ThreadedPlanner(policy) as planner, pytest.raises(RuntimeError, match="no weights"):
        run(robot, policy, planner, RealClock(), [0], LoopSettings(20))
    assert robot.calls[-1] == "stop"


def test_a_planner_that_never_answers_stops_the_robot(scripted):
    wake = threading.Event()

    class Silent(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            if len(self.calls) > 1:
                wake.wait(60)
            self.calls.append("plan")
            return super().plan(state, rows, executed, frozen)

    robot, policy = scripted.Robot(1), Silent()
    policy.calls = []
    robot.rate_hz = 50.0
    planner = ThreadedPlanner(policy)
    began = time.monotonic()
    with pytest.raises(SilentError, match=r"not answered for \d+\.\d s, 1 s were allowed"):
        run(robot, policy, planner, RealClock(), [0], LoopSettings(10_000, patience_s=1.0))
    assert robot.calls[-1] == "stop"
    assert len(policy.calls) == 2  # plans that came in time were executed before
    planner.close(0.1)
    assert time.monotonic() - began < 10  # neither the run nor closing waited for it
    wake.set()


def test_patience_counts_the_rows_own_time(scripted):
    """A plan charged with more than was allowed is never waited for; one that is in time is."""
    robot, policy = scripted.Robot(2), scripted.Policy()
    with pytest.raises(SilentError):
        run(
            robot,
            policy,
            scripted.late_planner(policy, 0.5),
            VirtualClock(),
            [0, 1],
            LoopSettings(40, patience_s=0.3),
        )
    logs = run(
        robot,
        policy,
        scripted.late_planner(policy, 0.5),
        VirtualClock(),
        [0, 1],
        LoopSettings(40, patience_s=0.7),
    )
    assert all(log.steps == 40 for log in logs)
    with pytest.raises(ConfigError, match="patience_s is 0"):
        LoopSettings(1, patience_s=0)


def test_a_closed_planner_takes_no_questions(scripted):
    planner = ThreadedPlanner(scripted.Policy())
    planner.close()
    planner.close()
    with pytest.raises(ConfigError, match="closed"):
        planner.submit(None, cast(Any, None))


def test_nothing_of_an_episode_before_reaches_the_next_one(scripted):
    """The first episode ends while a plan is under way; the next one must not execute it."""

    class Slow(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            time.sleep(0.15)
            return super().plan(state, rows, executed, frozen)

    class Marked(scripted.Robot):
        def __init__(self, first):
            super().__init__(1)
            self.rate_hz, self.first = 20.0, first

        def reset(self, seeds):
            super().reset(seeds)
            self.tick = self.first

    with ThreadedPlanner(Slow(), 0.2) as planner:
        run(Marked(1000), planner.policy, planner, RealClock(), [0], LoopSettings(2))
        robot = Marked(0)
        run(robot, planner.policy, planner, RealClock(), [0], LoopSettings(12))
    assert np.stack(robot.commands)[:, 0, 0].max() < 1000


ASK = PlanQuery(np.arange(2), np.zeros(2, int), np.zeros(2, int), np.zeros(2))


def state_of(policy):
    return policy.observe(policy.initial_state([0, 1]), {"tick": np.zeros((2, 1))})


def test_a_reset_forgets_the_answers_of_the_episode_before(scripted):
    policy = scripted.Policy()
    planner = ImmediatePlanner(policy)
    planner.submit(state_of(policy), ASK)
    planner.reset()
    assert planner.poll(np.full(2, 99.0)) == []


def test_a_reset_forgets_what_is_under_way_and_how_many_plans_there_were(scripted):
    numbers = []

    def latency(row, number):
        numbers.append((row, number))
        return 0.5 + row

    policy = scripted.Policy()
    planner = DelayedPlanner(policy, latency, 0.5)
    for _ in range(2):
        planner.submit(state_of(policy), ASK)
        assert (planner.due_s(0), planner.due_s(1)) == (0.5, 1.5)
        planner.reset()
        assert (planner.due_s(0), planner.due_s(1)) == (np.inf, np.inf)
        assert planner.poll(np.full(2, 99.0)) == []
    assert numbers == [
        (0, 0),
        (1, 0),
        (0, 0),
        (1, 0),
    ]  # the first plan of an episode is a cold one again


def test_a_reset_drops_questions_that_a_thread_has_not_begun_and_the_answer_it_is_at(scripted):
    begun, go_on = threading.Event(), threading.Event()

    class Held(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            begun.set()
            go_on.wait(10)
            return super().plan(state, rows, executed, frozen)

    policy = Held()
    with ThreadedPlanner(policy) as planner:
        planner.submit(state_of(policy), ASK)
        planner.submit(state_of(policy), ASK)
        assert begun.wait(10)
        planner.reset()
        assert planner.poll(np.zeros(2)) == []
        planner.submit(state_of(policy), ASK)
        go_on.set()
        answers, until = [], time.monotonic() + 10
        while not answers and time.monotonic() < until:
            answers = planner.poll(np.zeros(2))
    assert len(answers) == 1
    assert len(policy.asked) == 2  # the one it was at, and the new one


def test_a_planner_that_nobody_holds_ends_its_thread(scripted):
    planner = ThreadedPlanner(scripted.Policy())
    thread = planner._thread
    del planner
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


UNCLOSED = """
import atexit, time
import torch
from hotstart.planners import ThreadedPlanner

class Busy(ScriptedPolicy):
    def plan(self, state, rows, executed, frozen=None):
        weight = torch.randn(64, 64)
        until = time.monotonic() + 0.4
        # Thousands of calls that give the lock away and take it again.
        while time.monotonic() < until:
            weight = torch.tanh(weight @ weight)
        return super().plan(state, rows, executed, frozen)

policy = Busy()
atexit.register(lambda: print(len(policy.asked), flush=True))
planner = ThreadedPlanner(policy)
state = policy.observe(policy.initial_state([0]), {"tick": np.zeros((1, 1))})
for _ in range(50):
    one = np.zeros(1, int)
    planner.submit(state, PlanQuery(one, one, one, np.zeros(1)))
time.sleep(0.1)
print("the program ends", flush=True)
"""


def test_an_unclosed_planner_at_work_ends_with_the_program(fresh_python):
    """Twice: a thread that comes back from torch into a dying interpreter aborts it more often
    than not.
    """
    for _ in range(2):
        ended = fresh_python("from hotstart.spec import PlanQuery\n" + UNCLOSED)
        assert ended.stdout.split("\n")[:2] == [
            "the program ends",
            "1",
        ]  # the 49 questions behind it were dropped
        assert (ended.returncode, ended.stderr) == (0, "")


def test_lost_time_is_not_made_up_for_in_a_burst(scripted):
    class Slow(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            time.sleep(0.12)
            return super().plan(state, rows, executed, frozen)

    class Timed(scripted.Robot):
        def __init__(self):
            super().__init__(1)
            self.rate_hz, self.times_s = 50.0, []

        def act(self, actions, substeps=None, timed=None):
            self.times_s.append(time.monotonic())
            return super().act(actions, substeps)

    robot, policy = Timed(), Slow()
    (log,) = run(robot, policy, ImmediatePlanner(policy), RealClock(), [0], LoopSettings(12))
    gaps = np.diff(robot.times_s)
    assert (
        gaps.min() > 0.005
    )  # the period is 20 ms; without care, gaps of nothing follow a slow plan
    assert log.starved_ticks > 5
    np.testing.assert_array_equal(
        np.stack(robot.commands)[:, 0, 0], np.arange(12)
    )  # nothing was left out
