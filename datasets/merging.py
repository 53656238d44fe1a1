"""Joins data sets whose specifications fit into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import TEXT_KEY, ConfigError, DataError, text_to_bytes, unknown
from .differences import compare_specs
from .episodes import ACTION, EXTRAS, TIMESTAMP, Dataset, list_extras
from .selection import (
    Origin,
    Piece,
    Selection,
    add_observation,
    leave_out,
    make_times,
    read_origin,
    spread,
    view_all,
)

INSTRUCTION = "instruction"
Named = Mapping[str, Dataset]


def merge(
    sources: Named,
    *,
    task: str = "",
    fill: Mapping[str, float] | None = None,
    common: bool = False,
) -> Selection:
    """All episodes of several data sets, in their order; `sources` are named for messages.

    Rate, actions and observations must be the same; `common` leaves out observations that not all
    have. Extras that not all have are left out, unless `fill` gives their number. Where the sources
    have different tasks, each becomes the `instruction` of its episodes, unless one `task` is given
    for all. The view's notes say what was left out. Raises DataError where something does not fit,
    and ConfigError for a wrong name in `fill`.
    """
    fill = dict(fill or {})
    for name in fill:
        if name not in EXTRAS:
            raise ConfigError(unknown("extra", name, sorted(EXTRAS)))
    notes: list[str] = []
    origin = _join_origins(sources)
    if task:
        origin = replace(origin, task=task)
    else:
        sources = _tell_instructions(sources, notes)
    if common:
        sources = _keep_common(sources, notes)
    _check_specs(sources)
    extras = _join_extras(sources, fill, notes)
    first = next(iter(sources.values()))
    pieces: list[Piece] = []
    for source in sources.values():
        pieces += _fill_extras(source, extras, fill)
    return Selection(
        pieces,
        {key: key for key in (*first.obs_spec.keys, ACTION, *extras)},
        fps=first.fps,
        action_spec=first.action_spec,
        obs_spec=first.obs_spec,
        origin=origin,
        notes=notes,
    )


def tell_instruction(dataset: Dataset) -> Selection:
    """A data set with its task as the `instruction` of every episode."""
    words = text_to_bytes(read_origin(dataset).task)
    count = len(dataset.episode_ends)
    return add_observation(dataset, INSTRUCTION, TEXT_KEY, [words] * count)


def _join_origins(sources: Named) -> Origin:
    """One origin of all: the task where they have one, options where these are the same."""
    origins = [read_origin(source) for source in sources.values()]
    tasks = {origin.task for origin in origins if origin.task}
    task = ""
    if len(tasks) == 1:
        task = tasks.pop()
    options = origins[0].options
    if any(origin.options != options for origin in origins):
        options = None
    names = dict.fromkeys(origin.source for origin in origins if origin.source)
    return Origin(task, ", ".join(names), options)


def _tell_instructions(sources: Named, notes: list[str]) -> Named:
    """The sources with instructions, where these or the tasks differ."""
    tasks = {name: read_origin(source).task for name, source in sources.items()}
    given = {task for task in tasks.values() if task}
    told = [name for name, source in sources.items() if INSTRUCTION in source.obs_spec.keys]
    unnamed = [name for name, task in tasks.items() if not task and name not in told]
    if len(given) < 2 and not told:
        if given and unnamed:
            notes.append(f"{', '.join(unnamed)} names no task: taken for {given.pop()!r}")
        return sources
    if unnamed:
        raise DataError(
            f"{', '.join(unnamed)} names no task, but the others differ in theirs: "
            "`hotstart data relabel` gives it one, or task= one to all"
        )
    views: dict[str, Dataset] = {}
    for name, source in sources.items():
        views[name] = source
        if name not in told:
            views[name] = tell_instruction(source)
            notes.append(f"the instruction of {name} is its task, {tasks[name]!r}")
    return views


def _keep_common(sources: Named, notes: list[str]) -> Named:
    """The sources without observations that not all of them have."""
    counts: dict[str, int] = {}
    for source in sources.values():
        for name in source.obs_spec.keys:
            counts[name] = counts.get(name, 0) + 1
    dropped = [name for name, count in counts.items() if count < len(sources)]
    if not dropped:
        return sources
    notes.append(f"left out the observations {', '.join(dropped)}: not all sources have them")
    return {name: leave_out(source, dropped) for name, source in sources.items()}


def _check_specs(sources: Named) -> None:
    """Raise DataError with everything in which a source differs from the first."""
    names = list(sources)
    for name in names[1:]:
        found = compare_specs(sources[names[0]], sources[name])
        if found:
            raise DataError(
                f"{names[0]} and {name} do not fit: {'; '.join(found)}. "
                "`hotstart data relabel` changes names, units and fps; "
                "common=true leaves out observations that not all have"
            )


def _join_extras(sources: Named, fill: Mapping[str, float], notes: list[str]) -> list[str]:
    """The extras that all sources have or are given; timestamps can always be made."""
    found: dict[str, None] = {TIMESTAMP: None}
    for source in sources.values():
        found |= dict.fromkeys(list_extras(source.keys))
    kept: list[str] = []
    for extra in found:
        lacking = [name for name, source in sources.items() if extra not in source.keys]
        if not lacking or extra in fill or extra == TIMESTAMP:
            kept.append(extra)
        else:
            notes.append(
                f"left out {extra}: {', '.join(lacking)} has none "
                f"(fill={extra}:NUMBER would give it one)"
            )
    return kept


def _fill_extras(source: Dataset, extras: list[str], fill: Mapping[str, float]) -> list[Piece]:
    """Every episode of a source, with numbers for the extras that it lacks."""
    missing = [extra for extra in extras if extra not in source.keys]
    pieces: list[Piece] = []
    for piece in view_all(source):
        values: dict[str, NDArray[Any]] = {}
        for extra in missing:
            if extra in fill:
                values[extra] = spread(np.array(fill[extra], EXTRAS[extra]), len(piece))
            else:
                values[extra] = make_times(len(piece), source.fps)
        pieces.append(replace(piece, values=values))
    return pieces
