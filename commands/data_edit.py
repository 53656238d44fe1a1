"""`hotstart data merge` and the other edits: each makes a view and writes it as a new store."""

from __future__ import annotations

from pathlib import Path

from ..configs.editing import Merge
from ..datasets.editing import write_view
from ..datasets.episodes import Dataset, count_steps
from ..datasets.merging import merge
from ..datasets.selection import Selection
from ..datasets.store import Store
from ..spec import ConfigError
from .next_steps import write_command, write_path


def merge_sources(options: Merge) -> int:
    """Join the data sets into the last path."""
    paths, target = options.paths[:-1], options.paths[-1]
    if len(set(paths)) < 2:
        raise ConfigError(
            "two or more different data sets are joined; give them, then the new one's folder: "
            "hotstart data merge A.zarr B.zarr OUT.zarr"
        )
    sources: dict[str, Dataset] = {str(path): Store.open(path) for path in paths}
    view = merge(sources, task=options.task, fill=options.fill, common=options.common)
    return write_edit(view, target)


def write_edit(view: Selection, target: Path) -> int:
    """Write a view, and say what came of it and what can be done with it."""
    for note in view.notes:
        print(note)
    store = write_view(view, target)
    print(f"{target}: {len(store.lengths)} episodes, {count_steps(store):,} steps")
    print(f"next: {write_command('data verify', write_path(target))}")
    return 0
