"""Writes views of data sets as stores."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np

from ..spec import DataError
from .episodes import Dataset, count_steps
from .selection import Selection
from .store import Store
from .writing import name_unfinished, write_store

PICTURE_SHARE = 0.1
"""Pictures take at least so much of their bytes once they are compressed."""


def write_view(view: Selection, target: Path) -> Store:
    """Write a view as a new store, which appears when it is whole.

    After a kill the same call goes on behind the last finished episode. Raises DataError where
    something is at the target already, where the view has no episode, and
    where the disk is too small or something cannot be read.
    """
    check_free(target)
    if not len(view.episode_ends):
        raise DataError(f"no episode is left, so {target} is not made")
    needed = sum(_count_bytes(source, steps) for source, steps in _list_sources(view))
    written = folder_bytes(name_unfinished(target))
    check_room(target, needed - written)
    return write_store(
        view,
        target,
        task=view.task,
        source=view.origin.source,
        options=view.origin.options,
    )


def check_free(target: Path) -> None:
    """Raise DataError where something is at the target already."""
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")


def check_room(target: Path, needed: int) -> None:
    """Raise DataError where the disk of the target has less than `needed` bytes left."""
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{target} takes about {needed / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB "
            "left: make room, or choose another disk"
        )


def folder_bytes(path: Path) -> int:
    """Bytes of all files of a folder, or of a file; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _list_sources(view: Selection) -> list[tuple[Dataset, int]]:
    """The data sets that a view reads from, and how many steps of each; views among them opened."""
    steps: dict[int, int] = {}
    sources: dict[int, Dataset] = {}
    for piece in view.pieces:
        sources[id(piece.source)] = piece.source
        steps[id(piece.source)] = steps.get(id(piece.source), 0) + len(piece)
    found: list[tuple[Dataset, int]] = []
    for number, source in sources.items():
        if isinstance(source, Selection):
            found += _list_sources(source)
        else:
            found.append((source, steps[number]))
    return found


def _count_bytes(source: Dataset, steps: int) -> int:
    """About what so many steps of a data set take in a store, rather too little."""
    if isinstance(source, Store):
        return folder_bytes(source.path) * steps // max(count_steps(source), 1)
    bytes_per_step = 4.0 * source.action_spec.width
    for key in source.obs_spec.keys.values():
        size = math.prod(key.shape) * np.dtype(key.dtype).itemsize
        if key.kind == "image":
            bytes_per_step += PICTURE_SHARE * size
        else:
            bytes_per_step += size
    return int(bytes_per_step * steps)
