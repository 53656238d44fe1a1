"""Any registered Gymnasium environment as `TaskEnv`, by its id: gymnasium-robotics' Fetch and Kitchen, or one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import Error as GymnasiumError
from numpy.typing import ArrayLike, NDArray

from ..spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsSpec, nearest
from .base import Observations, TaskEnv
from .rendering import RenderingError, choose_gl

REGISTRARS = ("gymnasium_robotics",)
"""Packages that register their environments when they are imported."""
SUCCESSES = ("success", "is_success")
"""What `info` may call the fulfilled task."""
MAX_STEPS = 1000
RATE_HZ = 20.0


class GymnasiumEnv(TaskEnv):
    """A Gymnasium environment with a box of actions.

    Observations: a box is `state`, or `image` when it holds bytes of shape (H, W, C); the entries of a dict keep their names,
    those of a dict inside it are joined with `_`; discrete observations become one number. Success is what `info` says under
    `success` or `is_success`; where it says nothing, the task is never fulfilled, but kitchens are when nothing is left to do.
    The score is the return so far, or with `score="success"` whether the task has been fulfilled.
    """

    keeps_best = False

    def __init__(
        self,
        id: str = "",
        max_steps: int = 0,
        score: Literal["return", "success"] = "return",
        instruction: str = "",
        **kwargs: Any,
    ) -> None:
        """Make the environment `id`; `max_steps` 0 is its own length, `kwargs` are its own options.

        Raises ConfigError for an id that nothing registered, for options it does not take and for actions that are no box.
        """
        if score not in ("return", "success"):
            raise ConfigError(f"score is {score!r}; choose return or success")
        choose_gl()
        self._env = _made(id, kwargs)
        space = self._env.action_space
        if not isinstance(space, spaces.Box):
            raise ConfigError(f"{id} takes actions from {space}; a policy of continuous actions needs a box")
        self._shape, self._score_is = space.shape, score
        super().__init__(
            obs_spec=ObsSpec({name: _key(name, part) for name, part, _ in _leaves(self._env.observation_space)}),
            action_spec=ActionSpec(tuple(ActionDim(f"action_{i}") for i in range(int(np.prod(space.shape))))),
            action_low=space.low.ravel(),
            action_high=space.high.ravel(),
            rate_hz=_rate_hz(self._env),
            max_steps=max_steps or _own_steps(self._env),
        )
        self.instruction = instruction or id
        self._seen: Any = None
        self._info: Mapping[str, Any] = {}
        self._reward, self._return, self._ended = 0.0, 0.0, False

    @property
    def simulation(self) -> Any:
        """The environment without wrappers."""
        return self._env.unwrapped

    def step(self, action: ArrayLike, substeps: int | None = None) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """As `TaskEnv.step`, with the environment's own reward."""
        observation, _, terminated, truncated, info = super().step(action, substeps)
        return observation, self._reward, terminated, truncated, info

    def _begin(self, options: dict[str, Any]) -> None:
        self._seen, self._info = self._env.reset(seed=int(self.np_random.integers(2**31)), options=options or None)
        self._reward, self._return, self._ended = 0.0, 0.0, False

    def _advance(self, action: FloatArray, substeps: int) -> None:
        box = self.action_space
        assert isinstance(box, spaces.Box)
        clipped = np.clip(action, box.low, box.high).reshape(self._shape)
        self._seen, reward, self._ended, _, self._info = self._env.step(clipped.astype(self._env.action_space.dtype))
        self._reward = float(reward)
        self._return += self._reward

    def _observe(self) -> Observations:
        found = {name: value for name, _, value in _leaves(self._env.observation_space, self._seen)}
        return {name: np.asarray(found[name], key.dtype).reshape(key.shape) for name, key in self.obs_spec.keys.items()}

    def _judge(self) -> tuple[float, bool]:
        fulfilled = _fulfilled(self._info)
        return (self._return if self._score_is == "return" else float(fulfilled)), fulfilled

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


def _made(id_: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """gymnasium.make without its limit of steps, with what is wrong in plain words."""
    for package in REGISTRARS:
        if id_ not in gymnasium.registry:
            with contextlib.suppress(ImportError):
                gymnasium.register_envs(import_module(package))
    try:
        return _built(id_, kwargs)
    except GymnasiumError as error:
        known = list(gymnasium.registry)
        raise ConfigError(
            f"Gymnasium cannot make {id_!r}{nearest(id_, known)}: {error}. "
            "Give options.id=..., installed and registered (gymnasium-robotics: pip install 'hotstart[gymnasium-robotics]'; "
            "your own: options.id=my_package:MyEnv-v0)"
        ) from error
    except TypeError as error:
        raise ConfigError(f"{id_} does not take these options: {error}") from error


def _built(id_: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    """With pictures where the environment has any."""
    try:
        return gymnasium.make(id_, render_mode="rgb_array", disable_env_checker=True, max_episode_steps=-1, **kwargs)
    except TypeError as error:
        if "render_mode" not in str(error):
            raise
        return gymnasium.make(id_, disable_env_checker=True, max_episode_steps=-1, **kwargs)


def _leaves(space: spaces.Space[Any], value: Any = None, name: str = "") -> Iterator[tuple[str, spaces.Space[Any], Any]]:
    """(name, space, value) of every leaf of an observation space; the value is None where none is given."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            inner = None if value is None else value[key]
            yield from _leaves(part, inner, f"{name}_{key}".strip("_").replace(" ", "_"))
    else:
        yield name or ("image" if _is_image(space) else "state"), space, value


def _is_image(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _key(name: str, space: spaces.Space[Any]) -> ObsKey:
    """What a leaf of the observation space is to us."""
    if isinstance(space, spaces.Discrete):
        return ObsKey((1,))
    if not isinstance(space, spaces.Box):
        raise ConfigError(f"observation {name!r} is {space}; boxes, discrete numbers and dicts of them can be observed")
    return ObsKey(space.shape, "uint8", "image") if _is_image(space) else ObsKey(space.shape)


def _fulfilled(info: Mapping[str, Any]) -> bool:
    said = next((info[name] for name in SUCCESSES if name in info), None)
    if said is None and "tasks_to_complete" in info:  # the kitchen lists what is left
        return len(info["tasks_to_complete"]) == 0
    return bool(said)


def _rate_hz(env: gymnasium.Env[Any, Any]) -> float:
    """Steps per simulated second: from the simulator's time step, else the rate that videos are shown at."""
    dt_s = getattr(env.unwrapped, "dt", None)
    if isinstance(dt_s, float) and dt_s > 0:
        return 1.0 / dt_s
    return float(env.metadata.get("render_fps") or RATE_HZ)


def _own_steps(env: gymnasium.Env[Any, Any]) -> int:
    id_ = env.spec.id if env.spec is not None else ""
    registered = gymnasium.registry.get(id_)
    return (registered.max_episode_steps if registered is not None else None) or MAX_STEPS
