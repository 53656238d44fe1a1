"""The packets of RTDE, and how a simulated controller moves its targets."""

import struct

import numpy as np
import pytest
from hotstart.real_robot.sim.faults import Faults, Link
from hotstart.real_robot.sim.ur_motion import (
    PERIOD_S,
    SPEED_LIMIT,
    Motion,
    Move,
    Servo,
    Speed,
)
from hotstart.real_robot.sim.ur_server import RESENT_AFTER_S, Wire
from hotstart.real_robot.sim.ur_wire import (
    INPUTS,
    OUTPUTS,
    Kind,
    make_recipe,
    pack,
    split_packets,
)


def run(motion, periods):
    """Positions and velocities of so many periods, (periods, J) each."""
    trace = []
    for _ in range(periods):
        motion.step()
        trace.append((motion.q.copy(), motion.qd.copy()))
    return map(np.array, zip(*trace, strict=True))


def test_a_recipe_unpacks_what_it_packed_and_names_what_the_controller_lacks_or_another_uses():
    recipe = make_recipe(1, "timestamp,actual_q,robot_mode,", OUTPUTS, set())
    values = {"timestamp": 1.5, "actual_q": [0.0, 1, 2, 3, 4, 5], "robot_mode": 7}
    packets = list(split_packets(bytearray(recipe.pack(values.values()))))
    assert packets[0][0] == Kind.DATA
    unpacked = recipe.unpack(packets[0][1])
    assert unpacked == {**values, "actual_q": (0.0, 1, 2, 3, 4, 5)}
    wrong = make_recipe(2, "input_int_register_0,nothing", INPUTS, {"input_int_register_0"})
    assert wrong.types == ("IN_USE", "NOT_FOUND")
    assert not wrong.known


def test_packets_are_split_only_when_whole():
    whole = pack(Kind.START) + pack(Kind.TEXT, b"abc")
    buffer = bytearray(whole[:-1])
    assert list(split_packets(buffer)) == [(Kind.START, b"")]
    buffer += whole[-1:]
    assert list(split_packets(buffer)) == [(Kind.TEXT, b"abc")]
    with pytest.raises(struct.error, match="shorter than its header"):
        list(split_packets(bytearray(b"\0\1V")))


def test_a_servo_target_is_followed_with_the_lookahead_time_as_lag():
    motion = Motion(np.zeros(6))
    motion.mode = Servo(np.full(6, 0.1), 0.1, 300)
    positions, velocities = run(motion, 500)
    assert positions[round(0.1 / PERIOD_S), 0] == pytest.approx(0.1 * (1 - np.exp(-1)), abs=0.01)
    assert positions[-1] == pytest.approx(0.1, abs=1e-4)
    assert positions.max() <= 0.1 + 1e-6
    motion.mode = Servo(np.full(6, 3.0), 0.1, 300)
    _, velocities = run(motion, 800)
    assert velocities.max() == pytest.approx(SPEED_LIMIT)
    assert Servo(motion.q + 0.7, 0.1, 300).is_jump(motion.q)
    assert not Servo(motion.q + 0.6, 0.1, 300).is_jump(motion.q)


def test_a_move_ends_exactly_and_keeps_its_speed_and_acceleration():
    motion = Motion(np.zeros(6))
    goal = np.array([1.0, -0.5, 0, 0, 0, 0])
    motion.mode = Move(np.stack([motion.q, goal]), 1.0, 0.8, 2.0)
    positions, velocities = run(motion, 1000)
    assert positions[-1] == pytest.approx(goal)
    assert motion.resting
    assert np.abs(velocities).max() == pytest.approx(0.8, rel=0.01)
    assert np.abs(np.diff(velocities[:, 0])).max() < 2.0 * PERIOD_S * 1.5 + 0.01


def test_a_stop_slows_every_joint_down_together():
    motion = Motion(np.zeros(6))
    motion.mode = Speed(np.array([1.0, 0.5, 0, 0, 0, 0]), 10.0, 0.0)
    run(motion, 200)
    motion.stop(5.0)
    _, velocities = run(motion, 110)
    assert motion.resting
    assert velocities[49, 0] == pytest.approx(0.5, abs=0.02)
    assert velocities[:90, 1] == pytest.approx(velocities[:90, 0] / 2)


def test_what_tcp_loses_comes_later_and_in_order():
    wire = Wire(Faults(Link(delay_s=0.01)))
    wire.put(b"a", 0.0)
    assert wire.take(0.005) == b""
    assert wire.take(0.011) == b"a"
    lossy = Wire(Faults(Link(loss=1.0)))
    lossy.put(b"a", 0.0)
    lossy.put(b"b", 0.15)
    assert lossy.take(RESENT_AFTER_S - 0.01) == b""
    assert lossy.take(RESENT_AFTER_S + 0.2) == b"ab"
