"""Simulated Dynamixel X motors on a bus: protocol 2.0, memory, profile, bus watchdog, shutdown.

A goal that is in memory when the torque is switched on is gone to. Real firmware differs in whether
it forgets such a goal; a driver must not depend on it. What is not simulated: velocity, current and
PWM modes (the motor then stands still), profiles by time, indirect addresses, fast reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..calibration import ArmCalibration
from ..drivers.registers import STEPS_PER_TURN, X_BAUDS, X_SERIES
from .bus import BROADCAST, Answer, Measured, Memory, Packet, Profile, collide

PING = 0x01
READ = 0x02
WRITE = 0x03
REG_WRITE = 0x04
ACTION = 0x05
REBOOT = 0x08
SYNC_READ = 0x82
SYNC_WRITE = 0x83
BULK_READ = 0x92
BULK_WRITE = 0x93
STATUS = 0x55
FAILED = 1
UNKNOWN = 2
DATA_RANGE = 4
DATA_LENGTH = 5
DATA_LIMIT = 6
ACCESS = 7
ALERT = 0x80
VOLTAGE = 1
HEAT = 4
OVERLOAD = 32
POSITION_MODE = 3
SEVERAL_TURNS_MODE = 4
KEPT = 64
"""Addresses below are kept without power, and cannot be written while the torque is on."""
GOALS = (100, 120)
"""Addresses that the bus watchdog locks."""
SPEED_UNIT = 0.229 / 60 * STEPS_PER_TURN  # steps/s
ACCELERATION_UNIT = 214.577 / 3600 * STEPS_PER_TURN  # steps/s^2
MAX_SPEED = 7000.0  # steps/s
MAX_ACCELERATION = 80000.0  # steps/s^2
WATCHDOG_UNIT_S = 0.02
OVERLOADED_S = 1.0
REBOOT_S = 0.1
"""How long a motor is deaf after a reboot."""


class DynamixelServo(Memory):
    """One X-series motor."""

    def __init__(self, id: int, **values: int) -> None:
        """`values` are registers that differ from a new motor's."""
        super().__init__(X_SERIES, 256, {"id": id, **values})
        self._registered: tuple[int, bytes] | None = None
        self._measured = Measured(0.0, 0.0, 0.0)
        self._profile = Profile(0.0)
        self._heard_s: float | None = None
        self._overloaded_s: float | None = None
        self._turns: int | None = None
        """Whole turns that are not counted: those before the power was switched on."""
        self._deaf_s = 0.0
        self._now_s = 0.0

    @property
    def baud(self) -> int:
        """The line's speed that it understands [bits/s]."""
        return X_BAUDS[self.get("baud") % len(X_BAUDS)]

    @property
    def holds(self) -> bool:
        """Whether its motor has torque."""
        return self.get("torque_enable") == 1

    @property
    def is_deaf(self) -> bool:
        """Whether it is starting again."""
        return self._now_s < self._deaf_s

    @property
    def alert(self) -> int:
        """The bit of every answer that tells of a hardware error."""
        if self.get("hardware_error"):
            return ALERT
        return 0

    def hear(self, now_s: float) -> None:
        """An instruction went over the bus: the watchdog begins anew."""
        self._heard_s = now_s

    def reboot(self) -> None:
        """Start again: lose what is not kept, and errors."""
        fresh = DynamixelServo(1)
        self.memory[KEPT:] = fresh.memory[KEPT:]
        self._overloaded_s = None
        self._turns = None
        self._deaf_s = self._now_s + REBOOT_S

    def reading(self, steps: float) -> int:
        """What it reports for a place of the encoder: it counts turns since it has power."""
        if self._turns is None:
            self._turns = int(steps // STEPS_PER_TURN)
        counted = round(steps) - self._turns * STEPS_PER_TURN
        if self.get("drive_mode") & 1:
            counted = -counted
        return counted + self.get("homing_offset")

    def write(self, address: int, data: bytes) -> int:
        """Write bytes; returns the error number, 0 where it was done."""
        error = self._refuse(address, data)
        if error:
            return error
        held = self.holds
        self.store(address, data)
        if self.touches("torque_enable", address, len(data)) and not held:
            self._profile.rest(self._measured.steps)
        return 0

    def _refuse(self, address: int, data: bytes) -> int:
        if address + len(data) > len(self.memory):
            return DATA_LENGTH
        if not all(self._writable[address : address + len(data)]):
            return ACCESS
        if address < KEPT and self.holds:
            return ACCESS
        locked = address < GOALS[1] and address + len(data) > GOALS[0]
        if self.get("bus_watchdog") < 0 and locked:
            return DATA_RANGE
        if self.touches("torque_enable", address, len(data)) and self._is_shut_down():
            return FAILED
        if self.touches("goal_position", address, len(data)) and self._is_far(address, data):
            return DATA_LIMIT
        return 0

    def _is_shut_down(self) -> bool:
        return bool(self.get("hardware_error") & self.get("shutdown"))

    def _is_far(self, address: int, data: bytes) -> bool:
        """Whether a goal lies outside the limits of position mode."""
        register = X_SERIES["goal_position"]
        start = register.address - address
        whole = data[start : start + register.size] if start >= 0 else b""
        if len(whole) < register.size or self.get("operating_mode") != POSITION_MODE:
            return False
        goal = register.decode(whole)
        return not self.get("min_position") <= goal <= self.get("max_position")

    def register(self, address: int, data: bytes) -> int:
        """Keep a write until the action comes; returns the error number."""
        error = self._refuse(address, data)
        if not error:
            self._registered = (address, data)
            self.set("registered", 1)
        return error

    def act(self) -> None:
        """Carry out the write that was kept."""
        if self._registered is not None:
            self.write(*self._registered)
            self._registered = None
            self.set("registered", 0)

    def place(self, measured: Measured) -> None:
        """The joint is elsewhere all at once: a motor that holds, holds it there."""
        self._measured = measured
        self._profile.rest(measured.steps)
        if self.holds:
            self.set("goal_position", self.reading(measured.steps))

    def fail(self, kind: str) -> None:
        """Have an error, which stays until a reboot."""
        bits = {"overload": OVERLOAD, "overheat": HEAT, "low_voltage": VOLTAGE}
        if kind == "overheat":
            self.set("present_temperature", self.get("temperature_limit") + 5)
        elif kind == "low_voltage":
            self.set("present_voltage", self.get("min_voltage") - 2)
        self._break(bits[kind])

    def mend(self, kind: str) -> None:
        """The cause is gone; the error is not."""
        self.set("present_temperature", X_SERIES["present_temperature"].initial)
        self.set("present_voltage", X_SERIES["present_voltage"].initial)

    def _break(self, bits: int) -> None:
        self.set("hardware_error", self.get("hardware_error") | bits)
        if self._is_shut_down():
            self.set("torque_enable", 0)

    def tick(self, now_s: float, dt_s: float, measured: Measured, refresh: bool) -> float:
        """Live on for `dt_s`; returns the set point in encoder steps."""
        self._measured = measured
        self._now_s = now_s
        self._check_load(now_s, measured)
        self._check_watchdog(now_s)
        if not self.holds:
            self._profile.rest(measured.steps)
        elif self.get("bus_watchdog") >= 0:
            self._follow(dt_s, measured)
        else:
            self._profile.speed = 0.0  # it stops at once, without a profile
        if refresh:
            self._show(measured)
        return self._profile.position

    def _check_load(self, now_s: float, measured: Measured) -> None:
        if abs(measured.load) < 1:
            self._overloaded_s = None
        elif self._overloaded_s is None:
            self._overloaded_s = now_s
        elif now_s - self._overloaded_s > OVERLOADED_S:
            self._break(OVERLOAD)

    def _check_watchdog(self, now_s: float) -> None:
        limit = self.get("bus_watchdog")
        if limit <= 0 or not self.holds:
            return
        if self._heard_s is None:
            self._heard_s = now_s
        if now_s - self._heard_s > limit * WATCHDOG_UNIT_S:
            self.set("bus_watchdog", -1)

    def _follow(self, dt_s: float, measured: Measured) -> None:
        if self.get("operating_mode") not in (POSITION_MODE, SEVERAL_TURNS_MODE):
            return
        way = self.get("goal_position") - self.reading(measured.steps)
        if self.get("drive_mode") & 1:
            way = -way
        speed = self.get("profile_velocity") * SPEED_UNIT
        acceleration = self.get("profile_acceleration") * ACCELERATION_UNIT
        if not speed:
            acceleration = 0.0  # without a velocity there is no profile
        self._profile.advance(
            round(measured.steps) + way,
            dt_s,
            min(speed or MAX_SPEED, MAX_SPEED),
            acceleration or MAX_ACCELERATION,
        )

    def _show(self, measured: Measured) -> None:
        """Refresh what can be read."""
        sign = -1 if self.get("drive_mode") & 1 else 1
        self.set("present_position", self.reading(measured.steps))
        self.set("present_velocity", round(sign * measured.speed / SPEED_UNIT))
        self.set("present_current", round(sign * measured.load * 1500))
        self.set("realtime_tick", int(self._now_s * 1000) % 32768)
        self.set("moving", int(abs(measured.speed) > 20))


def make_crc(raw: bytes) -> int:
    """CRC-16 of the polynomial 0x8005, from 0, as protocol 2.0 has it."""
    crc = 0
    for byte in raw:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def stuff(raw: bytes) -> bytes:
    """What is sent for it: a header within is broken up by one more FD."""
    return raw.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(raw: bytes) -> bytes:
    """What was meant by what was sent."""
    return raw.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


HEADER = b"\xff\xff\xfd\x00"


def make_packet(id: int, body: bytes) -> bytes:
    """A whole packet of an instruction, or a status, with its parameters."""
    stuffed = stuff(body)
    raw = HEADER + bytes([id]) + (len(stuffed) + 2).to_bytes(2, "little") + stuffed
    return raw + make_crc(raw).to_bytes(2, "little")


def make_answer(servo: DynamixelServo, error: int = 0, data: bytes = b"") -> Answer:
    """A status packet."""
    body = bytes([STATUS, error | servo.alert]) + data
    return Answer(make_packet(servo.id, body), servo.delay_s)


class DynamixelWire:
    """Protocol 2.0: FF FF FD 00 id length instruction parameters CRC."""

    def take(self, buffer: bytearray) -> Packet | None:
        """Cut the first whole packet off the buffer; broken ones are left out."""
        while len(buffer) >= 10:
            size = int.from_bytes(buffer[5:7], "little") + 7
            if buffer[:4] != HEADER or not 10 <= size <= 1024:
                del buffer[0]
                continue
            if len(buffer) < size:
                return None
            raw = bytes(buffer[:size])
            if make_crc(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
                del buffer[0]
                continue
            del buffer[:size]
            body = unstuff(raw[7:-2])
            return Packet(raw[4], body[0], body[1:], size)
        return None

    def obey(self, packet: Packet, servos: Sequence[DynamixelServo]) -> list[Answer]:
        """Carry out an instruction; returns what the motors send."""
        awake = [servo for servo in servos if not servo.is_deaf]
        parameters = packet.parameters
        if packet.instruction == SYNC_WRITE and len(parameters) >= 4:
            _sync_write(parameters, awake)
            return []
        if packet.instruction == BULK_WRITE:
            _bulk_write(parameters, awake)
            return []
        if packet.instruction in (SYNC_READ, BULK_READ):
            return _read_several(packet, awake)
        if packet.id != BROADCAST:
            for servo in awake:
                if servo.get("secondary_id") == packet.id and servo.id != packet.id:
                    _obey(packet, servo)  # a shadow motor obeys, and does not answer
            named = [_obey(packet, servo) for servo in awake if servo.id == packet.id]
            return collide([answer for answer in named if answer is not None])
        answers = []
        for servo in sorted(awake, key=lambda one: one.id):
            answer = _obey(packet, servo)
            if packet.instruction == PING and answer is not None:
                answers.append(answer)
        return answers


def _obey(packet: Packet, servo: DynamixelServo) -> Answer | None:
    parameters = packet.parameters
    if packet.instruction == PING:
        data = bytes([*servo.memory[0:2], servo.get("firmware")])
        return make_answer(servo, 0, data)
    if packet.instruction == READ:
        return _read(servo, parameters)
    answer = make_answer(servo)  # under the id that it was asked by
    if packet.instruction in (WRITE, REG_WRITE):
        address = int.from_bytes(parameters[:2], "little")
        do = servo.write if packet.instruction == WRITE else servo.register
        error = do(address, parameters[2:])
        if error:
            answer = make_answer(servo, error)
    elif packet.instruction == ACTION:
        servo.act()
    elif packet.instruction == REBOOT:
        servo.reboot()
    else:
        answer = make_answer(servo, UNKNOWN)
    if servo.get("status_level") < 2:
        return None
    return answer


def _read(servo: DynamixelServo, parameters: bytes) -> Answer:
    address = int.from_bytes(parameters[:2], "little")
    size = int.from_bytes(parameters[2:4], "little")
    if len(parameters) < 4 or address + size > len(servo.memory):
        return make_answer(servo, DATA_LENGTH)
    return make_answer(servo, 0, bytes(servo.memory[address : address + size]))


def _read_several(packet: Packet, servos: Sequence[DynamixelServo]) -> list[Answer]:
    """Of a sync read every motor gives the same place, of a bulk read each its own."""
    parameters = packet.parameters
    wanted: list[tuple[int, bytes]] = []
    if packet.instruction == SYNC_READ:
        wanted = [(id, parameters[:4]) for id in parameters[4:]]
    else:
        for start in range(0, len(parameters) - 4, 5):
            wanted.append((parameters[start], parameters[start + 1 : start + 5]))
    answers = []
    for id, place in wanted:
        answers += collide([_read(servo, place) for servo in servos if servo.id == id])
    return answers


def _sync_write(parameters: bytes, servos: Sequence[DynamixelServo]) -> None:
    address = int.from_bytes(parameters[:2], "little")
    size = int.from_bytes(parameters[2:4], "little")
    for start in range(4, len(parameters) - size, size + 1):
        _write_to(parameters[start], address, parameters[start + 1 : start + 1 + size], servos)


def _bulk_write(parameters: bytes, servos: Sequence[DynamixelServo]) -> None:
    start = 0
    while start + 5 <= len(parameters):
        address = int.from_bytes(parameters[start + 1 : start + 3], "little")
        size = int.from_bytes(parameters[start + 3 : start + 5], "little")
        _write_to(parameters[start], address, parameters[start + 5 : start + 5 + size], servos)
        start += 5 + size


def _write_to(id: int, address: int, data: bytes, servos: Sequence[DynamixelServo]) -> None:
    """A write that nobody acknowledges, to a motor and its shadow."""
    for servo in servos:
        if id in (servo.id, servo.get("secondary_id")):
            servo.write(address, data)


def make_servos(calibration: ArmCalibration) -> list[DynamixelServo]:
    """The motors of a calibrated arm, as they come out of the calibration, without torque."""
    servos = []
    for motor in calibration.motors.values():
        servos.append(
            DynamixelServo(
                motor.id,
                homing_offset=motor.homing_offset,
                min_position=motor.range_min,
                max_position=motor.range_max,
            )
        )
    return servos
