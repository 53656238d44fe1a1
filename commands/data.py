"""`hotstart data`: look at data sets, convert, check and fetch them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from ..configs.schema import Convert, Download, Info
from ..datasets.choosing import find_successes
from ..datasets.download import SOURCES, download
from ..datasets.editing import folder_bytes
from ..datasets.episodes import Dataset, count_steps, lengths_of
from ..datasets.formats.conversion import convert, export
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.remote import show_path
from ..datasets.opening import open_dataset
from ..datasets.selection import read_origin
from ..datasets.store import Store
from . import data_check, data_edit, data_recompute
from .data_diff import print_differences
from .data_inspect import inspect_topics
from .data_view import view_data
from .next_steps import train_on, write_command, write_path


def print_info(options: Info) -> int:
    """Print the table of a data set."""
    data = open_dataset(options.path, ReadOptions(fps=options.fps, mapping=options.mapping))
    origin = read_origin(data)
    task = origin.task or "(no task given)"
    source = origin.source or "(no source given)"
    if not isinstance(data, Store):
        source = f"{source}, in the format {data.format}"
    print(f"{show_path(options.path)}  {task}  from {source}")
    size: int | None = None
    if options.path.exists():
        size = folder_bytes(options.path)
    print(_count(data, size))
    if "success" in data.keys and count_steps(data):
        print(_count_successes(data))
    rows = [("key", "shape", "dtype", "kind", "min", "max")]
    for key in data.keys:
        rows.append(_list_cells(data, key))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = map(str.ljust, row, widths)
        print("  " + "  ".join(cells).rstrip())
    return 0


def convert_data(options: Convert) -> int:
    """Convert and say what came of it."""
    with data_edit.keep_finished(options.target):
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
    target = write_path(show_path(options.target))
    print(f"next: {write_command('data verify', target)}")
    return 0


def _export(options: Convert) -> None:
    """Write the source in another format than ours."""
    data = open_dataset(options.source, _choose(options), options.format or "")
    if not isinstance(data, Store):
        for note in data.notes:
            print(note)
    export(data, options.target, options.to, options.task or data.task)
    target = show_path(options.target)
    print(f"{target}: {len(data.episode_ends)} episodes in the format {options.to}")


def fetch(options: Download) -> int:
    """Fetch, check and convert; what is there already is not done again."""
    target = options.folder / f"{options.name}.zarr"
    with data_edit.keep_finished(target):
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


def _choose(options: Convert) -> ReadOptions:
    """What is taken of the source."""
    return ReadOptions(**{item.name: getattr(options, item.name) for item in fields(ReadOptions)})


def _count(data: Dataset, size: int | None = None) -> str:
    """Episodes, steps, hours and rate in one line."""
    steps = count_steps(data)
    lengths = lengths_of(data.episode_ends)
    text = f"{len(lengths)} episodes"
    if steps:
        text += f" of {lengths.min()} to {lengths.max()} steps"
    text += f", {steps:,} steps, {steps / data.fps / 3600:.2f} h at {data.fps:g} fps"
    if size is not None:
        text += f", {size / 1e6:.1f} MB on disk"
    return text


def _count_successes(data: Dataset) -> str:
    """Episodes in which the task was fulfilled; of play also those in which nobody disturbed."""
    succeeded = find_successes(data)
    text = f"success in {succeeded.sum()} of {len(succeeded)} episodes"
    if "explored" in data.keys:
        starts = data.episode_ends - lengths_of(data.episode_ends)
        undisturbed = ~data.array("explored")[starts]
        deployed = succeeded[undisturbed]
        text += f"; {len(deployed)} episodes are undisturbed, with success in {deployed.sum()}"
    return text


def _list_cells(data: Dataset, key: str) -> tuple[str, str, str, str, str, str]:
    """A key's line of the table; ranges are over all steps and dimensions."""
    first = data.rows(key, 0, 1)
    kind = key
    if key in data.obs_spec.keys:
        kind = data.obs_spec.keys[key].kind
    if kind == "image" and not isinstance(data, Store):
        low, high = "-", "-"  # a film would be decoded from end to end
    else:
        low, high = _find_range(data, key)
    shape = " x ".join(map(str, first.shape[1:])) or "one number"
    return key, shape, str(first.dtype), kind, low, high


def _find_range(data: Dataset, key: str, block: int = 1024) -> tuple[str, str]:
    """Least and greatest number, read in blocks since images may not fit into memory."""
    steps = count_steps(data)
    if not steps:
        return ("-", "-")
    low, high = np.inf, -np.inf
    for start in range(0, steps, block):
        rows = data.rows(key, start, min(start + block, steps))
        low = np.minimum(low, np.float64(rows.min()))
        high = np.maximum(high, np.float64(rows.max()))
    return (f"{low:g}", f"{high:g}")


ACTIONS: dict[str, Callable[[Any], int]] = {
    "info": print_info,
    "inspect": inspect_topics,
    "convert": convert_data,
    **data_check.ACTIONS,
    "download": fetch,
    **data_edit.ACTIONS,
    "diff": print_differences,
    "view": view_data,
    "recompute": data_recompute.recompute,
}
