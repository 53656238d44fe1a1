"""A data set in memory, for people's own arrays: no file, no format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import TEXT_KEY, ActionSpec, DataError, IntArray, ObsKey, ObsSpec
from .episodes import (
    ACTION,
    check_choice,
    check_episode,
    content_hash,
    episode_slice,
    is_extra,
    lengths_of,
    list_arrays,
    list_extras,
)
from .kinds import decide_key


class Arrays:
    """Episodes given as dicts of arrays (n, ...): a data set to train on.

    An episode holds an `action` of shape (n, A), observations, and perhaps the extras. Observations
    are states (n, ...), pictures (n, height, width, channels) as uint8, and an instruction as one
    text. Specifications that are not given are deduced from the first episode: actions get plain
    names, `kinds.decide_key` tells pictures from states. A warning says where a picture's axes or
    type of numbers change.

    Args:
        episodes: the episodes, at least one
        fps: steps per second [Hz]
        action_spec: names, units and kinds of the A numbers of an action; None: plain names
        obs_spec: shape, dtype and kind of every observation; None: as the arrays say

    Raises:
        DataError: for keys that are missing, of different lengths, or not finite, and for arrays
            that could be states or pictures

    Examples:
        >>> data = hotstart.Arrays([{"state": states, "action": actions}], fps=20)
    """

    def __init__(
        self,
        episodes: Sequence[Mapping[str, NDArray[Any] | str]],
        fps: float,
        action_spec: ActionSpec | None = None,
        obs_spec: ObsSpec | None = None,
    ) -> None:
        if not episodes:
            raise DataError(
                "there are no episodes; give at least one dict of arrays with the key 'action'"
            )
        self.fps = check_fps(fps)
        self.action_spec = action_spec or deduce_action_spec(episodes[0])
        self.obs_spec = obs_spec or deduce_obs_spec(episodes[0])
        wanted = list_arrays(self.action_spec, self.obs_spec)
        checked: list[dict[str, NDArray[Any]]] = []
        for number, episode in enumerate(episodes):
            checked.append(check_episode(episode, wanted, number, self.fps))
        self._arrays: dict[str, NDArray[Any]] = {}
        for key in (*wanted, *list_extras(checked[0])):
            self._arrays[key] = _join(key, checked)
        self.keys = tuple(self._arrays)
        lengths = [len(episode[ACTION]) for episode in checked]
        self.episode_ends: IntArray = np.cumsum(lengths).astype(np.int64)

    def __len__(self) -> int:
        return int(self.episode_ends[-1])

    @property
    def lengths(self) -> IntArray:
        """Steps per episode, (E,) int64."""
        return lengths_of(self.episode_ends)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...); DataError for an unknown key."""
        check_choice(key, self.keys)
        return self._arrays[key]

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key, (stop - start, ...); DataError for an unknown key."""
        return self.array(key)[start:stop]

    def episode(self, number: int) -> dict[str, NDArray[Any]]:
        """All keys of one episode, each (n, ...); DataError where there is no such episode."""
        steps = episode_slice(self.episode_ends, number)
        return {key: self._arrays[key][steps] for key in self.keys}

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends; the same as that of a store with
        the same content.
        """
        return content_hash(self)


def check_fps(fps: float) -> float:
    """The rate as a float; DataError unless it is a positive, finite number."""
    if not (isinstance(fps, int | float | np.number) and np.isfinite(fps) and fps > 0):
        raise DataError(f"fps is {fps!r}; it must be a positive number of steps per second")
    return float(fps)


def deduce_action_spec(episode: Mapping[str, NDArray[Any] | str]) -> ActionSpec:
    """Plain names for the A numbers of the episode's actions (n, A); DataError when there are
    none.
    """
    if ACTION not in episode:
        raise DataError(f"the first episode has no key 'action'; it has {list(episode)}")
    shape = np.shape(episode[ACTION])
    if len(shape) != 2 or shape[1] == 0:
        raise DataError(f"'action' has shape {shape} in episode 0; it must be (steps, A)")
    return ActionSpec.plain(shape[1])


def deduce_obs_spec(episode: Mapping[str, NDArray[Any] | str]) -> ObsSpec:
    """What each key of an episode is, see `kinds.decide_key`."""
    keys: dict[str, ObsKey] = {}
    for name, array in episode.items():
        if name != ACTION and not is_extra(name):
            keys[name] = _deduce_key(name, array)
    if not keys:
        raise DataError(
            f"the first episode has no observation, only {list(episode)}; add at least one key, "
            f"for instance 'state'"
        )
    return ObsSpec(keys)


def _deduce_key(name: str, values: NDArray[Any] | str) -> ObsKey:
    """What kind of observation an array (n, ...) holds, or a text."""
    if isinstance(values, str):
        return TEXT_KEY
    array = np.asarray(values)
    if array.ndim == 0:
        raise DataError(
            f"{name!r} is one {array.dtype} in episode 0; observations are numbers of shape "
            f"(steps, ...)"
        )
    return decide_key(name, array.shape[1:], array.dtype)


def _join(key: str, episodes: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[Any]:
    """One key of all episodes in a row; DataError where an episode lacks it or has it alone."""
    for number, episode in enumerate(episodes):
        if key not in episode:
            raise DataError(
                f"episode {number} has no {key!r}, but episode 0 has it; "
                "give it in all episodes or in none"
            )
    return np.concatenate([episode[key] for episode in episodes])
