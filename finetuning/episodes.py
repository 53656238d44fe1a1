"""Episodes of a rollout as a data set holds them: each observation, and the action that followed.

Letters: B rows, n control periods of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.arrays import Arrays
from ..datasets.windows import LEAST_STEPS
from ..policy.normalizer import ACTION
from ..spec import ActionSpec, FloatArray, IntArray, Observation, ObsSpec, RolloutSource, Turn

ENDS = "ends"


@dataclass(frozen=True)
class Episode:
    """An episode that came to its end."""

    arrays: dict[str, NDArray[Any]]  # key -> (n, ...): observations, and `action` (n, A)
    turns: IntArray  # (n,) which chunk of the rollout each control period belongs to
    row: int
    success: bool


class RecordingSource:
    """A source that keeps what its rows observe and execute; `take_episodes` hands it out."""

    def __init__(self, source: RolloutSource, obs_spec: ObsSpec) -> None:
        """`obs_spec` names what is kept of an observation."""
        self.source = source
        self.rows, self.real = source.rows, source.real
        self.rate_hz = source.rate_hz
        self.obs_spec, self.action_spec = obs_spec, source.action_spec
        self._observed: Observation = {}
        self._turn = 0
        self._success = np.zeros(self.rows, bool)
        self._parts: list[list[dict[str, NDArray[Any]]]] = [[] for _ in range(self.rows)]
        self._turns: list[list[IntArray]] = [[] for _ in range(self.rows)]
        self._episodes: list[Episode] = []

    def begin(self, rows: IntArray, seeds: Sequence[int]) -> Observation:
        """Begin an episode in `rows` (R,); what was not finished there is forgotten."""
        self._observed = self.source.begin(rows, seeds)
        self._success[rows] = False
        for row in rows:
            self._parts[row] = []
            self._turns[row] = []
        return self._observed

    def step(self, actions: FloatArray) -> Turn:
        """Execute a chunk of actions (B, Ta, A) and record it."""
        turn = self.source.step(actions)
        before = (self._observed, *turn.frames[:-1])
        chunk: dict[str, NDArray[Any]] = {ACTION: actions}
        for name in self.obs_spec.keys:
            chunk[name] = np.stack([frame[name] for frame in before], 1)  # (B, Ta, ...)
        for row in np.flatnonzero(turn.steps):
            run = turn.steps[row]
            self._parts[row].append({name: values[row, :run] for name, values in chunk.items()})
            self._turns[row].append(np.full(run, self._turn))
        self._success |= turn.success
        for row in np.flatnonzero(turn.done):
            self._finish(row)
        self._observed = turn.frames[-1]
        self._turn += 1
        return turn

    def close(self) -> None:
        """Free everything."""
        self.source.close()

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, those too short to learn from left out."""
        taken = self._episodes
        self._episodes = []
        self._turn = 0
        return taken

    def _finish(self, row: int) -> None:
        parts = self._parts[row]
        if sum(len(part[ACTION]) for part in parts) < LEAST_STEPS:
            return
        arrays = {}
        for name in parts[0]:
            arrays[name] = np.concatenate([part[name] for part in parts])
        turns = np.concatenate(self._turns[row])
        self._episodes.append(Episode(arrays, turns, row, bool(self._success[row])))


class EpisodeBuffer:
    """Episodes that are kept over the rounds of a run, and its checkpoints."""

    def __init__(self) -> None:
        self.episodes: list[Mapping[str, NDArray[Any]]] = []

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep an episode: arrays (n, ...), `action` among them."""
        self.episodes.append(arrays)

    def join(self, name: str) -> NDArray[Any]:
        """One array of all episodes in a row, (N, ...)."""
        return np.concatenate([episode[name] for episode in self.episodes])

    def to_dataset(self, obs_spec: ObsSpec, action_spec: ActionSpec, rate_hz: float) -> Arrays:
        """A data set of what the specifications name."""
        chosen = []
        for episode in self.episodes:
            chosen.append({name: episode[name] for name in (*obs_spec.keys, ACTION)})
        return Arrays(chosen, rate_hz, action_spec, obs_spec)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, as `load_tensors` takes it back."""
        if not self.episodes:
            return {}
        tensors = {}
        for name in self.episodes[0]:
            tensors[f"data.{name}"] = torch.from_numpy(self.join(name))
        lengths = [len(episode[ACTION]) for episode in self.episodes]
        return {**tensors, ENDS: torch.as_tensor(np.cumsum(lengths))}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The episodes that `tensors` gave, in place of those that are here."""
        self.episodes = []
        if ENDS not in tensors:
            return
        first = 0
        for end in tensors[ENDS].tolist():
            episode = {}
            for name, values in tensors.items():
                if name != ENDS:
                    episode[name.removeprefix("data.")] = values[first:end].numpy()
            self.episodes.append(episode)
            first = end
