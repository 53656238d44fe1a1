"""A simulated servo bus: motors with memories behind a pseudo-terminal, which move a body.

One engine serves both vendors; what a packet looks like is theirs (`feetech`, `dynamixel`). The
vendor's client opens the terminal as it opens a USB adapter. Bytes take their time on the wire.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import termios
import threading
import time
import tty
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from ...spec import HotstartError
from ..calibration import ArmCalibration, MotorCalibration
from ..drivers.registers import STEPS_PER_TURN, Table
from .body import Body, BodyState
from .faults import Faults

BROADCAST = 254


@dataclass(frozen=True)
class Packet:
    """An instruction as it came over the wire."""

    id: int
    instruction: int
    parameters: bytes
    size: int
    """Bytes on the wire."""


@dataclass(frozen=True)
class Answer:
    """What a motor sends back, as it goes over the wire."""

    raw: bytes
    delay_s: float
    """How long the motor waits before it sends."""


class Profile:
    """The trapezoidal path of a motor's set point, in steps and seconds."""

    def __init__(self, position: float) -> None:
        self.position = position
        self.speed = 0.0

    def rest(self, position: float) -> None:
        """Begin anew from here."""
        self.position = position
        self.speed = 0.0

    def advance(self, goal: float, dt_s: float, max_speed: float, acceleration: float) -> None:
        """Move towards a goal for `dt_s`, within a speed and an acceleration."""
        left = goal - self.position
        brake = math.sqrt(2 * acceleration * abs(left))
        wanted = math.copysign(min(max_speed, brake, abs(left) / dt_s), left)
        most = acceleration * dt_s
        self.speed += min(max(wanted - self.speed, -most), most)
        self.position += self.speed * dt_s


@dataclass
class Measured:
    """What a motor's sensors see."""

    steps: float
    """Of the encoder, counted on over its wrap-around."""
    speed: float
    """Steps a second."""
    load: float
    """The torque as a share of the motor's stall torque, with its sign."""


class Servo(Protocol):
    """A motor on the bus; a vendor's class knows its table and its errors."""

    @property
    def id(self) -> int:
        """The number that it answers to."""
        ...

    @property
    def baud(self) -> int:
        """The line's speed that it understands [bits/s]."""
        ...

    @property
    def holds(self) -> bool:
        """Whether its motor has torque."""
        ...

    def tick(self, now_s: float, dt_s: float, measured: Measured, refresh: bool) -> float:
        """Live on for `dt_s`; returns the set point in encoder steps.

        Present values are taken over only with `refresh`: without it they go stale.
        """
        ...

    def place(self, measured: Measured) -> None:
        """The joint is elsewhere all at once: a motor that holds, holds it there."""
        ...

    def hear(self, now_s: float) -> None:
        """An instruction went over the bus, for whatever motor."""
        ...

    def fail(self, kind: str) -> None:
        """Have an error of one kind: "overload", "overheat", "low_voltage"."""
        ...

    def mend(self, kind: str) -> None:
        """The cause of an error is gone; what is latched stays."""
        ...


class Memory:
    """The memory of a motor, by the names of a table."""

    def __init__(self, table: Table, size: int, values: Mapping[str, int]) -> None:
        self.table = table
        self.memory = bytearray(size)
        for name, register in table.items():
            self.set(name, values.get(name, register.initial))
        self._writable = bytearray(size)
        for register in table.values():
            if register.writable:
                end = register.address + register.size
                self._writable[register.address : end] = b"\1" * register.size

    @property
    def id(self) -> int:
        """The number that it answers to."""
        return self.get("id")

    @property
    def delay_s(self) -> float:
        """How long it waits before it answers."""
        return self.get("return_delay") * 2e-6

    def get(self, name: str) -> int:
        """The number in a register."""
        register = self.table[name]
        end = register.address + register.size
        return register.decode(bytes(self.memory[register.address : end]))

    def set(self, name: str, value: int) -> None:
        """Put a number into a register, writable or not."""
        register = self.table[name]
        self.memory[register.address : register.address + register.size] = register.encode(value)

    def touches(self, name: str, address: int, size: int) -> bool:
        """Whether a stretch of memory holds a part of a register."""
        register = self.table[name]
        return address < register.address + register.size and register.address < address + size

    def store(self, address: int, data: bytes) -> None:
        """Write bytes; those at read-only places are ignored."""
        for place, byte in enumerate(data, address):
            if place < len(self.memory) and self._writable[place]:
                self.memory[place] = byte


ServoT = TypeVar("ServoT", bound=Servo)
ServoIn = TypeVar("ServoIn", bound=Servo, contravariant=True)


class Wire(Protocol[ServoIn]):
    """How a vendor's packets look, and what its instructions do."""

    def take(self, buffer: bytearray) -> Packet | None:
        """Cut the first whole packet off the buffer; None: there is none yet."""
        ...

    def obey(self, packet: Packet, servos: Sequence[ServoIn]) -> list[Answer]:
        """Carry out an instruction; returns what the motors send, in the order of the wire."""
        ...


@dataclass(frozen=True)
class Mount:
    """Which joint a motor moves; `calibration` says how it is mounted, without homing offset."""

    joint: int | None
    """Of the body; None: the gripper."""
    calibration: MotorCalibration

    def to_steps(self, state: BodyState) -> float:
        """Where the encoder is, counted on."""
        value = state.gripper if self.joint is None else state.positions[self.joint]
        return self.calibration.origin + float(value) / self.calibration.scale

    def measure(self, state: BodyState, stall_nm: float) -> Measured:
        """What the motor's sensors see of the body."""
        if self.joint is None:
            return Measured(self.to_steps(state), 0.0, 0.0)
        speed = float(state.velocities[self.joint]) / self.calibration.scale
        load = float(state.torques[self.joint]) / stall_nm * self.calibration.direction
        return Measured(self.to_steps(state), speed, load)


@dataclass(frozen=True)
class BusOptions:
    """How a simulated bus is connected."""

    link: Path | None = None
    """A symbolic link that always leads to the terminal, as udev makes them; None: no link."""
    adapter_s: float = 0.0
    """What the USB adapter adds to every answer [s]; real ones take 0.001 to 0.016."""
    tick_hz: float = 200.0
    """How often motors move their set points."""
    stall_nm: float = 2.9
    """Torque that counts as a load of 100 % [Nm]; 2.9 is an STS3215 at 12 V."""


class SimulatedBus(Generic[ServoT]):
    """Motors behind a pseudo-terminal that move a body, in a thread of its own.

    It knows these faults: packet_loss, bus_silence, stale, corrupt (a share of answers with a wrong
    byte), overload, overheat and low_voltage (of the motor whose place in the arm is `amount`), and
    unplugged (the terminal goes; it comes back under another name, and `link` follows).
    """

    def __init__(
        self,
        wire: Wire[ServoT],
        servos: Sequence[ServoT],
        mounts: Sequence[Mount],
        body: Body,
        faults: Faults | None = None,
        options: BusOptions | None = None,
    ) -> None:
        self.servos = list(servos)
        self.path = ""
        """Of the terminal; another one after it was unplugged."""
        self.link = (options or BusOptions()).link
        self.packets = 0
        """Instructions understood so far."""
        self._wire = wire
        self._mounts = list(mounts)
        self._body = body
        self._faults = faults or Faults()
        self._options = options or BusOptions()
        self._random = np.random.default_rng(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="servo bus", daemon=True)
        self._ends: tuple[int, int] | None = None
        self._failing: dict[str, ServoT] = {}
        self._power: bool | None = None
        self._resets = 0
        self._ticked_s = time.monotonic()

    def start(self) -> SimulatedBus[ServoT]:
        """Open the terminal, named by `path`, and live."""
        self._tick(time.monotonic())
        self._plug_in()
        self._thread.start()
        return self

    def close(self) -> None:
        """End it; the terminal goes."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._unplug()

    def __enter__(self) -> SimulatedBus[ServoT]:
        return self.start()

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _plug_in(self) -> None:
        ends = os.openpty()
        tty.setraw(ends[1])
        os.set_blocking(ends[0], False)
        self._ends = ends
        self.path = os.ttyname(ends[1])
        if self.link is not None:
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(self.path)

    def _unplug(self) -> None:
        if self._ends is None:
            return
        for end in self._ends:
            os.close(end)
        self._ends = None
        if self.link is not None:
            self.link.unlink(missing_ok=True)

    def _run(self) -> None:
        period = 1 / self._options.tick_hz
        due = time.monotonic()
        buffer = bytearray()
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= due:
                self._tick(now)
                due = max(due + period, now)
            self._check_plug(buffer)
            self._listen(buffer, max(due - time.monotonic(), 0.0))

    def _check_plug(self, buffer: bytearray) -> None:
        gone = self._faults.active("unplugged") is not None
        if gone and self._ends is not None:
            self._unplug()
            buffer.clear()
        elif not gone and self._ends is None:
            self._plug_in()

    def _listen(self, buffer: bytearray, wait_s: float) -> None:
        """Take in what comes within `wait_s`, and answer the packets that are whole."""
        if self._ends is None:
            self._stop.wait(wait_s)
            return
        master = self._ends[0]
        if not select.select([master], [], [], wait_s)[0]:
            return
        arrived = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            buffer += os.read(master, 4096)
        baud = self._line_baud()
        hearing = [servo for servo in self.servos if servo.baud == baud]
        if not hearing:
            buffer.clear()  # noise at another speed
            return
        while (packet := self._wire.take(buffer)) is not None:
            self._serve(packet, hearing, baud, arrived)

    def _line_baud(self) -> int:
        """The speed that the client has set."""
        if self._ends is None:
            return 0
        return SPEEDS.get(termios.tcgetattr(self._ends[1])[4], 0)

    def _serve(
        self, packet: Packet, hearing: Sequence[ServoT], baud: int, arrived_s: float
    ) -> None:
        if self._faults.drops():
            return
        self.packets += 1
        for servo in hearing:
            servo.hear(arrived_s)
        answers = self._wire.obey(packet, hearing)
        if not answers:
            return
        due = arrived_s + packet.size * 10 / baud + self._options.adapter_s + self._faults.delay_s()
        sent = bytearray()
        for answer in answers:
            due += answer.delay_s + len(answer.raw) * 10 / baud
            if not self._faults.drops():
                sent += self._disturb(answer.raw)
        self._send(bytes(sent), due)

    def _disturb(self, raw: bytes) -> bytes:
        """An answer, by chance with one wrong byte."""
        fault = self._faults.active("corrupt")
        if fault is None or self._random.random() >= fault.amount:
            return raw
        broken = bytearray(raw)
        broken[int(self._random.integers(len(raw)))] ^= 1 << int(self._random.integers(8))
        return bytes(broken)

    def _send(self, raw: bytes, due_s: float) -> None:
        wait = due_s - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        if self._ends is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._ends[0], raw)

    def _tick(self, now_s: float) -> None:
        """Let the motors live until now, and move the body to their set points."""
        passed = max(now_s - self._ticked_s, 1e-6)
        self._ticked_s = now_s
        self._pass_on_faults()
        state = self._body.read()
        if state.resets != self._resets:
            self._follow_reset(state)
        refresh = self._faults.active("stale") is None
        targets = np.array(state.positions, np.float64)
        holding = False
        for servo, mount in zip(self.servos, self._mounts, strict=True):
            measured = mount.measure(state, self._options.stall_nm)
            steps = servo.tick(now_s, passed, measured, refresh)
            if not servo.holds:
                continue
            holding = True
            value = (steps - mount.calibration.origin) * mount.calibration.scale
            if mount.joint is None:
                self._body.command_gripper(min(max(value, 0.0), 1.0))
            else:
                targets[mount.joint] = value
        if holding != self._power:
            self._body.set_power(holding)
            self._power = holding
        if holding:
            # a joint whose motor alone is limp gives way: it is sent to where it is
            self._body.command(targets)

    def _follow_reset(self, state: BodyState) -> None:
        """The scene has begun anew, with power."""
        self._resets = state.resets
        self._power = None
        for servo, mount in zip(self.servos, self._mounts, strict=True):
            servo.place(mount.measure(state, self._options.stall_nm))

    def _pass_on_faults(self) -> None:
        for kind in ("overload", "overheat", "low_voltage"):
            fault = self._faults.active(kind)
            failing = self._failing.get(kind)
            if fault is None and failing is not None:
                failing.mend(kind)
                del self._failing[kind]
            elif fault is not None and failing is None:
                servo = self.servos[int(fault.amount) % len(self.servos)]
                servo.fail(kind)
                self._failing[kind] = servo


def collide(answers: Sequence[Answer]) -> list[Answer]:
    """What is heard when several motors answer to one id: their bits pull the line together."""
    if len(answers) < 2:
        return list(answers)
    longest = max(len(answer.raw) for answer in answers)
    mixed = bytearray(b"\xff" * longest)
    for answer in answers:
        for place, byte in enumerate(answer.raw):
            mixed[place] &= byte
    return [Answer(bytes(mixed), answers[0].delay_s)]


def wrap(steps: float) -> int:
    """A place of the encoder within one turn: 0 to 4095."""
    return round(steps) % STEPS_PER_TURN


def make_mounts(calibration: ArmCalibration, offset_sign: int) -> list[Mount]:
    """Motors that are mounted so that this calibration is true.

    `offset_sign`: 1 where a motor subtracts its homing offset (Feetech), -1 where it adds it.
    """
    mounts = []
    joints = 0
    for motor in calibration.motors.values():
        shift = motor.homing_offset * offset_sign
        mounted = replace(
            motor,
            homing_offset=0,
            zero=motor.zero + shift,
            range_min=motor.range_min + shift,
            range_max=motor.range_max + shift,
        )
        if motor.gripper:
            mounts.append(Mount(None, mounted))
        else:
            mounts.append(Mount(joints, mounted))
            joints += 1
    return mounts


def check_arm(mounts: Sequence[Mount], body: Body) -> None:
    """Raises HotstartError where motors and the body's joints do not fit."""
    joints = sorted(mount.joint for mount in mounts if mount.joint is not None)
    if joints != list(range(body.joints)):
        raise HotstartError(
            f"motors for {len(joints)} joints cannot move a body of {body.joints} joints"
        )


SPEEDS = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdigit()
}
"""Bits a second by the constants of termios."""
