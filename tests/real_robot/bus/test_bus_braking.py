"""How motors on a bus come to rest: goals by themselves, and an STS3215 that moves a joint."""

from dataclasses import dataclass

import numpy as np
import pytest
from hotstart.real_robot.calibration import RAD_PER_STEP
from hotstart.real_robot.drivers.arm_form import SO101
from hotstart.real_robot.drivers.bus_arm import HEADROOM
from hotstart.real_robot.drivers.bus_braking import FAST, MOST_LEAD, Brake, Goals, Seen
from hotstart.real_robot.sim.bus import Measured
from hotstart.real_robot.sim.feetech import FeetechServo

STEP_S, TICK_S = 0.001, 0.005
MIDDLE = 2048
STRONGEST = HEADROOM * SO101.acceleration
"""No stop brakes harder [rad/s^2]: within what motors may do beyond the arm's limits."""


@dataclass
class Joint:
    """A joint of an SO-101 as its model has it: a motor's spring and dampers, friction, weight."""

    stiffness: float = 17.8
    weight_nm: float = 0.0
    inertia: float = 0.032
    damping: float = 1.0
    friction: float = 0.052
    position: float = 0.0
    speed: float = 0.0
    acceleration: float = 0.0

    def go_on(self, target: float) -> None:
        """One step towards the motor's set point."""
        pull = self.stiffness * (target - self.position) - self.weight_nm
        pull -= self.damping * self.speed + self.friction * np.tanh(self.speed / 0.01)
        self.acceleration = pull / self.inertia
        self.speed += STEP_S * self.acceleration
        self.position += STEP_S * self.speed


class Arm:
    """One joint, its motor, and a bus whose answers are `late_s` old."""

    def __init__(self, joint: Joint, late_s: float = 0.004) -> None:
        self.joint, self.late_s = joint, late_s
        self.servo = FeetechServo(1, torque_enable=1, acceleration=254, goal_speed=2934)
        self.servo.place(Measured(MIDDLE, 0.0, 0.0))
        self.goals = Goals()
        self.now_s = 0.0
        self.set_point = 0.0
        self.seen = [Seen(MIDDLE, 0.0, 0.0)]
        self.trace: list[tuple[float, float, float]] = []

    def send(self, goal: float) -> None:
        """A goal [steps]."""
        self.servo.set("goal_position", round(goal))
        self.goals.note_sent({"joint": round(goal)}, self.now_s)

    def read(self) -> dict[str, Seen]:
        """What the bus tells."""
        known = [seen for seen in self.seen if seen.seen_s <= self.now_s - self.late_s]
        return {"joint": known[-1] if known else self.seen[0]}

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        joint = self.joint
        for _ in range(round(seconds / STEP_S)):
            steps = MIDDLE + joint.position / RAD_PER_STEP
            measured = Measured(steps, joint.speed / RAD_PER_STEP, 0.0)
            if round(self.now_s / STEP_S) % round(TICK_S / STEP_S) == 0:
                point = self.servo.tick(self.now_s, TICK_S, measured, True)
                self.set_point = (point - MIDDLE) * RAD_PER_STEP
                reading = self.servo.get("present_position")
                self.seen.append(Seen(reading, self.servo.get("present_speed"), self.now_s))
            joint.go_on(self.set_point)
            self.now_s += STEP_S
            self.trace.append((joint.position, joint.speed, joint.acceleration))

    def swing(self, seconds: float, fastest: float) -> None:
        """Follow a sine of 0.5 rad, as a policy's plans do, after a second of rest."""
        self.send(MIDDLE)
        self.wait(1.0)
        self.goals.note_seen(self.read())
        for number in range(round(seconds / 0.01)):
            angle = 0.5 * np.sin(fastest / 0.5 * number * 0.01)
            self.send(MIDDLE + angle / RAD_PER_STEP)
            self.wait(0.01)

    def stop(self) -> Brake:
        """As the driver does it, and let a second pass."""
        self.trace.clear()
        brake = Brake(self.goals, self.read())
        self.servo.set("acceleration", 0)
        for _ in range(60):
            self.send(brake.choose(self.read())["joint"])
            self.wait(0.005)
            if brake.done:
                break
        self.servo.set("acceleration", 254)
        self.wait(1.0)
        return brake


def find_rest(trace, way):
    """Seconds until the joint rests, how far it then goes back, and the strongest braking."""
    positions, speeds, accelerations = np.array(trace).T
    moving = np.flatnonzero(np.abs(speeds) > 0.05)
    rest_s = 0.0
    if len(moving):
        rest_s = (moving[-1] + 1) * STEP_S
    back = (way * positions).max() - way * positions[-1]
    return rest_s, back, np.abs(accelerations).max()


@pytest.mark.parametrize("weight_nm", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("seconds", [0.9, 1.3, 1.7, 2.2, 2.9])
def test_a_stop_is_quick_and_does_not_go_back(weight_nm, seconds):
    """At 0.5 to 1.6 rad/s; a joint that its weight pulls at neither falls nor is let go."""
    arm = Arm(Joint(weight_nm=weight_nm))
    arm.swing(seconds, 1.6)
    way = np.sign(arm.joint.speed)
    brake = arm.stop()
    rest_s, back, strongest = find_rest(arm.trace, way)
    assert brake.done
    assert rest_s < 0.13
    assert back < 0.006
    assert strongest < STRONGEST


@pytest.mark.parametrize("late_s", [0.004, 0.02])
@pytest.mark.parametrize("stiffness", [9.0, 35.0, 53.0])
def test_motors_of_another_stiffness_and_late_answers_do_not_make_it_swing(stiffness, late_s):
    for seconds in (0.9, 1.3, 2.2):
        arm = Arm(Joint(stiffness=stiffness), late_s)
        arm.swing(seconds, 3.0)
        way = np.sign(arm.joint.speed)
        arm.stop()
        rest_s, back, strongest = find_rest(arm.trace, way)
        assert rest_s < 0.35
        assert back < 0.04  # of 3 rad/s, where it is seen 20 ms late by soft motors
        assert strongest < 1.3 * STRONGEST


@pytest.mark.parametrize("lead", [150.0, -60.0])
def test_a_goal_never_goes_back_nor_beyond_where_the_joint_was_sent(lead):
    """Nor beyond where it was first seen, where it had run past its goal."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        way = rng.choice([-1.0, 1.0])
        goals = Goals()
        goals.note_sent({"joint": MIDDLE + way * lead}, 0.0)
        brake = Brake(goals, {"joint": Seen(MIDDLE, way * 1000, 0.0)})
        chosen = [brake.choose({"joint": Seen(MIDDLE, way * 1000, 0.0)})["joint"]]
        for number in range(20):
            reading = MIDDLE + way * rng.uniform(0, 300)
            seen = Seen(reading, way * rng.uniform(-300, 1000), 0.005 * number)
            chosen.append(brake.choose({"joint": seen})["joint"])
        moved = way * (np.array(chosen) - MIDDLE)
        assert (np.diff(moved) >= 0).all()
        assert moved[0] == pytest.approx(5)
        assert moved.max() <= max(lead, 5) + 1e-9


def test_a_joint_that_rests_keeps_its_goal_however_far_it_is():
    """A gripper that holds an object presses on as before."""
    goals = Goals()
    goals.note_sent({"gripper": 1500, "pan": MIDDLE + 200}, 0.0)
    seen = {"gripper": Seen(1800, 0.0, 1.0), "pan": Seen(MIDDLE, 10.0, 0.1)}
    chosen = Brake(goals, seen).choose(seen)
    assert chosen == {"gripper": 1500, "pan": MIDDLE + MOST_LEAD}


def test_a_joint_that_does_not_answer_keeps_its_goal_and_a_stop_lasts_while_one_is_fast():
    goals = Goals()
    goals.note_sent({"joint": MIDDLE + 100}, 0.0)
    brake = Brake(goals, {"joint": Seen(MIDDLE, 1000, 0.0)})
    first = brake.choose({"joint": Seen(MIDDLE, 1000, 0.01)})["joint"]
    again = brake.choose({"joint": Seen(MIDDLE + 50, 1000, 0.01)})["joint"]
    assert first == again == MIDDLE + 5
    for _ in range(9):
        brake.choose({"joint": Seen(MIDDLE, FAST + 1, 0.02)})
    assert not brake.done
    for _ in range(3):
        assert not brake.done
        brake.choose({"joint": Seen(MIDDLE, 0.0, 0.03)})
    assert brake.done
