"""Arms of Dynamixel X motors (Koch, ViperX and others), through the client `dynamixel_sdk`.

X motors have a bus watchdog: a motor that hears no instruction for `watchdog_s` stops where it is
and holds, with torque. It then takes no goals until `recover` clears it. XL330 have it, XL430 from
firmware 38 on. Two motors on one joint (ViperX) are named once: the second one's secondary id must
be the first one's id.
"""

from __future__ import annotations

import time
from typing import Any

from ...spec import ConfigError
from ..calibration import STEPS_PER_TURN
from .arm_form import KOCH
from .bus_arm import HEADROOM, SPEED_HEADROOM, BusArm, Present, keep_worst
from .motor_bus import PATIENT_S, BusError, Layout, MotorBus, Reply, slice_register
from .registers import X_BAUDS, X_ERRORS, X_SERIES, describe_errors
from .serial_port import SerialPort

BLOCK = (126, 10)
"""Current, velocity, position: read every period."""
HEALTH = (144, 3)
"""Voltage, temperature: read every second or so."""
POSITION_MODE = 3
BY_TIME = 4
"""Bit of the register `drive_mode`: the profile is given by times."""
ALERT = 0x80
WATCHDOG_UNIT_S = 0.02
SPEED_UNIT = 0.229 / 60 * STEPS_PER_TURN  # steps/s
ACCELERATION_UNIT = 214.577 / 3600 * STEPS_PER_TURN  # steps/s^2
REFUSALS = {
    1: "it failed",
    3: "the message was broken",
    4: "the value is out of range, or the bus watchdog has stopped the motor",
    5: "the value has the wrong size",
    6: "the value is beyond the motor's limits",
    7: "it cannot be written now: settings are locked while the torque is on",
}


class DynamixelBus(MotorBus):
    """A bus of motors that refuse values."""

    def reboot(self, id: int) -> None:
        """Start a motor again: it loses its torque, its errors, and what is not kept."""
        self._begin(PATIENT_S)
        self._handler.reboot(self.port, id)

    def _check_refusal(self, id: int, name: str, value: int, error: int) -> None:
        number = error & ~ALERT
        if number:
            words = REFUSALS.get(number, f"error {number}")
            raise BusError(f"motor {id} refuses {value} as its {name}: {words}")


class DynamixelArm(BusArm):
    """One arm of X motors."""

    vendor = "dynamixel"
    profile = "profile_acceleration"

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
        watchdog_s: float = 0.1,
    ) -> None:
        """Raises ConfigError for a form, a calibration or a watchdog that is impossible.

        port: the adapter's, as /dev/ttyUSB0
        calibration: a file of the arm's calibration; nominal: assembled by the book
        form: a YAML with the arm's motors; empty: the standard arm
        baud: bits a second; 0: as the form says
        servo_hz: goals a second; 0: as the form says
        answer_s: how long an answer may take on top of the time of its bytes
        patience_s: so long a joint's last state is used when it does not answer
        limp_on_stop: switch the torque off once the arm rests after a stop: a limp arm falls
        write_calibration: write the calibration into motors that hold another one
        watchdog_s: motors stop by themselves after so long without a message; 0: never
        """
        super().__init__(
            port,
            calibration,
            form,
            baud,
            servo_hz,
            answer_s,
            patience_s,
            limp_on_stop,
            write_calibration,
        )
        self._ticks = round(watchdog_s / WATCHDOG_UNIT_S)
        if not 0 <= self._ticks <= 127:
            raise ConfigError(
                f"watchdog_s is {watchdog_s}; a bus watchdog takes up to "
                f"{127 * WATCHDOG_UNIT_S} s, 0 for none"
            )
        self.watchdog_s = self._ticks * WATCHDOG_UNIT_S or None
        self._tripped: set[int] = set()
        self._health: dict[str, float] = {}
        self._asked = 0
        self._errors: dict[int, int] = {}

    @property
    def bauds(self) -> tuple[int, ...]:
        """Speeds that X motors can have."""
        return X_BAUDS

    def _open(self, baud: int) -> MotorBus:
        try:
            import dynamixel_sdk as sdk
        except ImportError as problem:
            raise ConfigError(
                'Dynamixel motors need their client: pip install "dynamixel-sdk>=4,<5" '
                '"pyserial>=3.5"'
            ) from problem
        port = SerialPort(self.port, baud, self.answer_s)
        layout = Layout(id=4, error=8, data=9, broken=sdk.COMM_RX_CORRUPT)
        handler: Any = sdk.PacketHandler(2.0)
        return DynamixelBus(port, handler, X_SERIES, layout, (False,))

    def _prepare(self, bus: MotorBus, name: str, id: int) -> None:
        bus.write(id, "bus_watchdog", 0)
        self._write_kept(bus, name, id, "return_delay", 0)
        self._write_kept(bus, name, id, "operating_mode", POSITION_MODE)
        mode = bus.read(id, "drive_mode")
        self._write_kept(bus, name, id, "drive_mode", mode & ~BY_TIME)
        scale = abs(self.motors[name].scale)
        speed = SPEED_HEADROOM * self.form.velocity / scale / SPEED_UNIT
        bus.write(id, "profile_velocity", min(round(speed), bus.read(id, "velocity_limit")))
        bus.write(id, "profile_acceleration", self._find_acceleration(name))

    def _find_acceleration(self, name: str) -> int:
        scale = abs(self.motors[name].scale)
        return max(round(HEADROOM * self.form.acceleration / scale / ACCELERATION_UNIT), 1)

    def _write_kept(self, bus: MotorBus, name: str, id: int, register: str, value: int) -> None:
        if bus.read(id, register) == value:
            return
        if bus.read(id, "torque_enable"):
            raise BusError(
                f"{self.name}: the {register} of {name} must become {value}, which the torque "
                f"locks: hold the arm, switch its power off and on, and connect again"
            )
        bus.write(id, register, value)

    def _ask(self, bus: MotorBus, ids: list[int]) -> dict[int, Reply]:
        was_silent = time.monotonic() - self._asked_s > 0.8 * (self.watchdog_s or 1e9)
        replies = bus.read_all(ids, *BLOCK)
        self._asked += 1
        if was_silent or self._asked % 50 == 0:
            self._look_at_watchdogs(bus)
        elif self._asked % 50 == 25:
            self._look_at_health(bus)
        return replies

    def _look_at_watchdogs(self, bus: MotorBus) -> None:
        register = X_SERIES["bus_watchdog"]
        ids = [motor.id for motor in self.motors.values()]
        for id, reply in bus.read_all(ids, register.address, register.size).items():
            if register.decode(reply.data) < 0:
                self._tripped.add(id)
            else:
                self._tripped.discard(id)

    def _look_at_health(self, bus: MotorBus) -> None:
        ids = [motor.id for motor in self.motors.values()]
        replies = bus.read_all(ids, *HEALTH).values()
        begin = HEALTH[0]
        health: dict[str, float] = {}
        for reply in replies:
            voltage = slice_register(reply.data, begin, X_SERIES["present_voltage"]) / 10
            heat = float(slice_register(reply.data, begin, X_SERIES["present_temperature"]))
            keep_worst(health, {"voltage": voltage, "temperature": heat})
        self._health = health

    def _decode(self, reply: Reply) -> Present:
        begin = BLOCK[0]
        reading = slice_register(reply.data, begin, X_SERIES["present_position"])
        speed = slice_register(reply.data, begin, X_SERIES["present_velocity"])
        effort = abs(slice_register(reply.data, begin, X_SERIES["present_current"]))
        return Present(reading, speed * SPEED_UNIT, {"effort": float(effort), **self._health})

    def _describe_fault(self, bus: MotorBus, name: str, id: int, error: int) -> str:
        if id in self._tripped:
            return f"bus watchdog ({self.watchdog_s} s without a message)"
        if not error & ALERT:
            self._errors.pop(id, None)
            return ""
        if id not in self._errors:
            self._errors[id] = bus.read(id, "hardware_error")
        return describe_errors(self._errors[id], X_ERRORS) or "hardware error"

    def _clear_fault(self, bus: MotorBus, id: int) -> None:
        if id in self._tripped:
            bus.write(id, "bus_watchdog", 0)
            self._tripped.discard(id)
        if id not in self._errors or not isinstance(bus, DynamixelBus):
            return
        name = next(name for name, motor in self.motors.items() if motor.id == id)
        bus.reboot(id)
        self._errors.pop(id)
        self._await_motor(bus, id)
        self._prepare(bus, name, id)

    def _await_motor(self, bus: MotorBus, id: int) -> None:
        """Wait until a motor that starts again answers, at most 1 s."""
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            if bus.listen(id, tries=1) == "whole":
                return
            time.sleep(0.02)

    def _clear_watchdogs(self, bus: MotorBus) -> None:
        # a motor that its watchdog has stopped holds already, and takes a goal once it is cleared
        bus.write_all("bus_watchdog", dict.fromkeys((m.id for m in self.motors.values()), 0))
        self._tripped.clear()

    def _begin(self, bus: MotorBus) -> None:
        for motor in self.motors.values():
            bus.write(motor.id, "bus_watchdog", self._ticks)


class KochArm(DynamixelArm):
    """The Koch v1.1 follower: five joints in rad and a gripper, 0 closed to 1 open."""

    standard = KOCH
