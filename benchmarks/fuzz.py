"""Reads damaged and hostile files of every kind: nothing may run, crash, hang or raise."""

from __future__ import annotations

import collections
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..spec import option
from . import _fuzz_data
from ._fuzz_damage import damage
from ._fuzz_files import copy_good, write_good, write_marking
from ._fuzz_hostile import HOSTILE
from ._fuzz_process import Worker

KINDS = ("native", "lerobot", "ckpt", "result", "profile", *_fuzz_data.VALID)
COLUMNS = ("read", "refused", "executed", "crash", "hang", "traceback")


@dataclass
class Options:
    """Read files that were broken at random or made to do harm, and count the outcomes.

    Each is read in a process with limits.
    """

    files: int = option(3000, "damaged files to read")
    hostile: int = option(240, "files made by somebody who means ill")
    seed: int = option(0, "seed of the damage")
    limit_s: float = option(20.0, "seconds that reading one file may take")
    keep: Path | None = option(
        None, "folder for files that were not answered as they should be; none: do not keep"
    )
    shown: int = option(20, "how many of them to print")


@dataclass
class Tally:
    """Outcomes of one kind of file."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_s: float = 0.0


def run(options: Options) -> None:
    """Print outcomes by kind, and the first files that were neither read nor refused."""
    found: dict[str, Tally] = collections.defaultdict(Tally)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_marking(folder)
        write_good(folder / "good")
        worker = Worker(folder, options.limit_s)
        for kind in KINDS:
            answer = worker.read(kind, copy_good(kind, folder))
            if answer.outcome != "read":
                raise RuntimeError(f"the good file of kind {kind} is not read: {answer.said}")
        for name, kind, path in _make_cases(options, folder):
            answer = worker.read(kind, path)
            outcome = answer.outcome
            if (folder / "mark").exists():
                (folder / "mark").unlink()
                outcome = "executed"
            group = kind
            if "hostile" in name:
                group = f"{kind}, hostile"
            found[group].counts[outcome] += 1
            found[group].slowest_s = max(found[group].slowest_s, answer.seconds)
            if outcome not in ("read", "refused"):
                faults.append(f"{name}: {outcome}: {answer.said}")
                _keep(path, options.keep, name)
        worker.close()
    _print_table(found, faults[: options.shown])


def _make_cases(options: Options, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(name, kind, path) of every file, written into `folder` one after the other."""
    for number in range(options.files):
        kind = KINDS[number % len(KINDS)]
        rng = np.random.default_rng(np.random.SeedSequence([options.seed, number]))
        yield f"{kind}_{number}", kind, damage(kind, folder, rng)
    for number in range(options.hostile):
        rng = np.random.default_rng(np.random.SeedSequence([options.seed, number, 1]))
        maker = HOSTILE[number % len(HOSTILE)]
        kind, path = maker(folder, rng)
        yield f"hostile_{maker.__name__.removeprefix('_')}_{number}", kind, path


def _print_table(found: dict[str, Tally], faults: list[str]) -> None:
    names = "".join(f"{name:>11}" for name in COLUMNS)
    print(f"{'kind':<20}{'files':>7}{names}{'slowest s':>11}")
    total: collections.Counter[str] = collections.Counter()
    for kind, tally in sorted(found.items()):
        total += tally.counts
        _print_row(kind, tally.counts, tally.slowest_s)
    _print_row("all", total, max(tally.slowest_s for tally in found.values()))
    for line in faults:
        print("  " + line)


def _print_row(name: str, counts: collections.Counter[str], slowest_s: float) -> None:
    cells = "".join(f"{counts[column]:>11}" for column in COLUMNS)
    print(f"{name:<20}{counts.total():>7}{cells}{slowest_s:>11.2f}")


def _keep(path: Path, keep: Path | None, name: str) -> None:
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, keep / name, dirs_exist_ok=True)
    else:
        shutil.copy(path, keep / f"{name}{path.suffix}")
