"""Which episode of a pair is better: by success, by return, or as a person chose."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from ..spec import ConfigError, FloatArray, IntArray, shorten
from ..system.untrusted import read_json
from .rollouts import Rollout

Judge = Literal["success", "return", "file"]
FILE = "choices.json"
WORDS = {"left": 1, "right": -1, "same": 0}
"""What a person may say of a pair."""


class ChoicesWanted(ConfigError):
    """A person is to choose first between the episodes of each pair, rows 2 g and 2 g + 1."""

    def __init__(self, folder: Path, pairs: int) -> None:
        super().__init__(
            f"{folder} wants {FILE}: choose between the {pairs} pairs on the page there, put the "
            "file beside it, and give the same command again"
        )
        self.folder, self.pairs = folder, pairs


def compare_pairs(rollout: Rollout, by: Judge) -> IntArray:
    """Of rows 2 g and 2 g + 1 the better one (G,): 1 the former, -1 the latter, 0 neither.

    success: an episode that succeeded before one that did not, then the higher return
    """
    returns = _compare(rollout.reward.sum(0))
    if by == "return":
        return returns
    success = _compare(rollout.success.any(0).astype(np.float64))
    return np.where(success != 0, success, returns)


def _compare(values: FloatArray) -> IntArray:
    """Which of each pair of values (2 G,) is higher, (G,)."""
    return np.sign(values[::2] - values[1::2]).astype(np.int64)


def read_choices(path: Path, pairs: int) -> IntArray:
    """A person's choices (G,), as `compare_pairs` gives them; a pair that is left out is 0.

    Raises ConfigError for anything but numbers of pairs with one of `WORDS` each.
    """
    plain = read_json(path, ConfigError)
    if not isinstance(plain, dict):
        raise ConfigError(f'{path} holds {shorten(plain)}; {{"0": "left", ...}} is wanted')
    found = np.zeros(pairs, np.int64)
    numbers = {str(number): number for number in range(pairs)}
    for pair, word in plain.items():
        if pair not in numbers or word not in WORDS:
            raise ConfigError(
                f"{path} says {shorten(word)} of pair {shorten(pair)}; pairs are 0 to {pairs - 1}, "
                f"and each is {', '.join(WORDS)}"
            )
        found[numbers[pair]] = WORDS[word]
    return found
