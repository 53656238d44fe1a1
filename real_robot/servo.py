"""The controller of an arm: a process of its own, which needs numpy and ruckig and no torch.

Every servo period it takes what the policy's process has handed over, moves the target on along it
within the limits, sends it, and reads the arm. It goes on when the policy's process is busy, slows
down when that falls silent, and stops the arm when it dies.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np

from ..spec import ConfigError, HotstartError, StopError, TimedActions
from ..system.stopping import Stop
from . import link
from .driver import ArmState, Driver, DriverError
from .drivers import registry
from .interpolation import LEAD_S, Follower, Reference
from .link import MOVING, Description, Failure, Mode, Order
from .safety import SafetyError, SafetyFilter, SafetyOptions
from .servo_process import Durations, Ended, Watch, take_real_time_rights
from .shared_memory import Queue, Ring
from .watchdogs import Stage, Thresholds, judge_policy, judge_state

SOFT_SHARE = 0.1
"""A start begins with this share of the limits of velocity and acceleration."""
BRAKE_S = 1.0
"""An orderly stop slows down for so long [s] at most, before the driver stops the arm.

What cannot wait (the policy's process is dead, a camera is blind, a signal came) is left to the
driver at once: it stops the arm as fast as its motors brake.
"""
LATE_PERIODS = 0.5
"""A turn that begins later than this share of a period counts as late."""
REPORT_S = 0.5
"""Statistics are written every so often [s]."""


@dataclass(frozen=True)
class DriverFactory:
    """A driver by its name and options; it can be sent to another process."""

    name: str
    options: Mapping[str, object] = field(default_factory=dict)

    def __call__(self) -> Driver:
        """Build it; raises ConfigError for an unknown name or option."""
        return registry.make(self.name, **self.options)


@dataclass(frozen=True)
class ServoOptions:
    """How a controller treats its arm."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    safety: SafetyOptions = field(default_factory=SafetyOptions)
    speed: float = 1.0
    """Share of the arm's limits of velocity and acceleration that is used, above 0 to 1."""
    soft_start_s: float = 1.0
    """From the first plan on, the arm's full limits are reached after so long [s]."""
    lead_s: float = LEAD_S
    """See `interpolation`."""
    real_time: bool = True
    """Whether to ask for real-time scheduling and locked memory."""


@dataclass(frozen=True)
class Setup:
    """What a controller process is told when it starts."""

    factory: Callable[[], Driver]
    options: ServoOptions


class Controller:
    """The loop, with everything it has to do in one period."""

    def __init__(self, driver: Driver, options: ServoOptions, watch: Watch) -> None:
        """The driver is connected. Raises ConfigError for a workspace that cannot be watched."""
        self.driver, self.options = driver, options
        self.watch = watch
        spec, self.period_s = driver.action_spec, 1.0 / driver.servo_hz
        self.width = spec.width
        self.filter = SafetyFilter(spec, driver.limits, self.period_s, options.safety)
        self.follower = Follower(spec, driver.limits, self.period_s, options.lead_s)
        self.reference = Reference(spec, np.zeros(self.width), 0.0)
        known = self.filter.knows_tool or "tool" in driver.obs_spec.keys
        if options.safety.workspace is not None and not known:
            raise ConfigError(
                f"a workspace was given, but {driver.name} does not tell where its tool is: "
                "give the safety options a tool_of"
            )
        self.real_time = {"scheduling": "usual", "memory": "may be paged out"}
        self.mode = Mode.IDLE
        self.fault = ""
        self.stopped = False  # the driver has done it
        self.paused = False  # a turn was longer than usual for a good reason
        self.leaving = False  # the loop ends when the arm is stopped
        self.brake_until_s: float | None = None  # an orderly stop is under way
        self.stopping_fault = ""
        self.answered = 0  # number of the newest order that was carried out
        self.stop_number = 0
        self.started_s, self.heard_s = 0.0, 0.0
        self.planned = False  # since the start
        self.softly = True  # with less than the arm's limits
        self.log = ServoLog()
        state_record = link.make_state_record(self.width, driver.obs_spec)
        slots = round(link.HISTORY_S * driver.servo_hz) + 8
        self.states = Ring.create(state_record, slots)
        self.reports = Ring.create(link.REPORT_RECORD, 4)
        self.messages = Queue.create(link.make_message_record(self.width), link.MESSAGES)
        self.record = self.states.blank()
        self.state: ArmState | None = None

    def describe(self) -> Description:
        """What the policy's process must know."""
        driver = self.driver
        return Description(
            name=driver.name,
            servo_hz=driver.servo_hz,
            action_spec=driver.action_spec,
            obs_spec=driver.obs_spec,
            limits=driver.limits,
            watchdog_s=driver.watchdog_s,
            states=self.states.name,
            reports=self.reports.name,
            messages=self.messages.name,
            real_time=self.real_time,
        )

    def run(self) -> None:
        """Turn after turn at fixed times, until somebody asks for the end; the arm is then stopped.

        Turns that were missed are left out: nothing is made up for. What the driver takes to stop
        or to recover an arm is in no statistics: nothing moves then.
        """
        began_s, number = time.monotonic(), 0
        before_s = began_s
        while not (self.leaving and self.stopped):
            if self.paused:  # the driver was stopping or recovering the arm
                began_s, number = time.monotonic(), 0
                before_s, self.paused = began_s, False
            number += 1
            due_s = began_s + number * self.period_s
            left_s = due_s - time.monotonic()
            if left_s > 0:
                time.sleep(left_s)
            now_s = time.monotonic()
            missed = int((now_s - due_s) / self.period_s)
            number += missed
            self.log.note_turn(now_s - before_s, now_s - due_s, missed, self.period_s)
            before_s = now_s
            self.turn(now_s)
            if not self.paused:
                self.log.work.add(time.monotonic() - now_s)

    def turn(self, now_s: float) -> None:
        """One period: read, listen, judge, move, tell."""
        if self.watch.asked or self.watch.is_orphan():
            self.leave_at_once()
        try:
            self._read()
            self._listen(now_s)
            self._judge(now_s)
            self._move(now_s)
        except SafetyError as error:
            self.filter.fault = self.filter.fault or str(error)
            self._begin_stop(now_s, BRAKE_S, str(error))
        except HotstartError as error:
            self._stop_driver(str(error))
        except Exception as error:  # a fault of the driver's own: the arm is stopped as well
            traceback.print_exc()
            self._stop_driver(f"{self.driver.name}: {type(error).__name__}: {error}")
        self.write(now_s)

    def leave_at_once(self) -> None:
        """Stop the arm, and let the loop end."""
        self.leaving = True
        if not self.stopped:
            self._stop_driver("")

    def give_up(self, error: Exception) -> None:
        """The loop itself has failed: stop the arm, and tell the policy's process why."""
        self._stop_driver(f"the controller failed: {type(error).__name__}: {error}")
        self.write(time.monotonic())

    def read_first(self) -> None:
        """Read the arm, and tell of it, before the loop begins; raises DriverError."""
        self._read()
        self.write(time.monotonic())

    def _read(self) -> None:
        try:
            self.state = self.driver.read()
        except Exception:
            if self.mode == Mode.FAULT:
                return  # it is known, and the arm is stopped
            raise
        if self.state.fault and self.mode != Mode.FAULT:
            raise DriverError(f"{self.driver.name}: {self.state.fault}")

    def _listen(self, now_s: float) -> None:
        """Carry out what the policy's process asks for."""
        for message in self.messages.take():
            order, number = int(message["order"]), int(message["number"])
            if order == Order.PLAN:
                count = int(message["count"])
                plan = TimedActions(message["times_s"][:count], message["actions"][:count])
                self._adopt(plan, now_s)
            elif order == Order.START:
                self._start(now_s)
            elif order == Order.RECOVER:
                self._recover()
            elif order == Order.STOP_AT_ONCE:
                self._stop_driver("")
            else:
                self.leaving = self.leaving or order == Order.CLOSE
                self.stop_number = number
                self._begin_stop(now_s, BRAKE_S, "")
                continue
            self.answered = number

    def _start(self, now_s: float) -> None:
        """Hold where the arm is; the first target is what is measured."""
        if self.mode == Mode.FAULT or self.state is None:
            return
        if self.stopped:
            self.paused = True
            self.driver.recover()
            self.state = self.driver.read()
        if self.mode not in MOVING:
            self.follower.put(np.array(self.state.positions, np.float64))
        self.filter.start(self.follower.position, self.follower.velocity)
        self.reference.rest(self.follower.position, now_s)
        self.mode, self.stopped = Mode.HOLD, False
        self.brake_until_s, self.planned = None, False
        self.softly = True
        self.log.starts += 1

    def _recover(self) -> None:
        """Somebody has looked at the fault: the arm is stopped, and may be started again."""
        self.paused = True
        self.driver.recover()
        self.filter.reset()
        self.fault, self.stopping_fault = "", ""
        self.mode, self.stopped = Mode.IDLE, False

    def _adopt(self, plan: TimedActions, now_s: float) -> None:
        if self.mode not in MOVING or self.brake_until_s is not None:
            return  # it was handed over before the stop
        plan = self.filter.admit(plan)
        if not self.planned:
            self.planned, self.started_s = True, now_s
        self.heard_s = now_s
        if self.mode == Mode.SLOW_DOWN:  # the path begins where the arm has come to
            self.reference.rest(self.follower.position, now_s)
            self.mode = Mode.FOLLOW
        path = self.reference.path
        self.log.late_actions += self.reference.hand_over(plan, now_s)
        if self.reference.path is not path:
            self.log.plans += 1
            self.follower.restart()

    def _judge(self, now_s: float) -> None:
        """What the watchdogs and the measured tool ask for."""
        assert self.state is not None
        if self.mode not in MOVING or self.brake_until_s is not None:
            return
        tool = self.state.observation.get("tool")
        if tool is not None:
            self.filter.watch(np.asarray(tool[:3], np.float64))
        thresholds = self.options.thresholds
        stage = judge_state(now_s, self.state.made_s, thresholds)
        if stage == Stage.STOP:
            age_s = now_s - self.state.made_s
            raise DriverError(
                f"{self.driver.name} has told nothing new for {age_s:.2f} s: look at its connection"
            )
        if self.planned:
            left = self.reference.left(now_s)
            stage = max(stage, judge_policy(now_s, self.heard_s, left, thresholds))
        if stage == Stage.STOP:
            silent_s = now_s - self.heard_s
            self._begin_stop(now_s, BRAKE_S, f"the policy has been silent for {silent_s:.1f} s")
        elif stage == Stage.SLOW_DOWN:
            self.mode = Mode.SLOW_DOWN
        elif stage == Stage.HOLD or not self.planned:
            self._resume(Mode.HOLD, now_s)
        else:
            self._resume(Mode.FOLLOW, now_s)

    def _resume(self, mode: Mode, now_s: float) -> None:
        """Follow or hold; after slowing down for a stale state the path begins anew."""
        if self.mode == Mode.SLOW_DOWN:
            self.reference.rest(self.follower.position, now_s)
        self.mode = mode

    def _move(self, now_s: float) -> None:
        """Command the next target."""
        if self.mode not in MOVING:
            return
        self.log.stages[self.mode.name.lower()] += self.period_s
        if self.mode == Mode.SLOW_DOWN:
            self.driver.command(self.follower.slow_down())
            ending_s = self.brake_until_s
            if ending_s is not None and (self.follower.at_rest() or now_s >= ending_s):
                self._stop_driver(self.stopping_fault)
            return
        if self.softly and self.planned:
            self._use_more(now_s)
        target = self.follower.follow(self.reference, now_s)
        sent = self.filter.check(target)
        if np.abs(sent - target).max() > 1e-9:
            self.follower.put(sent, self.filter.speed)
        self.driver.command(sent)

    def _use_more(self, now_s: float) -> None:
        """Use more of the limits, the longer ago the first plan came."""
        share = 1.0
        if self.options.soft_start_s > 0:
            share = (now_s - self.started_s) / self.options.soft_start_s
        self.follower.scale(min(1.0, max(SOFT_SHARE, share)) * self.options.speed)
        self.softly = share < 1.0

    def _begin_stop(self, now_s: float, within_s: float, fault: str) -> None:
        """Slow down, and let the driver stop the arm then; at once where nothing moves."""
        self.stopping_fault = self.stopping_fault or fault
        if self.mode in MOVING:
            if self.brake_until_s is None:
                self.brake_until_s = now_s + within_s
            self.brake_until_s = min(self.brake_until_s, now_s + within_s)
            self.mode = Mode.SLOW_DOWN
        else:
            self._stop_driver(fault)

    def _stop_driver(self, fault: str) -> None:
        """Let the driver stop the arm, again and again while it fails; note a fault that stays."""
        self.paused = True
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                Stop(self.driver).now()
            except StopError as error:
                fault = "; ".join(filter(None, (fault, str(error))))
        for warning in told:
            self.log.warnings.append(str(warning.message))
        self.fault = self.fault or fault
        if fault:
            self.log.faults.append(fault)
        self.mode = Mode.STOPPED
        if self.fault:
            self.mode = Mode.FAULT
        self.stopped = True
        self.brake_until_s, self.stopping_fault = None, ""
        self.answered = max(self.answered, self.stop_number)

    def write(self, now_s: float) -> None:
        """Tell the policy's process how things stand."""
        record, state = self.record, self.state
        if state is not None:
            record["made_s"] = state.made_s
            record["positions"], record["velocities"] = state.positions, state.velocities
            for name in self.driver.obs_spec.keys:
                record["observation"][name] = state.observation[name]
        record["written_s"] = time.monotonic()  # a recovery takes seconds of a turn
        record["mode"], record["answered"] = int(self.mode), self.answered
        record["target"] = np.nan
        if self.mode in MOVING:
            record["target"] = self.follower.position
        record["fault"] = link.fit_text(self.fault, link.FAULT_BYTES)
        self.states.write(record)
        if now_s >= self.log.report_s or self.leaving:
            self.log.report_s = now_s + REPORT_S
            self._report()

    def _report(self) -> None:
        report = self.log.to_json() | {
            "driver": self.driver.name,
            "servo_hz": self.driver.servo_hz,
            "real_time": self.real_time,
            "clamps": self.filter.counts.clamps,
            "mode": self.mode.name.lower(),
        }
        if self.state is not None:
            report["notes"] = dict(self.state.notes)
        record = self.reports.blank()
        record["text"] = link.fit_text(json.dumps(report), link.REPORT_BYTES)
        self.reports.write(record)

    def close(self) -> None:
        """Let go of the driver and of the shared memory."""
        try:
            self.driver.close()
        finally:
            for block in (self.states, self.reports, self.messages):
                block.close()


class ServoLog:
    """What a controller counts."""

    def __init__(self) -> None:
        self.periods, self.lags = Durations(), Durations()
        self.work = Durations()
        self.late_turns, self.missed_turns = 0, 0
        self.late_actions, self.plans = 0, 0
        self.starts = 0
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.stages = {mode.name.lower(): 0.0 for mode in MOVING}
        self.report_s = 0.0

    def note_turn(self, lasted_s: float, lag_s: float, missed: int, period_s: float) -> None:
        """A turn began `lag_s` after it was due, `lasted_s` after the one before."""
        self.periods.add(lasted_s)
        self.lags.add(lag_s)
        self.late_turns += lag_s > LATE_PERIODS * period_s
        self.missed_turns += missed

    def to_json(self) -> dict[str, object]:
        """Plain values for the log."""
        stages = {}
        for name, seconds in self.stages.items():
            stages[name] = round(seconds, 3)
        return {
            "periods": self.periods.to_json(),
            "lags": self.lags.to_json(),
            "work": self.work.to_json(),
            "late_turns": self.late_turns,
            "missed_turns": self.missed_turns,
            "late_actions": self.late_actions,
            "plans": self.plans,
            "starts": self.starts,
            "seconds": stages,
            "faults": self.faults[-20:],
            "warnings": self.warnings[-20:],
        }


def serve(pipe: Connection, watch: Watch) -> int:
    """Make the driver, say that it is ready, and run the loop; returns the exit status.

    However it ends, the arm is stopped first. What goes wrong before the loop begins is told over
    the pipe.
    """
    driver: Driver | None = None
    controller: Controller | None = None
    try:
        setup: Setup = pipe.recv()
        driver = setup.factory()
        driver.connect()
        controller = Controller(driver, setup.options, watch)
        if setup.options.real_time:
            controller.real_time = take_real_time_rights()
        controller.read_first()
        watch.raising = False
        pipe.send(controller.describe())
        gc.collect()
        gc.freeze()
        gc.disable()
        controller.run()
        return _status(watch)
    except Ended:
        return _status(watch)
    except Exception as error:
        watch.raising = False
        if not isinstance(error, HotstartError):
            traceback.print_exc()
        if controller is not None:
            controller.give_up(error)
        _tell(pipe, Failure(type(error).__name__, str(error)))
        return 1
    finally:
        watch.raising = False
        _let_go(driver, controller)


def _status(watch: Watch) -> int:
    """What shells expect of a process that a signal has ended."""
    if watch.asked:
        return 128 + watch.asked
    return 0


def _tell(pipe: Connection, failure: Failure) -> None:
    """Say why the controller did not come up; nobody may be there to hear it."""
    with suppress(OSError):
        pipe.send(failure)


def _let_go(driver: Driver | None, controller: Controller | None) -> None:
    """Stop an arm that is not, and close everything; what fails now is only shown."""
    if driver is None:
        return
    try:
        if controller is None or not controller.stopped:
            Stop(driver).now()
    except StopError:
        traceback.print_exc()
    try:
        if controller is None:
            driver.close()
        else:
            controller.close()
    except Exception:
        traceback.print_exc()


def main() -> None:
    """The controller process; its arguments are the number of a pipe and its parent's id."""
    watch = Watch(int(sys.argv[2]))
    try:
        status = serve(Connection(int(sys.argv[1])), watch)
    except Ended:
        status = _status(watch)
    sys.exit(status)
