"""A robot on a stage: a simulated arm whose control port begins episodes, tracks things and judges.

Rehearsals use it: the arm itself is reached through its driver, as on a real table. The stage takes
the place of the person who puts the object back and says whether the task is done, and of a motion
capture system for policies that read where the object is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from ..spec import (
    Feedback,
    FloatArray,
    HotstartError,
    IntArray,
    ObsKey,
    ObsSpec,
    Robot,
    TimedActions,
    TimedObservation,
)

TRACKED = {"object": 5, "goal": 3}
"""What a stage tracks: the object's position [m] and sine and cosine of its yaw; the goal [m],
where there is one.
"""
SETTLE_S = 0.5
"""The arm is read again so long after an episode began."""


class Asked(Protocol):
    """The control port of a simulated arm; see `sim.stage`."""

    def ask(self, do: str, **words: Any) -> Mapping[str, Any]:
        """`reset` begins the episode of a seed, `look` tells how things are."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class StagedRobot(Robot):
    """One arm with a stage around it. An episode ends when the stage sees its task fulfilled.

    What the stage tracks is observed beside what the robot shows.
    """

    def __init__(self, robot: Robot, stage: Asked) -> None:
        """Connected already, both; raises HotstartError where the stage does not answer."""
        self.robot, self.stage = robot, stage
        self.rate_hz, self.servo_hz = robot.rate_hz, robot.servo_hz
        self.substeps = robot.substeps
        self.action_spec = robot.action_spec
        self._watcher = _Watcher(stage, self.rate_hz)
        self._tracked = self._find_tracked()
        keys = {name: ObsKey((TRACKED[name],)) for name in self._tracked}
        self.obs_spec = ObsSpec({**robot.obs_spec.keys, **keys})

    def _find_tracked(self) -> tuple[str, ...]:
        """What the stage tracks and the robot does not show."""
        look = self._watcher.newest()
        found = []
        for name in TRACKED:
            if look[name] and name not in self.robot.obs_spec.keys:
                found.append(name)
        return tuple(found)

    def reset(self, seeds: Sequence[int]) -> Feedback | None:
        """Put the scene back, as a person would; then the arm is started where it is."""
        self._watcher.pause()
        self.stage.ask("reset", seed=int(seeds[0]))
        time.sleep(SETTLE_S)
        self.robot.reset(seeds)
        self._watcher.go_on()
        return self._judge(Feedback.silent(1))

    def observe(self) -> TimedObservation:
        """What the arm observes, and what the stage tracks."""
        seen = self.robot.observe()
        if isinstance(seen, TimedObservation):
            observation, made_s = dict(seen.observation), dict(seen.made_s)
        else:
            observation, made_s = dict(seen), {}
        look = self._watcher.newest()
        for name in self._tracked:
            observation[name] = read_tracked(name, look)
            made_s[name] = np.array([float(look["now_s"])])
        return TimedObservation(observation, made_s)

    def act(
        self,
        actions: FloatArray,
        substeps: IntArray | None = None,
        timed: Sequence[TimedActions] | None = None,
    ) -> Feedback:
        """Hand over to the arm, and report what the stage sees."""
        return self._judge(self.robot.act(actions, substeps, timed))

    def _judge(self, feedback: Feedback) -> Feedback:
        look = self._watcher.newest()
        success = np.array([bool(look["success"])])
        return Feedback(
            terminated=feedback.terminated | success,
            truncated=feedback.truncated,
            reward=np.array([float(look["score"])]),
            success=success,
            score=np.array([float(look["score"])]),
            applied=feedback.applied,
        )

    def hold_position(self) -> FloatArray:
        """The arm's own."""
        return self.robot.hold_position()

    def stop(self) -> None:
        """Stop the arm."""
        self.robot.stop()

    def report(self) -> dict[str, Any]:
        """What the arm's controller counted."""
        report = getattr(self.robot, "report", dict)
        return report()

    def close(self) -> None:
        """Let go of the stage; the arm is its owner's."""
        self._watcher.close()
        self.stage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_tracked(name: str, look: Mapping[str, Any]) -> FloatArray:
    """An observation (1, n) of what a stage tracks, float32."""
    values = np.asarray(look[name], np.float64)
    if name == "object":
        yaw = values[3]
        values = np.array([*values[:3], np.sin(yaw), np.cos(yaw)])
    return values.astype(np.float32)[None]


class _Watcher:
    """Asks the stage in a thread of its own, so that the control loop never waits for it."""

    def __init__(self, stage: Asked, rate_hz: float) -> None:
        self._stage = stage
        self._period_s = 0.5 / rate_hz
        self._look = stage.ask("look")
        self._failure: HotstartError | None = None
        self._ended, self._watching = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="stage", daemon=True)
        self._watching.set()
        self._thread.start()

    def pause(self) -> None:
        """Ask nothing from now on, so that others may."""
        self._watching.clear()
        with self._lock:  # an answer that is under way is awaited
            pass

    def go_on(self) -> None:
        """Ask again; the first answer is awaited."""
        with self._lock:
            self._look = self._stage.ask("look")
        self._watching.set()

    def newest(self) -> Mapping[str, Any]:
        """The newest answer; raises HotstartError where the stage failed."""
        if self._failure is not None:
            raise self._failure
        return self._look

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._watching.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._watching.wait()
            try:
                with self._lock:
                    if self._watching.is_set() and not self._ended.is_set():
                        self._look = self._stage.ask("look")
            except HotstartError as error:
                self._failure = error
                return
            self._ended.wait(self._period_s)
