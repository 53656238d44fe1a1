"""Episodes as they can be drawn: recorded, replayed in a world model, or dreamed by a policy.

Letters: K moments of an episode, B rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.turns import PolicyRows
from ..spec import FloatArray, IntArray
from .base import State, WorldModel
from .dreams import SURE, DreamSource, Starts
from .play import Play
from .success import Judge


@dataclass(frozen=True)
class Trace:
    """What was observed in an episode, and what the success model says of it."""

    ticks: IntArray  # (K,) control periods since its start
    states: dict[str, NDArray[Any]]  # state key -> (K, D)
    chance: FloatArray  # (K,) probability of success, the least of the ensemble
    success: int | None  # tick at which the task was first fulfilled

    def resample(self, key: str, ticks: IntArray) -> FloatArray:
        """A state's numbers (n, D) at other ticks, interpolated; the last ones stay."""
        columns: list[FloatArray] = []
        for column in self.states[key].T:
            columns.append(np.interp(ticks, self.ticks, column.astype(np.float64)))
        return np.stack(columns, -1)


def list_states(play: Play) -> list[str]:
    """The observations of a play that are states."""
    return [name for name, key in play.obs_spec.keys.items() if key.kind == "state"]


def choose_episodes(play: Play, count: int) -> IntArray:
    """Episodes to show: half of them successes, half failures, undisturbed ones first.

    Those that fulfil the task from the start, or end within a chunk or so, say nothing.
    """
    found: dict[bool, list[int]] = {True: [], False: []}
    lengths = np.diff(play.episode_ends, prepend=0)
    disturbed = play.explored[play.first]
    for number in np.lexsort((np.arange(len(lengths)), disturbed)):
        first, end = play.first[number], play.episode_ends[number]
        if not play.reached[first] and lengths[number] > np.median(lengths) / 4:
            found[bool(play.reached[first:end].any())].append(int(number))
    successes = found[True][: -(-count // 2)]
    failures = found[False][: count - len(successes)]
    more = found[True][len(successes) : count - len(failures)]
    return np.array([*successes, *more, *failures], np.int64)


@torch.no_grad()
def trace_recorded(model: WorldModel, judge: Judge, play: Play, episode: int) -> Trace:
    """An episode as it was recorded."""
    steps = np.arange(play.first[episode], play.episode_ends[episode])
    state = model.begin(model.encode(play), torch.as_tensor(steps))
    reached = np.flatnonzero(play.reached[steps])
    success = None
    if len(reached):
        success = int(reached[0])
    return Trace(
        ticks=np.arange(len(steps)),
        states={name: _flatten(play.observations[name][steps]) for name in list_states(play)},
        chance=_rate(model, judge, state),
        success=success,
    )


@torch.no_grad()
def trace_replayed(
    model: WorldModel, judge: Judge, play: Play, episode: int, member: int = 0
) -> Trace:
    """What the model imagines of an episode, given its first step and all of its actions."""
    first, end = int(play.first[episode]), int(play.episode_ends[episode])
    state = model.begin(model.encode(play), torch.tensor([first]))
    which = torch.tensor([member])
    moments = [_look(model, judge, state)]
    for now in range(first, end - model.jump, model.jump):
        chunk = torch.as_tensor(play.take_chunks(np.array([now]), model.jump))
        state = model.step(state, chunk, which).state
        moments.append(_look(model, judge, state))
    return _join(moments, 0, model.jump, list_states(play), len(moments))


@torch.no_grad()
def trace_dreamed(
    policy: DiffusionPolicy,
    model: WorldModel,
    judge: Judge,
    play: Play,
    episodes: IntArray,
    max_steps: int,
    seed: int = 0,
) -> list[Trace]:
    """What a policy dreams from the first steps of episodes, one dream each."""
    source = DreamSource(
        model,
        judge,
        Starts(play),
        len(episodes),
        max_steps,
        frames=policy.horizon.observed,
        filtered=policy.model.filter is not None,
    )
    rows = np.arange(len(episodes))
    observation = source.begin_at(rows, play.first[episodes], rows % model.members)
    going = PolicyRows.begin(policy, observation, (seed * 10**6 + rows).tolist())
    moments = [_look(model, judge, source.state)]
    last = np.ones(len(episodes), np.int64)
    over = np.zeros(len(episodes), bool)
    while not over.all():
        turn = source.step(going.plan_actions())
        going.push(turn)
        moments.append(_look(model, judge, source.state))
        last[~over] += 1
        over |= turn.done
    names = list_states(play)
    return [_join(moments, int(row), model.jump, names, int(last[row])) for row in rows]


Moment = tuple[dict[str, Tensor], FloatArray]
"""Decoded observations (B, 1, ...) by key, and the probability of success (B,)."""


def _look(model: WorldModel, judge: Judge, state: State) -> Moment:
    """What all rows observe now, and their probability of success."""
    return model.decode(state, 1), _rate(model, judge, state)


def _rate(model: WorldModel, judge: Judge, state: State) -> FloatArray:
    return judge.rate(model.features(state).float()).double().cpu().numpy()


def _join(moments: list[Moment], row: int, jump: int, names: list[str], count: int) -> Trace:
    """The first `count` moments of a row as a trace."""
    states: dict[str, NDArray[Any]] = {}
    shown = moments[:count]
    for name in names:
        if name in shown[0][0]:
            values = [decoded[name][row, 0].cpu().numpy() for decoded, _ in shown]
            states[name] = _flatten(np.stack(values))
    chance = np.array([rated[row] for _, rated in shown])
    ticks = jump * np.arange(count)
    success = None
    if (chance > SURE).any():
        success = int(ticks[np.argmax(chance > SURE)])
    return Trace(ticks, states, chance, success)


def _flatten(values: NDArray[Any]) -> NDArray[Any]:
    """States (K, ...) as (K, D)."""
    return values.reshape(len(values), -1)
