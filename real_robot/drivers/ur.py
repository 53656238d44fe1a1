"""Arms of Universal Robots (UR5e) over `ur_rtde`: joint angles or tool poses as targets.

The vendor's client lives in a process of its own, see `ur_link`; this side never waits for it
without a limit. What stops the arm when software dies, in order: the driver's process dies, and the
link stops the arm at once; the link dies or falls silent, and the controller ends the program after
`watchdog_s` without a command and slows the arm down.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ...arms.poses import align_rotvec
from ...spec import (
    ActionDim,
    ActionSpec,
    ConfigError,
    FloatArray,
    Limits,
    ObsKey,
    ObsPart,
    ObsSpec,
    unknown,
)
from ..driver import ArmState, DriverError, add_gripper
from .link_process import LinkedArm, LinkProcess, check_option
from .robotiq import MOST_SPEED, RobotiqHand
from .ur_dashboard import Dashboard
from .ur_link import LinkOptions, Reading

RTDE_PORT = 30004
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
TOOL = ("x", "y", "z", "rx", "ry", "rz")
RUNNING = 7
CONNECT_S = 15.0
POWER_S = 60.0
"""Powering on and releasing the brakes takes a UR5e some 20 s."""
ANSWER_S = 0.3
STOP_S = 1.5
WATCHDOG_S = 0.2
"""Twice what a busy machine with two cores was seen to hold a process up for."""
STOP_ACCELERATION, MOST_STOP_ACCELERATION = 15.0, 40.0
"""Of the leading joint in a stop [rad/s^2]: what the base can brake with 5 kg at full reach, where
arm and load have some 8.5 kg m^2 and its motor 150 N m, and what the controller takes.
"""
UNLOCK_S = 8.0
"""A protective stop can be unlocked 5 s after it came."""
SILENCE_S = 0.5
GRIPPERS = ("none", "robotiq")

MOST = {
    "joints": {"velocity": 3.14, "acceleration": 15.0, "jerk": 300.0},
    "tool": {"velocity": 1.0, "acceleration": 5.0, "jerk": 100.0},
}
"""What `velocity` and the others may be set to, in rad or m per s, s^2 and s^3."""
USUAL = {
    "joints": {"velocity": 1.0, "acceleration": 4.0, "jerk": 40.0},
    "tool": {"velocity": 0.25, "acceleration": 1.0, "jerk": 10.0},
}
"""What they are unless set."""
TURN_PER_M = 3.0
"""The tool may turn by so many rad/s per m/s of its speed limit."""
JOINT_RANGE = np.array([2 * np.pi, 2 * np.pi, np.pi, 2 * np.pi, 2 * np.pi, 2 * np.pi])
REACH_M = 0.95
DOWN = (math.pi, 0.0, 0.0)
"""The rotation vector of a tool that points down."""
FAULTS = (
    (1 << 5 | 1 << 6 | 1 << 7, "emergency stop"),
    (1 << 2, "protective stop"),
    (1 << 4, "safeguard stop"),
    (1 << 8, "violation of the safety limits"),
    (1 << 9, "fault of the safety system"),
)
"""Bits of the controller's safety status, the gravest first."""
REMEDIES = {
    "PROTECTIVE_STOP": "look at the cause, then press Unlock on the pendant, or let it `recover`",
    "ROBOT_EMERGENCY_STOP": "turn the red button of the pendant until it springs out, then press "
    "the round button at the lower left, ON and START",
    "SYSTEM_EMERGENCY_STOP": "release the emergency stop of the cell, then press the round button "
    "at the lower left of the pendant, ON and START",
    "SAFEGUARD_STOP": "close the cell's door or leave its light curtain, then press Reset",
    "RECOVERY": "drive the joints back into their limits on the pendant, under Move",
}
"""What to do about a safety status of the dashboard."""


class UR(LinkedArm):
    """A UR5e whose joints (`mode="joints"`) or tool (`mode="tool"`) follow absolute targets.

    `host`: its address. `servo_hz`: how often it is commanded, at most 500. `lookahead_s` (0.03 to
    0.2) and `gain` (100 to 2000) are those of the vendor's servoj: longer and lower are smoother.
    `velocity`, `acceleration`, `jerk`: limits of the joints [rad], or of the tool [m and rad].
    `watchdog_s`: see the module. `power_on`: whether `connect` may switch it on and release its
    brakes. `payload_kg`, `payload_center_m`: what hangs at the flange; none: as the pendant says.
    `tool_reference`: on whose side rotation vectors are told, see `align_rotvec`.

    Raises ConfigError for an option that is out of range.
    """

    def __init__(
        self,
        host: str,
        mode: Literal["joints", "tool"] = "joints",
        servo_hz: float = 125.0,
        velocity: float | None = None,
        acceleration: float | None = None,
        jerk: float | None = None,
        lookahead_s: float = 0.1,
        gain: float = 300.0,
        watchdog_s: float = WATCHDOG_S,
        power_on: bool = False,
        payload_kg: float | None = None,
        payload_center_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
        gripper: Literal["none", "robotiq"] = "none",
        gripper_speed: float = 1.0,
        gripper_force: float = 0.3,
        tool_reference: tuple[float, float, float] = DOWN,
        silence_s: float = SILENCE_S,
        stop_acceleration: float = STOP_ACCELERATION,
    ) -> None:
        check_option("servo_hz", servo_hz, 10.0, 500.0)
        check_option("lookahead_s", lookahead_s, 0.03, 0.2)
        check_option("gain", gain, 100.0, 2000.0)
        check_option("watchdog_s", watchdog_s, 2.0 / servo_hz, 1.0)
        check_option("stop_acceleration", stop_acceleration, 1.0, MOST_STOP_ACCELERATION)
        if mode not in USUAL:
            raise ConfigError(unknown("mode", mode, list(USUAL)))
        if gripper not in GRIPPERS:
            raise ConfigError(unknown("gripper", gripper, GRIPPERS))
        check_option("gripper_speed", gripper_speed, 0.01, 1.0)
        check_option("gripper_force", gripper_force, 0.01, 1.0)
        if payload_kg is not None:
            check_option("payload_kg", payload_kg, 0.0, 5.0)
        self.name = "ur5e"
        self.host = host
        self.mode = mode
        self.servo_hz = servo_hz
        self.watchdog_s: float | None = watchdog_s
        self.silence_s = silence_s
        self.power_on = power_on
        self.gripped = gripper != "none"
        self.action_spec = _make_action_spec(mode, self.gripped)
        self.obs_spec = _make_obs_spec(self.gripped)
        self.limits = _make_limits(mode, velocity, acceleration, jerk)
        if self.gripped:
            self.limits = add_gripper(self.limits, gripper_speed * MOST_SPEED)
        self._hand: RobotiqHand | None = None
        self._hand_options = (gripper_speed, gripper_force)
        self._options = LinkOptions(
            host,
            servo_hz,
            mode == "tool",
            lookahead_s,
            gain,
            watchdog_s,
            payload_kg,
            payload_center_m,
            stop_acceleration,
        )
        self._untold = ""  # why a stop has not reached the arm
        self._reference = np.asarray(tool_reference, np.float64)

    def connect(self) -> None:
        """See `Driver`. Refuses an arm in local control, without power or with a stop in force."""
        if importlib.util.find_spec("rtde_control") is None:
            raise ConfigError('ur_rtde is not installed: pip install "hotstart[ur]"')
        self.close()
        with Dashboard(self.host) as dashboard:
            self._check_control(dashboard)
            self._check_safety(dashboard)
            self._check_power(dashboard)
        self._open_hand()
        self._open_link()

    def close(self) -> None:
        """See `Driver`."""
        super().close()
        hand = self._hand
        self._hand = None
        if hand is not None:
            hand.close()

    def _open_hand(self) -> None:
        """Connect to the gripper, where there is one and none is connected, or its fault stays."""
        if not self.gripped or (self._hand is not None and not self._hand.fault):
            return
        if self._hand is not None:
            self._hand.close()
            self._hand = None
        speed, force = self._hand_options
        self._hand = RobotiqHand(self.host, speed, force, self.power_on)

    def _open_link(self) -> None:
        self._link = LinkProcess("ur_link", self._options.to_word(), f"{self.host}:{RTDE_PORT}")
        wrong = self._link.wait_until_ready(CONNECT_S)
        if wrong:
            self._drop_link()
            raise DriverError(f"ur_rtde cannot connect to {self.host}: {wrong}")

    def _check_control(self, dashboard: Dashboard) -> None:
        if "true" not in dashboard.ask("is in remote control").lower():
            raise DriverError(
                f"the arm at {self.host} is in local control: press Local at the upper right of "
                "the pendant and choose Remote Control; it has to be enabled once under Settings, "
                "System, Remote Control"
            )

    def _check_safety(self, dashboard: Dashboard) -> None:
        status = dashboard.ask_word("safetystatus")
        if status not in ("NORMAL", "REDUCED"):
            remedy = REMEDIES.get(status, "see what the pendant says")
            raise DriverError(f"the arm at {self.host} is in {status}: {remedy}")

    def _check_power(self, dashboard: Dashboard) -> None:
        mode = dashboard.ask_word("robotmode")
        if mode == "RUNNING":
            return
        if not self.power_on:
            raise DriverError(
                f"the arm at {self.host} is not ready (robot mode {mode}): press the round button "
                "at the lower left of the pendant, then ON and START; or set power_on=true"
            )
        limit = time.monotonic() + POWER_S
        if mode != "IDLE":
            dashboard.ask("power on")
            self._wait_for_mode(dashboard, "IDLE", limit)
        dashboard.ask("brake release")
        self._wait_for_mode(dashboard, "RUNNING", limit)

    def _wait_for_mode(self, dashboard: Dashboard, wanted: str, limit: float) -> None:
        while True:
            mode = dashboard.ask_word("robotmode")
            if mode == wanted:
                return
            if time.monotonic() > limit:
                raise DriverError(
                    f"the arm at {self.host} stays in robot mode {mode}, {wanted} was awaited: "
                    "see what the pendant says"
                )
            time.sleep(0.1)

    def read(self) -> ArmState:
        """See `Driver`: within 0.3 s. Raises DriverError where the arm has told nothing for
        `silence_s`, or the connection is lost.
        """
        reading = Reading(*self._ask("read", max(ANSWER_S, self.silence_s)))
        self._check_silence(reading.made_s, RTDE_PORT)
        return self._make_state(reading)

    def _make_state(self, reading: Reading) -> ArmState:
        joints = np.array(reading.joints)
        tool = np.array(reading.tool)
        tool[3:] = align_rotvec(tool[3:], self._reference)
        positions = joints
        velocities = np.array(reading.joint_speeds)
        if self.mode == "tool":
            positions = tool
            velocities = np.array(reading.tool_speeds)
        observation = {"joints": joints.astype(np.float32), "tool": tool.astype(np.float32)}
        fault = _name_fault(reading)
        if self._hand is not None:
            opening = self._hand.opening
            positions = np.append(positions, opening)
            velocities = np.append(velocities, 0.0)
            observation["gripper"] = np.array([opening], np.float32)
            fault = fault or self._hand.fault
        notes = _list_notes(reading)
        return ArmState(reading.made_s, positions, velocities, observation, fault, notes)

    def command(self, target: FloatArray) -> None:
        """See `Driver`: servoj or servol over one period; a kick of the watchdog too."""
        numbers = np.asarray(target, np.float64).tolist()
        self._get_link().send("servo", numbers[:6])
        if self._hand is not None:
            self._hand.goal = numbers[6]

    def stop(self) -> None:
        """See `Driver`: servoStop and stopJ; where the client fails, the dashboard ends the
        program. Ends within some 4 s in any case, and raises DriverError where the arm could not
        be told: its watchdog then stops it. A gripper goes on holding what it holds.
        """
        if self._hand is not None:
            self._hand.hold()
        link = self._link
        if link is not None:
            try:
                self._untold = link.ask("stop", STOP_S)
            except DriverError as error:
                self._untold = str(error)
            if self._untold:
                self._drop_link()
        if self._untold:
            self._stop_from_dashboard()

    def _stop_from_dashboard(self) -> None:
        try:
            with Dashboard(self.host) as dashboard:
                dashboard.ask("stop")
        except DriverError as error:
            raise DriverError(
                f"the arm at {self.host} could not be told to stop ({self._untold}; {error}): its "
                f"watchdog stops it within {self.watchdog_s} s; press the emergency stop if it "
                "moves on"
            ) from error
        self._untold = ""

    def recover(self) -> None:
        """See `Driver`: unlocks a protective stop, powers on after an emergency stop where
        `power_on` allows it, and starts the control program again, over a new connection if the
        old one is lost. An arm without a fault is left as it is.
        """
        if self._is_well():
            return
        with Dashboard(self.host) as dashboard:
            if dashboard.ask_word("safetystatus") == "PROTECTIVE_STOP":
                self._unlock(dashboard)
            self._check_control(dashboard)
            self._check_safety(dashboard)
            self._check_power(dashboard)
        self._open_hand()
        try:
            wrong = self._ask("rearm", CONNECT_S)
        except DriverError as error:
            wrong = str(error)
        if wrong:
            self._drop_link()
            self._open_link()

    def _is_well(self) -> bool:
        try:
            return not self.read().fault
        except DriverError:
            return False

    def _unlock(self, dashboard: Dashboard) -> None:
        dashboard.ask("close safety popup")
        limit = time.monotonic() + UNLOCK_S
        while True:
            said = dashboard.ask("unlock protective stop")
            if dashboard.ask_word("safetystatus") != "PROTECTIVE_STOP":
                return
            if time.monotonic() > limit:
                raise DriverError(f"the protective stop of {self.host} stays locked: {said}")
            time.sleep(0.1)

    def _ask(self, kind: str, timeout_s: float) -> Any:
        return self._get_link().ask(kind, timeout_s)


def _make_action_spec(mode: str, gripped: bool) -> ActionSpec:
    dims = [ActionDim(name, "rad") for name in JOINTS]
    if mode == "tool":
        places = [ActionDim(name, "m") for name in TOOL[:3]]
        turns = [ActionDim(name, "rad", "rotation") for name in TOOL[3:]]
        dims = [*places, *turns]
    if gripped:
        dims.append(ActionDim("gripper", ""))
    return ActionSpec(tuple(dims))


def _make_obs_spec(gripped: bool) -> ObsSpec:
    parts = (ObsPart("tool", 3, "position"), ObsPart("rotation", 3))
    keys = {"joints": ObsKey((6,)), "tool": ObsKey((6,), parts=parts)}
    if gripped:
        keys["gripper"] = ObsKey((1,))
    return ObsSpec(keys)


def _make_limits(
    mode: str, velocity: float | None, acceleration: float | None, jerk: float | None
) -> Limits:
    """A third of the joints' speed, or 0.25 m/s of the tool, unless options say otherwise."""
    chosen: dict[str, float] = {}
    given = {"velocity": velocity, "acceleration": acceleration, "jerk": jerk}
    for name, value in given.items():
        most = MOST[mode][name]
        if value is None:
            value = USUAL[mode][name]
        check_option(name, value, 0.001, most)
        chosen[name] = value
    scale = np.ones(6)
    high = JOINT_RANGE
    if mode == "tool":
        scale[3:] = TURN_PER_M
        high = np.array([REACH_M, REACH_M, 1.1, 2 * np.pi, 2 * np.pi, 2 * np.pi])
    rates = [chosen[name] * scale for name in ("velocity", "acceleration", "jerk")]
    return Limits(-high, high, rates[0], rates[1], rates[2])


def _name_fault(reading: Reading) -> str:
    """What keeps the arm from moving, or nothing."""
    for bits, name in FAULTS:
        if reading.safety_bits & bits:
            return name
    if reading.robot_mode != RUNNING:
        return f"no power, or brakes on (robot mode {reading.robot_mode})"
    if not reading.running:
        return "the control program has ended: by its watchdog or by hand"
    return ""


def _list_notes(reading: Reading) -> Mapping[str, float]:
    notes = {"speed_scaling": reading.speed_scaling}
    for name, current, warmth in zip(JOINTS, reading.currents, reading.temperatures, strict=True):
        notes[f"current_{name}"] = current
        notes[f"temperature_{name}"] = warmth
    return notes
