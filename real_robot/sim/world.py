"""A scene that runs by the wall clock in a thread of its own: what simulated devices move."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from ...arms import make_scene
from ...arms.scene import STEP_S, Scene
from ...spec import FloatArray, HotstartError
from .body import BodyState

MAKE_WAY_S = 1e-4
"""Others get the scene between two steps."""
CATCH_UP_S = 0.1
"""The scene catches up at most so much lost time at once; what is more it skips."""


class World:
    """A scene, stepped at 500 Hz by `time.monotonic`; a `Body`. Methods may be called from any
    thread.

    States carry the time that they belong to: a thread that wakes up late simulates what it missed,
    up to 0.1 s. The machine was busy for longer where `skipped_s` grows.
    """

    def __init__(self, scene: Scene | str, seed: int = 0) -> None:
        """Make the world of a scene, or of the scene with this name; `start` lets it run."""
        if isinstance(scene, str):
            scene = make_scene(scene)
        self.scene = scene
        self.joints = scene.joints
        self.skipped_s = 0.0
        self._lock = threading.Lock()
        self._asking: deque[None] = deque()  # a place for each thread that wants the scene
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._now_s = time.monotonic()
        self._fastest = 0.0
        self._resets = -1  # what follows is the beginning
        self.reset(seed)

    def start(self) -> Self:
        """Let time pass; raises HotstartError where it does already."""
        if self._thread is not None:
            raise HotstartError("this world runs already: close it first")
        self._ended.clear()
        with self._turn():
            self._now_s = time.monotonic()
            self._publish()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Let time stand still; may be called twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def reset(self, seed: int, arm: bool = True) -> None:
        """Begin the scene's episode of a seed; `arm`: with the arm at its start, with power.

        Whoever commands the arm should be at rest meanwhile, and keep no old target.
        """
        with self._turn():
            self._put(seed, arm)
            self._fastest = 0.0
            self._resets += 1
            self._publish()

    def _put(self, seed: int, arm: bool) -> None:
        """Put the things of an episode where they begin."""
        self.scene.reset(seed, arm)

    def read(self) -> BodyState:
        """How it is now; raises HotstartError where the simulation has failed."""
        if self._failure is not None:
            raise HotstartError(f"the simulation ended: {self._failure}") from self._failure
        return self._state

    def see(self) -> tuple[float, FloatArray]:
        """The time [s] and what a picture of that time depends on (n,): see `Scene.show`."""
        return self._seen

    def command(self, positions: FloatArray) -> None:
        """Joint angles (J,) [rad] for the motors to go to; raises HotstartError for others."""
        positions = np.asarray(positions, np.float64)
        if positions.shape != (self.joints,) or not np.isfinite(positions).all():
            raise HotstartError(
                f"the target is {positions.tolist()}; it must hold {self.joints} finite angles"
            )
        with self._turn():
            self.scene.command(positions)

    def command_gripper(self, opening: float) -> None:
        """0 closed to 1 open; raises HotstartError for what is no number."""
        if not math.isfinite(opening):
            raise HotstartError(f"the gripper's opening is {opening}; it lies in [0, 1]")
        with self._turn():
            self.scene.command_gripper(opening)

    def set_power(self, on: bool) -> None:
        """Whether motors hold; without power brakes hold the arm where it is, or it falls."""
        with self._turn():
            self.scene.set_power(on)

    def solve_joints(self, tool: FloatArray, near: FloatArray) -> FloatArray:
        """Joint angles (J,) [rad] for a pose of the tool (6,), next to `near` (J,).

        Raises HotstartError where the pose is out of reach.
        """
        return self.scene.solve_joints(tool, near)

    def look(self) -> dict[str, Any]:
        """How the task and the arm are, in plain values; speeds are the largest since the last
        look.
        """
        with self._turn():
            score, success = self.scene.judge()
            fastest, self._fastest = self._fastest, 0.0
            return {
                "now_s": self._now_s,
                "success": success,
                "score": score,
                "object": [*self.scene.object_position.tolist(), self.scene.object_yaw],
                "object_speed": self.scene.object_speed,
                "goal": self._find_goal(),
                "start": self.scene.start.tolist(),
                "positions": self.scene.positions.tolist(),
                "velocities": self.scene.velocities.tolist(),
                "max_speed": fastest,
                "gripper": self.scene.action[self.joints :].tolist(),
                "tool": self.scene.tool.tolist(),
                "skipped_s": self.skipped_s,
            }

    def _find_goal(self) -> list[float]:
        """Where the goal is; empty where there is none."""
        if self.scene.has_goal:
            return self.scene.goal.tolist()
        return []

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The scene, for other threads: the one that steps lets them go first.

        A lock alone would not do: a thread that steps without a pause takes it again at once.
        """
        self._asking.append(None)
        try:
            with self._lock:
                yield
        finally:
            self._asking.pop()

    def _run(self) -> None:
        """Go on until the end; a failure is kept for those who read."""
        try:
            while not self._ended.is_set():
                self._go_on()
        except Exception as error:
            self._failure = error

    def _go_on(self) -> None:
        """Simulate up to now, and wait for the next step."""
        self._catch_up(time.monotonic())
        left = self._now_s + STEP_S - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _catch_up(self, now_s: float) -> None:
        """Simulate up to now, a step at a time, so that commands come in between."""
        if now_s - self._now_s > CATCH_UP_S:
            skipped = now_s - self._now_s - CATCH_UP_S
            self.skipped_s += skipped
            self._now_s += skipped
        while now_s - self._now_s >= STEP_S:
            with self._lock:
                self.scene.step()
                self._now_s += STEP_S
                self._publish()
            if self._asking:
                time.sleep(MAKE_WAY_S)

    def _publish(self) -> None:
        """The present state, as values of their own, for readers in other threads."""
        scene = self.scene
        velocities = scene.velocities
        self._fastest = max(self._fastest, float(np.abs(velocities).max()))
        self._state = BodyState(
            self._now_s,
            scene.positions,
            velocities,
            scene.torques,
            scene.gripper,
            scene.tool,
            self._resets,
        )
        self._seen = (self._now_s, scene.visible_state)
