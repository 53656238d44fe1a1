"""Looks for faults of a data set that would spoil training.

Errors make it unusable, warnings deserve a look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import DataError
from .episodes import ACTION, TIMESTAMP, Dataset, episode_slice, first_not_finite, lengths_of
from .statistics import find_constants
from .windows import LEAST_STEPS

ERROR, WARNING = "error: ", "warning: "
OUTLIER_RANGES = 10.0  # a number this many times the 1 % to 99 % range away from it
FROZEN_SHARE = 0.2  # of the steps of an episode in which nothing at all changes
RATE_SHARE = 0.05
MOST_SHOWN = 8
"""So many findings are shown before a training."""
TINY = 1e-3
"""A state whose scale is below this share of its size, or of 1, is blown up by the normaliser."""


def verify(dataset: Dataset) -> list[str]:
    """Findings in plain words, errors first; empty for a sound data set.

    Each begins with "error: " or "warning: ".

    - Errors: ends or timestamps that do not increase, lengths that disagree, numbers that are not
      finite, parts that cannot be read, and no episode of two steps.
    - Warnings about numbers: some that never change, states of a tiny range, outliers.
    - Warnings about episodes: fewer than two steps (training leaves them out), a rate off by more
      than 5 %, standing still, occurring twice, cameras that freeze or hold only 0 and 1.
    """
    findings = list(_check_ends(dataset))
    if not findings:
        for key in dataset.keys:
            findings += _check_key(dataset, key)
        if not any(map(is_error, findings)):
            findings += _check_episodes(dataset)
    return sorted(findings, key=lambda text: not is_error(text))


def find_faults(dataset: Dataset) -> list[str]:
    """What deserves a look before a training, in plain words and at most MOST_SHOWN lines.

    Raises DataError where the data set cannot be trained on.
    """
    findings = verify(dataset)
    errors = [finding for finding in findings if is_error(finding)]
    if errors:
        said = "; ".join(finding.removeprefix(ERROR) for finding in _shorten_findings(errors))
        raise DataError(f"the data set cannot be trained on: {said}")
    return [finding.removeprefix(WARNING) for finding in _shorten_findings(findings)]


def _shorten_findings(findings: list[str]) -> list[str]:
    """The first findings, and how many more there are."""
    if len(findings) <= MOST_SHOWN:
        return findings
    more = len(findings) - MOST_SHOWN
    return [*findings[:MOST_SHOWN], f"and {more} more findings: `hotstart data verify` lists them"]


def is_error(finding: str) -> bool:
    """Whether a finding makes the data set unusable."""
    return finding.startswith(ERROR)


def _check_ends(dataset: Dataset) -> Iterator[str]:
    """Ends and the numbers of steps."""
    ends = dataset.episode_ends
    if len(ends) == 0:
        yield f"{ERROR}there are no episodes"
        return
    lengths = lengths_of(ends)
    for number in np.flatnonzero(lengths <= 0):
        yield f"{ERROR}episode {number} ends at step {ends[number]}, not after the one before it"
    if 0 < lengths.max() < LEAST_STEPS:
        yield (
            f"{ERROR}no episode has {LEAST_STEPS} steps, and training needs that many: "
            "one observation and one action teach nothing"
        )


def _check_key(dataset: Dataset, key: str) -> Iterator[str]:
    """What is wrong with one key."""
    spec = dataset.obs_spec.keys.get(key)
    try:
        if spec is not None and spec.kind == "image":
            yield from _check_images(dataset, key)
            return
        values = dataset.array(key)
    except DataError as error:
        yield f"{ERROR}{error}"
        return
    bad = first_not_finite(values)
    if len(values) != dataset.episode_ends[-1]:
        yield f"{ERROR}{key} has {len(values)} steps, the episodes {dataset.episode_ends[-1]}"
    elif bad:
        place = ", ".join(map(str, bad[0]))
        yield f"{ERROR}{key}[{place}] is {bad[1]} (steps counted over all episodes)"
    elif key == TIMESTAMP:
        yield from _check_times(dataset, values)
    elif key == ACTION or (spec is not None and spec.kind != "language"):  # words need not change
        yield from _check_ranges(dataset, key, values)


def _check_times(dataset: Dataset, stamps: NDArray[Any]) -> Iterator[str]:
    """Timestamps must increase; their mean rate should be the data set's."""
    off: dict[int, float] = {}
    for number, steps in enumerate(_list_slices(dataset)):
        gaps = np.diff(stamps[steps])
        if (gaps <= 0).any():
            step = int(np.argmax(gaps <= 0)) + 1
            yield f"{ERROR}timestamps of episode {number} do not increase at its step {step}"
        elif len(gaps) and abs(gaps.mean() * dataset.fps - 1) > RATE_SHARE:
            off[number] = 1 / gaps.mean()
    if off:
        worst = max(off, key=lambda number: abs(np.log(off[number] / dataset.fps)))
        yield (
            f"{WARNING}{len(off)} episodes do not run at {dataset.fps:g} fps; "
            f"the worst, episode {worst}, at {off[worst]:.2f}"
        )


def _check_ranges(dataset: Dataset, key: str, array: NDArray[Any]) -> Iterator[str]:
    """Numbers of a key (N, ...) that never or hardly change, and single ones far from the rest."""
    values = array.reshape(len(array), -1).astype(np.float64)  # (N, D)
    names = [_name_dim(key, dim, array.shape[1:]) for dim in range(values.shape[1])]
    least, greatest = values.min(0), values.max(0)
    constant = find_constants(least, greatest, commanded=key == ACTION)
    if constant.any():
        yield _describe_constants(dataset, key, constant, least)
    if key != ACTION:
        known = dataset.obs_spec.keys[key].precisions().ravel() > 0
        yield from _find_tiny(names, least, greatest, constant | known)
    yield from _find_outliers(names, values)


def _describe_constants(
    dataset: Dataset, key: str, constant: NDArray[np.bool_], values: NDArray[np.float64]
) -> str:
    """Which numbers of a key never change.

    For actions it says what they always are, since a policy commands exactly that.
    """
    dims = np.flatnonzero(constant)
    said = f"{WARNING}{key} never changes in dimensions {dims.tolist()}"
    if key != ACTION:
        return said
    always = [f"{dataset.action_spec.dims[dim].name} is always {values[dim]:g}" for dim in dims]
    return f"{said}: {', '.join(always)}; a policy will command exactly this"


def _find_tiny(
    names: list[str],
    least: NDArray[np.float64],
    greatest: NDArray[np.float64],
    left_out: NDArray[np.bool_],
) -> Iterator[str]:
    """States that hardly change: the normaliser makes their range as large as every other."""
    half = (greatest - least) / 2
    tiny = (half < TINY * np.maximum(1.0, np.abs(greatest + least) / 2)) & ~left_out
    for dim in np.flatnonzero(tiny):
        yield (
            f"{WARNING}{names[dim]} stays between {least[dim]:g} and {greatest[dim]:g}: "
            f"being off by {10 * half[dim]:.2g} looks like 10 normalised units to a policy; "
            "check its unit, or leave it out if only noise moves it"
        )


def _name_dim(key: str, dim: int, shape: tuple[int, ...]) -> str:
    """A number of a key by its index, as in state[:, 2]."""
    index = ", ".join(map(str, np.unravel_index(dim, shape)))
    return f"{key}[:, {index}]"


def _find_outliers(names: list[str], values: NDArray[np.float64]) -> Iterator[str]:
    """Single numbers of (N, D) far from all others of their dimension."""
    # The quantiles are rounded inwards: one outlier in few steps must not move them.
    low = np.quantile(values, 0.01, axis=0, method="higher")
    high = np.quantile(values, 0.99, axis=0, method="lower")
    reach = OUTLIER_RANGES * (high - low)
    far = ((values < low - reach) | (values > high + reach)) & (high > low)
    for dim in np.flatnonzero(far.any(0)):
        step = int(np.argmax(far[:, dim]))
        others = int(far[:, dim].sum()) - 1
        yield (
            f"{WARNING}{names[dim]} is {values[step, dim]:g} at step {step} and {others} more "
            f"outliers; 98 % lie in [{low[dim]:g}, {high[dim]:g}]"
        )


def _check_episodes(dataset: Dataset) -> Iterator[str]:
    """Episodes that are too short, stand still, or occur twice; judged by actions and states."""
    arrays = [dataset.array(ACTION)]
    for name, key in dataset.obs_spec.keys.items():
        if key.kind == "state":
            arrays.append(dataset.array(name))
    joined = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    seen: dict[str, int] = {}
    for number, steps in enumerate(_list_slices(dataset)):
        values = np.ascontiguousarray(joined[steps])
        if len(values) < LEAST_STEPS:
            yield (
                f"{WARNING}episode {number} has {len(values)} step: "
                f"training leaves it out, it needs {LEAST_STEPS}"
            )
            continue
        still = float((values[1:] == values[:-1]).all(1).mean())
        if still > FROZEN_SHARE:
            yield f"{WARNING}in episode {number} nothing changes in {still:.0%} of the steps"
        first = seen.setdefault(hashlib.sha256(values.tobytes()).hexdigest(), number)
        if first != number:
            yield f"{WARNING}episode {number} is the same as episode {first}"


def _check_images(dataset: Dataset, key: str) -> Iterator[str]:
    """Cameras that show one colour only or freeze.

    Episode by episode, since images may not fit into memory.
    """
    frozen: list[int] = []
    blank: list[int] = []
    greatest = 0
    for number, steps in enumerate(_list_slices(dataset)):
        images = dataset.rows(key, steps.start, steps.stop)
        flat = images.reshape(len(images), -1)
        greatest = max(greatest, int(flat.max()))
        if len(flat) > 1 and (flat[1:] == flat[:-1]).all(1).mean() > FROZEN_SHARE:
            frozen.append(number)
        if (flat.min(1) == flat.max(1)).any():
            blank.append(number)
    if greatest == 1:
        yield (
            f"{WARNING}{key} holds only 0 and 1: pictures are bytes from 0 to 255, "
            "so these are nearly black"
        )
    if frozen:
        yield (
            f"{WARNING}{key} repeats its frames in more than {FROZEN_SHARE:.0%} of the steps "
            f"of episodes {_shorten_list(frozen)}"
        )
    if blank:
        yield f"{WARNING}{key} holds frames of one colour only in episodes {_shorten_list(blank)}"


def _list_slices(dataset: Dataset) -> list[slice]:
    """The steps of each episode."""
    return [episode_slice(dataset.episode_ends, i) for i in range(len(dataset.episode_ends))]


def _shorten_list(numbers: list[int]) -> str:
    """The first ten numbers and how many more there are."""
    text = ", ".join(map(str, numbers[:10]))
    if len(numbers) > 10:
        return f"{text} and {len(numbers) - 10} more"
    return text
