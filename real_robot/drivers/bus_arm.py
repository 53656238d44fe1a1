"""Arms whose motors sit on one serial bus: what Feetech and Dynamixel arms have in common.

One message with all goals and one question for all positions are sent per servo period. A lost
answer costs a few milliseconds: the joint's last state is used and counted, until `patience_s`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsSpec
from ..calibration import (
    MIDDLE,
    STEPS_PER_TURN,
    WHOLE_TURN,
    ArmCalibration,
    MotorCalibration,
    load_calibration,
)
from ..driver import ArmState, DriverError, Limits
from .arm_form import ArmForm, read_form
from .bus_braking import Brake, Goals, Seen
from .motor_bus import BusError, MotorBus, Reply
from .motor_search import check_motors

BY_THE_BOOK = "nominal"
"""In place of a calibration file: the arm is assembled by the book, as simulated arms are."""
SLACK = 40
"""How far beyond its range a joint may stand [steps]: 3.5 degrees."""
HEADROOM = 3.0
"""What motors may do beyond the arm's limits: with no more than the limits they would lag behind.

A motor's profile ends at rest in each goal, and so follows a moving one v^2 / 2a behind.
"""
SPEED_HEADROOM = 1.5
"""The same for the speed: motors catch up where they are behind."""
GRIPPER_GAIN = 1.5
"""A gripper's opening of 1 is about 1.5 rad or more of its motor."""
BRAKE_S = 0.3
"""A stop waits so long at most until no joint moves."""


@dataclass(frozen=True)
class Present:
    """What one answer holds."""

    reading: int
    speed: float
    """Steps a second."""
    notes: Mapping[str, float]


class BusArm(ABC):
    """A driver of one arm; `real_robot.driver.Driver` says what its methods promise.

    `notes` of a state count what was lost: "lost" answers, "retries", "late" joints now.
    """

    vendor = ""
    standard: ArmForm | None = None
    """The arm, where no form is named."""
    watchdog_s: float | None = None

    def __init__(
        self,
        port: str,
        calibration: str = "",
        form: str = "",
        baud: int = 0,
        servo_hz: float = 0.0,
        answer_s: float = 0.004,
        patience_s: float = 0.25,
        limp_on_stop: bool = False,
        write_calibration: bool = False,
    ) -> None:
        """Raises ConfigError for a form or a calibration that does not fit the arm.

        port: the adapter's, as /dev/ttyACM0
        calibration: a file of the arm's calibration; nominal: assembled by the book
        form: a YAML with the arm's motors; empty: the standard arm
        baud: bits a second; 0: as the form says
        servo_hz: goals a second; 0: as the form says
        answer_s: how long an answer may take on top of the time of its bytes
        patience_s: so long a joint's last state is used when it does not answer
        limp_on_stop: switch the torque off once the arm rests after a stop: a limp arm falls
        write_calibration: write the calibration into motors that hold another one
        """
        arm_form = _choose_form(self.standard, form, self.vendor)
        self.form = arm_form
        self.port = port
        self.name = arm_form.name
        self.servo_hz = servo_hz or arm_form.servo_hz
        self.baud = baud or arm_form.baud
        self.answer_s = answer_s
        self.patience_s = patience_s
        self.limp_on_stop = limp_on_stop
        self.calibration = _choose_calibration(arm_form, calibration)
        self.motors: Mapping[str, MotorCalibration] = self.calibration.motors
        self.names = tuple(self.motors)
        self.action_spec = ActionSpec(
            tuple(ActionDim(name, motor.unit) for name, motor in self.motors.items())
        )
        self.obs_spec = ObsSpec({"joints": ObsKey((len(self.motors),))})
        self.limits = _make_limits(arm_form, self.motors)
        self._ids = {name: motor.id for name, motor in self.motors.items()}
        self._lock = threading.RLock()
        self._bus: MotorBus | None = None
        self._seen: dict[str, Seen] = {}
        self._goals = Goals()
        self._silent_s: dict[str, float] = {}
        """Since when joints that do not answer have been asked."""
        self._halted = False
        self._write_calibration = write_calibration
        self._retries = 0
        self._asked_s = 0.0

    # what a vendor adds

    @abstractmethod
    def _open(self, baud: int) -> MotorBus:
        """Open the port. Raises DriverError, and ConfigError for a client that is missing."""

    @abstractmethod
    def _prepare(self, bus: MotorBus, name: str, id: int) -> None:
        """Make a motor's settings what this driver needs, before its torque is on."""

    @abstractmethod
    def _ask(self, bus: MotorBus, ids: list[int]) -> dict[int, Reply]:
        """One question for the present values of motors."""

    @abstractmethod
    def _decode(self, reply: Reply) -> Present:
        """What an answer holds."""

    @abstractmethod
    def _describe_fault(self, bus: MotorBus, name: str, id: int, error: int) -> str:
        """What a motor's error byte means in words; empty: nothing is wrong."""

    @abstractmethod
    def _clear_fault(self, bus: MotorBus, id: int) -> None:
        """Clear what a motor has latched."""

    def _begin(self, bus: MotorBus) -> None:  # noqa: B027 (most have nothing to do)
        """The motors hold, and commands may come."""

    def _clear_watchdogs(self, bus: MotorBus) -> None:  # noqa: B027 (most have none)
        """Let motors that their watchdog has stopped take goals again."""

    profile = ""
    """The register of the acceleration within which a motor goes to its goal; 0: its greatest."""

    @abstractmethod
    def _find_acceleration(self, name: str) -> int:
        """What that register holds while the arm is moved."""

    @property
    @abstractmethod
    def bauds(self) -> tuple[int, ...]:
        """Speeds that such motors can have."""

    # the contract

    def connect(self) -> None:
        """Find the motors, check them, and let each hold where it stands.

        Goals are set to the present positions before the torque is switched on, so nothing moves.
        """
        with self._lock:
            self._bus = self._open(self.baud)
            try:
                self._set_up(self._bus)
            except BaseException:
                self._drop_port()
                raise
            self._halted = False

    def read(self) -> ArmState:
        """The newest state, within half a servo period and one wait for an answer.

        Raises DriverError where a joint has not answered for `patience_s`, or the port is gone.
        """
        with self._using() as bus:
            notes = self._poll(bus, 0.5 / self.servo_hz)
            self._goals.note_seen(self._seen)
            self._check_patience()
            return self._make_state(bus, notes)

    def command(self, target: FloatArray) -> None:
        """Send goals (A,) in rad and openings; raises DriverError, after `stop` too."""
        values = np.asarray(target, np.float64)
        if values.shape != (len(self.names),) or not np.isfinite(values).all():
            raise DriverError(f"{self.name}: {values} is no target of {len(self.names)} numbers")
        with self._using() as bus:
            if self._halted:
                raise DriverError(f"{self.name} was stopped: recover() lets it move again")
            goals = {}
            for name, value in zip(self.names, values, strict=True):
                goals[name] = float(self.motors[name].to_reading(float(value)))
            self._send(bus, goals)

    def stop(self) -> None:
        """Bring the arm to rest as fast as its motors brake, see `bus_braking`, and hold it there.

        Returns when it rests, within 0.3 s; with `limp_on_stop` the torque is off then. Raises
        DriverError for motors that did not acknowledge it: call it again.
        """
        self._halted = True
        with self._lock:
            if self._bus is None or not self._seen:
                return  # nothing holds
            with self._using() as bus:
                failed = self._brake(bus)
                if self.limp_on_stop and not failed:
                    self._wait_for_rest(bus)
                    failed = self._set_torque(bus, 0)
        if failed:
            raise DriverError(f"{self.name}: {', '.join(failed)} did not acknowledge the stop")

    def recover(self) -> None:
        """Clear latched faults, hold where the arm is, and take commands again.

        A joint with an overload loses its torque for a moment. A port that went away is opened
        anew. Raises DriverError where a fault is still there.
        """
        with self._lock:
            if self._bus is None:
                self.connect()
                return
            with self._using() as bus:
                for name, motor in self.motors.items():
                    if self._fault_of(bus, name):
                        self._clear_fault(bus, motor.id)
                self._poll(bus, 0.02)
                self._set_profile(bus, braking=False)
                failed = self._hold(bus) or self._set_torque(bus, 1)
                if failed:
                    raise DriverError(f"{self.name}: {', '.join(failed)} did not answer")
                time.sleep(0.02)  # errors show up in the next answers
                self._poll(bus, 0.02)
                fault = self._describe_faults(bus)
                if fault:
                    raise DriverError(f"{self.name}: {fault} is still there")
                self._begin(bus)
                self._halted = False

    def close(self) -> None:
        """Stop, and let go of the port: the motors go on holding their last goal by themselves."""
        with self._lock:
            try:
                self.stop()
            finally:
                self._drop_port()

    # for calibration

    def read_readings(self) -> dict[str, int]:
        """What the motors report, by name; raises DriverError where one does not answer."""
        with self._using() as bus:
            readings = {}
            for name, motor in self.motors.items():
                readings[name] = bus.read(motor.id, "present_position")
            return readings

    def connect_limp(self) -> None:
        """Open the port and switch the torque off, whatever the motors' calibration: hold the arm.

        Raises DriverError as `connect`.
        """
        with self._lock:
            self._bus = self._open(self.baud)
            self._seen = {}
            try:
                check_motors(self._bus, self.name, self._ids, self.bauds)
                self.go_limp()
            except BaseException:
                self._drop_port()
                raise

    def write_offsets(self, offsets: Mapping[str, int]) -> None:
        """Write homing offsets by name into limp motors, and lift their limits for a sweep."""
        with self._using() as bus:
            for name, offset in offsets.items():
                id = self.motors[name].id
                self._write_kept(bus, name, id, "homing_offset", offset)
                self._write_kept(bus, name, id, "min_position", 0)
                self._write_kept(bus, name, id, "max_position", STEPS_PER_TURN - 1)

    def go_limp(self) -> None:
        """Switch the torque off, for moving the arm by hand: it falls unless it is held."""
        with self._using() as bus:
            failed = self._set_torque(bus, 0)
        self._halted = True
        if failed:
            raise DriverError(f"{self.name}: {', '.join(failed)} did not let go")

    # how

    @contextmanager
    def _using(self) -> Iterator[MotorBus]:
        """The open bus, alone. A port that goes away is closed, and told of as DriverError."""
        with self._lock:
            if self._bus is None:
                raise DriverError(f"{self.name} is not connected: connect() first")
            try:
                yield self._bus
            except OSError as problem:
                self._drop_port()
                raise DriverError(
                    f"{self.name}: {self.port} is gone ({problem}): is the cable plugged "
                    f"in? recover() opens it again"
                ) from problem

    def _drop_port(self) -> None:
        if self._bus is not None:
            self._bus.port.close()
        self._bus = None

    def _set_up(self, bus: MotorBus) -> None:
        check_motors(bus, self.name, self._ids, self.bauds)
        for name, motor in self.motors.items():
            self._check_calibration(bus, name, motor)
            self._prepare(bus, name, motor.id)
        self._seen = {}
        for name, motor in self.motors.items():
            reading = bus.read(motor.id, "present_position")
            self._check_place(name, motor, reading)
            self._seen[name] = Seen(reading, 0.0, time.monotonic())
        was_limp = [name for name in self.names if not self._has_torque(bus, name)]
        failed = self._hold(bus) or self._set_torque(bus, 1)
        if failed:
            self._set_torque(bus, 0, was_limp)
            raise DriverError(f"{self.name}: {', '.join(failed)} did not take a goal")
        self._asked_s = time.monotonic()
        self._begin(bus)

    def _has_torque(self, bus: MotorBus, name: str) -> bool:
        return bus.read(self.motors[name].id, "torque_enable") == 1

    def _check_calibration(self, bus: MotorBus, name: str, motor: MotorCalibration) -> None:
        """Raises DriverError where a motor holds another calibration than the file."""
        wanted = {
            "homing_offset": motor.homing_offset,
            "min_position": motor.range_min,
            "max_position": motor.range_max,
        }
        for register, value in wanted.items():
            found = bus.read(motor.id, register)
            if found == value:
                continue
            if not self._write_calibration:
                raise DriverError(
                    f"{self.name}: {name} holds {register} {found}, the calibration says {value}: "
                    f"calibrate the arm again, or connect with write_calibration=true"
                )
            self._write_kept(bus, name, motor.id, register, value)

    def _write_kept(self, bus: MotorBus, name: str, id: int, register: str, value: int) -> None:
        """Write a register that a motor keeps without power."""
        if bus.read(id, register) != value:
            bus.write(id, register, value)

    def _check_place(self, name: str, motor: MotorCalibration, reading: int) -> None:
        if not 0 <= reading < STEPS_PER_TURN:
            raise DriverError(
                f"{self.name}: {name} reads {reading}, more than a turn off: switch the motors' "
                f"power off and on, which resets their count of turns"
            )
        if not motor.range_min - SLACK <= reading <= motor.range_max + SLACK:
            raise DriverError(
                f"{self.name}: {name} stands at {reading}, outside its range {motor.range_min} to "
                f"{motor.range_max}: move it into the range by hand, or calibrate the arm again"
            )

    def _poll(self, bus: MotorBus, within_s: float) -> dict[str, float]:
        """Ask all motors, and those that did not answer once more while there is time."""
        if not self._seen:
            raise DriverError(f"{self.name} is connected limp: close() and connect() it first")
        begin = time.monotonic()
        missing = {motor.id: name for name, motor in self.motors.items()}
        notes: dict[str, float] = {}
        for attempt in range(3):
            for id, reply in self._ask(bus, list(missing)).items():
                keep_worst(notes, self._take(missing.pop(id), reply))
            if not missing or time.monotonic() - begin > within_s:
                break
            self._retries += attempt < 2
        self._asked_s = time.monotonic()
        silent = missing.values()
        self._silent_s = {name: self._silent_s.get(name, begin) for name in silent}
        notes["late"] = float(len(missing))
        return notes

    def _take(self, name: str, reply: Reply) -> Mapping[str, float]:
        present = self._decode(reply)
        seen = self._seen[name]
        moved = (present.reading - seen.reading + MIDDLE) % STEPS_PER_TURN - MIDDLE
        now = time.monotonic()
        self._seen[name] = Seen(seen.reading + moved, present.speed, now, reply.error)
        return present.notes

    def _check_patience(self) -> None:
        """Raises DriverError for joints that were asked for `patience_s` and did not answer."""
        now = time.monotonic()
        late = []
        for name, since in self._silent_s.items():
            if now - since > self.patience_s:
                late.append(f"{name} ({now - since:.2f} s)")
        if late:
            raise DriverError(
                f"{self.name}: no answer from {', '.join(late)}: check the cables and the motors' "
                f"power; a joint may be silent for {self.patience_s} s"
            )

    def _make_state(self, bus: MotorBus, notes: dict[str, float]) -> ArmState:
        motors = self.motors
        positions = [motors[name].to_position(seen.reading) for name, seen in self._seen.items()]
        speeds = [seen.speed * motors[name].scale for name, seen in self._seen.items()]
        notes["lost"] = float(bus.lost)
        notes["retries"] = float(self._retries)
        return ArmState(
            made_s=min(seen.seen_s for seen in self._seen.values()),
            positions=np.array(positions),
            velocities=np.array(speeds),
            observation={"joints": np.array(positions, np.float32)},
            fault=self._describe_faults(bus),
            notes=notes,
        )

    def _describe_faults(self, bus: MotorBus) -> str:
        found: dict[str, list[str]] = {}
        for name in self.names:
            fault = self._fault_of(bus, name)
            if fault:
                found.setdefault(fault, []).append(name)
        return "; ".join(f"{fault} of {', '.join(names)}" for fault, names in found.items())

    def _fault_of(self, bus: MotorBus, name: str) -> str:
        """What is wrong with one motor in words; empty: nothing."""
        fault = self._describe_fault(bus, name, self.motors[name].id, self._seen[name].error)
        if not fault and self._is_outside(name):
            return "place outside the range"
        return fault

    def _is_outside(self, name: str) -> bool:
        """Whether a motor was turned far over the end of its range, with torque or by hand."""
        motor = self.motors[name]
        far = 4 * SLACK
        return not motor.range_min - far <= self._seen[name].reading <= motor.range_max + far

    def _fit_goal(self, name: str, goal: int) -> int:
        """A goal within the range. A motor far outside stays: it would go the long way round."""
        motor = self.motors[name]
        if self._is_outside(name):
            return round(self._seen[name].reading) % STEPS_PER_TURN
        return min(max(goal, motor.range_min), motor.range_max)

    def _send(self, bus: MotorBus, goals: Mapping[str, float]) -> dict[str, int]:
        """Send goals by name [steps]; returns them as they were sent, within the ranges."""
        sent = {}
        for name, goal in goals.items():
            sent[name] = self._fit_goal(name, round(goal))
        bus.write_all("goal_position", {self.motors[name].id: sent[name] for name in sent})
        self._goals.note_sent(sent, time.monotonic())
        return sent

    def _hold(self, bus: MotorBus) -> list[str]:
        """Make each motor's goal where it stands.

        Returns the names of those that did not acknowledge it.
        """
        self._clear_watchdogs(bus)
        goals = {name: seen.reading for name, seen in self._seen.items()}
        return self._confirm(bus, self._send(bus, goals))

    def _brake(self, bus: MotorBus) -> list[str]:
        """Bring the arm to rest; returns the names of motors that did not acknowledge it."""
        self._clear_watchdogs(bus)
        until = time.monotonic() + BRAKE_S
        brake = Brake(self._goals, self._seen)
        self._set_profile(bus, braking=True)
        while True:
            self._poll(bus, 0.0)
            sent = self._send(bus, brake.choose(self._seen))
            if brake.done or time.monotonic() > until:
                break
        self._set_profile(bus, braking=False)
        return self._confirm(bus, sent)

    def _set_profile(self, bus: MotorBus, braking: bool) -> None:
        """How fast motors may change their speed on the way to a goal: as fast as they can."""
        values = {}
        for name, motor in self.motors.items():
            values[motor.id] = 0
            if not braking:
                values[motor.id] = self._find_acceleration(name)
        bus.write_all(self.profile, values)

    def _confirm(self, bus: MotorBus, goals: Mapping[str, int]) -> list[str]:
        """Send goals that each motor acknowledges; returns the names of those that did not."""
        failed = []
        for name, goal in goals.items():
            try:
                bus.write(self.motors[name].id, "goal_position", goal)
            except BusError:
                failed.append(name)
        return failed

    def _set_torque(self, bus: MotorBus, on: int, names: list[str] | None = None) -> list[str]:
        """Switch motors on or off; returns the names of those that did not acknowledge it."""
        failed = []
        for name in self.names if names is None else names:
            try:
                bus.write(self.motors[name].id, "torque_enable", on)
            except BusError:
                failed.append(name)
        return failed

    def _wait_for_rest(self, bus: MotorBus) -> None:
        """Wait until no motor moves, at most 0.5 s."""
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            time.sleep(0.02)
            self._poll(bus, 0.0)
            if max(abs(seen.speed) for seen in self._seen.values()) < 20:
                return


def keep_worst(notes: dict[str, float], more: Mapping[str, float]) -> None:
    """Keep the largest of each note, the smallest voltage."""
    for name, value in more.items():
        known = notes.get(name, value)
        notes[name] = min(known, value) if name == "voltage" else max(known, value)


def _choose_form(standard: ArmForm | None, named: str, vendor: str) -> ArmForm:
    form = standard
    if named:
        form = read_form(Path(named).expanduser())
    if form is None:
        raise ConfigError("form is missing: the YAML with the arm's motors is wanted")
    if form.vendor != vendor:
        raise ConfigError(f"{form.name} has motors of {form.vendor}, not of {vendor}")
    return form


def _choose_calibration(form: ArmForm, named: str) -> ArmCalibration:
    if named == BY_THE_BOOK:
        return form.to_calibration()
    if not named:
        raise ConfigError(
            f"{form.name} needs a calibration file: calibrate the arm, or convert LeRobot's file; "
            f"calibration={BY_THE_BOOK} is for simulated arms"
        )
    found = load_calibration(Path(named).expanduser())
    if set(found.motors) != set(form.motors):
        raise ConfigError(
            f"{named} has the motors {', '.join(found.motors)}; "
            f"{form.name} has {', '.join(form.motors)}"
        )
    motors = {name: found.motors[name] for name in form.motors}
    wrong = [name for name, motor in motors.items() if motor.id != form.motors[name].id]
    if wrong:
        raise ConfigError(f"{named}: the ids of {', '.join(wrong)} are not those of {form.name}")
    return replace(found, motors=motors)


def _make_limits(form: ArmForm, motors: Mapping[str, MotorCalibration]) -> Limits:
    ranges = np.array([_inner_limits(motor) for motor in motors.values()])
    gains = np.where([motor.gripper for motor in motors.values()], 1 / GRIPPER_GAIN, 1.0)
    return Limits(
        lower=ranges[:, 0],
        upper=ranges[:, 1],
        velocity=form.velocity * gains,
        acceleration=form.acceleration * gains,
        jerk=form.jerk * gains,
    )


def _inner_limits(motor: MotorCalibration) -> tuple[float, float]:
    """The lowest and the highest position; away from the encoder's end where there are no stops."""
    margin = 0
    if motor.range_max - motor.range_min >= WHOLE_TURN:
        margin = SLACK
    ends = (
        motor.to_position(motor.range_min + margin),
        motor.to_position(motor.range_max - margin),
    )
    return min(ends), max(ends)
