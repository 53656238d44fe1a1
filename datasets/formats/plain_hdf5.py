"""Reads HDF5 of no known program: a file or a group for each episode, its arrays chosen by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ...spec import ConfigError, DataError, cut, shorten
from ..episodes import ACTION
from .foreign_data import ReadOptions
from .hdf5_data import Episode, Hdf5Data, join_episodes, make_column, require_fps, take_columns
from .hdf5_files import FilePool, Hdf5Array, Hdf5File, Hdf5Group, choose_files

DEEPEST = 3
"""Groups below the root in which episodes, and arrays for a message, are looked for."""
SHOWN = 12


def open_plain_hdf5(path: Path, options: ReadOptions) -> Hdf5Data:
    """Open a file, or a folder of files with one episode each.

    `keys` names the arrays of an episode from the file's root on, or from the episode's group on
    where a file holds several: every group that has all of them is an episode. Raises DataError,
    with the arrays that were found, where the keys are missing or fit nothing.
    """
    with FilePool() as pool:
        return _open(path, options, pool)


def _open(path: Path, options: ReadOptions, pool: FilePool) -> Hdf5Data:
    files = choose_files(path)
    first = Hdf5File(files[0], pool).root()
    if not options.keys or ACTION not in options.keys:
        raise DataError(f"{path} is HDF5 of no program that hotstart knows: {_explain(first)}")
    if options.layout != "auto":
        raise ConfigError(f"layout is {shorten(options.layout)}; plain HDF5's is auto")
    fps = require_fps(options.fps)
    episodes: list[Episode] = []
    for file in files:
        root = Hdf5File(file, pool).root()
        found = [_read_episode(group, options.keys) for group in _find_episodes(root, options.keys)]
        if not found:
            raise DataError(f"{file} has no group with {cut(str(options.keys))}: {_explain(root)}")
        episodes += found
    taken = take_columns(path, episodes[0], options)
    return join_episodes(path, "hdf5", episodes, taken, fps, options.task, (), pool)


def _find_episodes(
    group: Hdf5Group, keys: Mapping[str, str], deepest: int = DEEPEST
) -> Iterator[Hdf5Group]:
    """The groups that have every key."""
    if all(isinstance(group.find(name), Hdf5Array) for name in keys.values()):
        yield group
    elif deepest:
        for name in group.names():
            found = group.find(name)
            if isinstance(found, Hdf5Group):
                yield from _find_episodes(found, keys, deepest - 1)


def _read_episode(group: Hdf5Group, keys: Mapping[str, str]) -> Episode:
    return {ours: make_column(group.array(theirs)) for ours, theirs in keys.items()}


def _explain(root: Hdf5Group) -> str:
    """What a file holds, and the words that settle what is what."""
    found = list(_describe_arrays(root, DEEPEST))
    shown = ", ".join(found[:SHOWN])
    if len(found) > SHOWN:
        shown += ", ..."
    return (
        f"it holds {cut(shown) or 'no arrays'}. Say which arrays are what, by their names from an "
        "episode's group on (each file, or each group that has them, is an episode): "
        "keys=action:NAME,state:NAME fps=RATE"
    )


def _describe_arrays(group: Hdf5Group, deepest: int) -> Iterator[str]:
    """Names and shapes of arrays below a group; of many groups alike the first two."""
    groups = 0
    for name in group.names():
        try:
            found = group.find(name)
        except DataError:
            yield f"{group.name}/{name} (not read)".lstrip("/")
            continue
        if isinstance(found, Hdf5Array):
            yield f"{found.name} {found.shape}"
        elif isinstance(found, Hdf5Group) and deepest and groups < 2:
            groups += 1
            yield from _describe_arrays(found, deepest - 1)
