"""`hotstart data verify` and `hotstart data repair`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..configs.checking import Repair, Verify
from ..configs.compose import compose_config
from ..datasets.checks.finding import Finding
from ..datasets.checks.verify import Report, examine
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.opening import open_dataset
from ..datasets.repair import repair
from ..datasets.store import Store
from ..spec import ConfigError
from ..system import outputs
from .next_steps import train_on, write_command, write_path


def print_findings(options: Verify) -> int:
    """Print the findings by severity; 1 when there are errors."""
    if options.json is not None:
        outputs.check_file(options.json, options.overwrite)
    rate = find_task_rate(options.task)
    dataset = open_dataset(options.path, ReadOptions(fps=options.fps))
    report = examine(
        dataset,
        rate,
        quick=options.quick,
        validation_share=options.validation_share,
        seed=options.seed,
    )
    print_report(report)
    print(f"{options.path}: {len(report.errors)} errors, {len(report.warnings)} warnings")
    if options.json is not None:
        outputs.write_text(options.json, json.dumps(report.to_json(), indent=1))
    if report.errors:
        return 1
    if isinstance(dataset, Store):
        print(f"next: {train_on(dataset)}")
    return 0


def find_task_rate(name: str | None) -> float | None:
    """Steps per second of a task; ConfigError where its simulator is not installed."""
    if name is None:
        return None
    from ..envs.registry import make, options_of

    task = compose_config("evaluate", ["checkpoint=none", f"task={name}"])["task"]
    try:
        env = make(task["env"], **options_of(task))
    except ImportError as error:
        raise ConfigError(f"the rate of task {name} is not known here: {error}") from error
    env.close()
    return float(env.rate_hz)


def print_report(report: Report) -> None:
    """What was looked at, then errors, then warnings, each with what repair can do."""
    if report.sampled:
        print(f"looked at {report.sampled}")
    for findings in (report.errors, report.warnings):
        _print_group(findings)


def _print_group(findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"{finding} [{finding.code}]")
        if finding.repair:
            print(f"    repair: {finding.repair}")


def repair_data(options: Repair) -> int:
    """Write the repaired store, and say what was done and what is left; 1 for errors left."""
    if options.json is not None:
        outputs.check_file(options.json, options.overwrite)
    choices = ReadOptions(fps=options.fps)
    made = repair(options.path, options.target, options.what, options.shift, choices)
    for done in made.done:
        episodes = ""
        if done.episodes:
            episodes = f" (episodes {', '.join(str(number) for number in done.episodes)})"
        print(f"{done.what}: {done.said}{episodes}")
    if not made.done:
        print("nothing was to be repaired")
    if made.left.findings:
        print("left:")
        print_report(made.left)
    kept = len(made.store.episode_ends)
    print(f"{options.target}: {kept} of {made.found.episodes} episodes")
    _write_json(options.json, made.to_json())
    if made.left.errors:
        return 1
    print(f"next: {write_command('data verify', write_path(options.target))}")
    return 0


def _write_json(path: Path | None, plain: dict[str, Any]) -> None:
    if path is not None:
        outputs.write_text(path, json.dumps(plain, indent=1))


ACTIONS: dict[str, Callable[[Any], int]] = {"verify": print_findings, "repair": repair_data}
