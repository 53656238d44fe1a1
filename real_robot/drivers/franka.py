"""Franka arms (FR3, Panda) with the Franka Hand over `franky`: joint angles as targets.

The client lives in a process of its own, see `franka_link`: springs and dampers of the joints draw
the arm towards the newest target, a thousand times a second. What stops the arm when software dies,
in order: the driver's process dies, and the link stops the arm at once; the driver is silent, and
the link does after `watchdog_s`; the link dies or hangs, and the arm's controller does after 20 ms.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ...arms.franka_ranges import JOINTS, MARGIN_RAD, RANGES
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
from .franka_hand import MAX_M
from .franka_link import FASTEST, LinkOptions, Reading, Target
from .link_process import LinkedArm, LinkProcess, check_option
from .target_speeds import SpeedEstimate

FCI_PORT = 1337
HINT = 'franky is not installed: pip install "hotstart[franka]"'
CONNECT_S = 15.0
ANSWER_S = 0.3
STOP_S = 2.5
WATCHDOG_S = 0.2
SILENCE_S = 0.5
MOST = {"velocity": FASTEST, "acceleration": 7.0, "jerk": 1000.0}
"""What the options may be set to [rad/s, s^2, s^3]: less than every joint can."""
SPEED_PERIODS = 0.2
"""Targets nearer in time than this share of a period tell no speed."""
DOWN = (math.pi, 0.0, 0.0)
"""The rotation vector of a tool that points down."""
OTHER = 0
GUIDING = 3
REFLEX = 4
USER_STOP = 5
RECOVERING = 6
MODES = {
    OTHER: "not ready: open its brakes and activate FCI in Desk",
    GUIDING: "in guiding mode: let go of the buttons at its wrist",
    REFLEX: "in a reflex",
    USER_STOP: "stopped by its user: release the stop switch",
    RECOVERING: "recovering from an error",
}
"""Modes in which the arm cannot move."""


class Franka(LinkedArm):
    """An FR3 or a Panda whose joints follow absolute targets, and the opening of its hand.

    `host`: its address. `servo_hz`: how often it is commanded, at most 500. `velocity`,
    `acceleration`, `jerk`: limits of the joints [rad]. `stiffness`: of the springs, in shares of
    600 N m/rad at the four big joints and 250, 150 and 50 at the wrist: lower is softer, and lags.
    `watchdog_s`: see the module. `torque_threshold` [N m], `force_threshold` [N]: a contact above
    them is a reflex. `hand`: whether there is a Franka Hand; `hand_speed` [m/s], `hand_force` [N].
    `realtime`: whether to refuse a kernel without real-time priorities. `tool_reference`: on whose
    side rotation vectors are told, see `align_rotvec`.

    Raises ConfigError for an option that is out of range.
    """

    def __init__(
        self,
        host: str,
        arm: Literal["fr3", "panda"] = "fr3",
        servo_hz: float = 250.0,
        velocity: float = 1.0,
        acceleration: float = 4.0,
        jerk: float = 40.0,
        stiffness: float = 1.0,
        watchdog_s: float = WATCHDOG_S,
        torque_threshold: float = 20.0,
        force_threshold: float = 30.0,
        hand: bool = True,
        hand_speed: float = 0.1,
        hand_force: float = 40.0,
        realtime: bool = False,
        tool_reference: tuple[float, float, float] = DOWN,
        silence_s: float = SILENCE_S,
    ) -> None:
        if arm not in RANGES:
            raise ConfigError(unknown("arm", arm, list(RANGES)))
        check_option("servo_hz", servo_hz, 50.0, 500.0)
        check_option("stiffness", stiffness, 0.1, 2.0)
        check_option("watchdog_s", watchdog_s, 2.0 / servo_hz, 1.0)
        check_option("torque_threshold", torque_threshold, 1.0, 100.0)
        check_option("force_threshold", force_threshold, 1.0, 100.0)
        check_option("hand_speed", hand_speed, 0.001, 0.2)
        check_option("hand_force", hand_force, 1.0, 70.0)
        self.name = "franka"
        self.host = host
        self.hand = hand
        self.servo_hz = servo_hz
        self.watchdog_s: float | None = watchdog_s
        self.silence_s = silence_s
        self.action_spec = _make_action_spec(hand)
        parts = (ObsPart("tool", 3, "position"), ObsPart("rotation", 3))
        width = self.action_spec.width
        self.obs_spec = ObsSpec({"joints": ObsKey((width,)), "tool": ObsKey((6,), parts=parts)})
        rates = {"velocity": velocity, "acceleration": acceleration, "jerk": jerk}
        self.limits = _make_limits(arm, rates, hand, hand_speed)
        self._options = LinkOptions(
            host=host,
            watchdog_s=watchdog_s,
            stiffness=stiffness,
            torque_threshold=torque_threshold,
            force_threshold=force_threshold,
            realtime=realtime,
            hand=hand,
            hand_speed=hand_speed,
            hand_force=hand_force,
        )
        self._reference = np.asarray(tool_reference, np.float64)
        self._speeds = SpeedEstimate(self.limits.velocity[:7], SPEED_PERIODS / servo_hz)

    def connect(self) -> None:
        """See `Driver`. Clears an old reflex; refuses an arm with closed brakes or a stop in force.

        Raises DriverError where FCI is off, or another program talks to the arm.
        """
        if importlib.util.find_spec("franky") is None:
            raise ConfigError(HINT)
        self.close()
        self._open_link()
        fault = self.read().fault
        if fault:
            self.close()
            raise DriverError(f"the arm at {self.host} is {fault}")

    def _open_link(self) -> None:
        self._speeds.reset()
        where = f"{self.host}:{FCI_PORT}"
        self._link = LinkProcess("franka_link", self._options.to_word(), where)
        wrong = self._link.wait_until_ready(CONNECT_S)
        if wrong:
            self._drop_link()
            raise DriverError(f"franky cannot connect to {self.host}: {wrong}")

    def read(self) -> ArmState:
        """See `Driver`: within 0.5 s. Raises DriverError where the arm has told nothing for
        `silence_s`, or the connection is lost.
        """
        reading = Reading(*self._get_link().ask("read", max(ANSWER_S, self.silence_s)))
        self._check_silence(reading.made_s, FCI_PORT)
        return self._make_state(reading)

    def _make_state(self, reading: Reading) -> ArmState:
        positions = np.array(reading.joints)
        velocities = np.array(reading.joint_speeds)
        if self.hand:
            positions = np.append(positions, reading.opening)
            velocities = np.append(velocities, 0.0)
        tool = np.array(reading.tool)
        tool[3:] = align_rotvec(tool[3:], self._reference)
        observation = {
            "joints": positions.astype(np.float32),
            "tool": tool.astype(np.float32),
        }
        notes = _list_notes(reading)
        fault = _name_fault(reading)
        return ArmState(reading.made_s, positions, velocities, observation, fault, notes)

    def command(self, target: FloatArray) -> None:
        """See `Driver`: the springs are drawn to it, and their dampers to its speed."""
        goal = np.asarray(target, np.float64)
        opening = 0.0
        if self.hand:
            opening = float(goal[7])
        speeds = self._speeds.update(goal[:7], time.monotonic())
        self._get_link().send("servo", tuple(Target(goal[:7].tolist(), speeds.tolist(), opening)))

    def stop(self) -> None:
        """See `Driver`: dampers bring the joints to rest. Ends within 3 s in any case: a link that
        does not answer is killed, and the arm's controller then stops the arm.
        """
        self._speeds.reset()
        link = self._link
        if link is None:
            return
        try:
            link.ask("stop", STOP_S)
        except DriverError:
            self._drop_link()

    def recover(self) -> None:
        """See `Driver`: the arm's own error recovery, over a new connection if the old one is lost.

        An arm without a fault is left as it is.
        """
        self._speeds.reset()
        if self._link is None or not self._rearm(self._link):
            self._drop_link()
            self._open_link()
        fault = self.read().fault
        if fault:
            raise DriverError(f"the arm at {self.host} is {fault}")

    def _rearm(self, link: LinkProcess) -> bool:
        """Whether the arm could be asked to clear its fault."""
        try:
            if not self.read().fault:
                return True
            wrong = link.ask("rearm", CONNECT_S)
        except DriverError:
            return False
        if wrong:
            raise DriverError(f"the arm at {self.host}: {wrong}")
        return True


def _make_action_spec(hand: bool) -> ActionSpec:
    dims = [ActionDim(name, "rad") for name in JOINTS]
    if hand:
        dims.append(ActionDim("gripper", ""))
    return ActionSpec(tuple(dims))


def _make_limits(arm: str, rates: Mapping[str, float], hand: bool, hand_speed: float) -> Limits:
    """The joints' ranges without their ends, and the rates that the options say."""
    for name, value in rates.items():
        check_option(name, value, 0.001, MOST[name])
    lower, upper = np.array(RANGES[arm][0]) + MARGIN_RAD, np.array(RANGES[arm][1]) - MARGIN_RAD
    limits = Limits(lower, upper, *(np.full(7, value) for value in rates.values()))
    if hand:
        return add_gripper(limits, hand_speed / MAX_M)
    return limits


def _name_fault(reading: Reading) -> str:
    """What keeps the arm from moving, or nothing."""
    fault = MODES.get(reading.mode, "")
    parts = [part for part in (fault, reading.errors, reading.fault) if part]
    return "; ".join(parts)


def _list_notes(reading: Reading) -> dict[str, Any]:
    notes = {"success_rate": reading.success_rate}
    for name, torque in zip(JOINTS, reading.torques, strict=True):
        notes[f"torque_{name}"] = torque
    return notes
