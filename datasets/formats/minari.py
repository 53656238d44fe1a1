"""Reads Minari's HDF5: `data/main_data.hdf5` beside `metadata.json`, a group for each episode.

An episode of N actions holds N + 1 observations: the last is what the last action led to, and is
not taken. Observations are one array, or a group of them (dictionaries by their keys, tuples by
`_index_N`). Pictures are JPEGs unless the data set was made without.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...spec import ConfigError, DataError, cut, shorten
from ...system.untrusted import parse_json, read_json
from ..checks.finding import compare_count
from ..episodes import ACTION
from .foreign_data import ReadOptions
from .hdf5_data import (
    Episode,
    Hdf5Data,
    choose_names,
    join_episodes,
    make_column,
    require_fps,
    take_columns,
)
from .hdf5_files import FilePool, Hdf5Array, Hdf5File, Hdf5Group
from .hdf5_kinds import find_first

SUCCESSES = ("infos/success", "infos/is_success")
OBSERVATIONS = "observations"
DEEPEST = 8


def open_minari(path: Path, options: ReadOptions) -> Hdf5Data:
    """Open a data set's folder, or its `main_data.hdf5`.

    The keys are `state`, or those of the dictionary (nested ones joined by a dot), `action`,
    `reward`, and `success` where `infos` holds it. Minari says no rate: give fps. Raises DataError
    for damage and for episodes that differ, ConfigError for options that do not fit.
    """
    with FilePool() as pool:
        return _open(path, options, pool)


def _open(path: Path, options: ReadOptions, pool: FilePool) -> Hdf5Data:
    if options.layout != "auto":
        raise ConfigError(f"layout is {shorten(options.layout)}; Minari's is auto")
    found = find_first(path)
    if found is None:
        raise DataError(f"{path} holds no main_data.hdf5")
    fps = require_fps(options.fps)
    root = Hdf5File(found, pool).root()
    names = root.names()
    named = choose_names(options, partial(_name_arrays, root.group(names[0])))
    episodes = [_read_episode(root.group(name), named) for name in names]
    taken = take_columns(path, episodes[0], options)
    metadata = _read_metadata(found.parent)
    notes = [
        *_describe(metadata, len(episodes)),
        "the observation after the last action of an episode is left out",
    ]
    task = options.task
    data = join_episodes(path, "minari", episodes, taken, fps, task, notes, pool)
    steps = int(data.episode_ends[-1])
    declared = metadata.get("total_steps")
    data.faults = list(compare_count("metadata.json", "total_steps", declared, steps))
    return data


def _name_arrays(group: Hdf5Group) -> dict[str, str]:
    """Our names to theirs, of one episode."""
    named = {ACTION: "actions", "reward": "rewards"}
    held = group.find(OBSERVATIONS)
    if isinstance(held, Hdf5Array):
        named["state"] = OBSERVATIONS
    elif isinstance(held, Hdf5Group):
        for inner in _list_arrays(held, DEEPEST):
            named[inner.replace("/", ".")] = f"{OBSERVATIONS}/{inner}"
    for place in SUCCESSES:
        if "success" not in named and isinstance(group.find(place), Hdf5Array):
            named["success"] = place
    return named


def _list_arrays(group: Hdf5Group, deepest: int) -> Iterator[str]:
    """Names of all arrays of numbers and pictures below a group."""
    for name in group.names():
        found = group.find(name)
        if isinstance(found, Hdf5Array) and found.holds != "text":
            yield name
        elif isinstance(found, Hdf5Group) and deepest:
            for inner in _list_arrays(found, deepest - 1):
                yield f"{name}/{inner}"


def _read_episode(group: Hdf5Group, named: dict[str, str]) -> Episode:
    """The columns of an episode; infos with N + 1 entries say first what the reset said."""
    steps = len(make_column(group.array(named[ACTION])))
    episode: Episode = {}
    for ours, theirs in named.items():
        array = group.array(theirs)
        if theirs.startswith(OBSERVATIONS):
            column = make_column(array, drop=1)
        elif len(array.shape) and len(array) == steps + 1:
            column = make_column(array, skip=1)
        else:
            column = make_column(array)
        episode[ours] = column
    return episode


def _read_metadata(folder: Path) -> dict[str, Any]:
    """metadata.json beside the data; empty where there is none."""
    place = folder / "metadata.json"
    if not place.is_file():
        return {}
    found = read_json(place, DataError)
    if isinstance(found, dict):
        return found
    raise DataError(f"{place} holds no JSON object")


def _describe(metadata: dict[str, Any], episodes: int) -> list[str]:
    """Which environment it is of; DataError where the metadata count other episodes."""
    counted = metadata.get("total_episodes", episodes)
    if counted != episodes:
        raise DataError(
            f"metadata.json counts {shorten(counted)} episodes, the file holds {episodes}: "
            "it is not whole"
        )
    spec = metadata.get("env_spec")
    if not isinstance(spec, str):
        return []
    plain = parse_json(spec, "metadata.json, env_spec", DataError)
    if isinstance(plain, dict):
        return [cut(f"recorded in {shorten(plain.get('id'))} (env_spec)")]
    return []
