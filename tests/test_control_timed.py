"""Old frames and a servo: every action is applied at the time that it is meant for."""

import time

import numpy as np
import pytest
from hotstart.control import LoopSettings, RealClock, VirtualClock, run
from hotstart.planners import DelayedPlanner, ImmediatePlanner, ThreadedPlanner, constant_latency
from hotstart.spec import (
    ActionDim,
    ActionSpec,
    Actor,
    Feedback,
    Horizon,
    ObsKey,
    ObsSpec,
    Planned,
    TimedActions,
    TimedObservation,
)

RATE_HZ = 10.0
SERVO_HZ = 125.0
AGE_S = 0.06
SPEED = 0.5
"""Of the target that the arm follows [m/s]."""
OBS_SPEC = ObsSpec({"target": ObsKey((1,), "float64")})
ACTION_SPEC = ActionSpec((ActionDim("x", "m"),))


class Arm:
    """An axis that integrates velocities; its servo interpolates between timed positions.

    The camera sees where the target was AGE_S ago. `tells` is whether it tells so.
    """

    def __init__(self, clock, tells: bool = True, stall: int | None = None) -> None:
        self.rows, self.rate_hz, self.substeps = 1, RATE_HZ, 1
        self.servo_hz: float | None = SERVO_HZ
        self.obs_spec, self.action_spec = OBS_SPEC, ACTION_SPEC
        self.clock, self.tells, self.stall = clock, tells, stall
        self.position = 0.0
        self.frames = 0
        self.trace: list[tuple[float, float]] = []  # (time, position) after every servo period

    def reset(self, seeds):
        self.time_s = self.start_s = self.clock.now_s()
        self.plan = TimedActions.none(1)

    def reset_rows(self, rows, seeds):
        raise AssertionError("the loop has no business resetting rows within an episode")

    def observe(self):
        self.frames += 1
        if self.frames == self.stall:
            self.clock.sleep_until(self.clock.now_s() + 0.25)
        made_s = self.clock.now_s() - AGE_S
        seen = {"target": np.full((1, 1), SPEED * (made_s - self.start_s))}
        if self.tells:
            return TimedObservation(seen, {"target": np.full(1, made_s)})
        return seen

    def act(self, actions, substeps=None, timed=None):
        self.move()
        assert timed is not None
        times_s, positions = timed[0].times_s, timed[0].actions[:, 0]
        coming = times_s > self.time_s
        self.plan = TimedActions(
            np.concatenate(([self.time_s], times_s[coming])),
            np.concatenate(([self.position], positions[coming])),
        )
        return Feedback.silent(1)

    def hold_position(self):
        return np.full((1, 1), self.position)

    def stop(self):
        self.move()

    def move(self) -> None:
        """What the servo has done up to now."""
        while self.time_s + 1 / SERVO_HZ <= self.clock.now_s() + 1e-9:
            self.time_s += 1 / SERVO_HZ
            if len(self.plan) > 0:
                wanted = float(np.interp(self.time_s, self.plan.times_s, self.plan.actions))
                velocity = (wanted - self.position) * SERVO_HZ
                self.position += velocity / SERVO_HZ
            self.trace.append((self.time_s - self.start_s, self.position))


class Follower:
    """Plans where the target will be, step by step from the frame that it sees."""

    def __init__(self, seconds: float = 0.0, steps: int = 12) -> None:
        self.horizon = Horizon(observed=1, planned=steps, executed=steps)
        self.obs_spec, self.action_spec = OBS_SPEC, ACTION_SPEC
        self.rate_hz: float | None = RATE_HZ
        self.seconds = seconds
        self.asked: list[tuple[int, int]] = []  # (executed, frozen)

    def initial_state(self, seeds):
        return np.zeros(len(seeds))

    def reset_rows(self, state, rows, seeds):
        raise AssertionError("the loop has no business resetting rows within an episode")

    def observe(self, state, observation, executed=None, new=None):
        return observation["target"][:, 0]

    def plan(self, state, rows, executed, frozen=None):
        time.sleep(self.seconds)
        assert frozen is not None
        self.asked.append((int(executed[0]), int(frozen[0])))
        steps = np.arange(self.horizon.executed)
        actions = state[rows][:, None, None] + SPEED * steps[None, :, None] / RATE_HZ
        return Planned(rows, actions, state, np.ones(len(rows), int))

    def adopt(self, state, planned):
        return state


def follow(arm, policy, planner, ticks=30, replan_at=6):
    """How late the arm is [s], after every servo period from the second plan on."""
    (log,) = run(arm, policy, planner, arm.clock, [0], LoopSettings(ticks, replan_at))
    second_s = log.reactions[1][1] - arm.start_s
    times_s, positions = np.array(arm.trace).T
    settled = times_s > second_s + 1 / RATE_HZ
    assert settled.sum() > 50
    return times_s[settled] - positions[settled] / SPEED, log


@pytest.mark.parametrize("latency_s", [0.0, 0.17])
def test_an_action_is_applied_at_its_time(latency_s):
    arm, policy = Arm(VirtualClock()), Follower()
    if latency_s:
        planner = DelayedPlanner(policy, constant_latency(latency_s), latency_s)
    else:
        planner = ImmediatePlanner(policy)
    late_s, log = follow(arm, policy, planner)
    assert np.abs(late_s).max() <= 1 / SERVO_HZ
    assert log.starved_ticks == np.ceil(latency_s * RATE_HZ)  # before the first plan


def test_an_action_is_applied_at_its_time_when_a_thread_plans():
    policy = Follower(0.05, steps=40)  # 3 s in store: a busy machine starves nobody
    arm = Arm(RealClock())
    with ThreadedPlanner(policy, 0.05) as planner:
        late_s, _ = follow(arm, policy, planner, replan_at=30)
    assert np.abs(late_s).max() <= 1 / SERVO_HZ


def test_whoever_ignores_the_age_of_frames_is_late_by_it():
    arm, policy = Arm(VirtualClock(), tells=False), Follower()
    late_s, _ = follow(arm, policy, ImmediatePlanner(policy))
    np.testing.assert_allclose(late_s, AGE_S, atol=1 / SERVO_HZ)


def test_the_steps_between_two_plans_are_those_between_their_frames():
    """Chunks of 12, 6 left when the next is asked for; step 0 is of 60 ms ago, and late."""
    arm, policy = Arm(VirtualClock()), Follower()
    _, log = follow(arm, policy, ImmediatePlanner(policy))
    assert policy.asked[0] == (0, 0)
    assert set(policy.asked[1:]) == {(5, 1)}  # one step lies between the frame and now
    assert log.late_actions == len(policy.asked)


def test_a_servo_goes_on_while_a_camera_hangs():
    arm, policy = Arm(VirtualClock(), stall=18), Follower()
    late_s, _ = follow(arm, policy, ImmediatePlanner(policy))
    assert arm.clock.now_s() >= 2.9 + 0.25
    assert np.abs(late_s).max() <= 1 / SERVO_HZ


def test_a_policy_that_reads_nothing_acts_at_once_and_listeners_get_the_times_of_every_part():
    arm, policy = Arm(VirtualClock()), Follower(steps=1)
    policy.obs_spec = ObsSpec({})  # as an operator's, who looks for himself
    ticks = []
    run(
        arm,
        policy,
        ImmediatePlanner(policy),
        arm.clock,
        [0],
        LoopSettings(5),
        listeners=[ticks.append],
    )
    for tick in ticks:
        assert tick.actors.tolist() == [Actor.POLICY]
        np.testing.assert_array_equal(tick.target_s, tick.now_s)
        np.testing.assert_allclose(tick.key_made_s["target"], tick.now_s - AGE_S)
