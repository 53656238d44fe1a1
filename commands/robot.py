"""`hotstart robot`: simulated arms at the wire, calibration and latency of arms."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..configs.reader import read_value
from ..configs.robots import CalibrateArm, MeasureLatency, SimulateArm
from ..real_robot.calibration import Range, RangeProcedure
from ..real_robot.driver import Driver
from ..real_robot.drivers import registry
from ..real_robot.drivers.bus_arm import BusArm
from ..real_robot.latency import find_lag, make_chirp, record_motion, save_latencies
from ..real_robot.sim.faults import Link
from ..real_robot.sim.rehearsal import Rehearsal, RehearsalOptions
from ..spec import ConfigError, unknown
from ..system import outputs
from ..system.options import read_options
from ..system.stopping import Stop

SHOW_S = 0.2
"""Live ranges are shown so often [s]."""
PATIENT_S = 0.1
"""How long a motor may take to answer while nothing is servoed [s]."""
OFFSET_SIGNS = {"feetech": 1, "dynamixel": -1}
"""1 where a motor subtracts its homing offset, -1 where it adds it."""


def simulate(options: SimulateArm) -> int:
    """Run a simulated arm until it is interrupted."""
    wanted = RehearsalOptions(
        arm=options.arm,
        address=options.address,
        environment=options.environment,
        strict=options.strict,
        link_path=options.path,
        stage_port=options.stage_port,
        camera_port=options.camera_port,
        camera_px=options.camera_px,
        camera_fps=options.camera_fps,
        link=Link(options.delay_ms / 1000, options.jitter_ms / 1000, options.loss),
        gripper=options.gripper,
        seed=options.seed,
    )
    with Rehearsal(wanted) as rehearsal:
        print(rehearsal.describe(), flush=True)
        with suppress(KeyboardInterrupt):
            rehearsal.wait()
    print(rehearsal.describe_end())
    return 0


def calibrate(options: CalibrateArm, wait: Callable[[], bool] | None = None) -> int:
    """Two sweeps by hand, then the file. `wait` says whether a sweep is over; None: Enter."""
    outputs.check_file(options.out, options.overwrite)
    arm = registry.make(options.arm, port=options.port, calibration="nominal", answer_s=PATIENT_S)
    if not isinstance(arm, BusArm):
        raise ConfigError(f"{options.arm} is calibrated by its own controller")
    motors = arm.form.motors
    grippers = [name for name, motor in motors.items() if motor.gripper]
    directions = {name: motor.direction for name, motor in motors.items()}
    ids = {name: motor.id for name, motor in motors.items()}
    sign = OFFSET_SIGNS[arm.form.vendor]
    procedure = RangeProcedure(ids, sign, grippers, directions)
    arm.connect_limp()
    try:
        arm.write_offsets(dict.fromkeys(ids, 0))
        sweep(arm, procedure, wait or is_enter_pressed, "move every joint from end to end")
        arm.write_offsets(procedure.finish_sweep())
        sweep(arm, procedure, wait or is_enter_pressed, "once more, to compare")
        found = procedure.finish(options.arm, f"{options.arm} at {options.port}")
    finally:
        arm.close()
    found.save(options.out)
    write_ranges(options)
    print(f"{options.out} holds it, and so do the motors: robot.calibration={options.out} takes it")
    return 0


def write_ranges(options: CalibrateArm) -> None:
    """Write the new file's ranges into the motors; the arm holds where it is meanwhile."""
    arm = registry.make(
        options.arm,
        port=options.port,
        calibration=str(options.out),
        write_calibration=True,
        answer_s=PATIENT_S,
    )
    arm.connect()
    arm.close()


def sweep(arm: BusArm, procedure: RangeProcedure, is_over: Callable[[], bool], words: str) -> None:
    """Read until the sweep is over, and show the ranges live."""
    print(f"{words}, then press Enter", flush=True)
    shown_s = 0.0
    while not is_over():
        ranges = procedure.see(arm.read_readings())
        now_s = time.monotonic()
        if now_s - shown_s > SHOW_S:
            print(f"\r{describe_ranges(ranges)}", end="", flush=True)
            shown_s = now_s
    print()


def describe_ranges(ranges: Mapping[str, Range]) -> str:
    """How far each joint was moved, in steps of its encoder."""
    parts = []
    for name, found in ranges.items():
        parts.append(f"{name} {found.low:.0f} to {found.high:.0f}")
    return ", ".join(parts)


def is_enter_pressed() -> bool:
    """Whether a line waits at the terminal; it is taken."""
    ready = select.select([sys.stdin], [], [], 0.0)[0]
    if ready:
        sys.stdin.readline()
    return bool(ready)


def measure_latency(options: MeasureLatency) -> int:
    """Swing one joint, and compare what was sent with what was seen; then stop the arm."""
    outputs.check_file(options.out, options.overwrite)
    arm = make_arm(options.arm, options.options)
    dims = arm.action_spec.dims
    if not 0 <= options.joint < len(dims):
        names = [f"{number} ({dim.name})" for number, dim in enumerate(dims)]
        raise ConfigError(f"joint is {options.joint}; {options.arm} has {', '.join(names)}")
    chirp = make_chirp(arm.servo_hz, amplitude=options.amplitude)
    arm.connect()
    try:
        motion = record_motion(arm, options.joint, chirp)
    finally:
        Stop(arm).now()
        arm.close()
    lag = find_lag(motion.sent_s, motion.sent, motion.seen_s, motion.seen)
    name = dims[options.joint].name
    print(f"{name}: {1000 * lag.seconds:.0f} ms, confidence {lag.confidence:.3f}")
    save_latencies(options.out, {name: lag}, options.arm)
    print(f"{options.out} holds it")
    return 0


def make_arm(name: str, given: Mapping[str, str]) -> Driver:
    """A driver by its name, with options as they are written; raises ConfigError for wrong ones."""
    known = read_options(registry.REGISTRY.load(name))
    options: dict[str, object] = {}
    for key, text in given.items():
        if key not in known:
            raise ConfigError(unknown(f"option of {name}", key, list(known)))
        options[key] = read_value(key, text, known[key].hint)
    return registry.make(name, **options)


ACTIONS: dict[str, Callable[[Any], int]] = {
    "sim": simulate,
    "calibrate": calibrate,
    "latency": measure_latency,
}
