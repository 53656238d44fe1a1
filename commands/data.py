"""`hotstart data`: look at data sets, convert, check and fetch them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.schema import Convert, Download, Info, Verify
from ..datasets.checks.verify import verify
from ..datasets.download import SOURCES, download
from ..datasets.formats.conversion import convert, export
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.opening import open_dataset
from ..datasets.store import Store
from ..system.interrupts import explain
from . import data_edit
from .next_steps import train_on, write_command, write_path


def print_info(options: Info) -> int:
    """Print the table of a data set."""
    store = Store.open(options.path)
    size = sum(file.stat().st_size for file in options.path.rglob("*") if file.is_file())
    task = store.task or "(no task given)"
    source = store.attrs["source"] or "(no source given)"
    print(f"{options.path}  {task}  from {source}")
    print(_count(store, size))
    if "success" in store.keys and len(store):
        print(_count_successes(store))
    rows = [("key", "shape", "dtype", "kind", "min", "max")]
    for key in store.keys:
        rows.append(_list_cells(store, key))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = map(str.ljust, row, widths)
        print("  " + "  ".join(cells).rstrip())
    return 0


def convert_data(options: Convert) -> int:
    """Convert and say what came of it."""
    with _keep_finished(options.target):
        if options.to == "hotstart":
            store = convert(
                options.source,
                options.target,
                _choose(options),
                format=options.format or "",
                say=print,
            )
            print(f"{options.target}: {_count(store)}")
        else:
            _export(options)
    print(f"next: {write_command('data verify', write_path(options.target))}")
    return 0


def _export(options: Convert) -> None:
    """Write the source in another format than ours."""
    data = open_dataset(options.source, _choose(options), options.format or "")
    if not isinstance(data, Store):
        for note in data.notes:
            print(note)
    export(data, options.target, options.to, options.task or data.task)
    print(f"{options.target}: {len(data.episode_ends)} episodes in the format {options.to}")


def print_findings(options: Verify) -> int:
    """Print the findings; 1 when there are errors."""
    store = Store.open(options.path)
    findings = verify(store)
    for finding in findings:
        print(finding)
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{options.path}: {errors} errors, {len(findings) - errors} warnings")
    if errors:
        return 1
    print(f"next: {train_on(store)}")
    return 0


def fetch(options: Download) -> int:
    """Fetch, check and convert; what is there already is not done again."""
    target = options.folder / f"{options.name}.zarr"
    with _keep_finished(target):
        found = download(options.name, options.folder, address=options.address)
        if target.exists():
            store = Store.open(target)
        else:
            layout = SOURCES[options.name].layout
            choices = ReadOptions(task=options.name, images=options.images, layout=layout)
            store = convert(found, target, choices, say=print)
    print(f"{target}: {_count(store)}")
    print(f"next: {train_on(store)}")
    return 0


@contextmanager
def _keep_finished(target: Path) -> Iterator[None]:
    """An interruption within says what became of `target`."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if target.exists():
            raise
        message = (
            f"stopped; {target} appears when it is whole; "
            "the same command goes on behind the last finished episode"
        )
        raise explain(interrupt, message) from None


def _choose(options: Convert) -> ReadOptions:
    """What is taken of the source."""
    return ReadOptions(**{item.name: getattr(options, item.name) for item in fields(ReadOptions)})


def _count(store: Store, size: int | None = None) -> str:
    """Episodes, steps, hours and rate in one line."""
    hours = len(store) / store.fps / 3600
    text = f"{len(store.lengths)} episodes"
    if len(store):
        text += f" of {store.lengths.min()} to {store.lengths.max()} steps"
    text += f", {len(store):,} steps, {hours:.2f} h at {store.fps:g} fps"
    if size is not None:
        text += f", {size / 1e6:.1f} MB on disk"
    return text


def _count_successes(store: Store) -> str:
    """Episodes in which the task was fulfilled; of play also those in which nobody disturbed."""
    starts = store.episode_ends - store.lengths
    succeeded = np.logical_or.reduceat(store.array("success"), starts)
    text = f"success in {succeeded.sum()} of {len(succeeded)} episodes"
    if "explored" in store.keys:
        undisturbed = ~store.array("explored")[starts]
        deployed = succeeded[undisturbed]
        text += f"; {len(deployed)} episodes are undisturbed, with success in {deployed.sum()}"
    return text


def _list_cells(store: Store, key: str) -> tuple[str, str, str, str, str, str]:
    """A key's line of the table; ranges are over all steps and dimensions."""
    first = store.rows(key, 0, 1)
    kind = key
    if key in store.obs_spec.keys:
        kind = store.obs_spec.keys[key].kind
    low, high = _find_range(store, key)
    shape = " x ".join(map(str, first.shape[1:])) or "one number"
    return key, shape, str(first.dtype), kind, low, high


def _find_range(store: Store, key: str, block: int = 1024) -> tuple[str, str]:
    """Least and greatest number, read in blocks since images may not fit into memory."""
    if not len(store):
        return ("-", "-")
    low, high = np.inf, -np.inf
    for start in range(0, len(store), block):
        rows = store.rows(key, start, start + block)
        low = np.minimum(low, np.float64(rows.min()))
        high = np.maximum(high, np.float64(rows.max()))
    return (f"{low:g}", f"{high:g}")


ACTIONS: dict[str, Callable[[Any], int]] = {
    "info": print_info,
    "convert": convert_data,
    "verify": print_findings,
    "download": fetch,
    **data_edit.ACTIONS,
}
