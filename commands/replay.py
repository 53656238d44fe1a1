"""`hotstart replay`: a robot repeats a recorded episode."""

from __future__ import annotations

import numpy as np

from ..configs.recording import Replay
from ..control import LoopSettings, RealClock
from ..control import run as run_loop
from ..datasets.episodes import TIMESTAMP
from ..datasets.store import Store
from ..planners import ImmediatePlanner
from ..real_robot.replaying import (
    ReplayPolicy,
    Tracking,
    TrackingError,
    approach,
    resample,
)
from ..spec import LONGEST_EPISODE, ConfigError, FloatArray, Robot
from .arm_robot import check_robot, open_robot

SETTLE_S = 0.5
"""The robot is watched for so long after the last action."""


def run(options: Replay) -> int:
    """Replay, and print how closely the robot followed."""
    check(options)
    store = Store.open(options.data)
    episode = store.episode(options.episode)
    with open_robot(options) as robot:
        check_actions(store, robot)
        error = replay(options, robot, episode["action"], episode[TIMESTAMP])
    print(describe(error))
    return 0


def check(options: Replay) -> None:
    """Raise ConfigError for options that cannot be."""
    check_robot(options)
    if not 0 < options.speed <= 4 or not options.approach_s > 0:
        raise ConfigError(
            f"speed is {options.speed:g} and approach_s {options.approach_s:g}; a speed above 0, "
            "at most 4, and a time above 0 are wanted"
        )


def check_actions(store: Store, robot: Robot) -> None:
    """Raise ConfigError unless the robot is told what was recorded."""
    if store.action_spec != robot.action_spec:
        raise ConfigError(
            f"{store.path} holds actions {store.action_spec.to_json()}, "
            f"the robot is told {robot.action_spec.to_json()}"
        )


def replay(
    options: Replay, robot: Robot, actions: FloatArray, times_s: FloatArray
) -> TrackingError | None:
    """Go to the first action, then repeat all (n, A) of them at their times (n,) [s]."""
    spec = robot.action_spec
    seconds = (times_s[-1] - times_s[0]) / options.speed + options.approach_s + SETTLE_S
    if seconds * robot.rate_hz > LONGEST_EPISODE:
        raise ConfigError(f"at this speed the episode takes {seconds:.0f} s: go faster")
    repeated = resample(actions, times_s, spec, options.speed, robot.rate_hz)
    steps = round(options.approach_s * robot.rate_hz)
    first = approach(robot.hold_position()[0], repeated[0], spec, steps)
    policy = ReplayPolicy(np.concatenate((first, repeated)), spec)
    ticks = steps + len(repeated) + round(SETTLE_S * robot.rate_hz)
    tracking = Tracking(spec, robot.obs_spec, robot.rate_hz)
    print(
        f"{options.approach_s:g} s to the first action, then {len(repeated) / robot.rate_hz:.1f} s",
        flush=True,
    )
    settings = LoopSettings(max_ticks=ticks)
    planner = ImmediatePlanner(policy)
    run_loop(robot, policy, planner, RealClock(), [0], settings, [tracking])
    return tracking.summarise(steps)


def describe(error: TrackingError | None) -> str:
    """The tracking error as a table."""
    if error is None:
        return "done; the robot does not show what its actions command, so nothing is compared"
    lines = [f"{'':<16}{'rms':>10}{'largest':>10}{'rms at lag':>12}"]
    for name, rms, largest, lagged in zip(
        error.names, error.rms, error.largest, error.lagged_rms, strict=True
    ):
        lines.append(f"{name:<16}{rms:>10.4f}{largest:>10.4f}{lagged:>12.4f}")
    lines.append(f"it follows {1000 * error.lag_s:.0f} ms behind")
    return "\n".join(lines)
