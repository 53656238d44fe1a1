"""A whole simulated arm: its scene, its device at the wire, its control port and its cameras."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ...spec import ConfigError, unknown
from ..drivers.arm_form import KOCH, SO101
from .bus import BusOptions
from .bus_arms import make_bus
from .camera_server import CameraServer, CameraSettings
from .faults import Faults, Link
from .stage import Stage
from .ur_server import Ports, UrServer
from .world import World


@dataclass(frozen=True)
class RehearsalOptions:
    """What a simulated arm is, and where it is reached."""

    arm: str
    address: str = "127.0.0.1"
    """A simulated UR5e has the ports of a real one, so each needs an address of its own."""
    link_path: Path | None = None
    """Where the terminal of a servo bus is to be found; None: its own name is printed."""
    stage_port: int = 0
    """0: any free port."""
    cameras: bool = True
    camera_port: int = 0
    camera_px: int = 96
    camera_fps: float = 30.0
    link: Link = Link()
    seed: int = 0


Device = AbstractContextManager[str]
"""A device at the wire while it is open; it tells the words that reach it."""


@contextmanager
def open_ur5e(world: World, faults: Faults, options: RehearsalOptions) -> Iterator[str]:
    """A UR5e: RTDE, dashboard and script ports."""
    with UrServer(world, Ports(options.address), faults=faults) as server:
        yield f"robot=ur5e robot.host={server.ports.address} robot.power_on=true"


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


@dataclass(frozen=True)
class SimulatedArm:
    """How an arm is simulated."""

    scene: str
    open_device: Callable[[World, Faults, RehearsalOptions], Device]


ARMS: Mapping[str, SimulatedArm] = {
    "ur5e": SimulatedArm("ur5e_push", open_ur5e),
    "so101": SimulatedArm("so101_lift", open_so101),
    "dynamixel": SimulatedArm("so101_lift", open_koch),
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
        world = stack.enter_context(World(arm.scene, options.seed))
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

    def wait(self) -> None:
        """Until the program is interrupted."""
        while True:
            time.sleep(1.0)
