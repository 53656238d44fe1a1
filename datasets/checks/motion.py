"""Checks of how numbers move: jumps, angles that wrap, episodes and sensors that stand still.

A step is judged by how far it is from the mean of the steps beside it, here called its surprise:
a fast motion speeds up and slows down, a jump does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spec import FloatArray
from ..episodes import ACTION
from ..windows import LEAST_STEPS
from .finding import Finding, list_episodes
from .reading import Episode, RowSample, Subject, name_dim

FROZEN_SHARE = 0.2
"""Of the steps of an episode in which nothing at all changes: a pause, not a demonstration."""
JUMP_SURPRISES = 6.0
"""A jump surprises so many times as much as 99 % of the steps of its dimension."""
JUMP_RANGE = 0.08
"""And by this share of the dimension's 1 % to 99 % range: smaller ones no policy notices."""
JUMP_EPISODES = 0.25
"""What jumps in more episodes than this share is how the dimension moves, as a gripper's."""
TURN_SHARE = 0.1
"""A step this near to a full turn is an angle that wraps."""
WRAP_STEPS = 10.0
"""And it is so many times the median step: noise reaches from one end to the other too."""
STUCK_SHARE = 0.5
"""A sensor is stuck that stands still in this share of the steps while others move ..."""
STUCK_USUAL = 0.1
"""... and in less than this in half of the episodes."""
LEAST_EPISODES = 4
"""So many episodes say what is usual."""


@dataclass(frozen=True)
class TopStep:
    """The most surprising step of every number of a key in one episode, each (D,)."""

    episode: int
    surprise: FloatArray
    at: NDArray[np.int64]
    """The step, within the episode, that it leads to."""


class Jumps:
    """Steps that surprise far more than the others of their dimension, and angles that wrap."""

    def __init__(self, subject: Subject) -> None:
        self._dataset = subject.dataset
        self._surprises: dict[str, RowSample] = {}
        self._values: dict[str, RowSample] = {}
        self._tops: dict[str, list[TopStep]] = {}
        self._wraps: dict[tuple[str, int], list[int]] = {}

    def look(self, episode: Episode) -> None:
        """Note the most surprising steps."""
        for key, values in episode.sound.items():
            if len(values) < LEAST_STEPS or not values.shape[1] or not self._is_place(key):
                continue
            steps = np.diff(values, axis=0)
            wraps = _find_wraps(values, steps)
            for dim in np.flatnonzero(wraps.any(0)):
                self._wraps.setdefault((key, int(dim)), []).append(episode.number)
            surprises = find_surprises(np.where(wraps, 0.0, steps))
            self._surprises.setdefault(key, RowSample()).add(surprises)
            self._values.setdefault(key, RowSample()).add(values)
            at = surprises.argmax(0)
            self._tops.setdefault(key, []).append(TopStep(episode.number, surprises.max(0), at + 1))

    def _is_place(self, key: str) -> bool:
        """Whether a key's numbers are places: changes may jump."""
        if key != ACTION:
            return True
        return all(dim.absolute for dim in self._dataset.action_spec.dims)

    def report(self) -> Iterator[Finding]:
        """Wraps, then jumps."""
        for (key, dim), episodes in self._wraps.items():
            message = (
                f"{name_dim(key, dim, self._shape(key))} is an angle that wraps by a full turn in "
                f"episodes {list_episodes(episodes)}: give its sine and cosine, or unwrap it"
            )
            yield Finding("angle-wraps", "warning", message, key, episodes, {"dim": float(dim)})
        for key, tops in self._tops.items():
            yield from self._report_jumps(key, tops)

    def _report_jumps(self, key: str, tops: list[TopStep]) -> Iterator[Finding]:
        usual = np.quantile(self._surprises[key].rows(), 0.99, axis=0, method="lower")
        values = self._values[key].rows()
        reach = np.quantile(values, 0.99, axis=0) - np.quantile(values, 0.01, axis=0)
        least = np.maximum(JUMP_SURPRISES * usual, JUMP_RANGE * reach)
        jumps = (np.array([top.surprise for top in tops]) > least) & (reach > 0)
        rare = jumps.sum(0) <= max(JUMP_EPISODES * len(tops), 1)
        for dim in np.flatnonzero(jumps.any(0) & rare):
            if len(np.unique(values[:, dim])) <= 10:
                continue
            found = [top for top, jump in zip(tops, jumps[:, dim], strict=True) if jump]
            worst = max(found, key=lambda top: top.surprise[dim])
            episodes = [top.episode for top in found]
            message = (
                f"{name_dim(key, int(dim), self._shape(key))} jumps by {worst.surprise[dim]:.3g} "
                f"to step {worst.at[dim]} of episode {worst.episode}, where it changes its speed "
                f"by less than {usual[dim]:.3g} a step in 99 %; "
                f"it jumps in episodes {list_episodes(episodes)}"
            )
            numbers = {"dim": float(dim), "size": worst.surprise[dim], "usual": usual[dim]}
            repair = "leave the episodes out (what=jumps)"
            yield Finding("jump", "warning", message, key, episodes, numbers, repair)

    def _shape(self, key: str) -> tuple[int, ...]:
        if key == ACTION:
            return (self._dataset.action_spec.width,)
        return tuple(self._dataset.obs_spec.keys[key].shape)


def _find_wraps(values: FloatArray, steps: FloatArray) -> NDArray[np.bool_]:
    """Steps (n - 1, D) of about a full turn between the ends of (-pi, pi] or (-180, 180]."""
    found = np.zeros(steps.shape, np.bool_)
    usual = np.median(np.abs(steps), axis=0)
    for half in (math.pi, 180.0):
        turn = np.abs(np.abs(steps) - 2 * half) < TURN_SHARE * 2 * half
        inside = np.abs(values).max(0) <= half * 1.001
        found |= turn & inside & (np.abs(steps) > WRAP_STEPS * usual)
    return found


def find_surprises(steps: FloatArray) -> FloatArray:
    """How far steps (n, D) are from the mean of those beside them, (n, D).

    The first and the last step have one beside them. Motion may begin or end there within a step,
    and many recorders repeat the last action: how far such a step lies beyond the range from
    standing still to the step beside it is what counts.
    """
    if len(steps) == 1:
        return np.zeros(steps.shape)
    found = np.zeros(steps.shape)
    found[1:-1] = np.abs(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)
    for end, beside in ((0, 1), (-1, -2)):
        low = np.minimum(steps[beside], 0)
        high = np.maximum(steps[beside], 0)
        found[end] = np.maximum(np.maximum(low - steps[end], steps[end] - high), 0)
    return found


class Stillness:
    """Episodes in which nothing moves, and single sensors that are stuck."""

    def __init__(self, subject: Subject) -> None:
        self._still: dict[int, float] = {}
        self._stuck: dict[str, list[tuple[int, FloatArray]]] = {}
        self._dataset = subject.dataset

    def look(self, episode: Episode) -> None:
        """Note the shares of steps without a change."""
        if episode.length < LEAST_STEPS or not episode.sound:
            return
        same = {key: values[1:] == values[:-1] for key, values in episode.sound.items()}
        still = np.concatenate(list(same.values()), axis=1).all(1)
        if still.mean() > FROZEN_SHARE:
            self._still[episode.number] = float(still.mean())
        for key, parts in same.items():
            share = (parts & ~still[:, None]).mean(0)
            self._stuck.setdefault(key, []).append((episode.number, share))

    def report(self) -> Iterator[Finding]:
        """Episodes first."""
        if self._still:
            worst = max(self._still, key=lambda number: self._still[number])
            message = f"in episode {worst} nothing changes in {self._still[worst]:.0%} of the steps"
            if len(self._still) > 1:
                message += (
                    f"; in more than {FROZEN_SHARE:.0%} also in "
                    f"{len(self._still) - 1} other episodes"
                )
            numbers = {"share": self._still[worst]}
            repair = "cut still steps at both ends (what=still)"
            yield Finding("still", "warning", message, "", tuple(self._still), numbers, repair)
        for key, parts in self._stuck.items():
            yield from self._report_stuck(key, parts)

    def _report_stuck(self, key: str, parts: list[tuple[int, FloatArray]]) -> Iterator[Finding]:
        if len(parts) < LEAST_EPISODES:
            return
        shares = np.array([share for _, share in parts])
        stuck = (shares > STUCK_SHARE) & (np.median(shares, axis=0) < STUCK_USUAL)
        for dim in np.flatnonzero(stuck.any(0)):
            rows = np.flatnonzero(stuck[:, dim])
            episodes = [parts[row][0] for row in rows]
            shape = (shares.shape[1],)
            if key != ACTION:
                shape = tuple(self._dataset.obs_spec.keys[key].shape)
            message = (
                f"{name_dim(key, int(dim), shape)} stands still in "
                f"{shares[rows, dim].max():.0%} of the steps of episodes "
                f"{list_episodes(episodes)} while other numbers move: a sensor that is stuck"
            )
            numbers = {"dim": float(dim), "share": float(shares[rows, dim].max())}
            repair = "leave the episodes out (what=stuck)"
            yield Finding("stuck", "warning", message, key, episodes, numbers, repair)
