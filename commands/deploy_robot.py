"""The robot of a deployment: an arm behind its controller process, cameras, and perhaps a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from ..policy.model import PolicyModel
from ..policy.normalizer import ACTION
from ..real_robot.cameras import read_camera
from ..real_robot.cameras.base import Camera
from ..real_robot.safety import SafetyOptions
from ..real_robot.servo import DriverFactory, ServoOptions
from ..real_robot.servo_robot import ServoRobot
from ..real_robot.staged_robot import StagedRobot
from ..real_robot.watchdogs import Thresholds
from ..spec import ConfigError, FloatArray, ObsSpec
from .arm_robot import make_workspace, put_on_stage, start_cameras

STALE_S = Thresholds().camera_s
"""A policy may act on a picture as old as the arm's own watch allows."""
Ranges = dict[str, tuple[FloatArray, FloatArray]]


@contextmanager
def open_robot(
    config: Mapping[str, Any], model: PolicyModel, rate_hz: float
) -> Iterator[ServoRobot | StagedRobot]:
    """The connected robot; nothing moves before its `reset`, and it is stopped at the end.

    Raises ConfigError where arm, cameras and stage do not show what the policy reads.
    """
    wanted = model.observed_spec
    with ExitStack() as stack:
        cameras = start_cameras(stack, make_cameras(config, wanted))
        trained = find_ranges(model)
        options = ServoOptions(
            safety=SafetyOptions(
                workspace=make_workspace(config["box"]), trained=trained.get(ACTION)
            ),
            speed=float(config["speed"]),
            soft_start_s=float(config["soft_start_s"]),
        )
        factory = DriverFactory(config["choices"]["robot"], list_options(config["robot"]))
        robot = stack.enter_context(
            ServoRobot(
                factory,
                rate_hz,
                cameras,
                options,
                select_states(trained, wanted),
                float(config["latency_s"]),
            )
        )
        if not config["stage"]:
            check_observed(wanted, robot.obs_spec)
            yield robot
            return
        staged = stack.enter_context(put_on_stage(robot, config["stage"]))
        check_observed(wanted, staged.obs_spec)
        yield staged


def list_options(node: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a driver, without the name of its class."""
    return {name: value for name, value in node.items() if name != "_target_"}


def make_cameras(config: Mapping[str, Any], wanted: ObsSpec) -> dict[str, Camera]:
    """The cameras that the policy reads, not started; others are refused with the ones it reads."""
    images = {name: key for name, key in wanted.keys.items() if key.kind == "image"}
    given = config["cameras"]
    for name in given:
        if name not in images:
            raise ConfigError(
                f"the policy has no camera {name!r}; it reads {', '.join(images) or 'no camera'}"
            )
    missing = [name for name in images if name not in given]
    if missing:
        raise ConfigError(
            f"the policy reads the camera {missing[0]!r}: give it, as cameras.{missing[0]}=opencv:0"
        )
    cameras: dict[str, Camera] = {}
    for name, text in given.items():
        height, width = images[name].shape[:2]
        cameras[name] = read_camera(name, text, height=height, width=width, stale_s=STALE_S)
    return cameras


def check_observed(wanted: ObsSpec, shown: ObsSpec) -> None:
    """Raise ConfigError for an observation that neither arm, camera nor stage shows."""
    for name in wanted.keys:
        if name not in shown.keys:
            raise ConfigError(
                f"the policy reads {name!r}, and the robot shows {', '.join(shown.keys)}: object "
                "and goal are tracked by a stage only (stage=127.0.0.1:PORT); or train the policy "
                "without it (task.obs_keys)"
            )


def find_ranges(model: PolicyModel) -> Ranges:
    """Least and greatest values of the training data (n,), by key.

    Of states, and of the action where the network sees it as the arm takes it.
    """
    found: Ranges = {}
    normalizer = model.normalizer
    shapes: dict[str, tuple[int, ...]] = {}
    if not model.actions.changes:
        shapes[ACTION] = (model.config.action_spec.width,)
    for name, key in model.observed_spec.keys.items():
        if key.kind == "state":
            shapes[name] = tuple(key.shape)
    for name, shape in shapes.items():
        ends = []
        for sign in (-1.0, 1.0):
            value = normalizer.denormalize(name, torch.full(shape, sign))
            ends.append(value.detach().cpu().double().numpy().ravel())
        found[name] = (np.minimum(*ends), np.maximum(*ends))
    return found


def select_states(trained: Ranges, wanted: ObsSpec) -> Ranges:
    """The ranges of what an arm tells by itself."""
    return {name: trained[name] for name in ("joints",) if name in wanted.keys}
