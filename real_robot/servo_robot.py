"""A robot for the control loop: one arm that a controller process moves, and cameras."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..spec import (
    ConfigError,
    Feedback,
    FloatArray,
    IntArray,
    Observation,
    ObsKey,
    ObsSpec,
    PlanError,
    Robot,
    TimedActions,
    TimedObservation,
)
from .cameras.base import Camera
from .driver import Driver, DriverError
from .link import MOVING, Order
from .safety import check_range
from .servo import ServoOptions
from .servo_client import ServoClient
from .watchdogs import is_stale

SLOW_PERIODS = 3.0
"""A policy is silent when so many of its periods are missing, if that is longer than usual."""
SPARE_STATES = 8
"""So many states are read besides those since a picture was made."""
NEAR = 1.0
"""Numbers of two states that differ by more are not interpolated: an angle has turned over."""

Ranges = Mapping[str, tuple[FloatArray, FloatArray]]
"""Key of the observation -> least and greatest values of the training data (n,) each."""


class ServoRobot(Robot):
    """One arm whose controller runs in a process of its own, at the driver's servo rate.

    Pictures are paired with what was measured at the time of the oldest one. `trained` says what
    the policy has seen: a first observation far from it is refused.
    """

    rows = 1
    substeps = 1

    def __init__(
        self,
        factory: Callable[[], Driver],
        rate_hz: float,
        cameras: Mapping[str, Camera] | None = None,
        options: ServoOptions | None = None,
        trained: Ranges | None = None,
        latency_s: float = 0.0,
    ) -> None:
        """Start the controller process, and connect the arm; nothing moves before `reset`.

        An arm that follows its targets `latency_s` late gets them so much earlier.

        The cameras have been started; they stay their maker's. Raises ConfigError and DriverError.
        """
        if not rate_hz > 0:
            raise ConfigError(f"rate_hz is {rate_hz}; a rate above 0 is wanted")
        if not 0 <= latency_s < 1:
            raise ConfigError(f"latency_s is {latency_s}; 0 to 1 s are possible")
        self.rate_hz = rate_hz
        self._ahead_s = 1.0 / rate_hz - latency_s
        self._options = _fit_thresholds(options or ServoOptions(), rate_hz)
        self._cameras = dict(cameras or {})
        self._trained = dict(trained or {})
        self._checked = False
        self._client = ServoClient(factory, self._options)
        told = self._client.description
        self.name = told.name
        self.servo_hz: float | None = told.servo_hz
        self.action_spec = told.action_spec
        self.limits = told.limits
        self.watchdog_s = told.watchdog_s
        self.obs_spec = self._describe_observation(told.obs_spec)

    def _describe_observation(self, arm: ObsSpec) -> ObsSpec:
        keys = dict(arm.keys)
        for name, camera in self._cameras.items():
            if name in keys:
                self._client.close()
                raise ConfigError(
                    f"a camera is called {name!r}, as something that {self.name} observes: "
                    "give it another name"
                )
            keys[name] = ObsKey(tuple(camera.shape), "uint8", "image")
        return ObsSpec(keys)

    @property
    def pid(self) -> int:
        """The controller's process id."""
        return self._client.pid

    def reset(self, seeds: Sequence[int]) -> Feedback | None:
        """Hold where the arm is now, and take plans from now on; a real scene has no seed.

        Raises DriverError where there is a fault: `recover` after somebody has looked at it.
        """
        self._client.check()
        self._checked = False
        self._client.wait(self._client.put(Order.START))
        self._client.check()
        return None

    def observe(self) -> TimedObservation:
        """The newest pictures, and what was measured when the oldest one was made.

        Raises DriverError for a fault of the arm, a controller that has died, and a picture that is
        too old; and what a camera raises.
        """
        self._client.check()
        pictures, made_s = self._look()
        if made_s:
            at_s = min(made_s.values())
            at_s, seen = self._find_state(at_s)
        else:
            state = self._client.look()
            at_s, seen = float(state["made_s"]), _read_observation(state)
        observation: dict[str, NDArray[Any]] = {}
        for name, value in seen.items():
            observation[name] = value[None]
            made_s[name] = at_s
        observation.update(pictures)
        if not self._checked:
            self._check_trained(observation)
            self._checked = True
        times_s = {name: np.full(1, made_s[name]) for name in observation}
        return TimedObservation(observation, times_s)

    def _look(self) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
        """Pictures (1, H, W, 3) and when each was made."""
        pictures: dict[str, NDArray[Any]] = {}
        made_s: dict[str, float] = {}
        for name, camera in self._cameras.items():
            picture, made_s[name] = camera.read()
            pictures[name] = picture[None]
            now_s = time.monotonic()
            if is_stale(now_s, made_s[name], self._options.thresholds):
                raise DriverError(
                    f"the newest picture of camera {name!r} is {now_s - made_s[name]:.2f} s old: "
                    "look at its cable, and at what else uses this machine"
                )
        return pictures, made_s

    def _find_state(self, time_s: float) -> tuple[float, Observation]:
        """What was measured at a time, between two states; the oldest or newest where it is not."""
        ring = self._client.states
        age_s = float(self._client.look()["made_s"]) - time_s
        count = SPARE_STATES + int(2 * max(0.0, age_s) * self._client.description.servo_hz)
        states = ring.last(min(count, ring.slots // 2))
        place = int(np.searchsorted(states["made_s"], time_s))
        if place == 0:
            return float(states["made_s"][0]), _read_observation(states[0])
        if place == len(states):
            return float(states["made_s"][-1]), _read_observation(states[-1])
        before, after = states[place - 1], states[place]
        share = (time_s - before["made_s"]) / (after["made_s"] - before["made_s"])
        return time_s, _mix(_read_observation(before), _read_observation(after), float(share))

    def _check_trained(self, observation: Observation) -> None:
        """Raise SafetyError where the first observation is far from the training data."""
        dims = self.action_spec.dims
        for key, (lower, upper) in self._trained.items():
            values = np.asarray(observation[key][0], np.float64).ravel()
            names = [f"{key}[{number}]" for number in range(len(values))]
            units = [""] * len(values)
            if key == "joints" and len(values) == len(dims):
                names = [dim.name for dim in dims]
                units = [dim.unit for dim in dims]
            for number, unit in enumerate(units):
                part = slice(number, number + 1)
                check_range(values[part], lower[part], upper[part], names[part], unit)

    def act(
        self,
        actions: FloatArray,
        substeps: IntArray | None = None,
        timed: Sequence[TimedActions] | None = None,
    ) -> Feedback:
        """Hand the timed actions (1) to the controller, in the place of those before.

        An action's time is when its control period begins. It says where to be when that ends, as
        in simulation, where a turn lasts a period: the arm reaches it then. Raises DriverError as
        `observe` does.
        """
        if timed is None:
            raise PlanError("a robot with a servo follows timed actions; none were given")
        self._client.check()
        plan = timed[0]
        reached_s = plan.times_s + self._ahead_s
        self._client.put(Order.PLAN, TimedActions(reached_s, plan.actions))
        lower, upper = self.limits.lower, self.limits.upper
        applied = np.clip(actions, lower, upper)
        if int(self._client.look()["mode"]) not in MOVING:
            applied = np.full_like(applied, np.nan)
        return replace(Feedback.silent(1), applied=applied)

    def hold_position(self) -> FloatArray:
        """(1, A): the newest target where the arm is commanded, else what is measured."""
        state = self._client.newest()
        if int(state["mode"]) in MOVING:
            return np.array(state["target"])[None]
        return np.array(state["positions"])[None]

    def stop(self) -> None:
        """Slow down, and let the driver stop the arm; returns when it rests. `reset` goes on.

        While an error or a signal is under way (a blind camera, Ctrl-C, a terminal that is gone)
        the driver stops the arm at once. Raises DriverError where it cannot be known to rest.
        """
        self._client.stop(at_once=sys.exc_info()[1] is not None)

    def recover(self) -> None:
        """Clear a fault that somebody has looked at; the arm stays at rest until `reset`.

        Raises DriverError where the fault is still there.
        """
        self._client.wait(self._client.put(Order.RECOVER))
        self._client.check()

    def report(self) -> dict[str, Any]:
        """The controller's statistics as plain values: periods, late actions, clamps, faults."""
        return self._client.report()

    def close(self) -> None:
        """Stop the arm, and end the controller process; may be called twice."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _fit_thresholds(options: ServoOptions, rate_hz: float) -> ServoOptions:
    """A slow policy may be silent for longer."""
    given = options.thresholds
    slow_s = max(given.policy_slow_s, SLOW_PERIODS / rate_hz)
    stop_s = max(given.policy_stop_s, slow_s)
    return replace(options, thresholds=replace(given, policy_slow_s=slow_s, policy_stop_s=stop_s))


def _read_observation(state: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What the arm tells the policy in a state: key -> array without an axis of rows."""
    seen = state["observation"]
    found = {}
    for name in seen.dtype.names or ():
        found[name] = np.array(seen[name])
    return found


def _mix(before: Observation, after: Observation, share: float) -> dict[str, NDArray[Any]]:
    """Between two observations; the nearer one of what is whole or has turned over."""
    found: dict[str, NDArray[Any]] = {}
    for name, first in before.items():
        second = after[name]
        nearest = first
        if share > 0.5:
            nearest = second
        if first.dtype.kind == "f" and not np.abs(second - first).max(initial=0.0) > NEAR:
            found[name] = (first + share * (second - first)).astype(first.dtype)
        else:
            found[name] = nearest
    return found
