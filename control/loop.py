"""THE control loop, for simulation and hardware alike.

B rows run side by side: B simulated environments, or one arm. Each has a clock of its own, counted
in substeps of the control period, so that a plan is used from the substep on at which it arrives.

    every turn: observe -> splice what has arrived -> ask the planner where a row runs short -> act
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..checks import check_command, check_fit, check_plan
from ..spec import (
    Actor,
    Clock,
    ConfigError,
    Executed,
    Feedback,
    FloatArray,
    Intervention,
    Listener,
    Observation,
    Planner,
    PlanQuery,
    Policy,
    Robot,
    SilentError,
    Tick,
    TimedActions,
    TimedObservation,
)
from ..system.interrupts import end_program, raise_lost, signals_raise
from ..system.stopping import Stop
from .action_queue import ActionQueue
from .log import RowLog
from .splicing import LATE_S, find_oldest, splice, zero_order_hold
from .ticks import add_feedback, replace_actions

LOST_PERIODS = 0.5
"""A turn that begins later than this share of a control period was lost, and is not made up for."""


@dataclass(frozen=True)
class LoopSettings:
    """How long an episode lasts, and when plans are asked for."""

    max_ticks: int
    """Control periods of an episode."""
    replan_at: int = 0
    """A row asks for a plan when at most so many actions are left to it."""
    patience_s: float = 10.0
    """When no plan comes for so long [s] after its observation, the run ends."""
    any_rate: bool = False
    """Whether a policy may run at another control rate than that of its data."""

    def __post_init__(self) -> None:
        if not self.patience_s > 0:
            raise ConfigError(f"patience_s is {self.patience_s}; a time above 0 is wanted")
        if self.max_ticks < 1 or self.replan_at < 0:
            raise ConfigError(
                f"max_ticks is {self.max_ticks} and replan_at {self.replan_at}; "
                "at least 1 and 0 are wanted"
            )


def run(
    robot: Robot,
    policy: Policy,
    planner: Planner,
    clock: Clock,
    seeds: Sequence[int],
    settings: LoopSettings,
    listeners: Sequence[Listener] = (),
    intervene: Intervention | None = None,
) -> list[RowLog]:
    """One episode in every row; `seeds` (at most B) fix the scenes and the policy's noise.

    An episode lasts `max_ticks` control periods of its row's own clock. `intervene` may replace a
    turn's actions before they are sent; `listeners` are called after the turn. Returns a log per
    seed. However the loop ends, the robot is stopped: SIGTERM and SIGHUP raise SystemExit unless
    somebody handles them already. Raises ConfigError before anything moves where policy and robot
    do not fit, PlanError for a plan that no robot may be given, SilentError when a plan does not
    come, and StopError when `robot.stop()` keeps failing.
    """
    if not 0 < len(seeds) <= robot.rows:
        raise ConfigError(
            f"{len(seeds)} seeds for {robot.rows} rows; give between 1 and {robot.rows}"
        )
    check_fit(robot, policy, settings.any_rate)
    stop = Stop(robot)
    with signals_raise(end_program):
        try:
            try:
                episode = _Episode(robot, policy, planner, clock, seeds, settings)
                return episode.run(listeners, intervene)
            finally:
                stop.now()
        except BaseException:
            stop.now()  # a signal may have come before the first line of the call above
            raise


class _Episode:
    """The loop's working memory; arrays are (B,) or (B, A), and rows without a seed are done."""

    def __init__(
        self,
        robot: Robot,
        policy: Policy,
        planner: Planner,
        clock: Clock,
        seeds: Sequence[int],
        settings: LoopSettings,
    ) -> None:
        self.robot, self.policy = robot, policy
        self.planner, self.clock = planner, clock
        self.settings = settings
        self.width = robot.action_spec.width
        self.period_s = 1.0 / robot.rate_hz
        self.substep_s = self.period_s / robot.substeps
        self.end = settings.max_ticks * robot.substeps  # of an episode, in substeps
        planner.reset()
        start = robot.reset(seeds)
        rows = robot.rows
        self.state = policy.initial_state([*seeds, *[0] * (rows - len(seeds))])
        self.silent = Feedback.silent(rows)
        self.logs = [RowLog(int(seed)) for seed in seeds]
        if start is not None:
            for row, log in enumerate(self.logs):
                log.solved_at_reset = bool(start.fulfilled(row))
        self.done = np.arange(rows) >= len(seeds)
        self.elapsed = np.zeros(rows, np.int64)  # the row's own time, in substeps
        self.observed = np.full(rows, -robot.substeps)  # `elapsed` at the newest observation
        self.made_s = np.zeros(rows)  # when the newest observation was made
        self.key_made_s: Mapping[str, FloatArray] = {}  # when each of its parts was made
        self.waiting = np.zeros(rows, bool)  # a plan is under way
        self.asked_s = np.zeros(rows)  # when the observation was made that it is planned from
        self.next_plan_s = np.zeros(rows)  # when its first action is meant for
        self.plan_s = np.zeros(rows)  # when the first action of the newest plan was meant for
        self.passed = np.zeros(rows, np.int64)  # actions of the newest plan handed over or dropped
        self.queue = ActionQueue(rows, self.width)
        self.last = np.full((rows, self.width), np.nan)  # the newest action that was no hold
        self.executed = Executed.nothing(rows, self.width)  # since the newest observation

    def run(self, listeners: Sequence[Listener], intervene: Intervention | None) -> list[RowLog]:
        start_s, number = self.clock.now_s(), 0
        while not self.done.all():
            raise_lost()
            now_s = start_s + self.elapsed * self.substep_s
            due_s = float(now_s[~self.done].min())
            self.clock.sleep_until(due_s)
            observation = self._observe(now_s)
            self._receive(now_s)
            self._ask(now_s)
            self._receive(now_s)
            self._check_patience(now_s)
            lost_s = self.clock.now_s() - due_s
            if lost_s > LOST_PERIODS * self.period_s:
                start_s, now_s = start_s + lost_s, now_s + lost_s
                self._put_off(lost_s, now_s)
            tick = self._choose(number, now_s, observation)
            if intervene is not None:
                tick = replace_actions(tick, intervene(tick))
            check_command(tick.actions)
            feedback = self.robot.act(tick.actions, tick.substeps, self._schedule(tick))
            tick = add_feedback(tick, feedback)
            self._note(tick)
            for listener in listeners:
                listener(tick)
            number += 1
            self.done |= self.elapsed >= self.end
        for row, log in enumerate(self.logs):
            log.steps = int(-(-self.elapsed[row] // self.robot.substeps))
        return self.logs

    def _observe(self, now_s: FloatArray) -> Observation:
        """Hand an observation to the policy: a further one where a control period has passed."""
        seen = self.robot.observe()
        if isinstance(seen, TimedObservation):
            self.made_s = find_oldest(seen, self.policy.obs_spec, now_s)
            self.key_made_s = seen.made_s
            observation = seen.observation
        else:
            self.made_s, self.key_made_s = now_s, {}
            observation = seen
        new = self.elapsed - self.observed >= self.robot.substeps
        self.observed = self.elapsed.copy()
        if new[~self.done].all():
            self.state = self.policy.observe(self.state, observation, self.executed)
        else:
            self.state = self.policy.observe(self.state, observation, self.executed, new)
        return observation

    def _check_patience(self, now_s: FloatArray) -> None:
        """Raise SilentError where a plan has been under way for too long."""
        overdue = self.waiting & ~self.done & (now_s - self.asked_s > self.settings.patience_s)
        if overdue.any():
            waited_s = float((now_s - self.asked_s)[overdue].max())
            raise SilentError(
                f"the planner has not answered for {waited_s:.1f} s, "
                f"{self.settings.patience_s:g} s were allowed; the robot is stopped: "
                "look at the planner's machine, or raise patience_s"
            )

    def _put_off(self, lost_s: float, now_s: FloatArray) -> None:
        """The loop itself came late (a slow camera, a planner that answers within the call).

        A robot without a servo stood still: what is queued waits as long, or the lost periods would
        be made up for in a burst of commands. A servo has gone on with what it was handed.
        """
        if self.robot.servo_hz is not None:
            self.passed = self.passed + self.queue.take(now_s - 2 * LATE_S, ~self.done)
            return
        self.asked_s = self.asked_s + lost_s
        self.next_plan_s = self.next_plan_s + lost_s
        self.plan_s = self.plan_s + lost_s
        self.queue.put_off(lost_s)
        for row in np.flatnonzero(~self.done):
            self.logs[row].starved_ticks += lost_s / self.period_s

    def _ask(self, now_s: FloatArray) -> None:
        """Submit the rows that run short and are not being planned for.

        The plan's first action is meant for the time of the newest observation, which may be old.
        """
        left = self.queue.count()
        short = left <= self.settings.replan_at
        rows = np.flatnonzero(short & ~self.waiting & ~self.done)
        if len(rows) == 0:
            return
        made_s = self.made_s[rows]
        passed = self.passed[rows]
        steps = np.rint((made_s - self.plan_s[rows]) / self.period_s).astype(np.int64)
        executed = np.clip(steps, 0, passed)
        wait_s = self.planner.expected_s + now_s[rows] - made_s
        meanwhile = np.ceil(wait_s / self.period_s - LATE_S).astype(np.int64)
        frozen = np.minimum(passed - executed + left[rows], meanwhile)
        self.waiting[rows] = True
        self.asked_s[rows] = made_s
        self.next_plan_s[rows] = made_s
        self.planner.submit(self.state, PlanQuery(rows, executed, frozen, now_s[rows]))

    def _receive(self, now_s: FloatArray) -> None:
        """Splice every chunk that has arrived into its row."""
        for answer in self.planner.poll(now_s):
            asked = np.flatnonzero(self.waiting)
            planned = check_plan(answer, asked, self.width, self.policy.horizon.planned)
            self.state = self.policy.adopt(self.state, planned)
            for index, row in enumerate(planned.rows.tolist()):
                if not self.done[row]:  # else its log is that of a run by itself, which had ended
                    actions, nfe = planned.actions[index], int(planned.nfe[index])
                    self._splice(row, actions, nfe, float(now_s[row]))

    def _splice(self, row: int, actions: FloatArray, nfe: int, now_s: float) -> None:
        """Put a chunk (n, A) in the place of what is queued.

        Its times are those of the plan's own steps, put off by the time that the row stood still: a
        robot that held goes on where it is, and only what others have done in the place of the
        chunk's first actions is dropped.
        """
        begin_s = self.next_plan_s[row]
        chunk = TimedActions(begin_s + self.period_s * np.arange(len(actions)), actions)
        spliced, late = splice(self.queue.read(row), chunk, now_s)
        self.queue.write(row, spliced)
        self.waiting[row] = False
        self.plan_s[row] = begin_s
        self.passed[row] = max(0, math.ceil((now_s - begin_s) / self.period_s - LATE_S))
        log = self.logs[row]
        log.late_actions += late
        log.nfe.append(nfe)
        if late < len(chunk):
            log.reactions.append((float(self.asked_s[row]), now_s, log.executed))

    def _choose(self, number: int, now_s: FloatArray, observation: Observation) -> Tick:
        """Each row's action for this turn: that of its plan, or a hold until a plan comes."""
        due, newest = self.queue.find_due(now_s + self.period_s - LATE_S)
        due = due & ~self.done
        starved = ~due & ~self.done
        actions = np.where(due[:, None], newest.actions, 0.0)
        substeps = np.where(due, np.minimum(self.robot.substeps, self.end - self.elapsed), 0)
        if starved.any():
            held = zero_order_hold(self.robot.action_spec, self.last, self.robot.hold_position())
            actions = np.where(starved[:, None], held, actions)
            for row in np.flatnonzero(starved):
                substeps[row] = self._until_due(row, float(now_s[row]))
        actors = np.full(self.robot.rows, int(Actor.NOBODY))
        actors[due] = int(Actor.POLICY)
        actors[starved] = int(Actor.HOLD)
        return Tick(
            number=number,
            now_s=now_s,
            made_s=self.made_s,
            target_s=np.where(due, newest.times_s, now_s),
            observation=observation,
            actions=actions,
            substeps=substeps,
            actors=actors,
            applied=actions,
            feedback=self.silent,
            key_made_s=self.key_made_s,
        )

    def _until_due(self, row: int, now_s: float) -> int:
        """Substeps until the row's plan will be there, at most one period."""
        left = (self.planner.due_s(row) - now_s) / self.substep_s
        longest = min(self.robot.substeps, int(self.end - self.elapsed[row]))
        return int(np.clip(np.ceil(min(left, longest) - LATE_S), 1, longest))

    def _schedule(self, tick: Tick) -> list[TimedActions] | None:
        """What a servo follows: the rest of the plan, or the one action that is of no plan."""
        if self.robot.servo_hz is None:
            return None
        timed = [TimedActions.none(self.width)] * self.robot.rows
        planned = tick.acted(Actor.POLICY)
        for row in np.flatnonzero(~self.done):
            if planned[row]:
                timed[row] = self.queue.read(row)
            else:
                timed[row] = TimedActions(tick.target_s[row : row + 1], tick.actions[row : row + 1])
        return timed

    def _note(self, tick: Tick) -> None:
        """Move the rows on by the turn, and write it down in their logs."""
        lasted_s = tick.substeps * self.substep_s
        held_s = np.where(tick.acted(Actor.HOLD), lasted_s, 0.0)
        self.plan_s = self.plan_s + held_s
        self.next_plan_s = self.next_plan_s + held_s
        moved = tick.acted(Actor.POLICY) | tick.acted(Actor.INTERVENTION)
        steps = np.rint((tick.target_s - self.plan_s) / self.period_s).astype(np.int64)
        self.passed = np.where(moved, np.maximum(0, steps + 1), self.passed)
        self.last = np.where(moved[:, None], tick.actions, self.last)
        self.queue.take(tick.target_s, tick.acted(Actor.POLICY))
        self.queue.clear(tick.acted(Actor.INTERVENTION))
        sent = np.where(tick.substeps[:, None] > 0, tick.applied, np.nan)
        self.executed = Executed(sent, lasted_s)
        self.elapsed = self.elapsed + tick.substeps
        self._write_logs(tick)
        self.done = self.done | tick.feedback.done

    def _write_logs(self, tick: Tick) -> None:
        """Add the turn to the logs of the rows that were still running."""
        commands = tick.actions.copy()  # a listener may change the turn's own
        lasted = (tick.substeps / self.robot.substeps).tolist()
        actors = tick.actors.tolist()
        scores = tick.feedback.score.tolist()
        for row in np.flatnonzero(~self.done).tolist():
            fulfilled = tick.feedback.fulfilled(row)
            self.logs[row].note(commands[row], lasted[row], actors[row], fulfilled, scores[row])
