"""Random windows per second from each format, by hotstart and by the format's own library."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.episodes import ACTION, Dataset, count_steps
from ..datasets.formats.conversion import export
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.registry import list_written
from ..datasets.opening import open_dataset
from ..datasets.writing import write_store
from ..spec import REQUIRED, ConfigError, option, unknown
from ._peer_calls import ROBOMIMIC, call_lerobot, call_peer

STORE = "hotstart"
OBSERVED = 2
PLANNED = 16


@dataclass
class Options:
    """Take windows of 2 observations and 16 actions at random steps, one at a time.

    Every format is made of the same source first. The first windows come from files that the
    system does not hold in memory, the second from those that it holds.
    """

    data: str = option(REQUIRED, "a data set in any format", positional=True)
    folder: str = option(REQUIRED, "where the others are written, or are already", positional=True)
    formats: str = option("", "formats, separated by commas; empty: all that are written")
    layout: str = option("auto", "layout of the source")
    windows: int = option(500, "windows to take of each")
    lerobot: str = option("", "a Python with LeRobot 0.6; empty: without LeRobot's own library")
    robomimic: str = option("", "a Python with robomimic 0.3; empty: without robomimic's library")


@dataclass(frozen=True)
class Rates:
    """What one reader of one format reaches."""

    opened_s: float
    first: float
    """Windows per second from the disk."""
    second: float
    """Windows per second from the system's memory."""


Own = Callable[[Options, Path], Rates | None]
"""Measures a format's own library; None where it is not at hand."""


def run(options: Options) -> None:
    """Print a line per format and reader."""
    print(f"{'format':<16}{'reader':<12}{'MB':>8}{'open s':>9}{'from disk':>11}{'from memory':>13}")
    for name in _choose(options):
        path = _make(options, name)
        _evict(path)
        readers = {STORE: measure_ours(options, path)}
        if name in OWN:
            _evict(path)
            own = OWN[name](options, path)
            if own is not None:
                readers["own"] = own
        size = sum(file.stat().st_size for file in _list_files(path))
        for reader, rates in readers.items():
            print(
                f"{name:<16}{reader:<12}{size / 1e6:>8.1f}{rates.opened_s:>9.2f}"
                f"{rates.first:>11.0f}{rates.second:>13.0f}"
            )


def measure_ours(options: Options, path: Path) -> Rates:
    """hotstart's own readers; the data set is opened anew."""
    began = time.perf_counter()
    dataset = open_dataset(path, ReadOptions(layout=options.layout, fps=10))
    opened = time.perf_counter() - began
    rng = np.random.default_rng(0)
    rates: list[float] = []
    for _ in range(2):
        steps = rng.integers(0, count_steps(dataset), options.windows)
        began = time.perf_counter()
        for step in steps:
            take_window(dataset, int(step))
        rates.append(options.windows / (time.perf_counter() - began))
    return Rates(opened, *rates)


def take_window(dataset: Dataset, step: int) -> None:
    """Read the observations up to a step and the actions from it on, within its episode."""
    number = int(np.searchsorted(dataset.episode_ends, step, side="right"))
    end = int(dataset.episode_ends[number])
    begin = 0
    if number:
        begin = int(dataset.episode_ends[number - 1])
    for key in dataset.obs_spec.keys:
        dataset.rows(key, max(begin, step + 1 - OBSERVED), step + 1)
    dataset.rows(ACTION, step, min(end, step + PLANNED))


def measure_lerobot(options: Options, path: Path) -> Rates | None:
    """LeRobot's library, in a process of its own; videos by PyAV as long as torchcodec is not
    usable there.
    """
    if not options.lerobot:
        return None
    told = call_lerobot(options.lerobot, "speed", path, options.windows, OBSERVED, PLANNED)
    return _read_rates(told)


def measure_robomimic(options: Options, path: Path) -> Rates | None:
    """robomimic's library in a process of its own, which takes the observations of all steps."""
    if not options.robomimic:
        return None
    return _read_rates(call_peer(options.robomimic, ROBOMIMIC, path, options.windows, PLANNED))


def _read_rates(told: str) -> Rates:
    found = json.loads(told.splitlines()[-1])
    return Rates(found["opened_s"], found["first"], found["second"])


OWN: dict[str, Own] = {"lerobot-v3": measure_lerobot, "robomimic": measure_robomimic}
"""By format: the function that measures its own library."""


def _choose(options: Options) -> list[str]:
    valid = [STORE, *list_written()]
    chosen = [name for name in options.formats.split(",") if name]
    for name in chosen:
        if name not in valid:
            raise ConfigError(unknown("format", name, valid))
    return chosen or valid


def _make(options: Options, name: str) -> Path:
    """The source in a format; it is written once."""
    path = Path(options.folder, f"{Path(options.data).name.split('.')[0]}.{name}")
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(options.data, ReadOptions(layout=options.layout))
    task = str(getattr(dataset, "task", ""))
    if name == STORE:
        write_store(dataset, path, task=task)
    else:
        export(dataset, path, name, task)
    return path


def _list_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file()]


def _evict(path: Path) -> None:
    """Ask the system to forget what it holds of the files in memory."""
    for file in _list_files(path):
        number = os.open(file, os.O_RDONLY)
        try:
            os.fsync(number)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(number)
