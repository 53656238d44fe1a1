"""The options of `hotstart robot`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..spec import REQUIRED, option


@dataclass
class SimulateArm:
    """A simulated arm at the wire, to rehearse a deployment with; Ctrl-C ends it.

    The vendor's own client connects to it as to the arm. MuJoCo moves it by the wall clock.

      hotstart robot sim ur5e
      hotstart robot sim so101 path=/tmp/so101 stage_port=8765
    """

    arm: Literal["ur5e", "so101", "dynamixel", "franka"] = option(
        REQUIRED, "which arm", positional=True
    )
    address: str = option("127.0.0.1", "address of a UR5e or Franka; a second takes 127.0.0.2")
    environment: str = option(
        "", "Franka: virtual environment with franky-sim; empty: $HOTSTART_FRANKY_SIM"
    )
    strict: bool = option(False, "Franka: whether 20 ms without a command are a reflex")
    gripper: bool = option(False, "UR5e: whether a gripper of Robotiq answers, outside the scene")
    path: Path | None = option(None, "link to the terminal of a servo bus; none: its own name")
    stage_port: int = option(0, "port that begins episodes, judges them, injects faults; 0: free")
    camera_port: int = option(0, "port of the cameras' pictures (MJPEG over HTTP); 0: free")
    camera_px: int = option(96, "side of the pictures", "px")
    camera_fps: float = option(30.0, "pictures a second", "Hz")
    delay_ms: float = option(0.0, "what the connection delays every message", "ms")
    jitter_ms: float = option(0.0, "at most so much longer, drawn anew for each message", "ms")
    loss: float = option(0.0, "share of messages that are lost")
    seed: int = option(0, "seed of the scene, and of chance")


@dataclass
class CalibrateArm:
    """Find homing offsets and ranges of a servo-bus arm that you move by hand; it goes limp.

    Hold the arm first. Move every joint from end to end, press Enter, and do it once more.

      hotstart robot calibrate so101 port=/dev/ttyACM0 out=so101.json
    """

    arm: Literal["so101", "koch"] = option(REQUIRED, "which arm", positional=True)
    port: str = option(REQUIRED, "serial port of its adapter")
    out: Path = option(Path("calibration.json"), "file for robot.calibration=")
    overwrite: bool = option(False, "whether a file at out may be replaced by the new one")


@dataclass
class MeasureLatency:
    """Measure how long an arm takes from a command to its motion: one joint moves by a chirp.

    The joint swings by `amplitude` about where it is, for 8 s: leave it room.

      hotstart robot latency ur5e options=host:192.168.1.10 joint=5 out=latency.json
    """

    arm: str = option(REQUIRED, "which arm, as robot= in `hotstart deploy`", positional=True)
    options: dict[str, str] = option({}, "options of its driver, as port:/dev/ttyACM0")
    joint: int = option(0, "which number of the action moves, from 0")
    amplitude: float = option(0.05, "how far it swings", "rad or m")
    out: Path = option(Path("arm_latency.json"), "file for the figure")
    overwrite: bool = option(False, "whether a file at out may be replaced by the new one")
