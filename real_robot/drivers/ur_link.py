"""The process that holds `ur_rtde`, the vendor's client, for the driver in `ur`.

The client keeps Python's lock while it connects, and waits without a limit for a controller that
has fallen silent. After a lost connection it aborts its process, or reconnects by itself, again and
again, and uploads a program without a watchdog. So it lives apart, see `link_server`, and ends its
process where the connection is lost.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from .link_server import run

VARIABLES = [
    "timestamp",
    "actual_q",
    "actual_qd",
    "actual_TCP_pose",
    "actual_TCP_speed",
    "actual_current",
    "joint_temperatures",
    "robot_mode",
    "safety_status_bits",
    "speed_scaling",
]
"""What the controller is asked to tell: no more than the driver reads."""
STATE_HZ = 500.0
"""How often it tells: the rate of an e-Series, so that states are fresh at any servo rate."""
REACH_M = 0.85
"""Servoing ends by a deceleration of the tool, which is taken to be so far from the base."""
REST_SPEED = 0.02
"""Of every joint of an arm that is said to rest [rad/s]."""
REST_S = 0.7
START_S = 2.0
"""A program that was uploaded starts within this time."""
KICKS = 4
"""Kicks per time of the watchdog while nothing is commanded."""
MEMORY_S = 10.0


@dataclass(frozen=True)
class LinkOptions:
    """What the process needs to know."""

    host: str
    servo_hz: float
    tool: bool
    lookahead_s: float
    gain: float
    watchdog_s: float
    payload_kg: float | None
    payload_center_m: Sequence[float]
    stop_acceleration: float
    """Of the leading joint [rad/s^2]."""

    def to_word(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


class Reading(NamedTuple):
    """The newest state that the controller told."""

    made_s: float
    joints: list[float]
    joint_speeds: list[float]
    tool: list[float]
    tool_speeds: list[float]
    currents: list[float]
    temperatures: list[float]
    robot_mode: int
    safety_bits: int
    speed_scaling: float
    running: bool
    """Whether the control program runs on the controller."""


class ClockMap:
    """The controller's clock on ours, by the packets that took the shortest way.

    A packet is read at `now`, and was made at its stamp by the controller's clock. The difference
    of the two is the clocks' offset plus a delay that is never negative, so the least difference of
    the last 10 to 20 s is taken for the offset; a drift of 50 millionths makes 1 ms of that.
    """

    def __init__(self) -> None:
        self._least = float("inf")
        self._least_before = float("inf")
        self._since = float("-inf")

    def convert(self, stamp: float, now: float) -> float:
        """When a packet was made, on our clock; call it once per packet."""
        if now - self._since > MEMORY_S:
            self._least_before = self._least
            self._least = float("inf")
            self._since = now
        self._least = min(self._least, now - stamp)
        return stamp + min(self._least, self._least_before)


class Link:
    """The vendor's client, connected."""

    def __init__(self, options: LinkOptions) -> None:
        from rtde_control import RTDEControlInterface
        from rtde_receive import RTDEReceiveInterface

        self._options = options
        self._receive = RTDEReceiveInterface(options.host, STATE_HZ, VARIABLES)
        self._control = RTDEControlInterface(options.host, options.servo_hz)
        self._clock = ClockMap()
        self._stamp = float("nan")
        self._made_s = 0.0
        self._kicked_s = 0.0
        self.kick_s = options.watchdog_s / KICKS
        self.servoing = False
        self._set_payload()
        self.arm()

    def _set_payload(self) -> None:
        mass, center = self._options.payload_kg, list(self._options.payload_center_m)
        if mass is not None and not self._control.setPayload(mass, center):
            raise RuntimeError(f"the controller does not take a payload of {mass} kg")

    def arm(self) -> None:
        """Set the watchdog of the program that runs, and leave a mark by which to know it.

        The mark is the number of asynchronous operations, which a new program counts from 0: the
        client restarts a lost program by itself, then without a watchdog.
        """
        self._control.stopJ(self._options.stop_acceleration, True)
        if not self._control.setWatchdog(1.0 / self._options.watchdog_s):
            raise RuntimeError("the controller does not take the watchdog")

    def rearm(self) -> str:
        """Upload the program anew; what went wrong, or nothing.

        The last target still stands in the controller's registers, where the new program would find
        and follow it: a kick clears the command.
        """
        self.servoing = False
        self._control.kickWatchdog()
        self._control.reuploadScript()
        limit = time.monotonic() + START_S
        while not self._control.isProgramRunning():
            if time.monotonic() > limit:
                return "the control program does not start"
            time.sleep(0.01)
        self.arm()
        return ""

    def servo(self, target: Sequence[float]) -> None:
        """Hand the controller a target. That is a kick of its watchdog too: it writes the register
        that is watched. `kickWatchdog` would write it a second time, and so erase the command.
        """
        options = self._options
        period = 1.0 / options.servo_hz
        self.servoing = True
        if options.tool:
            self._control.servoL(target, 0.0, 0.0, period, options.lookahead_s, options.gain)
        else:
            self._control.servoJ(target, 0.0, 0.0, period, options.lookahead_s, options.gain)

    def idle(self) -> None:
        """Nothing is commanded, nothing moves: keep the watchdog content."""
        now = time.monotonic()
        if not self.servoing and now - self._kicked_s > self.kick_s:
            self._kicked_s = now
            self._control.kickWatchdog()

    def stop(self) -> str:
        """Slow down to rest; why the controller did not take that, or nothing.

        A program that has ended, or a stop of the safety system, needs nothing: the arm stops then.
        The watchdog gets no kick while servoStop waits for a fast arm, and may end the program,
        which is then started again.
        """
        self.servoing = False
        if not self._control.isProgramRunning():
            return ""
        acceleration = self._options.stop_acceleration
        stopped = self._control.servoStop(REACH_M * acceleration)
        self._control.stopJ(acceleration)
        if self._receive.isProtectiveStopped() or self._receive.isEmergencyStopped():
            return ""
        if not self._control.isProgramRunning():
            self._wait_for_rest()
            return self.rearm()
        if not stopped:
            return "servoStop was refused"
        return ""

    def _wait_for_rest(self) -> None:
        limit = time.monotonic() + REST_S
        while max(map(abs, self._receive.getActualQd())) > REST_SPEED:
            if time.monotonic() > limit:
                return
            time.sleep(0.002)

    def read(self) -> tuple[Any, ...]:
        """The newest state: the fields of a `Reading`."""
        receive = self._receive
        self._note_time()
        return (
            self._made_s,
            receive.getActualQ(),
            receive.getActualQd(),
            receive.getActualTCPPose(),
            receive.getActualTCPSpeed(),
            receive.getActualCurrent(),
            receive.getJointTemperatures(),
            receive.getRobotMode(),
            receive.getSafetyStatusBits(),
            receive.getSpeedScaling(),
            self._control.isProgramRunning(),
        )

    def _note_time(self) -> None:
        stamp = self._receive.getTimestamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._made_s = self._clock.convert(stamp, time.monotonic())

    def check(self) -> None:
        """Raise ConnectionError where the connection is lost, or was, and the client has started
        another program, which has no watchdog.
        """
        control = self._control
        if not (self._receive.isConnected() and control.isConnected()):
            raise ConnectionError("the connection is lost")
        if control.isProgramRunning() and control.getAsyncOperationProgressEx().operationId() == 0:
            raise ConnectionError("the connection was lost")

    def end(self) -> None:
        """End the program on the controller."""
        self.stop()
        self._control.stopScript()


def connect(word: str) -> Link:
    """The client of what the driver's word says."""
    return Link(LinkOptions(**json.loads(word)))


if __name__ == "__main__":
    run(sys.argv[1:], connect)
