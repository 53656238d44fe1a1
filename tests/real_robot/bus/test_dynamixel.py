"""Dynamixel X motors as simulated, and what is particular to arms of them."""

import time
from dataclasses import replace

import dynamixel_sdk
import numpy as np
import pytest
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers.arm_form import KOCH
from hotstart.real_robot.drivers.dynamixel import KochArm
from hotstart.real_robot.drivers.registers import X_SERIES
from hotstart.real_robot.sim.dynamixel import DynamixelWire, make_crc, make_packet, stuff, unstuff
from hotstart.spec import ConfigError

GOAL = X_SERIES["goal_position"].address


def test_the_checksum_is_the_makers():
    """The example of the protocol's page: a read of 4 bytes at 132 of motor 1."""
    raw = make_packet(1, bytes([2, 132, 0, 4, 0]))
    assert raw.hex(" ") == "ff ff fd 00 01 07 00 02 84 00 04 00 1d 15"
    handler = dynamixel_sdk.PacketHandler(2.0)
    assert make_crc(raw[:-2]) == handler.updateCRC(0, list(raw), len(raw) - 2)


def test_a_header_within_the_data_is_broken_up_and_put_together_again():
    data = b"\x03\x54\x00\xff\xff\xfd\xff\xff\xfd\x00"
    assert unstuff(stuff(data)) == data
    buffer = bytearray(b"\xff" + make_packet(7, data) + b"\xff\xff")
    packet = DynamixelWire().take(buffer)
    assert packet is not None
    assert (packet.id, packet.instruction, packet.parameters) == (7, 3, data[1:])
    assert bytes(buffer) == b"\xff\xff"


@pytest.fixture
def client(koch, monkeypatch):
    monkeypatch.setattr("dynamixel_sdk.port_handler.LATENCY_TIMER", 100)  # a busy machine
    port = dynamixel_sdk.PortHandler(koch.bus.path)
    assert port.openPort()
    yield port, dynamixel_sdk.PacketHandler(2.0)
    port.closePort()


def test_the_client_itself_reads_and_writes_a_motor(koch, client):
    port, handler = client
    assert handler.ping(port, 3) == (1200, 0, 0)
    assert handler.ping(port, 9)[1] == dynamixel_sdk.COMM_RX_TIMEOUT
    assert handler.write4ByteTxRx(port, 3, GOAL, 2100) == (0, 0)
    assert handler.read4ByteTxRx(port, 3, GOAL) == (2100, 0, 0)
    # a header within what is written and read back
    assert handler.write4ByteTxRx(port, 3, 108, 0x00FDFFFF) == (0, 0)
    assert handler.read4ByteTxRx(port, 3, 108) == (0x00FDFFFF, 0, 0)
    assert handler.write4ByteTxRx(port, 3, GOAL, 4000) == (0, 6)
    assert handler.write4ByteTxRx(port, 3, X_SERIES["present_position"].address, 0) == (0, 7)
    handler.write1ByteTxRx(port, 3, 64, 1)
    assert handler.write1ByteTxRx(port, 3, X_SERIES["operating_mode"].address, 4) == (0, 7)


def test_the_client_reads_in_bulk(koch, client):
    port, handler = client
    bulk = dynamixel_sdk.GroupBulkRead(port, handler)
    bulk.addParam(1, 144, 2)
    bulk.addParam(4, 146, 1)
    assert bulk.txRxPacket() == 0
    assert (bulk.getData(1, 144, 2), bulk.getData(4, 146, 1)) == (50, 30)


def test_a_shadow_obeys_the_motor_that_it_follows(koch, client):
    port, handler = client
    koch.servos[2].set("secondary_id", 2)
    assert handler.write4ByteTxRx(port, 2, GOAL, 2000) == (0, 0)
    assert [servo.get("goal_position") for servo in koch.servos[1:4]] == [2000, 2000, 0]


def test_without_messages_the_bus_watchdog_stops_the_motors(make_rig, await_state):
    rig = make_rig(replace(KOCH, velocity=1.0, acceleration=3.0))
    arm = rig.connect(watchdog_s=0.2)
    assert arm.watchdog_s == pytest.approx(0.2)
    target = np.append(rig.body.rest, 0.0)
    target[0] = 1.8
    arm.command(target)
    await_state(arm, lambda state: state.velocities[0] > 0.5)
    time.sleep(0.35)  # the computer is busy
    stopped = rig.body.read().positions[0]
    time.sleep(0.1)
    assert rig.body.read().positions[0] == pytest.approx(stopped, abs=0.01)
    assert stopped < 1.5
    assert all(servo.holds for servo in rig.servos)
    assert arm.read().fault.startswith("bus watchdog (0.2 s without a message) of shoulder_pan")
    arm.recover()
    assert arm.read().fault == ""
    arm.command(target)
    await_state(arm, lambda state: abs(state.positions[0] - 1.8) < 0.01)
    arm.close()


def test_a_loop_of_messages_keeps_the_watchdog_quiet(koch):
    arm = koch.connect(watchdog_s=0.2)
    for _ in range(25):
        assert arm.read().fault == ""
        time.sleep(0.01)
    assert koch.servos[0].get("bus_watchdog") == 10
    arm.close()


@pytest.mark.parametrize(
    ("kind", "word"),
    [("overload", "overload"), ("overheat", "temperature"), ("low_voltage", "voltage")],
)
def test_a_hardware_error_is_named_and_ends_with_a_reboot(koch, await_state, kind, word):
    arm = koch.connect(watchdog_s=0)
    koch.faults.schedule(kind, for_s=0.1, amount=2)
    assert await_state(arm, lambda state: state.fault).fault == f"{word} of elbow_flex"
    assert not koch.servos[2].holds
    time.sleep(0.12)
    assert arm.read().fault
    arm.recover()
    assert arm.read().fault == ""
    assert koch.servos[2].holds
    arm.close()


def test_settings_that_the_torque_locks_are_told_of(koch):
    koch.servos[2].set("torque_enable", 1)
    with pytest.raises(DriverError, match="return_delay of elbow_flex must become 0"):
        koch.connect()


def test_a_motor_that_was_turned_round_without_torque_has_to_be_switched_off(koch):
    koch.body.rest[0] = 2 * np.pi
    koch.body.place(koch.body.rest)
    time.sleep(0.03)
    with pytest.raises(DriverError, match="shoulder_pan reads 6144, more than a turn off"):
        koch.connect()
    koch.servos[0].reboot()
    time.sleep(0.15)
    koch.connect().close()


def test_a_watchdog_that_no_motor_has_is_refused():
    with pytest.raises(ConfigError, match=r"takes up to 2\.54 s"):
        KochArm("/dev/null", "nominal", watchdog_s=3.0)
