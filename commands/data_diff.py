"""`hotstart data diff`: what two data sets have in common, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from ..configs.editing import Diff
from ..datasets.checks.finding import list_episodes
from ..datasets.differences import Comparison, KeyDifference, compare
from .data_edit import open_source


def print_differences(options: Diff) -> int:
    """Print the comparison; 1 where something differs."""
    found = compare(open_source(options.first), open_source(options.second))
    if options.json:
        print(json.dumps({"equal": found.equal, **asdict(found)}, indent=1))
    else:
        names = [str(options.first), str(options.second)]
        for line in describe(found, names):
            print(line)
    if found.equal:
        return 0
    return 1


def describe(found: Comparison, names: Sequence[str]) -> Iterator[str]:
    """The comparison in lines."""
    for place, name in enumerate(names):
        yield f"{name}: {found.episodes[place]} episodes, {found.steps[place]:,} steps"
    yield from found.specs
    for place, name in enumerate(names):
        if found.only_keys[place]:
            yield f"only in {name}: the keys {', '.join(found.only_keys[place])}"
        only = found.only_episodes[place]
        if only:
            yield f"only in {name}: {len(only)} episodes ({list_episodes(only)})"
    if found.moved:
        yield "common episodes follow each other in another order"
    for key, difference in found.keys.items():
        yield from _describe_key(key, difference, names)
    if found.equal:
        yield "they are the same"


def _describe_key(key: str, difference: KeyDifference, names: Sequence[str]) -> Iterator[str]:
    """A key's line, and where it differs the statistics of both."""
    if not difference.steps:
        yield f"  {key}: equal in all common episodes"
        return
    first, second = difference.episodes
    yield (
        f"  {key}: differs in {difference.steps:,} steps, at most by {difference.largest:.6g} "
        f"at step {difference.step} of episode {first} (there {second})"
    )
    for name, found in zip(names, difference.statistics, strict=False):
        for statistic, values in found.items():
            numbers = ", ".join(f"{value:.4g}" for value in values[:8])
            if len(values) > 8:
                numbers += ", ..."
            yield f"    {statistic} in {name}: {numbers}"
