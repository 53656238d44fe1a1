"""THE control loop: clocks, chunk splicing, planners, and one loop for simulation and hardware alike.

Knows only `spec` (numpy only). B rows run in step: B simulated environments, or one arm.

    every tick: observe -> ask the planner where a row runs short -> splice what has arrived -> act
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .spec import ActionSpec, Clock, ConfigError, Feedback, FloatArray, IntArray, Observation, Planned, Planner, Policy, Robot

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


def hold(spec: ActionSpec, last: FloatArray | None) -> FloatArray:
    """What a starved robot is told, (A,): absolute and discrete numbers stay where they are, relative ones come to rest."""
    if last is None:
        return np.zeros(spec.width)
    stays = np.array([dim.absolute or dim.kind == "discrete" for dim in spec.dims])
    return np.where(stays, last, 0.0)


@dataclass(frozen=True)
class TimedActions:
    """Actions of one row with the times they are meant for."""

    times_s: FloatArray  # (n,) rising
    actions: FloatArray  # (n, A)

    def __len__(self) -> int:
        return len(self.times_s)

    @classmethod
    def none(cls, width: int) -> TimedActions:
        """No actions."""
        return cls(np.zeros(0), np.zeros((0, width)))


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
        np.concatenate((pending.times_s[before], times_s)), np.concatenate((pending.actions[before], actions))
    )
    return joined, int((~on_time).sum())


class ImmediatePlanner:
    """Answers within the call, and by the clock of the loop in no time at all; counts the real seconds it took."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.seconds: list[tuple[int, float]] = []
        """(rows, real seconds) of every call."""
        self._answers: list[Planned] = []

    def submit(self, state: object, rows: IntArray, executed: IntArray, now_s: float) -> None:
        """Plan at once."""
        began = time.perf_counter()
        self._answers.append(self.policy.plan(state, rows, executed))
        self.seconds.append((len(rows), time.perf_counter() - began))

    def poll(self, now_s: float) -> Sequence[Planned]:
        """What `submit` worked out."""
        answers, self._answers = self._answers, []
        return answers


@dataclass
class RowLog:
    """What happened in one row of one episode."""

    seed: int
    success: bool = False
    score: float = 0.0
    steps: int = 0
    commands: list[FloatArray] = field(default_factory=list)  # (A,) per tick
    nfe: list[int] = field(default_factory=list)  # per plan, the first one is cold
    late_actions: int = 0
    starved_ticks: int = 0


@dataclass(frozen=True)
class LoopSettings:
    """`max_ticks` ends an episode; a row asks for a plan when at most `replan_at` actions are left to it."""

    max_ticks: int
    replan_at: int = 0

    def __post_init__(self) -> None:
        if self.max_ticks < 1 or self.replan_at < 0:
            raise ConfigError(f"max_ticks is {self.max_ticks} and replan_at {self.replan_at}; at least 1 and 0 are wanted")


Listener = Callable[[int, Observation, FloatArray, Feedback], None]
"""Called after every tick with its number, the observation acted on, the actions (B, A) and the robot's feedback."""


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

    However it ends, the robot is stopped.
    """
    if not 0 < len(seeds) <= robot.rows:
        raise ConfigError(f"{len(seeds)} seeds for {robot.rows} rows; give between 1 and {robot.rows}")
    try:
        return _Episode(robot, policy, planner, clock, seeds, settings).run(listeners)
    finally:
        robot.stop()


class _Episode:
    """The loop's working memory; rows beyond the seeds are idle."""

    def __init__(
        self, robot: Robot, policy: Policy, planner: Planner, clock: Clock, seeds: Sequence[int], settings: LoopSettings
    ) -> None:
        self.robot, self.policy, self.planner, self.clock, self.settings = robot, policy, planner, clock, settings
        self.width, self.rows = robot.action_spec.width, len(seeds)
        idle = [0] * (robot.rows - self.rows)
        robot.reset(seeds)
        self.state = policy.initial_state([*seeds, *idle])
        self.logs = [RowLog(int(seed)) for seed in seeds]
        self.pending = [TimedActions.none(self.width) for _ in seeds]
        self.executed = np.zeros(self.rows, np.int64)
        self.asked = np.zeros(self.rows, bool)
        self.done = np.zeros(self.rows, bool)
        self.last: list[FloatArray | None] = [None] * self.rows
        self.observed_s: dict[int, float] = {}

    def run(self, listeners: Sequence[Listener]) -> list[RowLog]:
        period_s, start_s = 1.0 / self.robot.rate_hz, self.clock.now_s()
        for tick in range(self.settings.max_ticks):
            tick_s = start_s + tick * period_s
            self.clock.sleep_until(tick_s)
            observation = self.robot.observe()
            self.state = self.policy.observe(self.state, observation)
            self._ask(tick_s)
            self._receive(tick_s, period_s)
            actions = self._actions(tick_s)
            feedback = self.robot.act(actions)
            self._note(actions, feedback)
            for listener in listeners:
                listener(tick, observation, actions, feedback)
            if self.done.all():
                break
        return self.logs

    def _ask(self, now_s: float) -> None:
        """Submit the rows that run short and are not being planned for."""
        short = np.array([len(p) <= self.settings.replan_at for p in self.pending])
        rows = np.flatnonzero(short & ~self.asked & ~self.done)
        if len(rows) == 0:
            return
        self.planner.submit(self.state, rows, self.executed[rows].copy(), now_s)
        self.asked[rows] = True
        self.executed[rows] = 0
        self.observed_s.update(dict.fromkeys(rows.tolist(), now_s))

    def _receive(self, now_s: float, period_s: float) -> None:
        """Splice every chunk that has arrived into its row."""
        for planned in self.planner.poll(now_s):
            self.state = self.policy.adopt(self.state, planned)
            for row, actions, nfe in zip(planned.rows.tolist(), planned.actions, planned.nfe.tolist(), strict=True):
                if self.done[row]:  # its log is that of a run by itself, which would have ended before
                    continue
                times_s = self.observed_s[row] + period_s * np.arange(len(actions))
                chunk = TimedActions(times_s, np.asarray(actions, np.float64))
                self.pending[row], late = splice(self.pending[row], chunk, now_s)
                self.asked[row] = False
                self.logs[row].late_actions += late
                self.logs[row].nfe.append(int(nfe))

    def _actions(self, now_s: float) -> FloatArray:
        """Each row's action for this tick (B, A); a starved row holds, see `hold`."""
        actions = np.zeros((self.robot.rows, self.width))
        for row in np.flatnonzero(~self.done):
            pending = self.pending[row]
            if len(pending) > 0 and pending.times_s[0] <= now_s + LATE_S:
                self.last[row] = actions[row] = pending.actions[0]
                self.pending[row] = TimedActions(pending.times_s[1:], pending.actions[1:])
                self.executed[row] += 1
            else:
                actions[row] = hold(self.robot.action_spec, self.last[row])
                self.logs[row].starved_ticks += 1
        return actions

    def _note(self, actions: FloatArray, feedback: Feedback) -> None:
        """Write the tick down in the logs of the rows that were still running."""
        for row in np.flatnonzero(~self.done):
            log = self.logs[row]
            log.commands.append(actions[row].copy())
            log.steps += 1
            log.success |= bool(feedback.success[row])
            log.score = max(log.score, float(feedback.score[row]))
        self.done |= feedback.done[: self.rows]
