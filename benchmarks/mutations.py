"""Edits hotstart's code in a copy, one line at a time, and counts edits that no test notices."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from ..spec import ConfigError, HotstartError, nearest, option
from ..system import outputs
from ._mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[1]
PACKAGE = __name__.split(".")[0]
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "runs", "data", "build", "shared", "videos", "*.egg-info", "docs"
)
"""What the tests of a copy do not need."""
ALONE = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "OMP_NUM_THREADS": "1",
}
"""Environment of the tests.

No byte code of an edit is left behind, and what other packages add to pytest is not waited for.
"""
PASSED = 0
FAILED = 1
"""pytest's exit statuses; any other one means that the tests did not run."""


@dataclass
class Options:
    """Make one edit after the other in a copy of hotstart, and run the tests named for it.

    Every edit changes what hotstart computes, so one that no test notices names a test that is
    missing. The tests must pass without an edit, and every edit's old text must stand in its file
    exactly once. The edits are in benchmarks/_mutants.py.
    """

    only: tuple[str, ...] = option(
        (), "edits to make, by their names or how they begin; empty: all"
    )
    at_once: int = option(1, "edits that are tested at the same time, each in a copy of its own")
    limit_s: float = option(
        300.0, "seconds that the tests of an edit may take; a run that hangs counts as noticed"
    )
    check: bool = option(False, "only check that every edit's old text and tests are there")
    out: str = option("", "result file; empty: not written")
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one edit."""

    name: str
    survived: bool
    seconds: float
    noticed_by: str
    """The test that failed; empty where none did."""
    reason: str
    """Why it may survive."""


def run(options: Options) -> None:
    """Print a line per edit and the count.

    Raises HotstartError where an edit survives that must not, ConfigError for a stale edit.
    """
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    mutants = choose_mutants(options.only, MUTANTS)
    check_texts(mutants, ROOT)
    check_tests(mutants, ROOT)
    if options.check:
        print(f"{len(mutants)} edits: their texts and tests are there")
        return
    with tempfile.TemporaryDirectory(prefix="mutations_") as folder:
        outcomes = try_all(mutants, ROOT, Path(folder), options.at_once, options.limit_s)
    if options.out:
        outputs.write_text(
            Path(options.out), json.dumps([asdict(outcome) for outcome in outcomes], indent=2)
        )
    survivors: list[Outcome] = []
    unexplained: list[str] = []
    for outcome in outcomes:
        if outcome.survived:
            survivors.append(outcome)
            if not outcome.reason:
                unexplained.append(outcome.name)
    noticed = len(outcomes) - len(survivors)
    print(f"{len(outcomes)} edits: {noticed} noticed, {len(survivors)} survived")
    if unexplained:
        raise HotstartError(f"no test notices {', '.join(unexplained)}: write one for each")


def choose_mutants(only: Sequence[str], mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those whose names begin with one of `only`; ConfigError for a beginning that no name has."""
    names = [mutant.name for mutant in mutants]
    for beginning in only:
        if not any(name.startswith(beginning) for name in names):
            raise ConfigError(
                f"there is no edit {beginning!r}{nearest(beginning, names)}; "
                f"valid are {', '.join(names)}"
            )
    chosen: list[Mutant] = []
    for mutant in mutants:
        if not only or mutant.name.startswith(tuple(only)):
            chosen.append(mutant)
    return chosen


def check_texts(mutants: Sequence[Mutant], root: Path) -> None:
    """Raise ConfigError naming every edit whose old text is not in its file exactly once."""
    stale = []
    for mutant in mutants:
        path = root / mutant.file
        if path.is_file():
            count = path.read_text().count(mutant.old)
        else:
            count = 0
        if count != 1:
            stale.append(f"{mutant.name} ({mutant.file}, {count} times)")
    if stale:
        raise ConfigError(
            f"the old text of {len(stale)} edits must stand in its file once, and does not: "
            f"{'; '.join(stale)}; write down in benchmarks/_mutants.py what the code says now"
        )


def check_tests(mutants: Sequence[Mutant], root: Path) -> None:
    """Raise ConfigError naming every edit with a test that is not there, by its file and name."""
    stale: list[str] = []
    for mutant in mutants:
        for test in mutant.tests:
            if not _is_test(root / "tests", test):
                stale.append(f"{mutant.name} (tests/{test})")
    if stale:
        raise ConfigError(
            f"the tests of {len(stale)} edits are not there: {'; '.join(stale)}; "
            "name today's in benchmarks/_mutants.py"
        )


def _is_test(folder: Path, test: str) -> bool:
    """Whether a file below tests/, or a function in it (`file::name[case]`), is there."""
    name = test.partition("::")[2]
    path = folder / test.split("::")[0]
    if not path.is_file():
        return False
    return not name or f"def {name.split('[')[0]}(" in path.read_text(encoding="utf-8")


def try_all(
    mutants: Sequence[Mutant], root: Path, folder: Path, at_once: int, limit_s: float
) -> list[Outcome]:
    """The outcome of every edit, in their order; HotstartError where tests fail without any."""
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(at_once):
        copies.put(copy_tree(root, folder / str(number) / PACKAGE))
    check_unedited(mutants, copies, limit_s)

    def try_one(mutant: Mutant) -> Outcome:
        copy = copies.get()
        try:
            outcome = try_mutant(mutant, copy, limit_s)
        finally:
            copies.put(copy)
        print(describe(outcome), flush=True)
        return outcome

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(try_one, mutants))


def copy_tree(root: Path, target: Path) -> Path:
    """A copy of the package with its tests at `target`; put its parent first on the path."""
    if not (root / "tests").is_dir():
        raise ConfigError(
            f"{root} holds no tests: "
            "run this from a checkout of hotstart, not from an installed package"
        )
    shutil.copytree(root, target, ignore=LEFT_OUT)
    return target


def check_unedited(mutants: Sequence[Mutant], copies: SimpleQueue[Path], limit_s: float) -> None:
    """Raise HotstartError unless all the tests that the edits name pass without an edit."""
    tests: list[str] = []
    for mutant in mutants:
        for test in mutant.tests:
            if test not in tests:
                tests.append(test)
    copy = copies.get()
    print(f"{len(tests)} test files without an edit ...", flush=True)
    status, output = run_tests(copy, tests, limit_s * len(tests))
    copies.put(copy)
    if status != PASSED:
        raise HotstartError(
            f"the tests fail without any edit, so they can say nothing:\n{output[-2000:]}"
        )


def try_mutant(mutant: Mutant, copy: Path, limit_s: float) -> Outcome:
    """Make the edit, run its tests, take it back."""
    path = copy / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    began = time.monotonic()
    try:
        status, output = run_tests(copy, mutant.tests, limit_s)
    finally:
        path.write_text(text)
    if status not in (PASSED, FAILED):
        raise HotstartError(
            f"the tests of {mutant.name} could not be run (pytest says {status}):\n{output[-2000:]}"
        )
    failed = next((line for line in output.splitlines() if line.startswith("FAILED ")), "")
    if status == FAILED:
        noticed_by = failed.removeprefix("FAILED ").split(" - ")[0]
    else:
        noticed_by = ""
    return Outcome(
        mutant.name, status == PASSED, time.monotonic() - began, noticed_by, mutant.reason
    )


def run_tests(copy: Path, tests: Sequence[str], limit_s: float) -> tuple[int, str]:
    """pytest's exit status and output; tests that take longer than `limit_s` have failed."""
    environment = {**os.environ, **ALONE, "PYTHONPATH": str(copy.parent)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what the tests have started ends with them
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return FAILED, f"FAILED the tests took longer than {limit_s:g} s"
    return process.returncode, output


def describe(outcome: Outcome) -> str:
    """One line."""
    if outcome.survived:
        return f"SURVIVED {outcome.seconds:6.1f} s  {outcome.name}  {outcome.reason}".rstrip()
    return f"noticed  {outcome.seconds:6.1f} s  {outcome.name}  {outcome.noticed_by}"
