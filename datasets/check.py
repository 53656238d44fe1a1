"""Looks through a data set for what would spoil training: errors make it unusable, warnings deserve a look."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import DataError
from .episodes import ACTION, TIMESTAMP, Dataset, first_not_finite, lengths_of

ERROR, WARNING = "error: ", "warning: "
LEAST_STEPS = 2
OUTLIER_RANGES = 10.0  # a number this many times the 1 % to 99 % range away from it
FROZEN_SHARE = 0.2  # of the steps of an episode in which nothing at all changes
RATE_SHARE = 0.05


def verify(dataset: Dataset) -> list[str]:
    """Findings in plain words, errors first, each beginning with "error: " or "warning: "; empty when all is well.

    Errors: ends that do not increase, lengths that disagree, numbers that are not finite, timestamps that do not increase,
    and parts that cannot be read. Warnings: episodes of under two steps, a rate off by more than 5 %, dimensions that never
    change, outliers, episodes that stand still or occur twice, cameras that freeze.
    """
    findings = [ERROR + text for text in _structure(dataset)]
    if not findings and len(dataset.episode_ends):
        findings = [text for key in dataset.keys for text in _key_findings(dataset, key)]
        findings += [WARNING + text for text in _episode_findings(dataset)] if not any(map(is_error, findings)) else []
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
        yield from (WARNING + text for text in _range_findings(key, values.reshape(len(values), -1).astype(np.float64)))


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


def _range_findings(key: str, values: NDArray[np.float64]) -> Iterator[str]:
    """Dimensions of (N, D) that never change, and single numbers far from all others."""
    low = np.quantile(values, 0.01, axis=0, method="higher")  # rounded inwards: one outlier in few steps must not move them
    high = np.quantile(values, 0.99, axis=0, method="lower")
    constant = np.flatnonzero(values.max(0) == values.min(0))
    if len(constant):
        yield f"{key} never changes in dimensions {constant.tolist()}"
    reach = OUTLIER_RANGES * (high - low)
    far = ((values < low - reach) | (values > high + reach)) & (high > low)
    for dim in np.flatnonzero(far.any(0)):
        step = int(np.argmax(far[:, dim]))
        yield (
            f"{key}[:, {dim}] is {values[step, dim]:g} at step {step} and {int(far[:, dim].sum()) - 1} more outliers; "
            f"98 % lie in [{low[dim]:g}, {high[dim]:g}]"
        )


def _episode_findings(dataset: Dataset) -> Iterator[str]:
    """Episodes that are too short, stand still, or occur twice; judged by actions and states."""
    keys = [ACTION, *(name for name, key in dataset.obs_spec.keys.items() if key.kind == "state")]
    joined = np.concatenate([dataset.array(key).reshape(int(dataset.episode_ends[-1]), -1) for key in keys], axis=1)
    seen: dict[str, int] = {}
    for number, steps in enumerate(_slices(dataset)):
        values = np.ascontiguousarray(joined[steps])
        if len(values) < LEAST_STEPS:
            yield f"episode {number} has {len(values)} step; at least {LEAST_STEPS} are needed to learn from it"
            continue
        still = float((values[1:] == values[:-1]).all(1).mean())
        if still > FROZEN_SHARE:
            yield f"in episode {number} nothing changes in {still:.0%} of the steps"
        first = seen.setdefault(hashlib.sha256(values.tobytes()).hexdigest(), number)
        if first != number:
            yield f"episode {number} is the same as episode {first}"


def _image_findings(dataset: Dataset, key: str) -> Iterator[str]:
    """Cameras that show one colour only or freeze, episode by episode, since images may not fit into memory."""
    frozen, blank = [], []
    for number, steps in enumerate(_slices(dataset)):
        images = dataset.rows(key, steps.start, steps.stop)
        flat = images.reshape(len(images), -1)
        if len(flat) > 1 and (flat[1:] == flat[:-1]).all(1).mean() > FROZEN_SHARE:
            frozen.append(number)
        if (flat.min(1) == flat.max(1)).any():
            blank.append(number)
    if frozen:
        yield f"{key} repeats its frames in more than {FROZEN_SHARE:.0%} of the steps of episodes {_few(frozen)}"
    if blank:
        yield f"{key} holds frames of one colour only in episodes {_few(blank)}"


def _slices(dataset: Dataset) -> Iterator[slice]:
    """The steps of each episode."""
    starts = [0, *dataset.episode_ends[:-1].tolist()]
    return (slice(start, stop) for start, stop in zip(starts, dataset.episode_ends.tolist(), strict=True))


def _few(numbers: list[int]) -> str:
    """The first ten numbers and how many more there are."""
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
