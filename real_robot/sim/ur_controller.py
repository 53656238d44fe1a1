"""A simulated controller of a UR5e: power, safety, the program, and what it tells; no sockets.

Only the thread of the server calls it, except where a method says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.spatial.transform import Rotation

from ...spec import FloatArray, HotstartError
from .body import Body, BodyState
from .faults import Faults
from .ur_motion import PERIOD_S, Motion
from .ur_script import ProtectiveStop, Registers, Script, ScriptError
from .ur_wire import LENGTHS, OUTPUTS, Value


class RobotMode(IntEnum):
    """As RTDE and the dashboard name it."""

    POWER_OFF = 3
    POWER_ON = 4
    IDLE = 5
    RUNNING = 7


class SafetyMode(IntEnum):
    """As RTDE and the dashboard name it."""

    NORMAL = 1
    PROTECTIVE_STOP = 3
    ROBOT_EMERGENCY_STOP = 7


SAFETY_BITS = {
    SafetyMode.NORMAL: 1 << 0,
    SafetyMode.PROTECTIVE_STOP: 1 << 2 | 1 << 10,
    SafetyMode.ROBOT_EMERGENCY_STOP: 1 << 6 | 1 << 7 | 1 << 10,
}
JOINT_MODES = {RobotMode.RUNNING: 253, RobotMode.IDLE: 255, RobotMode.POWER_OFF: 239}
STOPPED = 1
PLAYING = 2
AMPERE_PER_NM = 0.1


def _list_constants() -> dict[str, Value]:
    """What an arm at rest tells of everything that is not simulated."""
    values: dict[str, Value] = {}
    for name, kind in OUTPUTS.items():
        if LENGTHS[kind] > 1:
            values[name] = [0.0] * LENGTHS[kind]
        else:
            values[name] = 0
    values.update(
        speed_scaling=1.0,
        target_speed_fraction=1.0,
        joint_temperatures=[28.0] * 6,
        actual_joint_voltage=[48.0] * 6,
        actual_main_voltage=48.0,
        actual_robot_voltage=48.0,
        actual_robot_current=1.0,
        actual_tool_accelerometer=[0.0, 0.0, 9.81],
    )
    return values


CONSTANTS = _list_constants()


@dataclass(frozen=True)
class ControllerOptions:
    """What of a controller can be set for a rehearsal."""

    powered: bool = True
    """Whether the arm stands ready, with its brakes released."""
    remote: bool = True
    """Whether the pendant is set to remote control."""
    unlock_after_s: float = 5.0
    """So long after a protective stop it can be unlocked [s]."""
    power_s: float = 0.2
    """How long each step of powering on takes [s]; some ten seconds at a real arm."""


class Controller:
    """The state of an arm and its controller. `step` advances it by one period."""

    def __init__(
        self, body: Body, options: ControllerOptions | None = None, faults: Faults | None = None
    ) -> None:
        if body.joints != 6:
            raise HotstartError(f"a UR5e has 6 joints; this arm has {body.joints}")
        self.body = body
        self.options = options or ControllerOptions()
        self.faults = faults or Faults()
        self.remote = self.options.remote
        self.robot_mode = RobotMode.POWER_OFF
        self.safety_mode = SafetyMode.NORMAL
        self.time_s = 0.0
        self.motion = Motion(body.read().positions)
        self.given = Registers()
        self.told = Registers()
        self.script: Script | None = None
        self.messages: list[str] = []
        """What the pendant's log shows, newest last."""
        self._stopped_s = -math.inf
        self._pressed = False  # the emergency stop, by a fault
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._shown = body.read()
        self._shown_before = self._shown
        self._looked_s = 0.0
        self._resets = self._shown.resets
        self._outputs = self._list_outputs()
        if self.options.powered:
            self._release_brakes()

    def step(self) -> None:
        """One period later."""
        self.time_s += PERIOD_S
        self._run_later()
        self._take_faults()
        if self.script is not None:
            self._step_script(self.script)
        self.motion.step()

    def skip(self, periods: int) -> None:
        """The clock goes on, and nothing else: clients would take what comes later for old."""
        self.time_s += periods * PERIOD_S

    def _run_later(self) -> None:
        due = [entry for entry in self._later if entry[0] <= self.time_s]
        self._later = [entry for entry in self._later if entry[0] > self.time_s]
        for _, action in due:
            action()

    def _take_faults(self) -> None:
        fault = self.faults.take("protective_stop")
        if fault is not None:
            self.protect("collision detected by joint")
        if self.faults.take("emergency_stop") is not None:
            self._pressed = True
            self.press_emergency()
        elif self._pressed and self.faults.active("emergency_stop") is None:
            self._pressed = False
            self.release_emergency()

    def _step_script(self, script: Script) -> None:
        try:
            goes_on = script.step()
        except ProtectiveStop as error:
            self.protect(str(error))
            return
        except ScriptError as error:
            self.end_program(f"runtime error: {error}")
            return
        watchdog = script.watchdog
        if watchdog is not None and watchdog.expired():
            self.end_program(
                f"RTDE watchdog of {watchdog.name}: no update for {watchdog.allowed_s:.3f} s"
            )
        elif not goes_on:
            self.end_program("the program ended")

    def drive(self) -> None:
        """Hand the target to the arm's motors: where the arm is, if the scene has begun anew."""
        state = self.body.read()
        if state.resets != self._resets:
            self._resets = state.resets
            self.motion.reset(state.positions)
        if self.robot_mode == RobotMode.RUNNING:
            self.body.command(self.motion.q)

    def log(self, message: str) -> None:
        """Onto the pendant's log."""
        self.messages.append(message)

    def run_program(self, text: str) -> None:
        """Start a program that was sent to the script port; a running one is ended first."""
        if self.script is not None:
            self.end_program("another program came")
        if self.robot_mode != RobotMode.RUNNING or self.safety_mode != SafetyMode.NORMAL:
            self.log("a program came, and the arm is not ready to run it")
            return
        if "rtde_cmd" not in text:
            self.log("only the control script of ur_rtde is simulated")
            return
        self.script = Script(text, self.motion, self.body, self.given, self.told)

    def end_program(self, why: str) -> None:
        """End the program, if one runs; the arm slows down."""
        self.log(why)
        if self.script is not None:
            self.script = None
            self.motion.stop()

    def write(self, values: Mapping[str, Value]) -> None:
        """What a client set."""
        for name, value in values.items():
            if "register" not in name or isinstance(value, Sequence):
                continue
            place = int(name.rsplit("_", 1)[-1])
            if name.startswith("input_int"):
                self.given.ints[place] = int(value)
            else:
                self.given.floats[place] = float(value)
        if self.script is not None:
            self.script.note_written(values)

    def protect(self, why: str) -> None:
        """A protective stop: the arm slows down with its drives on, and the program ends."""
        if self.safety_mode != SafetyMode.NORMAL:
            return
        self.safety_mode = SafetyMode.PROTECTIVE_STOP
        self._stopped_s = self.time_s
        self.end_program(f"protective stop: {why}")

    def unlock(self) -> str:
        """The dashboard's answer to "unlock protective stop"."""
        if self.safety_mode != SafetyMode.PROTECTIVE_STOP:
            return "Protective stop releasing"
        if self.time_s - self._stopped_s < self.options.unlock_after_s:
            return (
                "Cannot unlock protective stop until 5s after occurrence. Always inspect cause of "
                "protective stop before unlocking"
            )
        self.safety_mode = SafetyMode.NORMAL
        return "Protective stop releasing"

    def press_emergency(self) -> None:
        """The emergency stop: the arm slows down, then loses its power."""
        self.safety_mode = SafetyMode.ROBOT_EMERGENCY_STOP
        self.end_program("emergency stop")
        self.motion.stop()
        self._schedule(self.options.power_s, self._cut_power)

    def release_emergency(self) -> None:
        """The button is turned; power stays off. May be called from any thread."""
        self.safety_mode = SafetyMode.NORMAL

    def power_on(self) -> None:
        """Motors get power; brakes hold."""
        if self.robot_mode == RobotMode.POWER_OFF and self.safety_mode == SafetyMode.NORMAL:
            self.robot_mode = RobotMode.POWER_ON
            self._schedule(self.options.power_s, self._become_idle)

    def release_brakes(self) -> None:
        """The arm becomes ready; from power off too."""
        if self.robot_mode == RobotMode.RUNNING or self.safety_mode != SafetyMode.NORMAL:
            return
        self._schedule(2 * self.options.power_s, self._release_brakes)

    def power_off(self) -> None:
        """The brakes hold; the program ends."""
        self.end_program("power off")
        self._cut_power()

    def _schedule(self, after_s: float, action: Callable[[], None]) -> None:
        self._later.append((self.time_s + after_s, action))

    def _become_idle(self) -> None:
        if self.robot_mode == RobotMode.POWER_ON:
            self.robot_mode = RobotMode.IDLE

    def _release_brakes(self) -> None:
        self.motion.reset(self.body.read().positions)
        self.body.set_power(True)
        self.robot_mode = RobotMode.RUNNING

    def _cut_power(self) -> None:
        self.robot_mode = RobotMode.POWER_OFF
        self.body.set_power(False)
        self.motion.reset(self.body.read().positions)

    def find_output(self, name: str) -> Callable[[], Value]:
        """What tells an output variable whenever it is called."""
        if "register" not in name:
            return self._outputs.get(name, lambda: CONSTANTS[name])
        place = int(name.rsplit("_", 1)[-1])
        if name.startswith("output_int"):
            return lambda: self.told.ints[place]
        return lambda: self.told.floats[place]

    def _list_outputs(self) -> Mapping[str, Callable[[], Value]]:
        """What of the output variables is simulated, beside the registers."""
        return {
            "timestamp": self._tell_time,
            "target_q": lambda: self.motion.q.tolist(),
            "target_qd": lambda: self.motion.qd.tolist(),
            "target_qdd": lambda: self.motion.qdd.tolist(),
            "target_moment": lambda: self._look().torques.tolist(),
            "actual_q": lambda: self._look().positions.tolist(),
            "actual_qd": lambda: self._look().velocities.tolist(),
            "actual_current": lambda: (self._look().torques * AMPERE_PER_NM).tolist(),
            "actual_TCP_pose": lambda: self._look().tool.tolist(),
            "target_TCP_pose": lambda: self._look().tool.tolist(),
            "actual_TCP_speed": self._tell_tool_speed,
            "robot_mode": lambda: self.robot_mode,
            "joint_mode": lambda: [JOINT_MODES.get(self.robot_mode, 255)] * 6,
            "safety_mode": lambda: self.safety_mode,
            "safety_status": lambda: self.safety_mode,
            "safety_status_bits": lambda: SAFETY_BITS[self.safety_mode],
            "robot_status_bits": self._tell_status,
            "runtime_state": lambda: [STOPPED, PLAYING][self.script is not None],
        }

    def _tell_time(self) -> float:
        self._look()
        return self._looked_s

    def _tell_status(self) -> int:
        powered = self.robot_mode != RobotMode.POWER_OFF
        return int(powered) | int(self.script is not None) << 1

    def _tell_tool_speed(self) -> list[float]:
        after = self._look()
        if after.made_s <= self._shown_before.made_s:
            return [0.0] * 6
        return find_tool_speed(self._shown_before, after).tolist()

    def _look(self) -> BodyState:
        """The body, as it is told in this period."""
        if self._looked_s != self.time_s and self.faults.active("stale") is None:
            self._looked_s = self.time_s
            self._shown_before = self._shown
            self._shown = self.body.read()
        return self._shown


def find_tool_speed(before: BodyState, after: BodyState) -> FloatArray:
    """Linear [m/s] and angular [rad/s] velocity (6,) of the tool between two states."""
    turn = Rotation.from_rotvec(after.tool[3:]) * Rotation.from_rotvec(before.tool[3:]).inv()
    step = np.concatenate([after.tool[:3] - before.tool[:3], turn.as_rotvec()])
    return step / (after.made_s - before.made_s)
