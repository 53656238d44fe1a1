"""Any registered Gymnasium environment as `TaskEnv`, by its id: gymnasium-robotics' Fetch and
Kitchen, or one's own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import Error as GymnasiumError
from numpy.typing import ArrayLike, NDArray

from ..arms.rendering import RenderingError, choose_gl
from ..datasets.kinds import decide_key, explain_key, read_key
from ..spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsSpec, nearest, unknown
from .base import Observations, TaskEnv

REGISTRARS = ("gymnasium_robotics",)
"""Packages that register their environments when they are imported."""
SUCCESSES = ("success", "is_success")
"""What `info` may call the fulfilled task."""
TASKS_DONE = "episode_task_completions"
"""Where a kitchen's `info` lists the tasks that were done in the episode."""
GOALS = ("achieved_goal", "desired_goal")
Score = Literal["return", "success", "tasks"]
MAX_STEPS = 1000
RATE_HZ = 20.0


class GymnasiumEnv(TaskEnv):
    """A Gymnasium environment with a box of actions.

    Observations: a box is `state` or `image`, as `datasets.kinds.decide_key` says, and pictures are
    brought into the form that data sets have; `notes` says which axes and numbers were changed. The
    entries of a dict keep their names, those of a dict inside it are joined with `_`; discrete
    observations become one number. Success is what `info` says under `success` or `is_success`; a
    kitchen's is that every task named in `tasks_to_complete` was done in the episode. Where nothing
    says it, success is not reported. The score is the return so far; with `score="success"` whether
    the task is fulfilled; with `score="tasks"` the share of a kitchen's tasks that were done.
    """

    keeps_best = False

    def __init__(
        self,
        id: str = "",
        max_steps: int = 0,
        score: Score = "return",
        instruction: str = "",
        kinds: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Make the environment `id`; `kwargs` are its own options.

        id: the registered environment, as FetchReach-v4 or my_package:MyEnv-v0
        max_steps: length of an episode [ticks]; 0: as many as the environment itself says
        score: what the score is: return, success (whether the task was fulfilled), tasks (share of
        a kitchen's tasks done)
        instruction: the task in words, where a policy reads them; none given: the id
        kinds: what an observation is where its shape leaves that open: {name: state or image}

        `kinds` (name -> state or image) says what an observation is where its shape leaves that
        open. Raises ConfigError for an id that nothing registered, for options it does not take and
        for actions that are no box, and DataError for observations that cannot be decided.
        """
        if score not in get_args(Score):
            raise ConfigError(f"score is {score!r}; choose {', '.join(get_args(Score))}")
        choose_gl()
        self._env = _make(id, kwargs)
        if score == "tasks" and not hasattr(self._env.unwrapped, TASKS_DONE):
            raise ConfigError(f"score is tasks, but {id} counts none; choose return or success")
        space = self._env.action_space
        if not isinstance(space, spaces.Box):
            raise ConfigError(
                f"{id} takes actions from {space}; a policy of continuous actions needs a box"
            )
        self._shape, self._score_is = space.shape, score
        self._parts = _name_parts(self._env.observation_space, kinds or {})
        self.reports_success = False  # until it says something
        super().__init__(
            obs_spec=ObsSpec({name: part.key for name, part in self._parts.items()}),
            action_spec=ActionSpec(
                tuple(ActionDim(f"action_{i}") for i in range(int(np.prod(space.shape))))
            ),
            action_low=space.low.ravel(),
            action_high=space.high.ravel(),
            rate_hz=_rate_hz(self._env),
            max_steps=max_steps or _own_steps(self._env),
        )
        self.instruction = instruction or id
        told = [
            explain_key(name, *_form(part.space), part.key) for name, part in self._parts.items()
        ]
        self.notes = tuple(note for note in told if note)
        self._seen: Any = None
        self._info: Mapping[str, Any] = {}
        self._reward = 0.0
        self._return = 0.0
        self._ended = False

    @property
    def simulation(self) -> Any:
        """The environment without wrappers."""
        return self._env.unwrapped

    def step(
        self, action: ArrayLike, substeps: int | None = None
    ) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """As `TaskEnv.step`, with the environment's own reward."""
        observation, _, terminated, truncated, info = super().step(action, substeps)
        return observation, self._reward, terminated, truncated, info

    def _begin(self, options: dict[str, Any]) -> None:
        self._seen, self._info = self._env.reset(
            seed=int(self.np_random.integers(2**31)), options=options or None
        )
        self._reward = 0.0
        self._return = 0.0
        self._ended = False

    def _advance(self, action: FloatArray, substeps: int) -> None:
        box = self.action_space
        assert isinstance(box, spaces.Box)
        clipped = np.clip(action, box.low, box.high).reshape(self._shape)
        self._seen, reward, self._ended, _, self._info = self._env.step(
            clipped.astype(self._env.action_space.dtype)
        )
        self._reward = float(reward)
        self._return += self._reward

    def _observe(self) -> Observations:
        return {name: part.read(name, self._seen) for name, part in self._parts.items()}

    def _judge(self) -> tuple[float, bool]:
        fulfilled = self._read_success()
        self.reports_success |= fulfilled is not None
        scores = {
            "return": self._return,
            "success": float(bool(fulfilled)),
            "tasks": self._share_done(),
        }
        return scores[self._score_is], bool(fulfilled)

    def _read_success(self) -> bool | None:
        """Whether the task is fulfilled now; None where nothing says it."""
        for name in SUCCESSES:
            if name in self._info:
                return bool(self._info[name])
        if TASKS_DONE in self._info:
            return self._share_done() == 1.0
        judge = getattr(
            self.simulation, "_is_success", None
        )  # gymnasium-robotics says nothing at a reset, but would know
        if isinstance(self._seen, Mapping):
            goals = [self._seen.get(name) for name in GOALS]
        else:
            goals = []
        if judge is None or not goals or any(goal is None for goal in goals):
            return None
        return bool(judge(*goals))

    def _share_done(self) -> float:
        """Share of a kitchen's tasks that were done in this episode; 0 elsewhere."""
        if TASKS_DONE in self._info:
            wanted = set(self.simulation.goal)
        else:
            wanted = set()
        if wanted:
            return len(wanted & set(self._info[TASKS_DONE])) / len(wanted)
        return 0.0

    def _over(self) -> bool:
        return self._ended

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The environment's own picture, (H, W, 3) RGB. Raises RenderingError where it has none."""
        if self._env.render_mode != "rgb_array":
            raise RenderingError(f"{self.instruction} draws no pictures: run it without video")
        return np.asarray(self._env.render(), np.uint8)

    def close(self) -> None:
        """Free the environment."""
        self._env.close()


def _make(id_: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """gymnasium.make without its limit of steps, with what is wrong in plain words."""
    for package in REGISTRARS:
        if id_ not in gymnasium.registry:
            with contextlib.suppress(ImportError):
                gymnasium.register_envs(import_module(package))
    try:
        return _build(id_, kwargs)
    except GymnasiumError as error:
        known = list(gymnasium.registry)
        raise ConfigError(
            f"Gymnasium cannot make {id_!r}{nearest(id_, known)}: {error}. "
            "Give options.id=..., installed and registered (gymnasium-robotics: pip install "
            "'hotstart[gymnasium-robotics]'; "
            "your own: options.id=my_package:MyEnv-v0)"
        ) from error
    except TypeError as error:
        raise ConfigError(f"{id_} does not take these options: {error}") from error


def _build(id_: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """With pictures where the environment has any."""
    try:
        return gymnasium.make(
            id_, render_mode="rgb_array", disable_env_checker=True, max_episode_steps=-1, **kwargs
        )
    except TypeError as error:
        if "render_mode" not in str(error):
            raise
        return gymnasium.make(id_, disable_env_checker=True, max_episode_steps=-1, **kwargs)


@dataclass(frozen=True)
class _Part:
    """One leaf of an observation space: where it lies, and how its values become an observation."""

    path: tuple[str, ...]
    space: spaces.Space[Any]
    key: ObsKey
    scale: float

    def read(self, name: str, seen: Any) -> NDArray[Any]:
        """Its value in what the environment returned, as its key says."""
        for step in self.path:
            seen = seen[step]
        value = np.asarray(seen)
        if value.shape != self.space.shape:
            raise ConfigError(
                f"observation {name!r} has shape {value.shape}; its space says {self.space.shape}"
            )
        return (
            read_key(name, value, self.key, self.scale)
            .reshape(self.key.shape)
            .astype(self.key.dtype)
        )


def _name_parts(space: spaces.Space[Any], kinds: Mapping[str, str]) -> dict[str, _Part]:
    """The leaves of an observation space by name; ConfigError where two get one name, or `kinds`
    names none of them.
    """
    parts: dict[str, _Part] = {}
    for path, leaf in _leaves(space):
        name, part = _part(path, leaf, kinds)
        if name in parts:
            both = " and ".join("/".join(found) for found in (parts[name].path, path))
            raise ConfigError(
                f"the observations {both} would both be called {name!r}: rename one in the "
                f"environment"
            )
        parts[name] = part
    if odd := sorted(set(kinds) - set(parts)):
        raise ConfigError(unknown("observation in kinds", odd[0], list(parts)))
    return parts


def _leaves(
    space: spaces.Space[Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], spaces.Space[Any]]]:
    """(path, space) of every leaf of an observation space."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    else:
        yield path, space


def _part(
    path: tuple[str, ...], space: spaces.Space[Any], kinds: Mapping[str, str]
) -> tuple[str, _Part]:
    """What a leaf is called and what it is; a box alone is called by what it is."""
    name = re.sub("[ /]", "_", "_".join(map(str, path)))
    shape, dtype = _form(space)
    if isinstance(space, spaces.Discrete):
        return name or "state", _Part(path, space, ObsKey((1,)), 1.0)
    if not isinstance(space, spaces.Box):
        shown = name or "of the environment"
        raise ConfigError(
            f"observation {shown!r} is {space}; boxes, discrete numbers and dicts of them can be "
            f"observed"
        )
    shown = name or ("image" if "image" in kinds else "state")
    key = decide_key(shown, shape, dtype, kinds.get(shown))
    if key.kind == "image":
        scale = _scale(shown, space)
    else:
        scale = 1.0
    return name or key.kind, _Part(path, space, key, scale)


def _form(space: spaces.Space[Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a leaf."""
    return space.shape or (), np.dtype(space.dtype)


def _scale(name: str, box: spaces.Box) -> float:
    """What the numbers of a box of pictures are multiplied with to lie in 0 to 255; ConfigError for
    other bounds.
    """
    low, high = float(box.low.min()), float(box.high.max())
    if low >= 0 and high <= 1 and box.dtype is not None and box.dtype.kind == "f":
        return 255.0
    if low >= 0 and 1 < high <= 255:
        return 1.0
    raise ConfigError(
        f"observation {name!r} looks like a picture, and its box goes from {low:g} to {high:g} in "
        f"{box.dtype}; pictures go "
        f"from 0 to 255, or from 0 to 1 in floats: change the box, or say "
        f"task.options.kinds={{{name}:state}}"
    )


def _rate_hz(env: gymnasium.Env[Any, Any]) -> float:
    """Steps per simulated second: from the simulator's time step, else the rate that videos are
    shown at.
    """
    dt_s = getattr(env.unwrapped, "dt", None)
    if isinstance(dt_s, float) and dt_s > 0:
        return 1.0 / dt_s
    return float(env.metadata.get("render_fps") or RATE_HZ)


def _own_steps(env: gymnasium.Env[Any, Any]) -> int:
    if env.spec is not None:
        id_ = env.spec.id
    else:
        id_ = ""
    registered = gymnasium.registry.get(id_)
    return (registered.max_episode_steps if registered is not None else None) or MAX_STEPS
