"""An arm without a device: the end of a measurement of the controller itself."""

from __future__ import annotations

import time

import numpy as np

from ..real_robot.driver import ArmState
from ..spec import ActionDim, ActionSpec, FloatArray, Limits, ObsKey, ObsSpec


class ModelArm:
    """Joints that are where they were told to be; see `real_robot.driver.Driver`."""

    def __init__(self, joints: int, servo_hz: float) -> None:
        self.name, self.servo_hz = "model arm", servo_hz
        dims = [ActionDim(f"joint_{number}", "rad") for number in range(joints)]
        self.action_spec = ActionSpec(tuple(dims))
        self.obs_spec = ObsSpec({"joints": ObsKey((joints,))})
        self.limits = Limits(
            lower=np.full(joints, -3.0),
            upper=np.full(joints, 3.0),
            velocity=np.full(joints, 2.0),
            acceleration=np.full(joints, 10.0),
            jerk=np.full(joints, 200.0),
        )
        self.watchdog_s: float | None = None
        self._positions: FloatArray = np.zeros(joints)

    def connect(self) -> None:
        """Nothing to open."""

    def read(self) -> ArmState:
        """Where it was told to be."""
        seen = {"joints": self._positions.astype(np.float32)}
        return ArmState(time.monotonic(), self._positions, np.zeros_like(self._positions), seen)

    def command(self, target: FloatArray) -> None:
        """Be there."""
        self._positions = target

    def stop(self) -> None:
        """It rests already."""

    def recover(self) -> None:
        """It has no faults."""

    def close(self) -> None:
        """Nothing to close."""
