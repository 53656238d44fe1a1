"""The process that `hotstart bench kills` kills: it moves an arm to and fro, and records."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ..control import LoopSettings, RealClock
from ..control import run as run_loop
from ..planners import ImmediatePlanner
from ..real_robot.cameras import read_camera
from ..real_robot.recorder import Recorder
from ..real_robot.servo import DriverFactory, ServoOptions
from ..real_robot.servo_robot import ServoRobot
from ..spec import (
    Actor,
    BoolArray,
    Executed,
    FloatArray,
    Horizon,
    HotstartError,
    IntArray,
    Observation,
    ObsKey,
    ObsSpec,
    Planned,
    Robot,
)
from ..system.interrupts import interrupt_verb, signals_raise

RATE_HZ = 20.0
PLANNED = 12
SWING_RAD = 0.5
SWING_HZ = 0.5
"""The first joint swings by so much, so often: 1.6 rad/s at most."""
SHORT, LONG = 12, 2000
"""Turns of the episode that is finished, and of the one that is not."""


class Swing:
    """A policy that swings the first joint about where it begins."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.horizon = Horizon(observed=1, planned=PLANNED, executed=8)
        width = robot.action_spec.width
        self.obs_spec = ObsSpec({"joints": ObsKey((width,))})
        self.action_spec = robot.action_spec
        self.rate_hz: float | None = RATE_HZ
        self._begin(())

    def _begin(self, seeds: Sequence[int]) -> None:
        self._middle: FloatArray = np.array(self.robot.hold_position()[0])
        self._began_s = time.monotonic()

    def initial_state(self, seeds: Sequence[int]) -> None:
        """It begins where the arm is."""
        self._begin(seeds)

    def reset_rows(self, state: None, rows: IntArray, seeds: Sequence[int]) -> None:
        """Begin anew."""
        self._begin(seeds)

    def observe(
        self,
        state: None,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> None:
        """It goes by the time alone."""

    def plan(
        self, state: None, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """The next steps of the swing."""
        times_s = time.monotonic() - self._began_s + np.arange(PLANNED) / RATE_HZ
        actions = np.tile(self._middle, (PLANNED, 1))
        actions[:, 0] += SWING_RAD * np.sin(2 * np.pi * SWING_HZ * times_s)
        return Planned(rows, actions[None], None, np.ones(1, np.int64))

    def adopt(self, state: None, planned: Planned) -> None:
        """There is nothing to remember."""


def run_job(job: dict[str, Any], variables: dict[str, str], terminal: str, out: Connection) -> None:
    """A forked process: work, and say over a pipe what happens.

    It becomes a session of its own with this terminal; empty: it stays in its parent's.
    `variables` are for the environment of the processes that it starts.
    """
    if terminal:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
        os.setsid()
        os.dup2(os.open(terminal, os.O_RDWR), 0)
    os.environ.update(variables)
    say = partial(_say, out)
    status = 0
    try:
        with signals_raise(interrupt_verb):
            move(job, say)
    except (HotstartError, KeyboardInterrupt) as error:
        say(ended=f"{type(error).__name__}: {error}")
        status = 3
    sys.exit(status)


def move(job: dict[str, Any], say: Callable[..., None]) -> None:
    """Finish an episode, begin another one, and move until something ends it."""
    camera = read_camera("front", job["camera"], height=32, width=32)
    pool = ThreadPoolExecutor(1)
    starting = pool.submit(camera.start)  # two processes start in the time of one
    factory = DriverFactory(job["robot"], job["options"])
    options = ServoOptions(soft_start_s=0.2)
    try:
        with (
            ServoRobot(factory, RATE_HZ, {"front": camera}, options) as robot,
            Recorder(job["store"], robot, planner=Actor.POLICY) as recorder,
        ):
            policy = Swing(robot)
            starting.result()
            for ticks in (SHORT, LONG):
                recorder.begin()
                settings = LoopSettings(ticks, replan_at=4)
                say(controller=robot.pid, moves=ticks == LONG)
                planner = ImmediatePlanner(policy)
                run_loop(robot, policy, planner, RealClock(), [0], settings, [recorder])
                recorder.finish(True)
                recorder.wait()
                say(finished=recorder.episodes)
    finally:
        pool.shutdown()
        camera.close()


def _say(out: Connection, **words: object) -> None:
    """Tell who listens; nobody may."""
    with contextlib.suppress(OSError):
        out.send(words)
