"""Imagined episodes: a world model as a source of rollouts (`spec.RolloutSource`).

They begin at recorded steps, and nothing in them is real. What the model is unsure of is made
unattractive: disagreement of its members costs reward (MOPO, 2005.13239) and ends episodes
(MOReL, 2005.05951), success counts where the whole ensemble says so, and episodes that a second
member judges otherwise are marked as doubtful. Letters: B rows, Ta actions of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..seeds import Purpose, numpy_generator
from ..spec import BoolArray, ConfigError, FloatArray, IntArray, Observation, Turn, option
from .base import State, WorldModel
from .play import Play
from .success import Judge

SURE = 0.5
"""Probability above which a state counts as success."""
WORST = 5.0
"""The penalty of a chunk is at most this many times its weight."""


@dataclass(frozen=True)
class Pessimism:
    """What makes imagined episodes unattractive where the world model is unsure."""

    penalty: float = option(
        0.02, "cost of a chunk whose disagreement is twice the limit; 0: none", "reward"
    )
    cut: float = option(6.0, "an episode ends at so many times the limit; 0: never")
    whole_ensemble: bool = option(True, "whether success counts only where all members see it")
    second_opinion: bool = option(
        True, "whether episodes that a second member of the dynamics judges otherwise are left out"
    )
    limit: float = option(
        0.0, "disagreement that is usual: 95 % of the base's chunks lie below; 0: is measured"
    )

    def __post_init__(self) -> None:
        """Raise ConfigError for values that cannot be."""
        for name in ("penalty", "cut", "limit"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")

    def lift(self) -> Pessimism:
        """Without any of it."""
        return replace(self, penalty=0.0, cut=0.0, whole_ensemble=False, second_opinion=False)


@dataclass(frozen=True)
class Starts:
    """Recorded steps that imagined episodes begin at."""

    play: Play
    key_frames: float = 0.0
    """Share of the episodes that begin near an outcome instead of at an episode's first step."""
    reach: int = 40
    """How many control periods before a success a key frame lies at most."""

    def list_first(self) -> IntArray:
        """First steps of episodes in which the task is not fulfilled yet."""
        first = self.play.first
        return first[~self.play.reached[first]]

    def list_key_frames(self) -> IntArray:
        """Steps shortly before a first success."""
        found: list[IntArray] = []
        for begin, end in zip(self.play.first, self.play.episode_ends, strict=True):
            reached = np.flatnonzero(self.play.reached[begin:end])
            if len(reached):
                last = begin + reached[0]
                found.append(np.arange(max(begin, last - self.reach), last))
        if not found:
            return np.zeros(0, np.int64)
        return np.concatenate(found)


@dataclass(frozen=True)
class Account:
    """What was imagined since it was asked for last."""

    steps: int  # control periods
    disagreement: float  # mean over the chunks


class DreamSource:
    """B rows of imagined episodes. The same seed begins at the same step, with the same member."""

    real = False

    def __init__(
        self,
        model: WorldModel,
        judge: Judge,
        starts: Starts,
        rows: int,
        max_steps: int,
        reward: Literal["success", "score"] = "success",
        pessimism: Pessimism | None = None,
        frames: int = 2,
        filtered: bool = False,
    ) -> None:
        """Imagine `rows` episodes of at most `max_steps` control periods.

        reward: success: 1 when it is first fulfilled, which ends the episode; score: how much the
            score rises
        frames: observations that a turn shows: as many as the policy observes at once
        filtered: whether a policy with the model's filter dreams: it is shown what the filter says
        """
        self.model, self.judge = model, judge
        self.rows, self.rate_hz = rows, model.rate_hz
        self.obs_spec, self.action_spec = model.obs_spec, model.action_spec
        self.max_steps, self.reward = max_steps, reward
        self.pessimism = pessimism or Pessimism()
        self.frames = min(frames, model.jump)
        self.filtered = filtered
        self.encoded = model.encode(starts.play)
        self._first = starts.list_first()
        self._key_frames = starts.list_key_frames()
        self._share = starts.key_frames
        if reward == "score" and not judge.scores:
            raise ConfigError(
                "the world model has not learned the score: train it with score=true, or say "
                "method.reward=success"
            )
        if len(self._first) == 0:
            raise ConfigError("the play has no episode whose first step can be begun at")
        self.begun = np.zeros(rows, np.int64)
        """(B,) the recorded step that each row began at."""
        self.disagreement: FloatArray = np.zeros(rows)
        """(B,) of the last chunk."""
        self._spent: list[FloatArray] = []
        self._steps = np.zeros(rows, np.int64)
        self._over = np.ones(rows, bool)
        self._score = np.zeros(rows)
        self._state: State = {}
        self._other: State = {}
        self._member = torch.zeros(rows, dtype=torch.int64)
        self._seen_twice = np.zeros(rows, bool)

    def begin(self, rows: IntArray, seeds: Sequence[int]) -> Observation:
        """Begin an episode in `rows` (R,) with a seed each; returns what all B rows observe."""
        index = np.zeros(len(rows), np.int64)
        member = np.zeros(len(rows), np.int64)
        for place, seed in enumerate(seeds):
            index[place], member[place] = self._choose(seed)
        return self.begin_at(rows, index, member)

    def begin_at(self, rows: IntArray, index: IntArray, member: IntArray) -> Observation:
        """Begin at the recorded steps `index` (R,) with the members (R,)."""
        fresh = self.model.begin(self.encoded, torch.as_tensor(index))
        chosen = torch.as_tensor(rows)
        if not self._state:
            shape = torch.zeros(self.rows, dtype=torch.int64)
            self._state = {name: values[shape].clone() for name, values in fresh.items()}
        self._state = _put(self._state, chosen, fresh)
        self._other = _put(self._other or self._state, chosen, fresh)
        self._member[chosen] = torch.as_tensor(member)
        self._steps[rows] = 0
        self._over[rows] = False
        self._seen_twice[rows] = False
        self.begun[rows] = index
        if self.reward == "score":
            self._score[rows] = self._estimate(fresh)
        return self._observe(1)[0]

    def step(self, actions: FloatArray) -> Turn:
        """Execute chunks of actions (B, Ta, A); rows whose episode is over stand still."""
        runs = ~self._over
        chunk = torch.as_tensor(actions)
        jump = self.model.step(self._state, chunk, self._member)
        alive = torch.as_tensor(runs)
        self._state = _choose_rows(alive, jump.state, self._state)
        self._steps += np.where(runs, self.model.jump, 0)
        self.disagreement = jump.disagreement.double().numpy()
        self._spent.append(self.disagreement[runs])
        cut = self._find_cut(runs)
        success = runs & ~cut & self._judge(self._state)
        reward = self._pay(success, runs)
        terminated = success | cut
        truncated = runs & ~terminated & (self._steps >= self.max_steps)
        doubtful = self._ask_second(chunk, alive, success, success | truncated)
        self._over |= terminated | truncated
        return Turn(
            frames=self._observe(self.frames),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            success=success,
            steps=np.where(runs, self.model.jump, 0),
            elapsed=self._steps / self.max_steps,
            doubtful=doubtful,
        )

    @property
    def state(self) -> State:
        """What the model knows of all B rows now."""
        return self._state

    def take_account(self) -> Account:
        """Steps and mean disagreement of all chunks since the last call."""
        spent = np.concatenate([np.zeros(0), *self._spent])
        self._spent = []
        mean = float(spent.sum() / max(1, len(spent)))
        return Account(len(spent) * self.model.jump, mean)

    def close(self) -> None:
        """Nothing to free."""

    def _choose(self, seed: int) -> tuple[int, int]:
        """The recorded step that an episode of this seed begins at, and its member."""
        rng = numpy_generator(seed, Purpose.DREAMS)
        member = int(rng.integers(self.model.members))
        if len(self._key_frames) and rng.random() < self._share:
            return int(rng.choice(self._key_frames)), member
        return int(rng.choice(self._first)), member

    @torch.no_grad()
    def _judge(self, state: State, whole: bool | None = None) -> BoolArray:
        """Which states (B,) fulfil the task."""
        if whole is None:
            whole = self.pessimism.whole_ensemble
        return self.judge.rate(self.model.features(state).float(), whole).numpy() > SURE

    @torch.no_grad()
    def _estimate(self, state: State) -> FloatArray:
        """The score of states (B,)."""
        features = self.model.features(state).float()
        scored = self.judge.estimate_score(features, self.pessimism.whole_ensemble)
        return scored.double().numpy()

    def _find_cut(self, runs: BoolArray) -> BoolArray:
        """Rows (B,) whose episode ends because the model does not know what would happen."""
        pessimism = self.pessimism
        if pessimism.limit == 0 or pessimism.cut == 0:
            return np.zeros(self.rows, bool)
        return runs & (self.disagreement > pessimism.cut * pessimism.limit)

    def _pay(self, success: BoolArray, runs: BoolArray) -> FloatArray:
        """The reward (B,) of the chunk, less the penalty of its disagreement."""
        if self.reward == "success":
            reward = success.astype(np.float64)
        else:
            score = self._estimate(self._state)
            reward = np.where(runs, score - self._score, 0.0)
            self._score = np.where(runs, score, self._score)
        if self.pessimism.limit > 0:
            excess = np.clip(self.disagreement / self.pessimism.limit - 1, 0, WORST)
            reward -= np.where(runs, self.pessimism.penalty * excess, 0.0)
        return reward

    def _ask_second(
        self, chunk: Tensor, alive: Tensor, success: BoolArray, done: BoolArray
    ) -> BoolArray | None:
        """Ended rows (B,) whose outcome another member of the dynamics does not see."""
        if not self.pessimism.second_opinion or self.model.members < 2:
            return None
        other = (self._member + 1) % self.model.members
        jump = self.model.step(self._other, chunk, other)
        self._other = _choose_rows(alive, jump.state, self._other)
        self._seen_twice |= alive.numpy() & self._judge(self._other, whole=False)
        return done & (success != self._seen_twice)

    def _observe(self, frames: int) -> list[Observation]:
        """What all B rows observe: the last `frames` observations."""
        if self.filtered:
            decoded = self.model.recall(self._state, frames)
        else:
            decoded = self.model.decode(self._state, frames)
        shown: list[Observation] = []
        for place in range(frames):
            shown.append({name: values[:, place].numpy() for name, values in decoded.items()})
        return shown


def _put(state: State, rows: Tensor, fresh: State) -> State:
    """A state with other values (R, ...) in its `rows` (R,)."""
    changed: State = {}
    for name, values in state.items():
        changed[name] = values.index_copy(0, rows, fresh[name])
    return changed


def _choose_rows(chosen: Tensor, one: State, other: State) -> State:
    """Rows (B,) of `one` where chosen, else of `other`."""
    found: State = {}
    for name, values in one.items():
        shape = (len(chosen), *[1] * (values.ndim - 1))
        found[name] = torch.where(chosen.view(shape), values, other[name])
    return found
