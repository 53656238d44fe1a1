"""An arm in the controller's own process, with a trace of what happened to it, for the tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from hotstart.real_robot.driver import ArmState, DriverError
from hotstart.spec import ActionDim, ActionSpec, Limits, ObsKey, ObsSpec

LAG_S = 0.02
FASTEST = 3.0
SPEC = ActionSpec((ActionDim("shoulder", "rad"), ActionDim("elbow", "rad"), ActionDim("gripper")))


class Arm:
    """Two joints and a gripper, a little behind their targets. Every call is a line of `trace`.

    `fault`: what happens `fault_s` after the first command: "read" and "command" raise DriverError,
    "bug" raises something else, "stale" and "fault" are states, "exit" ends the process, "hang"
    hangs it. So often `stop` fails.
    """

    def __init__(
        self,
        trace: str = "",
        servo_hz: float = 125.0,
        begin: float = 0.0,
        fault: str = "",
        fault_s: float = 0.0,
        stop_failures: int = 0,
        refuse: str = "",
    ) -> None:
        self.name, self.servo_hz = "test arm", servo_hz
        self.action_spec = SPEC
        self.obs_spec = ObsSpec({"joints": ObsKey((3,)), "turns": ObsKey((1,), "int64")})
        self.limits = Limits(
            np.array([-3.0, -3.0, 0.0]),
            np.array([3.0, 3.0, 1.0]),
            np.array([2.5, 2.5, 4.0]),
            np.array([20.0, 20.0, 60.0]),
            np.full(3, 1000.0),
        )
        self.watchdog_s: float | None = 0.1
        self.fault, self.fault_s = fault, fault_s
        self.stop_failures, self.refuse = stop_failures, refuse
        self._file = Path(trace or os.devnull).open("a", buffering=1)  # noqa: SIM115
        self.position = np.full(3, begin)
        self.target = self.position.copy()
        self.first_s = np.inf
        self.turns = 0
        self.stopped = False

    def connect(self) -> None:
        self._note("connect")
        if self.refuse:
            raise DriverError(self.refuse)
        self.made_s = time.monotonic()

    def _note(self, what: str) -> None:
        values = " ".join(f"{value:.6f}" for value in self.position)
        goal = " ".join(f"{value:.6f}" for value in self.target)
        self._file.write(f"{time.monotonic():.6f} {what} {values} {goal}\n")

    def _move(self) -> float:
        now_s = time.monotonic()
        passed_s = now_s - self.made_s
        speed = np.clip((self.target - self.position) / LAG_S, -FASTEST, FASTEST)
        self.position = self.position + speed * min(passed_s, LAG_S)
        self.made_s = now_s
        return now_s

    def _fails(self, what: str) -> bool:
        return self.fault == what and time.monotonic() > self.first_s + self.fault_s

    def read(self) -> ArmState:
        now_s = self._move()
        self.turns += 1
        if self._fails("read"):
            raise DriverError("test arm: the cable is out")
        if self._fails("bug"):
            raise ZeroDivisionError("a bug of the driver")
        if self._fails("exit"):
            os._exit(7)
        if self._fails("hang"):
            time.sleep(30)
        told = ""
        if self._fails("fault"):
            told = "protective stop"
        if self._fails("stale"):
            now_s = self.first_s + self.fault_s
        seen = {
            "joints": self.position.astype(np.float32),
            "turns": np.array([self.turns], np.int64),
        }
        return ArmState(now_s, self.position, np.zeros(3), seen, told, {"temperature": 40.0})

    def command(self, target) -> None:
        if self.stopped:
            raise DriverError("test arm: it was stopped, recover() first")
        self._move()
        self.first_s = min(self.first_s, time.monotonic())
        if self._fails("command"):
            raise DriverError("test arm: the target was lost")
        self.target = np.array(target)
        self._note("command")

    def stop(self) -> None:
        self._note("stop")
        if self.stop_failures > 0:
            self.stop_failures -= 1
            raise DriverError("test arm: stop was lost")
        self.target = self.position.copy()
        self.stopped = True

    def recover(self) -> None:
        self._note("recover")
        self.fault = ""
        self.stopped = False

    def close(self) -> None:
        self._note("close")
        self._file.close()
