"""Makes a store of a foreign data set, and a foreign data set of any that hotstart opens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tqdm import tqdm

from ...spec import ConfigError, DataError
from ..episodes import Dataset
from ..locks import hold
from ..store import Store
from ..writing import write_store
from .diffusion_policy import open_buffer
from .foreign_data import ForeignData, ReadOptions
from .registry import find_writer, open_foreign
from .remote import find_url, show_path
from .replay_buffer import ReplayBuffer


def convert(
    source: str | Path | ReplayBuffer,
    target: str | Path,
    options: ReadOptions | None = None,
    *,
    format: str = "",
    say: Callable[[str], None] = warnings.warn,
) -> Store:
    """Make a store at `target` of a foreign data set; it appears when all episodes are converted.

    A killed conversion goes on where it was. `format` is a name of the registry; empty recognises
    it; `say` is told what was decided. Raises DataError for data that cannot be read or stored or
    a target that exists, ConfigError for a choice that is missing.
    """
    data: ForeignData
    if isinstance(source, ReplayBuffer):
        data = open_buffer(source, options or ReadOptions())
    else:
        data = open_foreign(Path(source), options, format)
    try:
        for note in data.notes:
            say(note)
        return write_store(data, Path(target), task=data.task, source=data.path.name)
    finally:
        data.close()


def export(dataset: Dataset, target: str | Path, to: str, task: str = "") -> None:
    """Write a data set in the foreign format `to`; it appears at `target` when it is whole.

    Raises DataError where the target is there already, where the format cannot hold something, and
    where the disk is full; ConfigError for a format that is unknown or only read.
    """
    target = Path(target)
    write = find_writer(to)
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    lock: AbstractContextManager[object] = nullcontext()
    if find_url(target) is None:
        lock = hold(target)
    elif to != "shards":
        raise ConfigError(f"{show_path(target)} is written as to=shards, not as {to}")
    with lock, tqdm(desc=f"writing {target.name}", unit="episode", disable=None) as bar:

        def tell(done: int, count: int) -> None:
            bar.total = count
            bar.update(done - bar.n)

        write(dataset, target, task, tell)
