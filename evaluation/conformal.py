"""Thresholds for alarms, from rollouts that went well alone (split conformal prediction).

Of n rollouts and a further one that are exchangeable, the further one's highest score lies above
the k-th smallest highest score of the n with a chance of at most 1 - k / (n + 1) (Vovk et al. 2005;
for rollouts Xu et al., 2503.08558). So k = ceil((n + 1) (1 - rate)) keeps the rate of false alarms
an episode, on average over calibrations, whatever the scores are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..spec import ConfigError, FloatArray

FEWEST = 5
"""A time-varying threshold stays as it is where fewer rollouts than this go on."""


@dataclass(frozen=True)
class Threshold:
    """An alarm is raised where the score of plan k lies above centre[k] + factor width[k]."""

    factor: float
    centre: FloatArray  # (K,); the last one counts for all further plans
    width: FloatArray  # (K,)
    rate: float
    """False alarms an episode that were asked for, at most."""
    successes: int
    """Rollouts that `factor` was chosen from."""

    def at(self, number: int) -> float:
        """The threshold of an episode's plan `number`."""
        place = min(number, len(self.centre) - 1)
        return float(self.centre[place] + self.factor * self.width[place])

    def first_alarm(self, scores: FloatArray) -> int | None:
        """The first plan whose score (K,) raises an alarm; NaN raises none."""
        above = np.flatnonzero(_standardise(scores, self.centre, self.width) > self.factor)
        if len(above) == 0:
            return None
        return int(above[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "factor": self.factor,
            "centre": self.centre.tolist(),
            "width": self.width.tolist(),
            "rate": self.rate,
            "successes": self.successes,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Threshold:
        """Read back what `to_json` wrote; raises ConfigError for anything else."""
        try:
            centre = np.asarray(plain["centre"], np.float64)
            width = np.asarray(plain["width"], np.float64)
            factor, rate = float(plain["factor"]), float(plain["rate"])
            successes = int(plain["successes"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no threshold: {error}") from error
        finite = np.isfinite(centre).all() and np.isfinite(width).all() and math.isfinite(factor)
        if centre.ndim != 1 or centre.shape != width.shape or len(centre) == 0 or not finite:
            raise ConfigError("this is no threshold: centre and width are finite, and as many")
        return cls(factor, centre, width, rate, successes)


def calibrate(rollouts: Sequence[FloatArray], rate: float, varying: bool = False) -> Threshold:
    """The threshold of scores (K,) of successful rollouts, for false alarms in a share `rate`.

    `varying`: the even rollouts give centre and width of each plan of an episode, the odd ones the
    factor. Raises ConfigError where the rollouts are too few for the rate.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"the rate of false alarms is {rate}; a share between 0 and 1 is wanted")
    centre, width = np.zeros(1), np.ones(1)
    if varying:
        centre, width = _shape_band(rollouts[::2])
        rollouts = rollouts[1::2]
    rank = math.ceil((len(rollouts) + 1) * (1 - rate) - 1e-9)
    if rank > len(rollouts):
        least = math.ceil(1 / rate - 1e-9) - 1
        raise ConfigError(
            f"{len(rollouts)} successful rollouts cannot keep false alarms below {rate:g}: "
            f"{least} are needed at the least"
        )
    highest = []
    for scores in rollouts:
        highest.append(np.nanmax(_standardise(scores, centre, width), initial=-np.inf))
    factor = float(np.sort(highest)[rank - 1])
    if not math.isfinite(factor):
        raise ConfigError("the rollouts have no finite scores: this score says nothing of them")
    return Threshold(factor, centre, width, rate, len(rollouts))


def _shape_band(rollouts: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the scores of each plan of an episode."""
    longest = max(map(len, rollouts), default=0)
    table = np.full((len(rollouts), longest), np.nan)
    for row, scores in zip(table, rollouts, strict=True):
        row[: len(scores)] = scores
    known = np.isfinite(table).sum(0)
    enough = np.flatnonzero(known >= FEWEST)
    if len(enough) == 0:
        raise ConfigError(f"a time-varying threshold needs {2 * FEWEST} rollouts with scores")
    first, last = int(enough[0]), int(enough[-1])
    centre, width = np.zeros(last + 1), np.ones(last + 1)
    for place in range(first, last + 1):
        column = table[np.isfinite(table[:, place]), place]
        centre[place] = column.mean()
        width[place] = column.std()
    overall = max(float(np.nanstd(table)), 1e-12)
    return centre, np.maximum(width, 0.1 * overall)


def _standardise(scores: FloatArray, centre: FloatArray, width: FloatArray) -> FloatArray:
    """Scores (K,) in widths from the centre of their plan."""
    places = np.minimum(np.arange(len(scores)), len(centre) - 1)
    return (np.asarray(scores, np.float64) - centre[places]) / width[places]
