"""Several data sets as one, of which each gives a chosen share of the training windows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ConfigError, DataError, FloatArray, IntArray
from .differences import compare_specs
from .episodes import ACTION, Dataset, check_choice, count_steps, list_extras
from .windows import split_usable_episodes


class Mixture:
    """The episodes of several data sets, one data set after the other.

    Args:
        sources: the data sets by name, at least one; rate, actions and observations must be the
            same. Extras that not all have are left out
        shares: the share of the training windows that each source gives, in the order of
            `sources`; their sum counts as 1. None: as many as it has, so all windows count the same

    Raises:
        DataError: where the sources do not fit each other
        ConfigError: for shares that are negative, all 0, or not one a source
    """

    format = "mixture"

    def __init__(
        self, sources: Mapping[str, Dataset], shares: Sequence[float] | None = None
    ) -> None:
        if not sources:
            raise ConfigError("a mixture needs at least one data set")
        self.names = tuple(sources)
        self.sources = tuple(sources.values())
        first = self.sources[0]
        for name, source in sources.items():
            found = compare_specs(first, source)
            if found:
                raise DataError(
                    f"{self.names[0]} and {name} cannot be mixed: {'; '.join(found)}. "
                    "`hotstart data relabel` changes names, units and fps"
                )
        self.shares = _check_shares(shares, self.names)
        self.fps, self.task = first.fps, ""
        self.action_spec, self.obs_spec = first.action_spec, first.obs_spec
        self.path = Path(",".join(self.names))
        self.step_ends = np.cumsum([count_steps(source) for source in self.sources])
        starts = self.step_ends - [count_steps(source) for source in self.sources]
        parts = []
        for source, start in zip(self.sources, starts, strict=True):
            parts.append(np.asarray(source.episode_ends) + start)
        self.episode_ends: IntArray = np.concatenate(parts)
        shared = set(first.keys)
        for source in self.sources:
            shared &= set(source.keys)
        self.keys = (*self.obs_spec.keys, ACTION, *list_extras(shared))
        self.notes: tuple[str, ...] = ()

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        check_choice(key, self.keys)
        return np.concatenate([source.array(key) for source in self.sources])

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key, (stop - start, ...)."""
        check_choice(key, self.keys)
        parts: list[NDArray[Any]] = []
        before = 0
        for source, end in zip(self.sources, self.step_ends.tolist(), strict=True):
            first, last = max(start, before), min(stop, end)
            if first < last or (not parts and source is self.sources[-1]):
                parts.append(source.rows(key, first - before, max(last, first) - before))
            before = end
        return np.concatenate(parts)

    def content_hash(self) -> str:
        """Hex digest of the shares and of the sources' own, in their order."""
        digest = hashlib.sha256(self.describe_shares().encode())
        for source in self.sources:
            digest.update(source.content_hash().encode())
        return digest.hexdigest()

    def describe_shares(self) -> str:
        """The shares as text, exact; equal texts draw the same windows."""
        if self.shares is None:
            return "by size"
        return str(self.shares.tolist())

    def split(self, validation_share: float, seed: int) -> tuple[IntArray, IntArray]:
        """Episodes for training and for validation: the same share of every source."""
        train: list[IntArray] = []
        held_out: list[IntArray] = []
        before = 0
        for source in self.sources:
            ours, theirs = split_usable_episodes(source.episode_ends, validation_share, seed)
            train.append(ours + before)
            held_out.append(theirs + before)
            before += len(source.episode_ends)
        return np.concatenate(train), np.concatenate(held_out)

    def weigh(self, steps: IntArray) -> FloatArray | None:
        """What each of some steps counts, so that each source counts its share; None: the same."""
        if self.shares is None:
            return None
        source = np.searchsorted(self.step_ends, steps, "right")
        counts = np.bincount(source, minlength=len(self.sources))
        return (self.shares / np.maximum(counts, 1))[source]

    def close(self) -> None:
        """The sources stay open: they belong to whoever opened them."""


def _check_shares(shares: Sequence[float] | None, names: Sequence[str]) -> FloatArray | None:
    """Shares whose sum is 1."""
    if not shares:
        return None
    found = np.asarray(shares, np.float64)
    if len(found) != len(names) or not np.isfinite(found).all():
        raise ConfigError(
            f"the mixture has {len(found)} shares for {len(names)} data sets ({', '.join(names)}): "
            "give one number each"
        )
    if (found < 0).any() or not found.any():
        raise ConfigError(f"the mixture's shares are {list(shares)}; none is negative, one above 0")
    return found / found.sum()
