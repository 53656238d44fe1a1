"""A whole simulated arm: its scene, its device at the wire, its control port and its cameras."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from ...arms import make_scene
from ...spec import ConfigError, unknown
from ..drivers.arm_form import KOCH, SO101
from .bus import BusOptions
from .bus_arms import make_bus
from .camera_server import CameraServer, CameraSettings
from .faults import Faults, Link
from .franka import FrankaServer
from .franka_world import SCENE as FRANKA_SCENE
from .franka_world import FrankaWorld, describe_object
from .robotiq import RobotiqServer
from .stage import Stage
from .ur_server import Ports, UrServer
from .world import World


@dataclass(frozen=True)
class RehearsalOptions:
    """What a simulated arm is, and where it is reached."""

    arm: str
    address: str = "127.0.0.1"
    """A simulated UR5e or Franka has the ports of a real one: each needs an address of its own."""
    environment: str = ""
    """Of franky-sim, see `franka.find_python`."""
    strict: bool = False
    """See `FrankaServer`."""
    link_path: Path | None = None
    """Where the terminal of a servo bus is to be found; None: its own name is printed."""
    stage_port: int = 0
    """0: any free port."""
    cameras: bool = True
    camera_port: int = 0
    camera_px: int = 96
    camera_fps: float = 30.0
    link: Link = Link()
    gripper: bool = False
    """Whether a UR5e has a gripper of Robotiq; its fingers are not in the scene."""
    seed: int = 0


Device = AbstractContextManager[str]
"""A device at the wire while it is open; it tells the words that reach it."""


@contextmanager
def open_ur5e(world: World, faults: Faults, options: RehearsalOptions) -> Iterator[str]:
    """A UR5e: RTDE, dashboard and script ports."""
    words = f"robot=ur5e robot.host={options.address} robot.power_on=true"
    with ExitStack() as stack:
        stack.enter_context(UrServer(world, Ports(options.address), faults=faults))
        if options.gripper:
            stack.enter_context(RobotiqServer(options.address, faults=faults))
            words += " robot.gripper=robotiq"
        yield words


@contextmanager
def open_so101(world: World, faults: Faults, options: RehearsalOptions) -> Iterator[str]:
    """An SO-101: six STS3215 motors on a pseudo-terminal."""
    with make_bus(SO101, world, faults, BusOptions(link=options.link_path)) as bus:
        yield f"robot=so101 robot.port={bus.link or bus.path} robot.calibration=nominal"


@contextmanager
def open_koch(world: World, faults: Faults, options: RehearsalOptions) -> Iterator[str]:
    """A Koch: six Dynamixel motors on a pseudo-terminal, which move an arm of the same build."""
    with make_bus(KOCH, world, faults, BusOptions(link=options.link_path)) as bus:
        yield f"robot=koch robot.port={bus.link or bus.path} robot.calibration=nominal"


@contextmanager
def open_franka(world: World, faults: Faults, options: RehearsalOptions) -> Iterator[str]:
    """A Franka: its world is at the wire already."""
    yield f"robot=franka robot.host={options.address}"


@contextmanager
def open_world(scene: str, options: RehearsalOptions) -> Iterator[World]:
    """The world of a scene, which runs by the wall clock."""
    with World(scene, options.seed) as world:
        yield world


@contextmanager
def open_franka_world(options: RehearsalOptions) -> Iterator[World]:
    """The world of franky-sim, which answers libfranka's protocol.

    Raises ConfigError for a connection with faults, which it does not simulate.
    """
    if options.link != Link():
        raise ConfigError("a simulated Franka has no delay_ms, jitter_ms and loss: leave them at 0")
    scene = make_scene(FRANKA_SCENE)
    things = describe_object(scene)
    server = FrankaServer(options.environment, options.address, options.strict, things)
    with server, FrankaWorld(scene, server, options.seed) as world:
        yield world


@dataclass(frozen=True)
class SimulatedArm:
    """How an arm is simulated."""

    open_world: Callable[[RehearsalOptions], AbstractContextManager[World]]
    open_device: Callable[[World, Faults, RehearsalOptions], Device]


ARMS: Mapping[str, SimulatedArm] = {
    "ur5e": SimulatedArm(partial(open_world, "ur5e_push"), open_ur5e),
    "so101": SimulatedArm(partial(open_world, "so101_lift"), open_so101),
    "dynamixel": SimulatedArm(partial(open_world, "so101_lift"), open_koch),
    "franka": SimulatedArm(open_franka_world, open_franka),
}


class Rehearsal:
    """A simulated arm that runs by the wall clock until it is closed. Use it in a `with`."""

    def __init__(self, options: RehearsalOptions) -> None:
        """Raises ConfigError for an arm that is not simulated."""
        if options.arm not in ARMS:
            raise ConfigError(unknown("simulated arm", options.arm, sorted(ARMS)))
        self.options = options
        self.faults = Faults(options.link, options.seed)
        self.device_words = ""
        """The words of a command that reach the device, as `robot=ur5e robot.host=127.0.0.1`."""
        self.stage_address = ""
        self.world: World | None = None
        self.camera_urls: dict[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _start(self, stack: ExitStack) -> None:
        options = self.options
        arm = ARMS[options.arm]
        world = stack.enter_context(arm.open_world(options))
        self.world = world
        self.device_words = stack.enter_context(arm.open_device(world, self.faults, options))
        stage = stack.enter_context(Stage(world, self.faults, options.stage_port))
        self.stage_address = f"127.0.0.1:{stage.port}"
        if not options.cameras:
            return
        side = options.camera_px
        settings = CameraSettings(fps=options.camera_fps, height=side, width=side)
        cameras = stack.enter_context(
            CameraServer(world, self.faults, settings, options.camera_port)
        )
        for name in world.scene.cameras:
            self.camera_urls[name] = cameras.address(name)

    def describe(self) -> str:
        """The words of `hotstart deploy` that reach all of it."""
        words = [f"hotstart deploy CHECKPOINT {self.device_words}", f"stage={self.stage_address}"]
        for name, url in self.camera_urls.items():
            words.append(f"cameras.{name}={url}")
        command = " \\\n      ".join(words)
        return (
            f"a simulated {self.options.arm} is ready; cameras are for policies that read them:\n"
            f"  {command}"
        )

    def describe_end(self) -> str:
        """What to say when it has ended."""
        if isinstance(self.world, FrankaWorld):
            return f"the simulated arm has ended; it moved at {self.world.share:.2f} of real time"
        return "the simulated arm has ended"

    def wait(self) -> None:
        """Until the program is interrupted; raises HotstartError where the simulation fails."""
        assert self.world is not None
        while True:
            self.world.read()
            time.sleep(1.0)
