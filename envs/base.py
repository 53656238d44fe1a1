"""What every simulated task has in common: specifications, counting of steps, the best score of an
episode.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ..spec import LONGEST_EPISODE, ActionSpec, ConfigError, FloatArray, ObsKey, ObsSpec, shorten
from .snapshots import Snapshot

Observations = dict[str, NDArray[Any]]
"""Key -> array of one row, shapes as in the observation specification (no batch axis)."""


def key_space(name: str, key: ObsKey) -> spaces.Box:
    """The gymnasium space of one observation key: numbers without bounds, whole numbers within
    their type's range.
    """
    dtype = np.dtype(key.dtype)
    if np.issubdtype(dtype, np.floating):
        return spaces.Box(-np.inf, np.inf, key.shape, dtype.type)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return spaces.Box(limits.min, limits.max, key.shape, dtype.type)
    raise ConfigError(
        f"observation key {name!r} has dtype {key.dtype!r}; environments may give float and "
        f"integer arrays"
    )


def observation_space(spec: ObsSpec) -> spaces.Dict:
    """The gymnasium space of an observation specification."""
    return spaces.Dict({name: key_space(name, key) for name, key in spec.keys.items()})


def action_space(spec: ActionSpec, low: ArrayLike, high: ArrayLike) -> spaces.Box:
    """The box between `low` and `high`, each one number or (A,); raises ConfigError if they do not
    fit the specification.
    """
    try:
        bounds = []
        for bound in (low, high):
            bounds.append(np.broadcast_to(np.asarray(bound, np.float32), (spec.width,)).copy())
    except ValueError:
        shapes = f"{np.shape(low)} and {np.shape(high)}"
        raise ConfigError(
            f"action bounds have shapes {shapes}; the action has {spec.width} numbers"
        ) from None
    return spaces.Box(bounds[0], bounds[1], dtype=np.float32)


class TaskEnv(gymnasium.Env[Any, Any]):
    """A simulated task with a score, a success and a clock.

    A suite sets the specifications through `__init__` and writes five methods: `_begin`,
    `_advance`, `_observe`, `_judge` and `render`. The episode ends with success, or where `_over`
    says so (terminated), or after `max_steps` (truncated). `info` of every reset and step holds
    `success` (the task is fulfilled now), `score` (of the episode by now: the best of its states so
    far or the present one's, see `keeps_best`) and `instruction` (the task in words); the reward is
    the score of the present state.
    """

    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float
    max_steps: int
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  as in gymnasium.Env
    substeps: int = 1
    """Equal parts of a control period that `step` can tell apart."""
    instruction: str = ""
    """The task in words."""
    notes: tuple[str, ...] = ()
    """What was decided about its observations, for people to read."""
    keeps_best: bool = True
    """Whether an episode's score is the best of its states; otherwise it is that of the present
    one.
    """
    reports_success: bool = True
    """Whether `success` says anything: some environments know no fulfilled task."""

    def __init__(
        self,
        *,
        obs_spec: ObsSpec,
        action_spec: ActionSpec,
        action_low: ArrayLike,
        action_high: ArrayLike,
        rate_hz: float,
        max_steps: int,
    ) -> None:
        if not isinstance(max_steps, int | np.integer) or not 1 <= max_steps <= LONGEST_EPISODE:
            raise ConfigError(
                f"max_steps is {shorten(max_steps)}; an episode has 1 to {LONGEST_EPISODE:,} steps"
            )
        self.obs_spec, self.action_spec = obs_spec, action_spec
        self.rate_hz, self.max_steps = float(rate_hz), int(max_steps)
        self.observation_space = observation_space(obs_spec)
        self.action_space = action_space(action_spec, action_low, action_high)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": self.rate_hz}
        self.render_mode = "rgb_array"
        self.seed: int | None = None  # of the present episode, where one was given
        self.elapsed = 0  # substeps since the episode began
        self.best_score: float | None = None  # None until the first reset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode; the seed fixes all that is random in it, `options` are the suite's
        own.
        """
        super().reset(seed=seed)
        self.seed = seed
        self._begin(options or {})
        self.elapsed, self.best_score = 0, None
        _, info = self._result()
        return self._observe(), info

    @property
    def steps(self) -> int:
        """Control periods since the episode began, a broken one included."""
        return -(-self.elapsed // self.substeps)

    def step(
        self, action: ArrayLike, substeps: int | None = None
    ) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control period with `action` (A,) in the units of the action specification, or only
        `substeps` of it.

        Raises ConfigError for an action of the wrong shape or with a number that is not finite, and
        for substeps that are not between 1 and the period's own number.
        """
        if self.best_score is None:
            raise RuntimeError("step was called before reset")
        if substeps is None:
            count = self.substeps
        else:
            count = int(substeps)
        if not 1 <= count <= self.substeps:
            raise ConfigError(
                f"a step of {count} substeps is not possible; this task takes 1 to {self.substeps}"
            )
        self._advance(self._check_action(action), count)
        self.elapsed += count
        reward, info = self._result()
        over = self.elapsed >= self.max_steps * self.substeps
        return self._observe(), reward, info["success"] or self._over(), over, info

    def hold_position(self) -> FloatArray:
        """The action (A,) that keeps things where they are now; of numbers that say a change, zero.

        A suite whose actions are positions says its own.
        """
        return np.zeros(self.action_spec.width)

    def observe(self) -> Observations:
        """The present observation once more, as the last reset or step returned it."""
        return self._observe()

    def snapshot(self) -> Snapshot:
        """The present state of the episode, to go on from with `restore`. Raises ConfigError where
        a suite cannot save.
        """
        if self.best_score is None:
            raise RuntimeError("snapshot was called before reset")
        rng_state = copy.deepcopy(self.np_random.bit_generator.state)
        return Snapshot(self._identity(), self.elapsed, self.best_score, rng_state, self._save())

    def restore(self, snapshot: Snapshot) -> tuple[Observations, dict[str, Any]]:
        """Go on from a snapshot of this environment or of an equal one: what follows is the same to
        the bit.

        Returns observation and info of the moment it was made. Raises ConfigError for a snapshot of
        another task.
        """
        if snapshot.made_by != self._identity():
            raise ConfigError(
                f"the snapshot was made by {snapshot.made_by}; this environment is "
                f"{self._identity()}"
            )
        self._load(snapshot.state)
        self.np_random.bit_generator.state = copy.deepcopy(
            snapshot.rng_state
        )  # last: to load may take a reset
        self.elapsed, self.best_score = snapshot.elapsed, snapshot.best_score
        _, info = self._result()
        return self._observe(), info

    def _identity(self) -> tuple[Any, ...]:
        """What an environment must have in common with another to take its snapshots."""
        return (type(self).__name__,)

    def _save(self) -> Any:
        """The suite's own state, as a value of its own."""
        raise ConfigError(
            f"{type(self).__name__} cannot save its state in the middle of an episode"
        )

    def _load(self, state: Any) -> None:
        """Put back what `_save` returned; it may be put back more than once."""
        raise ConfigError(f"{type(self).__name__} cannot be put back into a saved state")

    def _check_action(self, action: ArrayLike) -> FloatArray:
        """The action as (A,) float64."""
        array = np.asarray(action, np.float64)
        if array.shape != (self.action_spec.width,) or not np.isfinite(array).all():
            names = ", ".join(dim.name for dim in self.action_spec.dims)
            raise ConfigError(
                f"the action is {action!r}; it must hold {self.action_spec.width} finite numbers: "
                f"{names}"
            )
        return array

    def _result(self) -> tuple[float, dict[str, Any]]:
        """Judge the present state: (its score, info)."""
        score, success = self._judge()
        if self.keeps_best and self.best_score is not None:
            best = self.best_score
        else:
            best = float(score)
        self.best_score = max(best, float(score))
        return float(score), {
            "success": bool(success),
            "score": self.best_score,
            "instruction": self.instruction,
        }

    def _over(self) -> bool:
        """Whether the episode has ended without success."""
        return False

    @abstractmethod
    def _begin(self, options: dict[str, Any]) -> None:
        """Set up a new episode, drawing all that is random from `self.np_random`."""

    @abstractmethod
    def _advance(self, action: FloatArray, substeps: int) -> None:
        """Simulate `substeps` of a control period with `action` (A,)."""

    @abstractmethod
    def _observe(self) -> Observations:
        """The present observation, as `obs_spec` says."""

    @abstractmethod
    def _judge(self) -> tuple[float, bool]:
        """(score of the present state, whether the task is fulfilled)."""

    @abstractmethod
    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The present scene as a picture (H, W, 3), RGB."""
