"""`hotstart data split`, `merge` and the other edits: each makes a view and writes a new store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..configs.editing import Drop, Filter, Merge, Relabel, Split, Trim
from ..datasets.choosing import Wish, choose, find_successes, read_numbers
from ..datasets.editing import check_free, write_view
from ..datasets.episodes import Dataset, check_choice, count_steps
from ..datasets.formats.remote import show_path
from ..datasets.merging import merge
from ..datasets.opening import open_dataset
from ..datasets.relabelling import Labels, relabel
from ..datasets.selection import Selection, choose_episodes, leave_out, select
from ..datasets.store import Store
from ..datasets.trimming import Cut, trim
from ..datasets.windows import split_usable_episodes
from ..spec import ConfigError, DataError, HotstartError, IntArray
from ..system.interrupts import explain
from .next_steps import write_command, write_path

T = TypeVar("T")


def merge_sources(options: Merge) -> int:
    """Join the data sets into the last path."""
    paths, target = options.paths[:-1], options.paths[-1]
    if len(set(paths)) < 2:
        raise ConfigError(
            "two or more different data sets are joined; give them, then the new one's folder: "
            "hotstart data merge A.zarr B.zarr OUT.zarr"
        )
    check_free(target)
    sources: dict[str, Dataset] = {str(path): open_source(path) for path in paths}
    view = merge(sources, task=options.task, fill=options.fill, common=options.common)
    return write_edit(view, target)


def split_source(options: Split) -> int:
    """Write two data sets; both are checked before one is written.

    The second one is written first. Where a kill left it behind, whole and the same, it stays.
    """
    check_free(options.first)
    dataset = open_source(options.path)
    first, second = _divide(dataset, options)
    for name, numbers in (("first", first), ("second", second)):
        if not len(numbers):
            raise DataError(f"the {name} data set would have no episode")
    held_out = select(dataset, choose_episodes(dataset, second))
    if options.second.exists() and _holds(options.second, held_out):
        print(f"{options.second} is written already")
    else:
        write_edit(held_out, options.second)
    return write_edit(select(dataset, choose_episodes(dataset, first)), options.first)


def _holds(target: Path, view: Selection) -> bool:
    """Whether a store with the same steps lies at the target."""
    try:
        store = Store.open(target)
    except HotstartError:
        return False
    same = np.array_equal(store.episode_ends, view.episode_ends)
    return same and store.content_hash() == view.content_hash()


def filter_source(options: Filter) -> int:
    """Keep the episodes that fulfil the conditions."""
    check_free(options.target)
    dataset = open_source(options.path)
    numbers = choose(dataset, _pick(Wish, options))
    print(f"{len(numbers)} of {len(dataset.episode_ends)} episodes fulfil the conditions")
    return write_edit(select(dataset, choose_episodes(dataset, numbers)), options.target)


def trim_source(options: Trim) -> int:
    """Cut the ends of episodes."""
    if options.still is None and not options.start_s and not options.end_s:
        raise ConfigError("say what is cut: still=0.001, start_s=0.5 or end_s=0.5")
    check_free(options.target)
    return write_edit(trim(open_source(options.path), _pick(Cut, options)), options.target)


def drop_parts(options: Drop) -> int:
    """Leave out episodes, keys and cameras."""
    if not options.episodes and not options.keys and not options.cameras:
        raise ConfigError("say what is left out: episodes=3,7, keys=force or cameras=true")
    check_free(options.target)
    dataset: Dataset = open_source(options.path)
    dropped = list(options.keys)
    for key in dropped:
        check_choice(key, dataset.keys)
    if "action" in dropped:
        raise ConfigError("actions cannot be left out: a data set is for training")
    if options.cameras:
        dropped += [name for name, key in dataset.obs_spec.keys.items() if key.kind == "image"]
    if dropped:
        dataset = leave_out(dataset, dropped)
    count = len(dataset.episode_ends)
    gone = np.zeros(count, bool)
    if options.episodes:
        gone[read_numbers(options.episodes, count)] = True
    kept = choose_episodes(dataset, np.flatnonzero(~gone))
    return write_edit(select(dataset, kept), options.target)


def relabel_source(options: Relabel) -> int:
    """Change what a data set says of itself."""
    check_free(options.target)
    return write_edit(relabel(open_source(options.path), _pick(Labels, options)), options.target)


def write_edit(view: Selection, target: Path) -> int:
    """Write a view, and say what came of it and what can be done with it."""
    for note in view.notes:
        print(note)
    with keep_finished(target):
        store = write_view(view, target)
    print(f"{target}: {len(store.lengths)} episodes, {count_steps(store):,} steps")
    print(f"next: {write_command('data verify', write_path(target))}")
    return 0


def open_source(path: Path) -> Dataset:
    """The data set at a path, in any format.

    ConfigError, with what to do, where the format does not say all that is needed.
    """
    try:
        return open_dataset(path)
    except ConfigError as error:
        convert = write_command("data convert", write_path(path), "TARGET")
        raise ConfigError(f"{path}: {error}. Make a store of it first: {convert} ...") from error


@contextmanager
def keep_finished(target: Path) -> Iterator[None]:
    """An interruption within says what became of `target`."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if target.exists():
            raise
        message = (
            f"stopped; {show_path(target)} appears when it is whole; "
            "the same command goes on behind the last finished episode"
        )
        raise explain(interrupt, message) from None


def _divide(dataset: Dataset, options: Split) -> tuple[IntArray, IntArray]:
    """The episodes of the first and of the second data set."""
    ways = [options.share is not None, bool(options.episodes), options.success]
    if sum(ways) != 1:
        raise ConfigError("one of share=0.1, episodes=0-9 and success=true says how to split")
    if options.share is not None:
        return split_usable_episodes(dataset.episode_ends, options.share, options.seed)
    count = len(dataset.episode_ends)
    second = np.zeros(count, bool)
    if options.success:
        second = ~find_successes(dataset)
    else:
        second[read_numbers(options.episodes, count)] = True
    return np.flatnonzero(~second), np.flatnonzero(second)


def _pick(cls: Callable[..., T], options: Any) -> T:
    """The dataclass `cls` of the options that have the names of its fields."""
    given: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        value = getattr(options, field.name)
        if value is not None:
            given[field.name] = value
    return cls(**given)


ACTIONS: dict[str, Callable[[Any], int]] = {
    "split": split_source,
    "merge": merge_sources,
    "filter": filter_source,
    "trim": trim_source,
    "drop": drop_parts,
    "relabel": relabel_source,
}
