"""Simulated arms on a servo bus, which a driver opens by their terminal."""

import time
from typing import Any

import numpy as np
import pytest
from hotstart.real_robot.drivers.arm_form import KOCH, SO101
from hotstart.real_robot.drivers.dynamixel import DynamixelArm
from hotstart.real_robot.drivers.feetech import FeetechArm
from hotstart.real_robot.sim import dynamixel, feetech
from hotstart.real_robot.sim.bus import SimulatedBus, make_mounts
from hotstart.real_robot.sim.faults import Faults
from hotstart.real_robot.sim.plain_body import PlainBody

REST = np.array([0.2, 0.3, -0.2, 0.1, 0.4])
"""Where the joints of a rig are without power [rad]."""


class Rig:
    """A simulated arm at its terminal, and what it is made of."""

    def __init__(self, form, calibration=None, held=None):
        """`calibration`: how the motors are mounted; `held`: what they have in memory of it."""
        self.form = form
        self.faults = Faults()
        self.body = PlainBody(5, REST)
        calibration = calibration or form.to_calibration()
        if form.vendor == "feetech":
            self.make = FeetechArm
            self.servos = feetech.make_servos(held or calibration)
            wire: Any = feetech.FeetechWire()
            mounts = make_mounts(calibration, 1)
        else:
            self.make = DynamixelArm
            self.servos = dynamixel.make_servos(held or calibration)
            wire = dynamixel.DynamixelWire()
            mounts = make_mounts(calibration, -1)
        servos: Any = self.servos
        self.bus = SimulatedBus(wire, servos, mounts, self.body, self.faults)

    def connect(self, **options):
        """A driver that is connected."""
        arm = self.make_arm(self.bus.path, **options)
        arm.connect()
        return arm

    def make_arm(self, port, calibration="nominal", **options):
        """A driver of this kind of arm, not connected.

        It waits long for answers, as machines that test are busy.
        """
        options = {"answer_s": 0.05, "patience_s": 1.0, **options}
        kind = type("Arm", (self.make,), {"standard": self.form})
        return kind(port, calibration, **options)


@pytest.fixture
def so101():
    rig = Rig(SO101)
    with rig.bus:
        yield rig


@pytest.fixture
def koch():
    rig = Rig(KOCH)
    with rig.bus:
        yield rig


@pytest.fixture(params=[SO101, KOCH], ids=lambda form: form.vendor)
def rig(request):
    """An arm of either vendor."""
    rig = Rig(request.param)
    with rig.bus:
        yield rig


@pytest.fixture
def make_rig():
    """Rigs of one's own, started."""
    started = []

    def make(*arguments, **options):
        rig = Rig(*arguments, **options)
        started.append(rig)
        rig.bus.start()
        return rig

    yield make
    for rig in started:
        rig.bus.close()


@pytest.fixture
def await_state():
    """Reads an arm until its state is as wanted."""

    def wait(arm, check, timeout_s=2.0):
        until = time.monotonic() + timeout_s
        while True:
            state = arm.read()
            if check(state):
                return state
            assert time.monotonic() < until, state
            time.sleep(0.005)

    return wait
