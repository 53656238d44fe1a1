"""Training windows: their steps, their padding, and the episodes that are kept for validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from ..seeds import Purpose, numpy_generator
from ..spec import BoolArray, ConfigError, DataError, Horizon, IntArray
from .episodes import lengths_of

LEAST_STEPS = 2
BLOCK = 1 << 16
"""Windows whose steps are computed at a time where all are looked through."""


class Windows:
    """Training windows, whose steps are computed when asked for.

    A window is held as one number, the step of its newest observation. All its T steps would take
    T times as much: 2.9 GB for 100,000 episodes of 150 steps and T = 24.
    """

    def __init__(self, episode_ends: IntArray, newest: IntArray, horizon: Horizon) -> None:
        """`newest` (N,) holds the step of each window's newest observation."""
        self.ends = np.asarray(episode_ends, np.int64)
        self.newest = newest
        self.horizon = horizon

    def __len__(self) -> int:
        return len(self.newest)

    def steps(self, rows: IntArray | slice) -> IntArray:
        """The steps (n, T) of some windows, as `window_index` says."""
        newest = self.newest[rows]
        first, last = self._find_episodes(newest)
        offsets = np.arange(self.horizon.planned) - self.horizon.past
        return np.clip(newest[:, None] + offsets, first[:, None], last[:, None])

    def _find_episodes(self, steps: IntArray) -> tuple[IntArray, IntArray]:
        """First and last step of the episodes that some steps lie in."""
        numbers = np.searchsorted(self.ends, steps, "right")
        first = np.where(numbers > 0, self.ends[numbers - 1], 0)
        return first, self.ends[numbers] - 1

    def take(self, rows: IntArray | BoolArray) -> Windows:
        """Some of the windows, in the order of `rows`."""
        return Windows(self.ends, self.newest[rows], self.horizon)

    def blocks(self) -> Iterator[IntArray]:
        """The steps (n, T) of all windows, BLOCK windows at a time."""
        for start in range(0, len(self), BLOCK):
            yield self.steps(slice(start, start + BLOCK))

    def used_steps(self) -> IntArray:
        """The steps that stand in some window, ascending."""
        first, last = self._find_episodes(self.newest)
        begin = np.maximum(self.newest - self.horizon.past, first)
        end = np.minimum(self.newest - self.horizon.past + self.horizon.planned - 1, last)
        change = np.zeros(int(self.ends[-1]) + 1, np.int64)
        np.add.at(change, begin, 1)
        np.add.at(change, end + 1, -1)
        return np.flatnonzero(np.cumsum(change[:-1]) > 0)

    def count_uses(self) -> IntArray:
        """In how many windows each step of the data stands, (steps,), a step repeated by padding
        as often as it is.
        """
        uses = np.zeros(int(self.ends[-1]), np.int64)
        for block in self.blocks():
            first = int(block.min())
            found = np.bincount((block - first).ravel())
            uses[first : first + len(found)] += found
        return uses


def list_windows(
    episode_ends: IntArray,
    horizon: Horizon,
    *,
    episodes: Sequence[int] | IntArray | None = None,
    pad_after: int | None = None,
    short: Literal["pad", "refuse"] = "pad",
) -> Windows:
    """The windows of some episodes, in their order; see `window_index`."""
    ends = np.asarray(episode_ends, np.int64)
    chosen = _choose_episodes(ends, episodes)
    lengths = lengths_of(ends)
    if short == "pad":
        chosen = _leave_out_single_steps(chosen, lengths)
    _check_lengths(lengths[chosen], chosen, horizon, short)
    counts = lengths[chosen]
    if pad_after is not None:
        reached = counts - horizon.planned + pad_after + horizon.past + 1
        counts = np.minimum(np.maximum(reached, 1), counts)
    starts = ends[chosen] - lengths[chosen]
    before = np.cumsum(counts) - counts
    newest = np.repeat(starts - before, counts) + np.arange(int(counts.sum()))
    return Windows(ends, newest, horizon)


def window_index(
    episode_ends: IntArray,
    horizon: Horizon,
    *,
    episodes: Sequence[int] | IntArray | None = None,
    pad_after: int | None = None,
    short: Literal["pad", "refuse"] = "pad",
) -> IntArray:
    """Steps of every window as indices into the joined arrays, (N, T) int64.

    Column To - 1 is the newest observation, columns 0 .. To - 1 the observed steps and all T
    columns the planned actions. Steps before an episode's first and after its last are that first
    or last one, repeated (edge padding of Diffusion Policy, 2303.04137). Every real step is the
    newest observation of exactly one window, so N is the number of steps.

    Diffusion Policy ends an episode's windows at most Ta - 1 steps past its end instead. That drops
    the windows whose newest observation is one of the last T - To - (Ta - 1) steps, so the policy
    never learns there to come to rest. `pad_after=Ta - 1` gives that choice; at least one window is
    kept per episode.

    Episodes of one step are left out, and a warning says which. Shorter ones than T are padded with
    a warning, or refused with `short="refuse"`. Raises DataError for no steps at all, ends that do
    not increase, episodes of one step only, and refused ones.
    """
    windows = list_windows(
        episode_ends, horizon, episodes=episodes, pad_after=pad_after, short=short
    )
    return windows.steps(slice(None))


def split_episodes(count: int, validation_share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Episodes for training and for validation, each ascending; the same for the same seed.

    With a share above 0 and at least two episodes there is at least one on each side. Raises
    ConfigError unless 0 <= share < 1.
    """
    if not 0 <= validation_share < 1:
        raise ConfigError(
            f"validation_share is {validation_share}; it must lie in [0, 1), for instance 0.1"
        )
    if count < 1:
        raise DataError("there are no episodes to split")
    order = numpy_generator(seed, Purpose.SPLIT).permutation(count)
    if validation_share > 0:
        held_out = min(max(round(count * validation_share), 1), count - 1)
    else:
        held_out = 0
    return np.sort(order[held_out:]).astype(np.int64), np.sort(order[:held_out]).astype(np.int64)


def split_usable_episodes(
    episode_ends: IntArray, validation_share: float, seed: int
) -> tuple[IntArray, IntArray]:
    """`split_episodes` of the episodes that have at least two steps.

    A warning says how many are left out. Raises DataError where no episode has two steps, and as
    `split_episodes` does.
    """
    ends = np.asarray(episode_ends, np.int64)
    usable = _leave_out_single_steps(_choose_episodes(ends, None), lengths_of(ends))
    train, held_out = split_episodes(len(usable), validation_share, seed)
    return usable[train], usable[held_out]


def _choose_episodes(ends: IntArray, episodes: Sequence[int] | IntArray | None) -> IntArray:
    """The numbers of the episodes to take; DataError for none or one that does not exist."""
    count = len(ends)
    if episodes is None:
        chosen = np.arange(count)
    else:
        chosen = np.asarray(episodes, np.int64)
    if len(chosen) == 0:
        raise DataError("there are no episodes to cut windows from; record or convert at least one")
    if chosen.min() < 0 or chosen.max() >= count:
        raise DataError(
            f"episodes {chosen.min()} to {chosen.max()} are wanted; "
            f"the data set has {count} (0 to {count - 1})"
        )
    if (np.diff(ends, prepend=0) <= 0).any():
        place = int(np.argmax(np.diff(ends, prepend=0) <= 0))
        raise DataError(
            f"episode {place} has no steps: episode_ends must increase (see `hotstart data verify`)"
        )
    return chosen


def _leave_out_single_steps(chosen: IntArray, lengths: IntArray) -> IntArray:
    """The chosen episodes that have at least two steps; DataError when there is none."""
    single = chosen[lengths[chosen] < LEAST_STEPS]
    if len(single) == len(chosen):
        raise DataError(
            f"none of the {len(chosen)} episodes has {LEAST_STEPS} steps "
            f"(the first is episode {single[0]}); "
            "one observation with one action is no demonstration: record longer ones"
        )
    if len(single):
        warnings.warn(
            f"{len(single)} episodes of one step are left out, the first is episode {single[0]}",
            stacklevel=4,
        )
    return chosen[lengths[chosen] >= LEAST_STEPS]


def _check_lengths(
    lengths: IntArray, chosen: IntArray, horizon: Horizon, short: Literal["pad", "refuse"]
) -> None:
    """Refuse episodes that cannot serve; warn about those that are mostly padding."""
    if short == "refuse" and lengths.min() < horizon.planned:
        place = int(np.argmax(lengths < horizon.planned))
        raise DataError(
            f"episode {chosen[place]} has {lengths[place]} steps, at least {horizon.planned} are "
            f"needed: leave it out, lower horizon.planned to {lengths.min()} or less, "
            "or pad short episodes with short='pad'"
        )
    few = int((lengths < horizon.planned).sum())
    if few:
        warnings.warn(
            f"{few} of {len(lengths)} episodes are shorter than a window of {horizon.planned} "
            f"steps (the shortest has {lengths.min()}); their last step is repeated. "
            "Lower horizon.planned if that is most of the data.",
            stacklevel=4,
        )
