"""Periods of the controller process of an arm, beside other busy programs."""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.results import machine
from ..real_robot.servo import ServoOptions
from ..real_robot.servo_robot import ServoRobot
from ..spec import ConfigError, TimedActions, option
from ..system import outputs
from ..system.versions import versions
from ._model_arm import ModelArm
from .busy import keep_busy

POLICY_HZ = 10.0
STEPS = 16
"""Of a plan; a new one is handed over every control period."""
COLUMNS = ("p50_ms", "p99_ms", "p99.9_ms", "max_ms")


@dataclass
class Options:
    """Let a controller follow overlapping plans of a model arm, and print its periods.

    The arm has no device, so this is the controller's own part: reading, splicing, interpolation,
    safety filter and shared memory. A turn is late that begins half a period after it was due.
    """

    rates: tuple[float, ...] = option((125.0, 500.0), "rates of the servo [Hz]")
    programs: tuple[int, ...] = option((0, 4), "numbers of busy programs beside it")
    real_time: tuple[bool, ...] = option(
        (True, False), "with and without real-time scheduling and locked memory"
    )
    joints: int = option(7, "joints of the arm")
    seconds: float = option(20.0, "time for each cell")
    out: str = option("", "file for all figures; empty: none")
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


def run(options: Options) -> None:
    """Print a row for every rate, number of busy programs and scheduling."""
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    if not options.seconds > 0 or options.joints < 1:
        raise ConfigError(
            f"seconds={options.seconds} and joints={options.joints}; above 0 and at least 1 are "
            "wanted"
        )
    print(f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f} at first")
    head = "".join(f"{name.replace('_', ' '):>11}" for name in COLUMNS)
    print(f"{'Hz':>5}{'busy':>6}{'scheduling':>15}{head}{'work p50':>10}{'p99':>8}{'late':>7}")
    cells = []
    for rate, programs, real_time in itertools.product(
        options.rates, options.programs, options.real_time
    ):
        with keep_busy(programs):
            report = measure(rate, options.joints, options.seconds, real_time)
        cells.append({"programs": programs, **report})
        print(describe(report, programs), flush=True)
    if options.out:
        kept = {"cells": cells, "machine": machine(), "versions": versions()}
        outputs.write_text(Path(options.out), json.dumps(kept, indent=1))


def measure(servo_hz: float, joints: int, seconds: float, real_time: bool) -> dict[str, Any]:
    """The report of a controller that has followed plans for so long."""
    factory = functools.partial(ModelArm, joints, servo_hz)
    options = ServoOptions(real_time=real_time)
    with ServoRobot(factory, POLICY_HZ, options=options) as robot:
        robot.reset([0])
        began_s = time.monotonic()
        for turn in range(round(seconds * POLICY_HZ)):
            plan = make_plan(began_s, began_s + turn / POLICY_HZ, joints)
            robot.act(plan.actions[:1], None, [plan])
            time.sleep(max(0.0, began_s + (turn + 1) / POLICY_HZ - time.monotonic()))
        robot.stop()
    return robot.report()


def make_plan(began_s: float, now_s: float, joints: int) -> TimedActions:
    """Slow waves, each joint at a speed of its own."""
    times_s = now_s + (1 + np.arange(STEPS)) / POLICY_HZ
    speeds = 1.0 + 0.2 * np.arange(joints)
    waves = 0.3 * np.sin(speeds * (times_s[:, None] - began_s))
    return TimedActions(times_s, waves)


def describe(report: dict[str, Any], programs: int) -> str:
    """One row of the table."""
    periods, work = report["periods"], report["work"]
    name = report["real_time"]["scheduling"].split(" (")[0]
    cells = "".join(f"{periods[column]:>11.2f}" for column in COLUMNS)
    late = f"{report['late_turns']}/{periods['count']}"
    return (
        f"{report['servo_hz']:>5g}{programs:>6}{name:>15}{cells}"
        f"{work['p50_ms']:>10.2f}{work['p99_ms']:>8.2f} {late}"
    )
