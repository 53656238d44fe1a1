"""What the script does that `ur_rtde` uploads to a controller of Universal Robots.

The client writes a command's number and arguments into input registers. Commands for real time are
carried out in every period as long as they stand there, and the script reports "ready". For the
others it reports "done" when they have ended, and "ready" after the client has cleared the number.
The text that the client uploads is the specification of all this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ...spec import FloatArray, HotstartError
from .body import Body
from .ur_motion import ACCELERATION_LIMIT, PERIOD_S, SPEED_LIMIT, Motion, Move, Servo, Speed
from .ur_wire import REGISTERS

READY = 1
DONE = 2
REAL_TIME = {6, 9, 10, 11, 24, 25, 26, 27, 38, 58, 66, 67, 68, 69, 70, 71}
STOP_SCRIPT = 255
RUNNING_BIT = 32768
PATH_POINTS = 64
LINE_STEP_M = 0.005
LEVER_M = 0.85
"""Decelerations of the tool [m/s^2] act on joints as if it were so far away: the arm's reach."""

Pending = Callable[[], bool]
"""Whether what a command began has ended."""


class ScriptError(HotstartError):
    """The script ends with an error of its own, as the controller ends it."""


class ProtectiveStop(HotstartError):
    """The controller stops the arm to protect it."""


class Registers:
    """Whole numbers and floats that a client and the script exchange."""

    def __init__(self) -> None:
        self.ints = [0] * REGISTERS
        self.floats = [0.0] * REGISTERS


class Watchdog:
    """Of an input register: it must be written often enough."""

    def __init__(self, name: str, min_hz: float) -> None:
        self.name = name
        self.allowed_s = 1.0 / min_hz
        self.silent_s = 0.0

    def expired(self) -> bool:
        """One period later: whether the register has been silent for too long."""
        self.silent_s += PERIOD_S
        return self.silent_s > self.allowed_s


class Script:
    """One upload, from its start until it ends. `step` is one period."""

    def __init__(
        self, text: str, motion: Motion, body: Body, given: Registers, told: Registers
    ) -> None:
        self.motion = motion
        self.body = body
        self.given = given  # what the client wrote
        self.told = told  # what the script reports
        self.offset = _find_offset(text)
        self.watchdog: Watchdog | None = None
        self.payload_kg: float | None = None
        self._executed = False
        self._pending: Pending | None = None
        self._moving = False  # a move that the client does not wait for
        self._operation = 0
        self._writes = 0
        self._solved_tool = np.full(6, np.nan)
        self._solved_joints = np.zeros(6)
        self._commands = self._list_commands()
        self._report_progress(-1)

    def step(self) -> bool:
        """Whether the script goes on. Raises ScriptError, ProtectiveStop."""
        self._watch_moves()
        if self._pending is not None:
            if not self._pending():
                return True
            self._pending = None
            self._report(DONE)
            return True
        number = self.given.ints[self.offset]
        if number in REAL_TIME:
            self._run(number)
            self._report(READY)
        elif number == 0:
            self._executed = False
            self._report(READY)
        elif number == STOP_SCRIPT:
            return False
        elif not self._executed:
            self._executed = True
            self._pending = self._run(number) or _at_once
        return True

    def note_written(self, names: Container[str]) -> None:
        """A client has written these registers."""
        if self.watchdog is not None and self.watchdog.name in names:
            self.watchdog.silent_s = 0.0

    def _report(self, state: int) -> None:
        self.told.ints[self.offset] = state

    def _run(self, number: int) -> Pending | None:
        command = self._commands.get(number)
        if command is None:
            raise ScriptError(f"command {number} of ur_rtde is not simulated")
        return command()

    def _list_commands(self) -> Mapping[int, Callable[[], Pending | None]]:
        return {
            1: lambda: self._move([self._floats(0)]),
            2: lambda: self._move([self._solve(self._floats(0))]),
            3: lambda: self._move_straight(self._floats(0)),
            8: _do_nothing,  # zero the force sensor
            9: self._speed,
            11: lambda: self._servo(self._floats(0)),
            15: lambda: self._stop(self._float(0)),
            16: lambda: self._stop(self._float(0) / LEVER_M),
            17: self._set_payload,
            24: lambda: self._servo(self._solve(self._floats(0))),
            26: self._tell_step_time,
            30: self._tell_joints,
            31: self._stop_to_protect,
            33: lambda: self._stop_maybe_waiting(self._float(0) / LEVER_M),
            34: lambda: self._stop_maybe_waiting(self._float(0)),
            35: self._set_watchdog,
            36: self._check_pose,
            37: lambda: self._tell_flag(self._is_safe(self._floats(0))),
            38: lambda: self._tell_floats(self.body.read().torques),
            39: self._transform,
            40: lambda: self._tell_floats(np.zeros(6)),  # the offset of the tool's centre
            43: lambda: self._tell_floats(self.body.read().tool),
            46: self._tell_joints,
            47: lambda: self._tell_flag(self.motion.resting),
        }

    def _float(self, index: int) -> float:
        return self.given.floats[self.offset + index]

    def _floats(self, first: int) -> FloatArray:
        start = self.offset + first
        return np.array(self.given.floats[start : start + 6])

    def _int(self, index: int) -> int:
        return self.given.ints[self.offset + index]

    def _tell_floats(self, values: Sequence[float] | FloatArray) -> None:
        for index, value in enumerate(values):
            self.told.floats[self.offset + index] = float(value)

    def _tell_flag(self, flag: bool) -> None:
        self.told.ints[self.offset + 1] = int(flag)

    def _solve(self, tool: FloatArray) -> FloatArray:
        """Joint angles for a pose; the controller ends a script that asks for the impossible.

        A command for real time asks for the same pose in every period: it is solved once.
        """
        if not np.array_equal(tool, self._solved_tool):
            try:
                self._solved_joints = self.body.solve_joints(tool, self.motion.q)
            except HotstartError as error:
                raise ScriptError(f"get_inverse_kin found no solution: {error}") from error
            self._solved_tool = tool
        return self._solved_joints

    def _servo(self, target: FloatArray) -> None:
        lookahead = self._float(9)
        gain = self._float(10)
        mode = Servo(target, lookahead, gain)
        if mode.is_jump(self.motion.q):
            far = float(np.abs(target - self.motion.q).max())
            raise ProtectiveStop(
                f"path sanity check failed: sudden change in target position by {far:.2f} rad"
            )
        self.motion.mode = mode

    def _speed(self) -> None:
        self.motion.mode = Speed(self._floats(0), self._float(6), self._float(7))

    def _move(self, points: Sequence[FloatArray]) -> Pending | None:
        path = np.stack([self.motion.q, *points])
        length = float(np.abs(path[-1] - path[0]).max())
        speed = min(self._float(6), SPEED_LIMIT)
        acceleration = min(self._float(7), ACCELERATION_LIMIT)
        return self._go(Move(path, length, speed, acceleration))

    def _move_straight(self, tool: FloatArray) -> Pending | None:
        start = self.body.read().tool
        length = float(np.linalg.norm(tool[:3] - start[:3]))
        count = int(np.clip(length / LINE_STEP_M, 2, PATH_POINTS))
        turns = Slerp([0.0, 1.0], Rotation.from_rotvec([start[3:], tool[3:]]))
        path = [self.motion.q]
        for share in np.linspace(0, 1, count + 1)[1:]:
            place = start[:3] + share * (tool[:3] - start[:3])
            pose = np.concatenate([place, turns(share).as_rotvec()])
            path.append(self.body.solve_joints(pose, path[-1]))
        turned = float(np.abs(path[-1] - path[0]).max())
        return self._go(Move(np.stack(path), max(length, turned), self._float(6), self._float(7)))

    def _go(self, move: Move) -> Pending | None:
        """Begin a move; the client waits for it unless it asked for an asynchronous one."""
        self.motion.mode = move
        if self._int(1) == 1:
            self._moving = True
            self._report_progress(0)
            return None
        return self._is_resting

    def _is_resting(self) -> bool:
        return self.motion.resting

    def _watch_moves(self) -> None:
        if self._moving and self.motion.resting:
            self._moving = False
            self._report_progress(-1)

    def _report_progress(self, progress: int) -> None:
        """How far an asynchronous operation is: bits 24 to 30 its number, 16 to 22 a counter of
        reports, 15 whether it runs, the rest the progress.
        """
        self._writes = (self._writes + 1) % 128
        if progress == 0:
            self._operation = (self._operation + 1) % 128
        value = self._operation * 2**24 + self._writes * 2**16
        if progress >= 0:
            value += RUNNING_BIT + progress
        self.told.ints[self.offset + 2] = value

    def _stop(self, acceleration: float) -> Pending:
        self.motion.stop(acceleration)
        return self._is_resting

    def _stop_maybe_waiting(self, acceleration: float) -> Pending | None:
        self.motion.stop(acceleration)
        if self._int(1) == 1:
            self._moving = True
            self._report_progress(0)
            return None
        return self._is_resting

    def _tell_joints(self) -> None:
        self._tell_floats(self._solve(self._floats(0)))

    def _set_payload(self) -> None:
        self.payload_kg = self._float(0)

    def _set_watchdog(self) -> None:
        self.watchdog = Watchdog(f"input_int_register_{self.offset}", self._float(0))

    def _tell_step_time(self) -> None:
        self._tell_floats([PERIOD_S])

    def _stop_to_protect(self) -> None:
        raise ProtectiveStop("protective_stop() was called by the script")

    def _check_pose(self) -> None:
        try:
            q = self._solve(self._floats(0))
        except ScriptError:
            self._tell_flag(False)
            return
        self._tell_flag(self._is_safe(q))

    def _is_safe(self, q: FloatArray) -> bool:
        return bool(np.abs(q).max() <= 2 * np.pi)

    def _transform(self) -> None:
        first = self._floats(0)
        second = self._floats(6)
        turn = Rotation.from_rotvec(first[3:])
        place = first[:3] + turn.apply(second[:3])
        whole = turn * Rotation.from_rotvec(second[3:])
        self._tell_floats(np.concatenate([place, whole.as_rotvec()]))


def _at_once() -> bool:
    return True


def _do_nothing() -> None:
    return None


def _find_offset(text: str) -> int:
    """The first register that the script uses: 0 or 24."""
    found = re.search(r"reg_offset_int = (\d+)", text)
    if found is None:
        return 0
    return int(found.group(1))
