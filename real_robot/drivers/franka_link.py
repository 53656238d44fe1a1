"""The process that holds `franky`, the client of Franka arms, for the driver in `franka`.

A thread of the client, in C++, answers the arm's controller every millisecond with torques. They
are those of a spring and a damper per joint, towards the newest reference. Where this process dies
or hangs the answers stop, and the arm's controller stops the arm after 20 ms. This process stops
the arm by itself where its driver tells nothing for `watchdog_s`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .franka_hand import HandThread
from .link_server import run

STIFFNESS = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)
"""Of each joint [N m/rad] where the option is 1; the damping is critical."""
STOP_DAMPING = (60.0, 60.0, 60.0, 60.0, 15.0, 15.0, 10.0)
"""What brings the joints to rest [N m s/rad]."""
STOP_S = 1.0
"""An arm that moves on after so long is stopped by its controller."""
RECOVER_S = 2.0
"""A state without the error comes within this time."""
CHECKS = 4
"""How often a silent driver is noticed per time of the watchdog."""
PACE_S = 0.1
"""The arm's time is compared with ours over so long [s]."""
SLOWEST = 0.2
FASTEST = 2.0
"""Dampers are told no higher speed, however slow the arm's time runs [rad/s]: every joint can do
that, and after a short halt of its time it would be too fast.
"""
RESTING = (1, 2)
"""Modes of an arm without a fault: idle, moving."""


@dataclass(frozen=True)
class LinkOptions:
    """What the process needs to know."""

    host: str
    watchdog_s: float
    stiffness: float
    torque_threshold: float
    force_threshold: float
    realtime: bool
    hand: bool
    hand_speed: float
    hand_force: float

    def to_word(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


class Reading(NamedTuple):
    """The newest state that the arm told."""

    made_s: float
    joints: list[float]
    joint_speeds: list[float]
    tool: list[float]
    """Position [m] and rotation vector [rad]."""
    opening: float
    torques: list[float]
    success_rate: float
    """Share of the last 100 answers that reached the arm's controller in time."""
    mode: int
    errors: str
    fault: str
    """Why the control has ended, or nothing."""


class Target(NamedTuple):
    """Where to go."""

    joints: list[float]
    joint_speeds: list[float]
    opening: float


class Pace:
    """How fast the arm's time runs: by 1 at an arm, slower where a busy machine simulates it.

    Dampers want speeds by the arm's own time.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._stamp = 0.0
        self._seen_s = float("-inf")

    def note(self, stamp: float, now_s: float) -> None:
        """The arm said its time, `stamp`; call it with each state."""
        passed_s = now_s - self._seen_s
        if passed_s < PACE_S:
            return
        if passed_s < 2 * PACE_S:
            self.share = min(max((stamp - self._stamp) / passed_s, SLOWEST), 1.0)
        self._stamp = stamp
        self._seen_s = now_s


class Link:
    """The client, connected."""

    def __init__(self, options: LinkOptions) -> None:
        franky: Any = import_module("franky")
        self._franky = franky
        realtime = franky.RealtimeConfig.Ignore
        if options.realtime:
            realtime = franky.RealtimeConfig.Enforce
        self._robot = franky.Robot(
            options.host,
            default_torque_threshold=options.torque_threshold,
            default_force_threshold=options.force_threshold,
            realtime_config=realtime,
        )
        self._hand = None
        if options.hand:
            self._hand = HandThread(options.host, options.hand_speed, options.hand_force)
        self._options = options
        self._motion: Any = None
        self._told_s = 0.0
        self._stamp = float("nan")
        self._made_s = 0.0
        self._pace = Pace()
        self._fault = ""
        self.kick_s = options.watchdog_s / CHECKS
        self._robot.recover_from_errors()

    def servo(self, target: Any) -> None:
        """Move the reference of the springs; the first one lets them take hold."""
        target = Target(*target)
        if self._fault:
            return  # until `rearm`
        self._told_s = time.monotonic()
        speeds = np.array(target.joint_speeds) / self._pace.share
        reference = self._franky.JointReference(
            q=np.array(target.joints), dq=np.clip(speeds, -FASTEST, FASTEST)
        )
        if self._hand is not None:
            self._hand.goal = target.opening
        if self._motion is None:
            self._begin(reference)
        else:
            self._motion.set_reference(reference)

    def _begin(self, reference: Any) -> None:
        stiffness = self._options.stiffness * np.array(STIFFNESS)
        motion = self._franky.JointImpedanceTrackingMotion(stiffness=stiffness)
        motion.set_reference(reference)
        try:
            self._robot.move(motion, asynchronous=True)
        except (self._franky.ControlException, self._franky.CommandException) as error:
            self._fault = str(error)
            return
        self._motion = motion

    def idle(self) -> None:
        """Stop the arm where nothing has been commanded for too long."""
        if self._motion is None or time.monotonic() - self._told_s < self._options.watchdog_s:
            return
        self.stop()
        self._fault = self._fault or f"nothing was commanded for {self._options.watchdog_s} s"

    def check(self) -> None:
        """Note why the control has ended; raises where the connection is lost."""
        if self._motion is None or self._robot.is_in_control:
            return
        self._motion = None
        self._fault = "the control has ended"
        try:
            self._robot.join_motion(0.0)
        except self._franky.ControlException as error:
            self._fault = str(error)

    def stop(self) -> str:
        """Slow down to rest, the joints by dampers; where that takes too long the controller does.

        An arm whose control has ended rests already.
        """
        motion = self._motion
        self._motion = None
        if motion is None or not self._robot.is_in_control:
            return ""
        brake = self._franky.TorqueStopMotion(damping=np.array(STOP_DAMPING), ramp_duration=0.0)
        try:
            self._robot.move(brake, asynchronous=True)
            if not self._robot.join_motion(STOP_S):
                self._robot.stop()
        except self._franky.ControlException as error:
            self._fault = self._fault or str(error)
        return ""

    def rearm(self) -> str:
        """Clear a fault; why it stays, or nothing."""
        self._robot.recover_from_errors()
        limit_s = time.monotonic() + RECOVER_S
        while int(self._robot.state.robot_mode) not in RESTING:
            if time.monotonic() > limit_s:
                return "its error recovery failed: see what Desk says"
        self._fault = ""
        return ""

    def read(self) -> tuple[Any, ...]:
        """The newest state: the fields of a `Reading`."""
        state = self._robot.state
        stamp = state.time.to_sec()
        if stamp != self._stamp:
            self._stamp = stamp
            self._made_s = time.monotonic()
            self._pace.note(stamp, self._made_s)
        mode = int(state.robot_mode)
        errors = ""
        if mode not in RESTING:
            errors = name_errors(state.current_errors) or name_errors(state.last_motion_errors)
        opening = 0.0
        fault = self._fault
        if self._hand is not None:
            opening = self._hand.opening
            fault = fault or self._hand.fault
        pose = state.O_T_EE
        return (
            self._made_s,
            state.q.tolist(),
            state.dq.tolist(),
            [*pose.translation.tolist(), *make_rotvec(pose.quaternion)],
            opening,
            state.tau_J.tolist(),
            state.control_command_success_rate,
            mode,
            errors,
            fault,
        )

    def end(self) -> None:
        """Stop."""
        self.stop()


def name_errors(errors: Any) -> str:
    """The names of the arm's errors."""
    names = [name for name in dir(errors) if getattr(errors, name) is True]
    return ", ".join(names)


def make_rotvec(quaternion: Sequence[float]) -> list[float]:
    """The rotation vector (3,) of a quaternion (x, y, z, w)."""
    axis = np.array(quaternion[:3], np.float64)
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return [0.0, 0.0, 0.0]
    angle = 2.0 * math.atan2(length, float(quaternion[3]))
    return (axis * (angle / length)).tolist()


def connect(word: str) -> Link:
    """The client of what the driver's word says."""
    return Link(LinkOptions(**json.loads(word)))


if __name__ == "__main__":
    run(sys.argv[1:], connect)
