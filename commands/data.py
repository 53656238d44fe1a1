"""`hotstart data info | convert | verify | download`: look at data sets, convert, check and fetch them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..datasets.check import is_error, verify
from ..datasets.download import SOURCES, download
from ..datasets.formats.replay_buffer import (
    LayoutName,
    ReplayBuffer,
    convert,
    is_pusht,
    read_replay_buffer,
)
from ..datasets.store import Store
from ..spec import REQUIRED, ConfigError, option
from ..system.interrupts import explain
from .words import help_text, parse_words, wants_help

LayoutChoice = Literal["auto", "plain", "pusht"]


@dataclass(frozen=True)
class Info:
    """Print what a data set holds: episodes, steps, hours, and every key with its shape, dtype and range."""

    path: Path = option(REQUIRED, "the data set's folder", positional=True)


@dataclass(frozen=True)
class Convert:
    """Make a data set of a Diffusion Policy replay buffer (.zarr folder, .zarr.zip or .npz).

    HDF5 (robomimic, ACT) and LeRobot's data sets cannot be converted yet: give their arrays to hotstart.Arrays.
    """

    source: Path = option(REQUIRED, "what to convert", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    layout: LayoutChoice = option("auto", "what the arrays mean; auto knows Push-T's by its shapes")
    keys: dict[str, str] | None = option(
        None, "arrays to take, ours:theirs, as in action:actions,state:obs"
    )
    fps: float | None = option(None, "steps per second; must be given unless the layout fixes it")
    task: str = option("", "what is demonstrated, in words")
    images: bool = option(False, "take the images too")
    kinds: dict[str, str] | None = option(
        None, "state or image for a key whose shape leaves it open, as in depth:state"
    )


@dataclass(frozen=True)
class Verify:
    """Look through a data set for what would spoil training; the exit status is 1 when there are errors.

    Errors: numbers that are not finite, wrong ends and timestamps, parts that cannot be read, no episode of two steps.
    Warnings: action numbers that never change (a policy will command exactly these), states of a tiny range, outliers,
    episodes that are too short, stand still or occur twice, cameras that freeze or are black.
    """

    path: Path = option(REQUIRED, "the data set's folder", positional=True)


@dataclass(frozen=True)
class Download:
    """Fetch a published data set, check it against its known contents, and convert it."""

    name: str = option(REQUIRED, f"which one: {', '.join(sorted(SOURCES))}", positional=True)
    folder: Path = option(Path("data"), "where to put it; the data set becomes FOLDER/NAME.zarr")
    address: str | None = option(None, "another place that has the same file")
    images: bool = option(False, "take the images too")


def run(words: Sequence[str]) -> int:
    """Do one action; returns the exit status. Raises ConfigError for wrong words and DataError for wrong data."""
    if not words or words[0] in ("--help", "-h", "help"):
        print(
            "\n\n".join(
                help_text(cls, f"hotstart data {name}") for name, (cls, _) in ACTIONS.items()
            )
        )
        return 0
    if words[0] not in ACTIONS:
        raise ConfigError(f"`hotstart data` cannot {words[0]!r}; it can {', '.join(ACTIONS)}")
    cls, act = ACTIONS[words[0]]
    if wants_help(words[1:]):
        print(help_text(cls, f"hotstart data {words[0]}"))
        return 0
    return act(parse_words(words[1:], cls))


def info(choice: Info) -> int:
    """Print the table of a data set."""
    store = Store.open(choice.path)
    size = sum(file.stat().st_size for file in choice.path.rglob("*") if file.is_file())
    print(
        f"{choice.path}  {store.task or '(no task given)'}  from {store.attrs['source'] or '(no source given)'}"
    )
    print(_counts(store, size))
    rows = [
        ("key", "shape", "dtype", "kind", "min", "max"),
        *(_key_row(store, key) for key in store.keys),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def convert_data(choice: Convert) -> int:
    """Convert a replay buffer and say what came of it."""
    with _whole_or_nothing(choice.target):
        buffer = read_replay_buffer(choice.source)
        store = _converted(buffer, choice)
    print(f"{choice.target}: {_counts(store)}")
    return 0


def verify_data(choice: Verify) -> int:
    """Print the findings; 1 when there are errors."""
    findings = verify(Store.open(choice.path))
    for finding in findings:
        print(finding)
    errors = sum(map(is_error, findings))
    print(f"{choice.path}: {errors} errors, {len(findings) - errors} warnings")
    if errors:
        return 1
    return 0


def download_data(choice: Download) -> int:
    """Fetch, check and convert; what is there already is not done again."""
    target = choice.folder / f"{choice.name}.zarr"
    with _whole_or_nothing(target):
        found = download(choice.name, choice.folder, address=choice.address)
        if target.exists():
            store = Store.open(target)
        else:
            layout = SOURCES[choice.name].layout
            store = convert(
                found, target, layout=layout, task=choice.name, images=choice.images, say=print
            )
    print(f"{target}: {_counts(store)}")
    return 0


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[None]:
    """An interruption within says what became of `target`."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if target.exists():
            raise
        message = f"stopped; {target} was not made, a data set is kept when it is whole; the same command begins it anew"
        raise explain(interrupt, message) from None


def _converted(buffer: ReplayBuffer, choice: Convert) -> Store:
    """The store that the choices ask for."""
    known: LayoutName
    if choice.keys is None and is_pusht(buffer):
        known = "pusht"
    else:
        known = "plain"
    if choice.layout == "auto":
        layout = known
    else:
        layout = choice.layout
    return convert(
        buffer,
        choice.target,
        keys=choice.keys,
        layout=layout,
        fps=choice.fps,
        task=choice.task,
        images=choice.images,
        kinds=choice.kinds,
        say=print,
    )


def _counts(store: Store, size: int | None = None) -> str:
    """Episodes, steps, hours and rate in one line."""
    hours = len(store) / store.fps / 3600
    if len(store):
        lengths = f" of {store.lengths.min()} to {store.lengths.max()} steps"
    else:
        lengths = ""
    if size is None:
        on_disk = ""
    else:
        on_disk = f", {size / 1e6:.1f} MB on disk"
    return f"{len(store.lengths)} episodes{lengths}, {len(store):,} steps, {hours:.2f} h at {store.fps:g} fps{on_disk}"


def _key_row(store: Store, key: str) -> tuple[str, ...]:
    """A key's line of the table; ranges are over all steps and dimensions."""
    first = store.rows(key, 0, 1)
    if key in store.obs_spec.keys:
        kind = store.obs_spec.keys[key].kind
    else:
        kind = key
    low, high = _range(store, key)
    shape = " x ".join(map(str, first.shape[1:])) or "one number"
    return key, shape, str(first.dtype), kind, low, high


def _range(store: Store, key: str, block: int = 1024) -> tuple[str, str]:
    """Least and greatest number, read in blocks since images may not fit into memory."""
    blocks = (store.rows(key, start, start + block) for start in range(0, len(store), block))
    ranges = np.array([(part.min(), part.max()) for part in blocks], np.float64).reshape(-1, 2)
    if len(ranges):
        return (f"{ranges[:, 0].min():g}", f"{ranges[:, 1].max():g}")
    return ("-", "-")


ACTIONS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "info": (Info, info),
    "convert": (Convert, convert_data),
    "verify": (Verify, verify_data),
    "download": (Download, download_data),
}
