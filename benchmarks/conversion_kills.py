"""Conversions that are killed at random moments: what is finished stays, and the end is whole."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.arrays import Arrays
from ..datasets.formats.conversion import export
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.opening import open_dataset
from ..datasets.store import Store
from ..datasets.writing import write_store
from ..spec import ConfigError, HotstartError, option

OURS = "hotstart"


@dataclass
class Options:
    """Kill the process that writes a data set, and let another go on, until it is whole.

    Every kill comes after a random share of the time that a whole writing takes. After each the
    target must be missing or whole, the store beside it must open, and no episode that was finished
    may be gone.
    """

    to: str = option(OURS, "format that is written: hotstart, or one that data convert writes")
    kills: int = option(200, "kills in all")
    episodes: int = option(40, "of the data set, 60 to 120 steps with pictures of 32 x 32")
    seed: int = option(0, "of the data and of the moments")


def run(options: Options) -> None:
    """Print kills, writings that they interrupted, episodes lost and wrong ends."""
    if options.kills < 1 or options.episodes < 1:
        raise ConfigError("kills and episodes must be at least 1")
    rng = np.random.default_rng(options.seed)
    data = make_data(options.episodes, rng)
    folder = Path(tempfile.mkdtemp())
    try:
        whole_s = _time_whole(data, folder / "first", options.to)
        counts = {"kills": 0, "writings": 0, "lost": 0, "unreadable": 0, "wrong": 0}
        while counts["kills"] < options.kills:
            target = folder / f"target{counts['writings']}"
            _kill_until_whole(data, target, options, rng, whole_s, counts)
            counts["wrong"] += not is_same(data, target)
            counts["writings"] += 1
            _delete(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.to}: a whole writing takes {whole_s:.2f} s")
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


def make_data(episodes: int, rng: np.random.Generator) -> Arrays:
    """Random episodes with pictures, states and actions."""
    made = []
    for _ in range(episodes):
        length = int(rng.integers(60, 121))
        camera = rng.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)
        state = rng.normal(size=(length, 7)).astype(np.float32)
        made.append({"camera": camera, "state": state, "action": state[:, :4]})
    return Arrays(made, fps=10)


def write(data: Arrays, target: Path, to: str) -> None:
    """Write the data set, going on where a killed writing was."""
    if to == OURS:
        write_store(data, target)
    else:
        export(data, target, to)


def is_same(data: Arrays, target: Path) -> bool:
    """Whether what lies there is the data set, number for number; pictures only in our format."""
    found = open_dataset(target, ReadOptions(fps=data.fps))
    if isinstance(found, Store):
        return found.content_hash() == data.content_hash()
    if not np.array_equal(found.episode_ends, data.episode_ends):
        return False
    return all(np.array_equal(found.array(key), data.array(key)) for key in ("state", "action"))


def _time_whole(data: Arrays, target: Path, to: str) -> float:
    """Seconds of the second writing: the first one loads libraries too."""
    taken_s = 0.0
    for _ in range(2):
        began_s = time.monotonic()
        write(data, target, to)
        taken_s = time.monotonic() - began_s
        _delete(target)
    return taken_s


def _kill_until_whole(
    data: Arrays,
    target: Path,
    options: Options,
    rng: np.random.Generator,
    whole_s: float,
    counts: dict[str, int],
) -> None:
    """One data set, written by as many processes as it takes."""
    finished = 0
    while not target.exists():
        process = multiprocessing.get_context("fork").Process(
            target=write, args=(data, target, options.to)
        )
        process.start()
        if counts["kills"] < options.kills:
            process.join(float(rng.uniform(0, whole_s)))
        else:
            process.join()
        if process.is_alive():
            counts["kills"] += 1
            process.kill()
        process.join()
        if options.to == OURS and not target.exists():
            now, readable = _count_finished(target)
            counts["lost"] += max(finished - now, 0)
            counts["unreadable"] += not readable
            finished = now


def _count_finished(target: Path) -> tuple[int, bool]:
    """Episodes in the unfinished store, and whether it opens; there may be none yet."""
    making = target.with_name(target.name + ".converting")
    if not making.exists():
        return 0, True
    try:
        return len(Store.open(making).episode_ends), True
    except HotstartError:
        return 0, False


def _delete(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
