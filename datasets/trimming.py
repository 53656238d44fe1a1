"""Cuts the beginnings and ends of episodes: standing still, or so many seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import BoolArray, ConfigError, FloatArray
from .episodes import ACTION, BLOCK_ROWS, TIMESTAMP, Dataset, check_choice, count_steps
from .selection import Piece, Selection, make_times, select, view_all
from .windows import LEAST_STEPS

ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Cut:
    """What is cut from both ends of every episode."""

    still: float | None = None
    """A step stands still where no number changes by more than this share of its range."""
    keys: Sequence[str] = ()
    """Whose numbers are looked at; empty: all states, or the actions where there are none."""
    keep_s: float = 0.0
    """So much standing still is kept at both ends."""
    start_s: float = 0.0
    end_s: float = 0.0


def trim(dataset: Dataset, cut: Cut) -> Selection:
    """Every episode without its cut ends; those of which less than two steps are left go.

    Times begin anew. An episode whose success was in the steps that are cut is successful in its
    last one. Notes say how much was cut. Raises DataError for unknown keys, and ConfigError for
    negative numbers.
    """
    if min(cut.still or 0, cut.keep_s, cut.start_s, cut.end_s) < 0:
        raise ConfigError("still, keep_s, start_s and end_s are at least 0")
    keys = _choose_keys(dataset, cut.keys)
    limits: dict[str, FloatArray] = {}
    if cut.still is not None:
        limits = {key: cut.still * _find_range(dataset, key) for key in keys}
    pieces: list[Piece] = []
    for piece in view_all(dataset):
        kept = _trim_piece(piece, cut, limits)
        if len(kept) >= LEAST_STEPS:
            pieces.append(kept)
    steps = sum(len(piece) for piece in pieces)
    notes = [f"cut {count_steps(dataset) - steps:,} of {count_steps(dataset):,} steps"]
    gone = len(dataset.episode_ends) - len(pieces)
    if gone:
        notes.append(f"{gone} episodes go: less than {LEAST_STEPS} steps are left of them")
    return select(dataset, pieces, notes)


def _choose_keys(dataset: Dataset, keys: Sequence[str]) -> list[str]:
    for key in keys:
        check_choice(key, dataset.keys)
    states = [name for name, key in dataset.obs_spec.keys.items() if key.kind == "state"]
    return list(keys) or states or [ACTION]


def _trim_piece(piece: Piece, cut: Cut, limits: dict[str, FloatArray]) -> Piece:
    """The piece without its cut ends; of no step where nothing is left."""
    times = _read_times(piece)
    begin_s = times[0] + cut.start_s
    end_s = times[-1] - cut.end_s
    if limits:
        moves = np.flatnonzero(_find_moves(piece, limits))
        if not len(moves):
            return replace(piece, stop=piece.start)
        begin_s = max(begin_s, times[moves[0]] - cut.keep_s)
        end_s = min(end_s, times[moves[-1] + 1] + cut.keep_s)
    inside = np.flatnonzero((times >= begin_s - ROUNDING_S) & (times <= end_s + ROUNDING_S))
    if not len(inside):
        return replace(piece, stop=piece.start)
    first, last = int(inside[0]), int(inside[-1])
    kept = replace(
        piece,
        start=piece.start + first,
        stop=piece.start + last + 1,
        begin_s=float(times[first] - times[0]),
    )
    return _keep_success(piece, kept)


def _read_times(piece: Piece) -> NDArray[np.float64]:
    """When the steps of a piece began, (n,) [s]."""
    if TIMESTAMP in piece.source.keys:
        return piece.source.rows(TIMESTAMP, piece.start, piece.stop)
    return make_times(len(piece), piece.source.fps)


def _find_moves(piece: Piece, limits: dict[str, FloatArray]) -> BoolArray:
    """Whether something moves between a step and the next, (n - 1,)."""
    moves = np.zeros(len(piece) - 1, bool)
    for key, limit in limits.items():
        values = _read_flat(piece.source, key, piece.start, piece.stop)
        moves |= (np.abs(np.diff(values, axis=0)) > limit).any(1)
    return moves


def _find_range(dataset: Dataset, key: str) -> FloatArray:
    """Greatest less least value of every number of a key, (D,); read in blocks."""
    lows: list[FloatArray] = []
    highs: list[FloatArray] = []
    steps = count_steps(dataset)
    for start in range(0, steps, BLOCK_ROWS):
        values = _read_flat(dataset, key, start, min(start + BLOCK_ROWS, steps))
        lows.append(values.min(0))
        highs.append(values.max(0))
    return np.max(highs, axis=0) - np.min(lows, axis=0)


def _read_flat(dataset: Dataset, key: str, start: int, stop: int) -> FloatArray:
    values: NDArray[Any] = dataset.rows(key, start, stop)
    return values.reshape(len(values), -1).astype(np.float64)


def _keep_success(whole: Piece, kept: Piece) -> Piece:
    """The success of the whole piece, in the last step that is left where it would be lost."""
    if "success" not in whole.source.keys:
        return kept
    left = whole.source.rows("success", kept.start, kept.stop).astype(bool)
    if left.any() or not whole.source.rows("success", whole.start, whole.stop).any():
        return kept
    left[-1] = True
    return replace(kept, values={"success": left})
