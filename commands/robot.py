"""`hotstart robot`: simulated arms at the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..configs.robots import SimulateArm
from ..real_robot.sim.faults import Link
from ..real_robot.sim.rehearsal import Rehearsal, RehearsalOptions


def simulate(options: SimulateArm) -> int:
    """Run a simulated arm until it is interrupted."""
    wanted = RehearsalOptions(
        arm=options.arm,
        address=options.address,
        link_path=options.path,
        stage_port=options.stage_port,
        camera_port=options.camera_port,
        camera_px=options.camera_px,
        camera_fps=options.camera_fps,
        link=Link(options.delay_ms / 1000, options.jitter_ms / 1000, options.loss),
        seed=options.seed,
    )
    with Rehearsal(wanted) as rehearsal:
        print(rehearsal.describe(), flush=True)
        try:
            rehearsal.wait()
        except KeyboardInterrupt:
            print("the simulated arm ends")
    return 0


ACTIONS: dict[str, Callable[[Any], int]] = {"sim": simulate}
