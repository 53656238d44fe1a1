"""Simulated arms on servo buses: the motors of an arm's form, calibrated by the book, in a body."""

from __future__ import annotations

from typing import Any

from ..drivers.arm_form import ArmForm
from . import dynamixel, feetech
from .body import Body
from .bus import BusOptions, SimulatedBus, check_arm, make_mounts
from .faults import Faults

OFFSET_SIGNS = {"feetech": 1, "dynamixel": -1}
"""Whether a vendor's motors subtract their homing offset (1) or add it (-1)."""


def make_bus(
    form: ArmForm, body: Body, faults: Faults | None = None, options: BusOptions | None = None
) -> SimulatedBus[Any]:
    """A bus whose motors move a body; raises HotstartError where the two do not fit."""
    calibration = form.to_calibration()
    mounts = make_mounts(calibration, OFFSET_SIGNS[form.vendor])
    check_arm(mounts, body)
    wire: Any = feetech.FeetechWire()
    servos: Any = feetech.make_servos(calibration)
    if form.vendor == "dynamixel":
        wire = dynamixel.DynamixelWire()
        servos = dynamixel.make_servos(calibration)
    return SimulatedBus(wire, servos, mounts, body, faults, options)
