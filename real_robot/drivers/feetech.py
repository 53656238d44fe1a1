"""Arms of Feetech STS motors (SO-101 and others), through the vendor's client `scservo_sdk`.

STS motors have no watchdog: when the computer dies or the cable is cut, each motor goes on to its
last goal and holds it, with torque, until its power is switched off. `watchdog_s` is therefore
None. Goals are sent every period and lie one period ahead of where the joints would be without
their lag, so the arm comes to rest where it was going: after that lag and what it takes to brake.
"""

from __future__ import annotations

from ...spec import ConfigError
from .arm_form import SO101
from .bus_arm import HEADROOM, SPEED_HEADROOM, BusArm, Present
from .motor_bus import Layout, MotorBus, Reply, slice_register
from .registers import STS, STS_BAUDS, STS_ERRORS, describe_errors
from .serial_port import SerialPort

BLOCK = (56, 8)
"""Position, speed, load, voltage, temperature: read every period."""
MULTI_TURN = 0x10
"""Bit of the register `phase`: readings go on over a whole turn."""
POSITION_MODE = 0


class FeetechArm(BusArm):
    """One arm of STS motors."""

    vendor = "feetech"
    profile = "acceleration"
    watchdog_s = None

    @property
    def bauds(self) -> tuple[int, ...]:
        """Speeds that STS motors can have and the client knows."""
        return STS_BAUDS

    def _open(self, baud: int) -> MotorBus:
        try:
            import scservo_sdk as sdk
        except ImportError as problem:
            raise ConfigError(
                'Feetech motors need their client: pip install "feetech-servo-sdk==1.0.0" '
                '"pyserial>=3.5"'
            ) from problem
        port = SerialPort(self.port, baud, self.answer_s)
        layout = Layout(id=2, error=4, data=5, broken=sdk.COMM_RX_CORRUPT)
        return MotorBus(port, sdk.PacketHandler(0), STS, layout, ())

    def _prepare(self, bus: MotorBus, name: str, id: int) -> None:
        self._write_kept(bus, name, id, "return_delay", 0)
        self._write_kept(bus, name, id, "operating_mode", POSITION_MODE)
        phase = bus.read(id, "phase")
        self._write_kept(bus, name, id, "phase", phase & ~MULTI_TURN)
        scale = abs(self.motors[name].scale)
        bus.write(id, "acceleration", self._find_acceleration(name))
        bus.write(id, "goal_speed", round(SPEED_HEADROOM * self.form.velocity / scale))

    def _find_acceleration(self, name: str) -> int:
        steps = HEADROOM * self.form.acceleration / abs(self.motors[name].scale)
        return min(max(round(steps / 100), 1), 254)

    def _write_kept(self, bus: MotorBus, name: str, id: int, register: str, value: int) -> None:
        if bus.read(id, register) == value:
            return
        bus.write(id, "lock", 0)
        bus.write(id, register, value)
        bus.write(id, "lock", 1)

    def _ask(self, bus: MotorBus, ids: list[int]) -> dict[int, Reply]:
        return bus.read_all(ids, *BLOCK)

    def _decode(self, reply: Reply) -> Present:
        begin = BLOCK[0]
        notes = {
            "load": abs(slice_register(reply.data, begin, STS["present_load"])) / 1000,
            "voltage": slice_register(reply.data, begin, STS["present_voltage"]) / 10,
            "temperature": float(slice_register(reply.data, begin, STS["present_temperature"])),
        }
        reading = slice_register(reply.data, begin, STS["present_position"])
        speed = slice_register(reply.data, begin, STS["present_speed"])
        return Present(reading, speed, notes)

    def _describe_fault(self, bus: MotorBus, name: str, id: int, error: int) -> str:
        return describe_errors(error, STS_ERRORS)

    def _clear_fault(self, bus: MotorBus, id: int) -> None:
        # an overload is latched until the torque is switched off
        bus.write(id, "torque_enable", 0)


class SO101Arm(FeetechArm):
    """The SO-101 follower: five joints in rad and a gripper, 0 closed to 1 open."""

    standard = SO101
