"""`hotstart robot sim so101`: an arm on a simulated servo bus, in a MuJoCo scene, until it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...spec import ConfigError, unknown
from ..drivers.arm_form import KOCH, SO101, ArmForm, read_form
from . import dynamixel, feetech
from .body import Body
from .bus import BusOptions, SimulatedBus, check_arm, make_mounts
from .faults import Faults, Link
from .plain_body import PlainBody
from .world import World

ARMS = {"so101": SO101, "dynamixel": KOCH}
NO_SCENE = "none"


@dataclass(frozen=True)
class BusServeOptions:
    """What `serve` simulates, and where."""

    arm: str = "so101"
    """so101, dynamixel (a Koch), or the YAML of another arm."""
    scene: str = "so101_lift"
    """Of `arms.SCENES`; "none": joints without mass, which follow their goals."""
    seed: int = 0
    bus: BusOptions = field(default_factory=BusOptions)
    link: Link = field(default_factory=Link)
    """What happens to every message, faults apart."""


@dataclass(frozen=True)
class SimulatedArm:
    """An arm on its bus, and what moves with it."""

    form: ArmForm
    body: Body
    bus: SimulatedBus[Any]
    faults: Faults

    def describe(self) -> str:
        """Where it is, and how to connect to it."""
        path = self.bus.link or self.bus.path
        return f"a simulated {self.form.name} is at {path}; connect with calibration=nominal"


def find_form(arm: str) -> ArmForm:
    """An arm by its name, or from a YAML file; raises ConfigError."""
    if arm in ARMS:
        return ARMS[arm]
    if arm.endswith((".yaml", ".yml")):
        return read_form(Path(arm).expanduser())
    raise ConfigError(f"{unknown('arm', arm, sorted(ARMS))}, or a YAML file")


def make_bus(form: ArmForm, body: Body, faults: Faults, options: BusOptions) -> SimulatedBus[Any]:
    """A bus whose motors move a body, calibrated by the book; raises HotstartError."""
    calibration = form.to_calibration()
    vendors: dict[str, tuple[Any, Any, int]] = {
        "feetech": (feetech.FeetechWire(), feetech.make_servos, 1),
        "dynamixel": (dynamixel.DynamixelWire(), dynamixel.make_servos, -1),
    }
    vendor = vendors[form.vendor]
    servos = vendor[1](calibration)
    mounts = make_mounts(calibration, vendor[2])
    check_arm(servos, mounts, body)
    return SimulatedBus(vendor[0], servos, mounts, body, faults, options)


@contextmanager
def simulate_arm(options: BusServeOptions) -> Iterator[SimulatedArm]:
    """An arm that lives within the `with`."""
    form = find_form(options.arm)
    faults = Faults(options.link, options.seed)
    joints = sum(not motor.gripper for motor in form.motors.values())
    with ExitStack() as stack:
        if options.scene == NO_SCENE:
            body: Body = PlainBody(joints)
        else:
            body = stack.enter_context(World(options.scene, options.seed))
        bus = stack.enter_context(make_bus(form, body, faults, options.bus))
        yield SimulatedArm(form, body, bus, faults)


def serve(options: BusServeOptions, say: Callable[[str], None] = print) -> None:
    """Simulate an arm until it is interrupted; `say` is told where it is once it is ready."""
    with simulate_arm(options) as arm:
        say(arm.describe())
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say(f"the simulated {arm.form.name} ends")
