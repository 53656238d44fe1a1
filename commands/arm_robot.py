"""A robot by its name for who moves it without a policy: an arm, or what a package brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from ..configs.recording import OnRobot
from ..real_robot import make_robot
from ..real_robot.cameras import read_camera
from ..real_robot.cameras.base import Camera
from ..real_robot.drivers.registry import names as arm_names
from ..real_robot.registry import names as robot_names
from ..real_robot.safety import SafetyOptions, Workspace
from ..real_robot.servo import DriverFactory, ServoOptions
from ..real_robot.servo_robot import ServoRobot
from ..real_robot.sim.stage import StageClient
from ..real_robot.staged_robot import StagedRobot
from ..spec import ConfigError, Robot, unknown

LOOPBACK = ("127.0.0.1", "localhost")


@contextmanager
def open_robot(options: OnRobot, share: float = 1.0) -> Iterator[Robot]:
    """The robot of this name, connected; nothing moves before its `reset`.

    An arm gets its controller process and cameras, and uses a `share` of its limits of velocity and
    acceleration; a package's robot brings all of its own. Raises
    ConfigError for an unknown name or option, DriverError and CameraError where one cannot be
    reached.
    """
    part = options.robot
    with ExitStack() as stack:
        if part.name in robot_names():
            robot = make_robot(part.name, **part.options)
            close = getattr(robot, "close", None)
            if close is not None:
                stack.callback(close)
            yield robot
            return
        if part.name not in arm_names():
            raise ConfigError(unknown("robot", part.name, [*arm_names(), *robot_names()]))
        cameras = start_cameras(stack, make_cameras(options))
        safety = SafetyOptions(workspace=make_workspace(options.box))
        servo = ServoOptions(safety=safety, speed=share)
        factory = DriverFactory(part.name, dict(part.options))
        arm = stack.enter_context(ServoRobot(factory, options.rate_hz, cameras, servo))
        if not options.stage:
            yield arm
            return
        yield stack.enter_context(put_on_stage(arm, options.stage))


def start_cameras(stack: ExitStack, cameras: Mapping[str, Camera]) -> Mapping[str, Camera]:
    """The cameras, started; each is closed with the stack."""
    for camera in cameras.values():
        camera.start()
        stack.callback(camera.close)
    return cameras


def put_on_stage(arm: Robot, address: str) -> StagedRobot:
    """An arm with the stage at HOST:PORT around it."""
    host, port = find_stage(address)
    return StagedRobot(arm, StageClient(port, host))


def check_robot(options: OnRobot) -> None:
    """Raise ConfigError for options that cannot be, before anything is connected."""
    if not options.rate_hz > 0:
        raise ConfigError(f"rate_hz is {options.rate_hz:g}; a rate above 0 is wanted")
    if len(options.camera_size) != 2 or min(options.camera_size) < 1:
        raise ConfigError(f"camera_size is {options.camera_size}; height,width are wanted")
    make_workspace(options.box)
    if options.stage:
        find_stage(options.stage)


def make_cameras(options: OnRobot) -> dict[str, Camera]:
    """The cameras, not started."""
    height, width = options.camera_size
    cameras: dict[str, Camera] = {}
    for name, text in options.cameras.items():
        cameras[name] = read_camera(name, text, height=height, width=width)
    return cameras


def find_stage(text: str) -> tuple[str, int]:
    """Host and port of a control port; raises ConfigError for anything but HOST:PORT here."""
    host, port = text.rpartition(":")[::2]
    if not port.isdigit() or not 0 < int(port) < 65536 or host not in LOOPBACK:
        raise ConfigError(
            f"stage is {text!r}; 127.0.0.1:PORT is wanted, as `hotstart robot sim` prints it"
        )
    return host, int(port)


def make_workspace(box: Sequence[float]) -> Workspace | None:
    """The workspace of a box [x0, x1, y0, y1, z0, z1]; None: no limit but the arm's.

    Raises ConfigError for another number of edges, and for edges in the wrong order.
    """
    if not box:
        return None
    if len(box) != 6:
        raise ConfigError(f"box is {box}; six numbers are wanted: x0,x1,y0,y1,z0,z1")
    edges = np.array(box, np.float64).reshape(3, 2)
    if not (edges[:, 0] < edges[:, 1]).all():
        raise ConfigError(f"box is {list(box)}; x0 < x1, y0 < y1 and z0 < z1 are wanted")
    lower, upper = edges[:, 0].tolist(), edges[:, 1].tolist()
    return Workspace(lower=tuple(lower), upper=tuple(upper))
