"""Reads damaged and hostile files of every kind: nothing may run, crash, hang or raise."""

from __future__ import annotations

import collections
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..spec import ConfigError, option, unknown
from . import _fuzz_data
from ._fuzz_damage import damage
from ._fuzz_files import copy_good, write_good, write_marking
from ._fuzz_hostile import HOSTILE
from ._fuzz_process import Answer, Worker

KINDS = ("native", "lerobot", "ckpt", "result", "profile", *_fuzz_data.VALID)
COLUMNS = ("read", "told", "other", "refused", "executed", "crash", "hang", "traceback")
GOOD = ("read", "told", "other", "refused")
"""`told` are other numbers with a note that the good file does not have, `other` those without."""
WRITTEN_EVERY = 50


@dataclass
class Options:
    """Read files that were broken at random or made to do harm, and count the outcomes.

    Each is read in a process with limits. What a data set gives is compared with the good one:
    `read` are the same numbers, `told` others with a note, `other` others in silence.
    """

    files: int = option(3000, "damaged files to read")
    hostile: int = option(240, "files made by somebody who means ill")
    seed: int = option(0, "seed of the damage")
    limit_s: float = option(20.0, "seconds that reading one file may take")
    keep: Path | None = option(
        None, "folder for files that were not answered as they should be; none: do not keep"
    )
    shown: int = option(20, "how many of them to print")
    kinds: tuple[str, ...] = option((), "kinds of files, as in minari,mcap; none: all")
    copies: bool = option(
        False, "damage files only as a bad copy does: cut off, or 1 to 3 bits flipped in one file"
    )
    out: Path | None = option(None, "file for the counts, written as they grow (JSON)")


@dataclass
class Tally:
    """Outcomes of one kind of file."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_s: float = 0.0


def run(options: Options) -> None:
    """Print outcomes by kind, and the first files that were neither read nor refused."""
    kinds = _choose_kinds(options)
    found: dict[str, Tally] = collections.defaultdict(Tally)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_marking(folder)
        write_good(folder / "good", kinds)
        worker = Worker(folder, options.limit_s)
        good: dict[str, str] = {}
        for kind in kinds:
            answer = worker.read(kind, copy_good(kind, folder))
            if answer.outcome != "read":
                raise RuntimeError(f"the good file of kind {kind} is not read: {answer.said}")
            good[kind] = answer.said
        for number, (name, kind, path) in enumerate(_make_cases(options, kinds, folder)):
            answer = worker.read(kind, path)
            outcome = judge(answer, good.get(kind, ""))
            if (folder / "mark").exists():
                (folder / "mark").unlink()
                outcome = "executed"
            group = kind
            if "hostile" in name:
                group = f"{kind}, hostile"
            found[group].counts[outcome] += 1
            found[group].slowest_s = max(found[group].slowest_s, answer.seconds)
            if outcome not in GOOD:
                faults.append(f"{name}: {outcome}: {answer.said}")
                _keep(path, options.keep, name)
            if number % WRITTEN_EVERY == 0:
                _write(options.out, found, faults)
        worker.close()
    _write(options.out, found, faults)
    _print_table(found, faults[: options.shown])


def _choose_kinds(options: Options) -> tuple[str, ...]:
    """The kinds that are read; ConfigError for an unknown one."""
    for kind in options.kinds:
        if kind not in KINDS:
            raise ConfigError(unknown("kind", kind, sorted(KINDS)))
    return options.kinds or KINDS


def judge(answer: Answer, good: str) -> str:
    """The outcome; numbers are compared with what the good file said, its digest and its notes."""
    if answer.outcome != "read" or answer.said == good:
        return answer.outcome
    digest, notes = answer.said.split()
    if digest == good.split()[0]:
        return "read"
    if notes == good.split()[1]:
        return "other"
    return "told"


def _make_cases(
    options: Options, kinds: Sequence[str], folder: Path
) -> Iterator[tuple[str, str, Path]]:
    """(name, kind, path) of every file, written into `folder` one after the other."""
    for number in range(options.files):
        kind = kinds[number % len(kinds)]
        rng = np.random.default_rng(np.random.SeedSequence([options.seed, number]))
        yield f"{kind}_{number}", kind, damage(kind, folder, rng, options.copies)
    for number in range(options.hostile):
        rng = np.random.default_rng(np.random.SeedSequence([options.seed, number, 1]))
        maker = HOSTILE[number % len(HOSTILE)]
        kind, path = maker(folder, rng)
        yield f"hostile_{maker.__name__.removeprefix('_')}_{number}", kind, path


def _write(place: Path | None, found: dict[str, Tally], faults: list[str]) -> None:
    """The counts so far."""
    if place is not None:
        rows = {
            kind: {**tally.counts, "slowest_s": tally.slowest_s} for kind, tally in found.items()
        }
        place.write_text(json.dumps({"kinds": rows, "faults": faults}, indent=1))


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
