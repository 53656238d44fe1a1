"""Looks through a data set for what would spoil training: errors make it unusable, warnings
deserve a look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import DataError
from .episodes import ACTION, TIMESTAMP, Dataset, first_not_finite, lengths_of
from .statistics import find_constants
from .windows import LEAST_STEPS

ERROR, WARNING = "error: ", "warning: "
OUTLIER_RANGES = 10.0  # a number this many times the 1 % to 99 % range away from it
FROZEN_SHARE = 0.2  # of the steps of an episode in which nothing at all changes
RATE_SHARE = 0.05
TINY = 1e-3
"""A state whose scale is below this share of its size, or of 1, is blown up by the normaliser."""


def verify(dataset: Dataset) -> list[str]:
    """Findings in plain words, errors first, each beginning with "error: " or "warning: "; empty
    when all is well.

    Errors: ends that do not increase, lengths that disagree, numbers that are not finite,
    timestamps that do not increase, parts that cannot be read, and no episode of two steps.
    Warnings: episodes of under two steps, which training leaves out, a rate off by more than 5 %,
    numbers that never change, states of a tiny range, outliers, episodes that stand still or occur
    twice, cameras that freeze or hold only 0 and 1.
    """
    findings = [ERROR + text for text in _structure(dataset)]
    if not findings and len(dataset.episode_ends):
        findings = [text for key in dataset.keys for text in _key_findings(dataset, key)]
        findings += (
            [WARNING + text for text in _episode_findings(dataset)]
            if not any(map(is_error, findings))
            else []
        )
    return sorted(findings, key=lambda text: not is_error(text))


def is_error(finding: str) -> bool:
    """Whether a finding makes the data set unusable."""
    return finding.startswith(ERROR)


def _structure(dataset: Dataset) -> Iterator[str]:
    """Ends and the numbers of steps."""
    ends = dataset.episode_ends
    if len(ends) == 0:
        yield "there are no episodes"
    for number in np.flatnonzero(lengths_of(ends) <= 0):
        yield f"episode {number} ends at step {ends[number]}, not after the one before it"
    if len(ends) and 0 < lengths_of(ends).max() < LEAST_STEPS:
        yield f"no episode has {LEAST_STEPS} steps, and training needs that many: one observation and one action teach nothing"


def _key_findings(dataset: Dataset, key: str) -> Iterator[str]:
    """What is wrong with one key."""
    spec = dataset.obs_spec.keys.get(key)
    try:
        if spec is not None and spec.kind == "image":
            yield from (WARNING + text for text in _image_findings(dataset, key))
            return
        values = dataset.array(key)
    except DataError as error:
        yield f"{ERROR}{error}"
        return
    if len(values) != dataset.episode_ends[-1]:
        yield f"{ERROR}{key} has {len(values)} steps, the episodes {dataset.episode_ends[-1]}"
    elif bad := first_not_finite(values):
        yield f"{ERROR}{key}[{', '.join(map(str, bad[0]))}] is {bad[1]} (steps counted over all episodes)"
    elif key == TIMESTAMP:
        yield from _time_findings(dataset, values)
    elif key == ACTION or (spec is not None and spec.kind != "language"):  # words need not change
        yield from (WARNING + text for text in _range_findings(dataset, key, values))


def _time_findings(dataset: Dataset, stamps: NDArray[Any]) -> Iterator[str]:
    """Timestamps must increase; their mean rate should be the data set's."""
    off: dict[int, float] = {}
    for number, steps in enumerate(_slices(dataset)):
        gaps = np.diff(stamps[steps])
        if (gaps <= 0).any():
            yield f"{ERROR}timestamps of episode {number} do not increase at its step {int(np.argmax(gaps <= 0)) + 1}"
        elif len(gaps) and abs(gaps.mean() * dataset.fps - 1) > RATE_SHARE:
            off[number] = 1 / gaps.mean()
    if off:
        worst = max(off, key=lambda number: abs(np.log(off[number] / dataset.fps)))
        yield f"{WARNING}{len(off)} episodes do not run at {dataset.fps:g} fps; the worst, episode {worst}, at {off[worst]:.2f}"


def _range_findings(dataset: Dataset, key: str, array: NDArray[Any]) -> Iterator[str]:
    """Numbers of a key (N, ...) that never change or hardly do, and single ones far from all
    others.
    """
    values = array.reshape(len(array), -1).astype(np.float64)  # (N, D)
    names = [_name(key, dim, array.shape[1:]) for dim in range(values.shape[1])]
    least, greatest = values.min(0), values.max(0)
    constant = find_constants(least, greatest, commanded=key == ACTION)
    if constant.any():
        yield _describe_constants(dataset, key, constant, least)
    if key != ACTION:
        yield from _tiny_findings(names, least, greatest, constant)
    yield from _outlier_findings(names, values)


def _describe_constants(
    dataset: Dataset, key: str, constant: NDArray[np.bool_], values: NDArray[np.float64]
) -> str:
    """Which numbers of a key never change; of actions, what they always are, since a policy
    commands exactly that.
    """
    dims = np.flatnonzero(constant)
    said = f"{key} never changes in dimensions {dims.tolist()}"
    if key != ACTION:
        return said
    always = [f"{dataset.action_spec.dims[dim].name} is always {values[dim]:g}" for dim in dims]
    return f"{said}: {', '.join(always)}; a policy will command exactly this"


def _tiny_findings(
    names: list[str],
    least: NDArray[np.float64],
    greatest: NDArray[np.float64],
    constant: NDArray[np.bool_],
) -> Iterator[str]:
    """States that hardly change: the normaliser makes their range as large as every other."""
    half = (greatest - least) / 2
    tiny = (half < TINY * np.maximum(1.0, np.abs(greatest + least) / 2)) & ~constant
    for dim in np.flatnonzero(tiny):
        yield (
            f"{names[dim]} stays between {least[dim]:g} and {greatest[dim]:g}: being off by "
            f"{10 * half[dim]:.2g} looks like 10 "
            "normalised units to a policy; check its unit, or leave it out if only noise moves it"
        )


def _name(key: str, dim: int, shape: tuple[int, ...]) -> str:
    """A number of a key by its index, as in state[:, 2]."""
    return f"{key}[{', '.join([':', *map(str, np.unravel_index(dim, shape))])}]"


def _outlier_findings(names: list[str], values: NDArray[np.float64]) -> Iterator[str]:
    """Single numbers of (N, D) far from all others of their dimension."""
    low = np.quantile(
        values, 0.01, axis=0, method="higher"
    )  # rounded inwards: one outlier in few steps must not move them
    high = np.quantile(values, 0.99, axis=0, method="lower")
    reach = OUTLIER_RANGES * (high - low)
    far = ((values < low - reach) | (values > high + reach)) & (high > low)
    for dim in np.flatnonzero(far.any(0)):
        step = int(np.argmax(far[:, dim]))
        yield (
            f"{names[dim]} is {values[step, dim]:g} at step {step} and "
            f"{int(far[:, dim].sum()) - 1} more outliers; "
            f"98 % lie in [{low[dim]:g}, {high[dim]:g}]"
        )


def _episode_findings(dataset: Dataset) -> Iterator[str]:
    """Episodes that are too short, stand still, or occur twice; judged by actions and states."""
    keys = [ACTION, *(name for name, key in dataset.obs_spec.keys.items() if key.kind == "state")]
    joined = np.concatenate(
        [dataset.array(key).reshape(int(dataset.episode_ends[-1]), -1) for key in keys], axis=1
    )
    seen: dict[str, int] = {}
    for number, steps in enumerate(_slices(dataset)):
        values = np.ascontiguousarray(joined[steps])
        if len(values) < LEAST_STEPS:
            yield f"episode {number} has {len(values)} step: training leaves it out, it needs {LEAST_STEPS}"
            continue
        still = float((values[1:] == values[:-1]).all(1).mean())
        if still > FROZEN_SHARE:
            yield f"in episode {number} nothing changes in {still:.0%} of the steps"
        first = seen.setdefault(hashlib.sha256(values.tobytes()).hexdigest(), number)
        if first != number:
            yield f"episode {number} is the same as episode {first}"


def _image_findings(dataset: Dataset, key: str) -> Iterator[str]:
    """Cameras that show one colour only or freeze, episode by episode, since images may not fit
    into memory.
    """
    frozen = []
    blank = []
    greatest = 0
    for number, steps in enumerate(_slices(dataset)):
        images = dataset.rows(key, steps.start, steps.stop)
        flat = images.reshape(len(images), -1)
        greatest = max(greatest, int(flat.max()))
        if len(flat) > 1 and (flat[1:] == flat[:-1]).all(1).mean() > FROZEN_SHARE:
            frozen.append(number)
        if (flat.min(1) == flat.max(1)).any():
            blank.append(number)
    if greatest == 1:
        yield f"{key} holds only 0 and 1: pictures are bytes from 0 to 255, so these are nearly black"
    if frozen:
        yield f"{key} repeats its frames in more than {FROZEN_SHARE:.0%} of the steps of episodes {_few(frozen)}"
    if blank:
        yield f"{key} holds frames of one colour only in episodes {_few(blank)}"


def _slices(dataset: Dataset) -> Iterator[slice]:
    """The steps of each episode."""
    starts = [0, *dataset.episode_ends[:-1].tolist()]
    return (
        slice(start, stop)
        for start, stop in zip(starts, dataset.episode_ends.tolist(), strict=True)
    )


def _few(numbers: list[int]) -> str:
    """The first ten numbers and how many more there are."""
    return ", ".join(map(str, numbers[:10])) + (
        f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    )
