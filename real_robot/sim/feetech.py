"""Simulated Feetech STS3215 motors on a bus: protocol 0, its memory, its profile, its errors.

What is not simulated: wheel, PWM and step modes (the motor then stands still), the goal time, which
only the PWM mode uses, and the share of torque that is left in an overload (it has none).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..calibration import ArmCalibration
from ..drivers.registers import STEPS_PER_TURN, STS, STS_BAUDS
from .bus import (
    BROADCAST,
    Answer,
    Measured,
    Memory,
    Packet,
    Profile,
    collide,
    wrap,
)

PING = 1
READ = 2
WRITE = 3
REG_WRITE = 4
ACTION = 5
SYNC_READ = 0x82
SYNC_WRITE = 0x83
VOLTAGE = 1
HEAT = 4
OVERLOAD = 32
MULTI_TURN = 0x10  # of the register `phase`: readings count on over a whole turn
MAX_SPEED = 3400.0  # steps/s, 50 rpm
MAX_ACCELERATION = 40000.0  # steps/s^2
KEPT = 40
"""Addresses below are kept without power."""


class FeetechServo(Memory):
    """One STS3215."""

    def __init__(self, id: int, **values: int) -> None:
        """`values` are registers that differ from a new motor's."""
        super().__init__(STS, 128, {"id": id, **values})
        self._kept = bytes(self.memory[:KEPT])
        self._registered: tuple[int, bytes] | None = None
        self._measured = Measured(0.0, 0.0, 0.0)
        self._profile = Profile(0.0)
        self._overloaded_s: float | None = None
        self._started = False
        self.status = 0

    @property
    def baud(self) -> int:
        """The line's speed that it understands [bits/s]."""
        return STS_BAUDS[self.get("baud") % len(STS_BAUDS)]

    @property
    def holds(self) -> bool:
        """Whether its motor has torque: an error that `unloading` names takes it away."""
        return self.get("torque_enable") == 1 and not self.status & self.get("unloading")

    def hear(self, now_s: float) -> None:
        """It has no watchdog: nothing comes of it, and nothing comes of silence."""

    def power_cycle(self) -> None:
        """Lose what is not kept: everything above address 40, and errors."""
        fresh = FeetechServo(1)
        self.memory[:KEPT] = self._kept
        self.memory[KEPT:] = fresh.memory[KEPT:]
        self.status = 0
        self._overloaded_s = None
        self._started = False

    def reading(self, steps: float) -> int:
        """What it reports for a place of the encoder."""
        shifted = steps - self.get("homing_offset")
        if self.get("phase") & MULTI_TURN:
            return round(shifted)
        return wrap(shifted)

    def write(self, address: int, data: bytes) -> None:
        """An instruction has written bytes."""
        held = self.get("torque_enable")
        self.store(address, data)
        if address < KEPT and not self.get("lock"):
            self._kept = bytes(self.memory[:KEPT])
        if not self.touches("torque_enable", address, len(data)):
            return
        wanted = self.get("torque_enable")
        if wanted == 128:  # "here is the middle"
            self.set("homing_offset", wrap(self._measured.steps) - STEPS_PER_TURN // 2)
            self.set("torque_enable", held)
        elif wanted == 0:
            self.status &= ~OVERLOAD
            self._overloaded_s = None
        if not held:
            self._profile.rest(self._measured.steps)

    def register(self, address: int, data: bytes) -> None:
        """Keep a write until the action comes."""
        self._registered = (address, data)

    def act(self) -> None:
        """Carry out the write that was kept."""
        if self._registered is not None:
            self.write(*self._registered)
            self._registered = None

    def place(self, measured: Measured) -> None:
        """The joint is elsewhere all at once: a motor that holds, holds it there."""
        self._measured = measured
        self._profile.rest(measured.steps)
        if self.holds:
            self.set("goal_position", self.reading(measured.steps))

    def fail(self, kind: str) -> None:
        """Have an error: "overload" latches, "overheat" and "low_voltage" end with their cause."""
        if kind == "overload":
            self.status |= OVERLOAD
        elif kind == "overheat":
            self.set("present_temperature", self.get("max_temperature") + 5)
        else:
            self.set("present_voltage", self.get("min_voltage") - 2)

    def mend(self, kind: str) -> None:
        """The cause is gone. An overload stays until the torque is switched off."""
        if kind == "overheat":
            self.set("present_temperature", STS["present_temperature"].initial)
        elif kind == "low_voltage":
            self.set("present_voltage", STS["present_voltage"].initial)

    def tick(self, now_s: float, dt_s: float, measured: Measured, refresh: bool) -> float:
        """Live on for `dt_s`; returns the set point in encoder steps."""
        self._measured = measured
        if not self._started:
            self._profile.rest(measured.steps)
            self._started = True
        self._check(now_s, measured)
        if not self.holds:
            self._profile.rest(measured.steps)
        elif self.get("operating_mode") == 0:
            self._follow(dt_s, measured)
        if refresh:
            self._show(measured)
        return self._profile.position

    def _check(self, now_s: float, measured: Measured) -> None:
        """Set the bits of the status from voltage, temperature and load."""
        voltage = self.get("present_voltage")
        low = not self.get("min_voltage") <= voltage <= self.get("max_voltage")
        hot = self.get("present_temperature") > self.get("max_temperature")
        self.status = self.status & OVERLOAD | VOLTAGE * low | HEAT * hot
        if abs(measured.load) * 100 < self.get("overload_torque"):
            self._overloaded_s = None
        elif self._overloaded_s is None:
            self._overloaded_s = now_s
        elif now_s - self._overloaded_s > self.get("protection_time") * 0.01:
            self.status |= OVERLOAD

    def _follow(self, dt_s: float, measured: Measured) -> None:
        """Move the set point to the goal, which never crosses the end of a turn."""
        goal = self.get("goal_position")
        if not self.get("phase") & MULTI_TURN:
            goal = min(max(goal, self.get("min_position")), self.get("max_position"))
        way = goal - self.reading(measured.steps)
        speed = abs(self.get("goal_speed")) or MAX_SPEED
        acceleration = self.get("acceleration") * 100.0 or MAX_ACCELERATION
        target = round(measured.steps) + way
        self._profile.advance(target, dt_s, min(speed, MAX_SPEED), acceleration)

    def _show(self, measured: Measured) -> None:
        """Refresh what can be read."""
        reading = self.reading(measured.steps)
        self.set("present_position", reading)
        self.set("present_speed", round(measured.speed))
        self.set("present_load", round(measured.load * 1000))
        self.set("present_current", round(measured.load * 415))
        self.set("status", self.status)
        self.set("moving", int(abs(measured.speed) > 20))


def make_checksum(body: bytes) -> int:
    """Of everything between the header and the checksum."""
    return ~sum(body) & 0xFF


def make_answer(servo: FeetechServo, data: bytes = b"") -> Answer:
    """A status packet."""
    body = bytes([servo.id, len(data) + 2, servo.status]) + data
    return Answer(b"\xff\xff" + body + bytes([make_checksum(body)]), servo.delay_s)


class FeetechWire:
    """Protocol 0 of Feetech: FF FF id length instruction parameters checksum."""

    def take(self, buffer: bytearray) -> Packet | None:
        """Cut the first whole packet off the buffer; broken ones are left out."""
        while len(buffer) >= 6:
            size = buffer[3] + 4
            if buffer[:2] != b"\xff\xff" or buffer[2] == 0xFF or size < 6:
                del buffer[0]
                continue
            if len(buffer) < size:
                return None
            if make_checksum(bytes(buffer[2 : size - 1])) != buffer[size - 1]:
                del buffer[0]
                continue
            packet = Packet(buffer[2], buffer[4], bytes(buffer[5 : size - 1]), size)
            del buffer[:size]
            return packet
        return None

    def obey(self, packet: Packet, servos: Sequence[FeetechServo]) -> list[Answer]:
        """Carry out an instruction; returns what the motors send."""
        if packet.instruction == SYNC_WRITE:
            _sync_write(packet.parameters, servos)
            return []
        if packet.instruction == SYNC_READ:
            return _sync_read(packet.parameters, servos)
        if packet.id != BROADCAST:
            named = [motor for motor in servos if motor.id == packet.id]
            answers = [_obey(packet, motor) for motor in named]
            return collide([answer for answer in answers if answer is not None])
        if packet.instruction == PING:
            return [make_answer(motor) for motor in sorted(servos, key=lambda one: one.id)]
        for motor in servos:
            _obey(packet, motor)
        return []


def _obey(packet: Packet, motor: FeetechServo) -> Answer | None:
    parameters = packet.parameters
    if packet.instruction == PING:
        return make_answer(motor)
    if packet.instruction == READ and len(parameters) == 2:
        address, size = parameters
        return make_answer(motor, bytes(motor.memory[address : address + size]))
    if packet.instruction == WRITE and parameters:
        answer = make_answer(motor)  # under the id that it was asked by
        motor.write(parameters[0], parameters[1:])
    elif packet.instruction == REG_WRITE and parameters:
        answer = make_answer(motor)
        motor.register(parameters[0], parameters[1:])
    elif packet.instruction == ACTION:
        answer = make_answer(motor)
        motor.act()
    else:
        return None
    if motor.get("status_level") == 0:
        return None
    return answer


def _sync_write(parameters: bytes, motors: Sequence[FeetechServo]) -> None:
    if len(parameters) < 2:
        return
    address, size = parameters[0], parameters[1]
    by_id: dict[int, bytes] = {}
    for start in range(2, len(parameters) - size, size + 1):
        by_id[parameters[start]] = parameters[start + 1 : start + 1 + size]
    for motor in motors:
        if motor.id in by_id:
            motor.write(address, by_id[motor.id])


def _sync_read(parameters: bytes, motors: Sequence[FeetechServo]) -> list[Answer]:
    if len(parameters) < 2:
        return []
    address, size = parameters[0], parameters[1]
    answers = []
    for id in parameters[2:]:
        named = [motor for motor in motors if motor.id == id]
        data = [make_answer(one, bytes(one.memory[address : address + size])) for one in named]
        answers += collide(data)
    return answers


def make_servos(calibration: ArmCalibration) -> list[FeetechServo]:
    """The motors of a calibrated arm, as they come out of the calibration, without torque."""
    servos = []
    for motor in calibration.motors.values():
        servos.append(
            FeetechServo(
                motor.id,
                homing_offset=motor.homing_offset,
                min_position=motor.range_min,
                max_position=motor.range_max,
            )
        )
    return servos
