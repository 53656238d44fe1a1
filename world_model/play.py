"""Recorded play in memory, as world models learn from it.

Letters: N steps of all episodes, E episodes, A numbers of an action. Step t holds an observation,
the action that was executed from it, and what came of that action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.episodes import ACTION, Dataset
from ..datasets.store import Store
from ..datasets.windows import split_episodes
from ..spec import ActionSpec, BoolArray, ConfigError, DataError, FloatArray, IntArray, ObsSpec

SUCCESS = "success"
SCORE = "reward"
"""Of a task, the score of the state that a step has led to."""
EXPLORED = "explored"
HELD_OUT = 0.25
"""Share of the episodes that a model is audited on and never learns from."""


@dataclass(frozen=True)
class Play:
    """Episodes of play. `reached` and `score` belong to the observation, not to the step."""

    observations: dict[str, NDArray[Any]]  # key -> (N, ...)
    actions: FloatArray  # (N, A) as they were executed
    reached: BoolArray  # (N,) the task is fulfilled in this observation
    score: FloatArray | None  # (N,) what the environment gives this observation
    explored: BoolArray  # (N,) the episode was disturbed, or nobody says that it was not
    episode_ends: IntArray  # (E,)
    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float
    content_hash: str

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def first(self) -> IntArray:
        """First step of every episode, (E,)."""
        return np.concatenate(([0], self.episode_ends[:-1])).astype(np.int64)

    @property
    def episode_of(self) -> IntArray:
        """The episode of every step, (N,)."""
        lengths = np.diff(self.episode_ends, prepend=0)
        return np.repeat(np.arange(len(lengths)), lengths)

    def list_windows(self, steps: int) -> IntArray:
        """Steps that at least `steps` more of their episode follow, (M,)."""
        last = self.episode_ends[self.episode_of] - 1
        return np.flatnonzero(np.arange(len(self)) + steps <= last)

    def take_chunks(self, index: IntArray, steps: int) -> FloatArray:
        """The actions (M, steps, A) from the steps `index` (M,) on."""
        return self.actions[index[:, None] + np.arange(steps)]

    def split(self, seed: int = 0, share: float = HELD_OUT) -> tuple[Play, Play]:
        """Play to learn from, and play that is held out.

        Episodes of the policy as it is deployed are held out first: they say how often it succeeds.
        """
        learned, held_out = split_episodes(len(self.episode_ends), share, seed)
        order = np.concatenate((held_out, learned))
        disturbed = self.explored[self.first[order]]
        order = np.concatenate((order[~disturbed], order[disturbed]))
        count = len(held_out)
        return self.take(np.sort(order[count:])), self.take(np.sort(order[:count]))

    def take(self, episodes: IntArray) -> Play:
        """Some of the episodes."""
        steps = np.flatnonzero(np.isin(self.episode_of, episodes))
        lengths = np.diff(self.episode_ends, prepend=0)[episodes]
        score = self.score
        if score is not None:
            score = score[steps]
        return replace(
            self,
            observations={name: values[steps] for name, values in self.observations.items()},
            actions=self.actions[steps],
            reached=self.reached[steps],
            score=score,
            explored=self.explored[steps],
            episode_ends=np.cumsum(lengths).astype(np.int64),
        )


def load_play(path: Path | str) -> Play:
    """The play of a store; see `read_play`."""
    return read_play(Store.open(path))


def read_play(dataset: Dataset, keys: Sequence[str] = ()) -> Play:
    """Play from a data set; `keys` are the observations to take, all if none is named.

    Raises DataError where no step says whether the task is fulfilled, and where no episode
    fulfils it or none fails to.
    """
    if SUCCESS not in dataset.keys:
        raise DataError(
            "the play does not say where its task was fulfilled; record it with "
            "`hotstart collect ... keep=all`, or give every episode an array `success` (n,)"
        )
    for key in keys:
        if key not in dataset.obs_spec.keys:
            raise ConfigError(
                f"the play has no observation {key}, only {list(dataset.obs_spec.keys)}"
            )
    names = keys or list(dataset.obs_spec.keys)
    ends = np.asarray(dataset.episode_ends, np.int64)
    if not len(ends):
        raise DataError("the play holds no episode")
    count = int(ends[-1])
    first = np.zeros(count, bool)
    first[np.concatenate(([0], ends[:-1]))] = True
    score = None
    if SCORE in dataset.keys:
        score = _shift(dataset.array(SCORE).astype(np.float64), first)
    explored = np.ones(count, bool)
    if EXPLORED in dataset.keys:
        explored = dataset.array(EXPLORED).astype(bool)
    reached = _shift(dataset.array(SUCCESS).astype(np.float64), first) > 0.5
    play = Play(
        observations={name: dataset.array(name) for name in names},
        actions=dataset.array(ACTION).astype(np.float64),
        reached=reached,
        score=score,
        explored=explored,
        episode_ends=ends,
        obs_spec=ObsSpec({name: dataset.obs_spec.keys[name] for name in names}),
        action_spec=dataset.action_spec,
        rate_hz=float(dataset.fps),
        content_hash=dataset.content_hash(),
    )
    _check_outcomes(play)
    return play


def _shift(values: FloatArray, first: BoolArray) -> FloatArray:
    """What came of a step, put to the observation that it led to: (N,) one step later.

    An episode's first observation has what its first step led to, or 0 for a success.
    """
    moved = np.roll(values, 1)
    moved[first] = np.where(values[first] == 1.0, 0.0, values[first])
    return moved


def _check_outcomes(play: Play) -> None:
    """Raise DataError where success cannot be learned."""
    fulfilled = np.unique(play.episode_of[play.reached])
    if len(fulfilled) in (0, len(play.episode_ends)):
        raise DataError(
            f"{len(fulfilled)} of {len(play.episode_ends)} episodes of the play fulfil the task; "
            "a success model needs episodes that do, which go on a few steps, and some that do not"
        )
