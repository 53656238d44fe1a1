"""THE control loop: clocks, chunk splicing, and one loop for simulation and hardware alike.

Knows only `spec` (numpy only). B rows run side by side: B simulated environments, or one arm. Each has a clock of its own,
counted in substeps of the control period, so that a plan that comes in the middle of a period is used there and then.

    every turn: observe -> splice what has arrived -> ask the planner where a row runs short -> act
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .checks import check_command, check_fit, check_plan
from .spec import (
    ActionSpec,
    Ask,
    Clock,
    ConfigError,
    Executed,
    Feedback,
    FloatArray,
    IntArray,
    Observation,
    Planner,
    Policy,
    Robot,
    SilentError,
    TimedActions,
    TimedObservation,
)
from .system.stopping import Stop, signals_raised

LOST_PERIODS = 0.5
"""A turn that begins later than this share of a control period was lost, and is not made up for."""
LATE_S = 1e-6
"""An action is late when its time lies further back than this."""


class RealClock:
    """Monotonic seconds of this machine."""

    def now_s(self) -> float:
        """Seconds since boot or so."""
        return time.monotonic()

    def sleep_until(self, time_s: float) -> None:
        """Sleep to the deadline; late calls return at once."""
        left = time_s - time.monotonic()
        if left > 0:
            time.sleep(left)


class VirtualClock:
    """Seconds that pass only when somebody sleeps: simulation as fast as it goes, and always the same."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s

    def sleep_until(self, time_s: float) -> None:
        """Jump to the deadline."""
        self._now_s = max(self._now_s, time_s)


def zero_order_hold(spec: ActionSpec, last: FloatArray | None, holding: FloatArray) -> FloatArray:
    """What a starved robot is told, (A,): absolute and discrete numbers stay as they were told last, relative ones rest.

    `resting` (A,) is what keeps the robot where it is now; it alone counts before the first action.
    """
    if last is None:
        return np.array(holding, np.float64)
    stays = np.array([dim.absolute or dim.kind == "discrete" for dim in spec.dims])
    return np.where(stays, last, holding)


def splice(pending: TimedActions, chunk: TimedActions, now_s: float) -> tuple[TimedActions, int]:
    """Put a new chunk in the place of the pending actions from its first usable time on.

    Actions of the chunk meant for a time before `now_s` are dropped and counted. Pending actions that come before the first
    one kept stay: they bridge the gap. Returns the actions to execute from now on and the number dropped.
    """
    on_time = chunk.times_s >= now_s - LATE_S
    times_s, actions = chunk.times_s[on_time], chunk.actions[on_time]
    if len(times_s) == 0:
        return pending, len(chunk)
    before = (pending.times_s >= now_s - LATE_S) & (pending.times_s < times_s[0] - LATE_S)
    joined = TimedActions(
        np.concatenate((pending.times_s[before], times_s)),
        np.concatenate((pending.actions[before], actions)),
    )
    return joined, int((~on_time).sum())


@dataclass
class RowLog:
    """What happened in one row of one episode."""

    seed: int
    success: bool | None = (
        None  # whether the task was fulfilled at any time; None: the robot never said
    )
    score: float = 0.0  # the robot's newest word
    steps: int = 0  # control periods begun
    commands: list[FloatArray] = field(default_factory=list)  # (A,) each
    durations: list[float] = field(
        default_factory=list
    )  # of each command, in control periods: 1, less where a hold was cut
    nfe: list[int] = field(default_factory=list)  # per plan, the first one is cold
    late_actions: int = 0
    starved_ticks: float = 0.0  # control periods without an action to execute
    reactions: list[tuple[float, float, int]] = field(default_factory=list)
    """Of each plan that was of use: (observed at, first acted at) [s], and how many actions were executed before."""
    executed: int = 0  # actions of plans; what was held is not among them
    solved_at_reset: bool = False  # the task was fulfilled before the first action


@dataclass(frozen=True)
class LoopSettings:
    """`max_ticks` ends an episode; a row asks for a plan when at most `replan_at` actions are left to it.

    A plan that is not there `patience_s` seconds after it was asked for never comes: the run ends, and the robot is stopped.
    `any_rate` lets a policy run at another control rate than that of its data.
    """

    max_ticks: int
    replan_at: int = 0
    patience_s: float = 10.0
    any_rate: bool = False

    def __post_init__(self) -> None:
        if not self.patience_s > 0:
            raise ConfigError(f"patience_s is {self.patience_s}; a time above 0 is wanted")
        if self.max_ticks < 1 or self.replan_at < 0:
            raise ConfigError(
                f"max_ticks is {self.max_ticks} and replan_at {self.replan_at}; at least 1 and 0 are wanted"
            )


Listener = Callable[[int, Observation, FloatArray, Feedback], None]
"""Called after every turn with its number, the observation acted on, the actions (B, A) and the robot's feedback."""


def run(
    robot: Robot,
    policy: Policy,
    planner: Planner,
    clock: Clock,
    seeds: Sequence[int],
    settings: LoopSettings,
    listeners: Sequence[Listener] = (),
) -> list[RowLog]:
    """One episode in every row; `seeds` (at most B) fix the scenes and the policy's noise. Returns a log per seed.

    An episode lasts `max_ticks` control periods of its row's own clock. However it ends, the robot is stopped: SIGTERM and
    SIGHUP become a SystemExit unless somebody handles them already. Raises ConfigError before anything moves where policy and
    robot do not fit, PlanError for a plan that no robot may be given, SilentError when a plan does not come, and StopError
    when `robot.stop()` keeps failing.
    """
    if not 0 < len(seeds) <= robot.rows:
        raise ConfigError(
            f"{len(seeds)} seeds for {robot.rows} rows; give between 1 and {robot.rows}"
        )
    check_fit(robot, policy, settings.any_rate)
    stop = Stop(robot)
    with signals_raised():
        try:
            try:
                return _Episode(robot, policy, planner, clock, seeds, settings).run(listeners)
            finally:
                stop.now()
        except BaseException:
            stop.now()  # a signal may have come before the first line of the call above
            raise


class _Episode:
    """The loop's working memory; rows beyond the seeds are idle."""

    def __init__(
        self,
        robot: Robot,
        policy: Policy,
        planner: Planner,
        clock: Clock,
        seeds: Sequence[int],
        settings: LoopSettings,
    ) -> None:
        self.robot, self.policy, self.planner, self.clock, self.settings = (
            robot,
            policy,
            planner,
            clock,
            settings,
        )
        self.width, self.rows = robot.action_spec.width, len(seeds)
        self.period_s = 1.0 / robot.rate_hz
        self.end = settings.max_ticks * robot.substeps  # of an episode, in substeps
        idle = [0] * (robot.rows - self.rows)
        planner.reset()
        start = robot.reset(seeds)
        self.state = policy.initial_state([*seeds, *idle])
        self.logs = [RowLog(int(seed)) for seed in seeds]
        if start is not None:
            for row, log in enumerate(self.logs):
                log.solved_at_reset = bool(start.fulfilled(row))
        self.pending = [TimedActions.none(self.width) for _ in seeds]
        self.at = np.zeros(self.rows, np.int64)  # each row's own time, in substeps
        self.seen_at = np.full(
            self.rows, -robot.substeps
        )  # its newest observation in the policy's history, in substeps
        self.behind = np.zeros(
            self.rows, np.int64
        )  # actions of a row's newest plan that lie behind it
        self.asked = np.zeros(self.rows, bool)
        self.asked_s = np.zeros(self.rows)
        self.since = np.zeros(
            self.rows, np.int64
        )  # actions executed since the row's newest question
        self.waited = np.zeros(self.rows, np.int64)  # substeps without an action since then
        self.done = np.zeros(self.rows, bool)
        self.last: list[FloatArray | None] = [None] * self.rows
        self.executed = Executed.nothing(robot.rows, self.width)  # since the newest observation

    def run(self, listeners: Sequence[Listener]) -> list[RowLog]:
        start_s, turn = self.clock.now_s(), 0
        while not self.done.all():
            now_s = start_s + self.at * self._substep_s
            due_s = float(now_s[~self.done].min())
            self.clock.sleep_until(due_s)
            observation = self.robot.observe()
            if isinstance(observation, TimedObservation):
                observation = observation.observation
            self._observe(observation)
            self._receive(now_s)
            self._ask(now_s)
            self._receive(now_s)
            self._check_patience(now_s)
            lost_s = self.clock.now_s() - due_s
            if lost_s > LOST_PERIODS * self.period_s:
                start_s, now_s = start_s + lost_s, now_s + lost_s
                self._put_off(lost_s)
            actions, substeps = self._actions(now_s)
            feedback = self.robot.act(actions, substeps)
            self._note(actions, substeps, feedback)
            for listener in listeners:
                listener(turn, observation, actions, feedback)
            turn += 1
            self.done |= self.at >= self.end
        return self.logs

    def _observe(self, observation: Observation) -> None:
        """Hand an observation to the policy; it is a further one in the rows for which a control period has passed."""
        new = np.ones(self.robot.rows, bool)
        new[: self.rows] = self.at - self.seen_at >= self.robot.substeps
        self.seen_at = self.at.copy()
        if new[: self.rows][~self.done].all():
            self.state = self.policy.observe(self.state, observation, self.executed)
        else:
            self.state = self.policy.observe(self.state, observation, self.executed, new)

    def _check_patience(self, now_s: FloatArray) -> None:
        """Raise SilentError where a plan has been under way for too long."""
        late = self.asked & ~self.done & (now_s - self.asked_s > self.settings.patience_s)
        if late.any():
            waited_s = float((now_s - self.asked_s)[late].max())
            raise SilentError(
                f"the planner has not answered for {waited_s:.1f} s, {self.settings.patience_s:g} s were allowed; the robot is "
                "stopped: look at the planner's machine, or raise patience_s"
            )

    def _put_off(self, lost_s: float) -> None:
        """The loop itself came late (a slow camera, a planner that answers within the call): what is queued waits as long.

        Otherwise the lost periods would be made up for in a burst of commands.
        """
        self.asked_s = self.asked_s + lost_s
        for row in np.flatnonzero(~self.done):
            pending = self.pending[row]
            self.pending[row] = TimedActions(pending.times_s + lost_s, pending.actions)
            self.logs[row].starved_ticks += lost_s / self.period_s

    @property
    def _substep_s(self) -> float:
        return self.period_s / self.robot.substeps

    def _ask(self, now_s: FloatArray) -> None:
        """Submit the rows that run short and are not being planned for."""
        short = np.array([len(p) <= self.settings.replan_at for p in self.pending])
        rows = np.flatnonzero(short & ~self.asked & ~self.done)
        if len(rows) == 0:
            return
        left = np.array([len(self.pending[row]) for row in rows])
        meanwhile = int(np.ceil(self.planner.expected_s / self.period_s - LATE_S))
        ask = Ask(rows, self.behind[rows].copy(), np.minimum(left, meanwhile), now_s[rows])
        self.asked[rows], self.since[rows], self.waited[rows], self.asked_s[rows] = (
            True,
            0,
            0,
            now_s[rows],
        )
        self.planner.submit(self.state, ask)

    def _receive(self, now_s: FloatArray) -> None:
        """Splice every chunk that has arrived into its row.

        Its times are those of the plan's own steps, put off by the time that the row stood still: a robot that held goes on
        where it is, and only what others have done in the place of the chunk's first actions is dropped.
        """
        idle = np.zeros(self.robot.rows - self.rows)
        for answer in self.planner.poll(np.concatenate((now_s, idle))):
            planned = check_plan(
                answer, np.flatnonzero(self.asked), self.width, self.policy.horizon.planned
            )
            self.state = self.policy.adopt(self.state, planned)
            for row, actions, nfe in zip(
                planned.rows.tolist(), planned.actions, planned.nfe.tolist(), strict=True
            ):
                if self.done[
                    row
                ]:  # its log is that of a run by itself, which would have ended before
                    continue
                begin_s = self.asked_s[row] + self.waited[row] * self._substep_s
                chunk = TimedActions(begin_s + self.period_s * np.arange(len(actions)), actions)
                self.pending[row], late = splice(self.pending[row], chunk, float(now_s[row]))
                self.asked[row], self.behind[row] = False, self.since[row]
                self.logs[row].late_actions += late
                self.logs[row].nfe.append(int(nfe))
                if late < len(chunk):
                    self.logs[row].reactions.append(
                        (float(self.asked_s[row]), float(now_s[row]), self.logs[row].executed)
                    )

    def _actions(self, now_s: FloatArray) -> tuple[FloatArray, IntArray]:
        """Each row's action (B, A) and for how many substeps (B,); a starved row holds, see `hold`, until its plan comes."""
        actions, substeps = (
            np.zeros((self.robot.rows, self.width)),
            np.zeros(self.robot.rows, np.int64),
        )
        holding = None
        for row in np.flatnonzero(~self.done):
            pending = self.pending[row]
            if len(pending) > 0 and pending.times_s[0] <= now_s[row] + LATE_S:
                self.last[row] = actions[row] = pending.actions[0]
                self.pending[row] = TimedActions(pending.times_s[1:], pending.actions[1:])
                substeps[row] = min(self.robot.substeps, self.end - self.at[row])
                self.behind[row] += 1
                self.since[row] += 1
                self.logs[row].executed += 1
            else:
                if holding is None:
                    holding = self.robot.hold_position()
                else:
                    holding = holding
                actions[row] = zero_order_hold(self.robot.action_spec, self.last[row], holding[row])
                substeps[row] = self._until_due(row, float(now_s[row]))
                self.waited[row] += substeps[row]
                self.logs[row].starved_ticks += substeps[row] / self.robot.substeps
        check_command(actions)
        return actions, substeps

    def _until_due(self, row: int, now_s: float) -> int:
        """Substeps until the row's plan will be there, at most one period."""
        left = (self.planner.due_s(row) - now_s) / self._substep_s
        longest = min(self.robot.substeps, int(self.end - self.at[row]))
        return int(np.clip(np.ceil(min(left, longest) - LATE_S), 1, longest))

    def _note(self, actions: FloatArray, substeps: IntArray, feedback: Feedback) -> None:
        """Write the turn down in the logs of the rows that were still running."""
        sent = np.where(substeps[:, None] > 0, actions, np.nan)
        self.executed = Executed(sent, substeps * self._substep_s)
        for row in np.flatnonzero(~self.done):
            log = self.logs[row]
            log.commands.append(actions[row].copy())
            log.durations.append(substeps[row] / self.robot.substeps)
            self.at[row] += substeps[row]
            log.steps = int(-(-self.at[row] // self.robot.substeps))
            fulfilled = feedback.fulfilled(row)
            if fulfilled is None:
                log.success = log.success
            else:
                log.success = bool(log.success) or fulfilled
            log.score = float(feedback.score[row])
        self.done |= feedback.done[: self.rows]
