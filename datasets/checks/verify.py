"""Looks for faults of a data set that would spoil training.

Errors make it unusable, warnings deserve a look. Any data set will do: a store, arrays in memory, a
foreign format.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...spec import DataError, IntArray
from ..episodes import Dataset
from .cameras import Cameras, OutOfStep
from .copies import Copies
from .finding import Finding
from .lengths import Readable, Success, check_ends, check_lengths
from .motion import Jumps, Stillness
from .ranges import Ranges
from .reading import Check, Subject, read_episode
from .stored import StoredStatistics, check_files
from .times import Times
from .units import Units

CHECKS = (
    Readable,
    Times,
    Ranges,
    Jumps,
    Stillness,
    Units,
    Copies,
    Success,
    StoredStatistics,
    Cameras,
    OutOfStep,
)
"""In the order of their findings."""
MOST_SHOWN = 8
"""So many findings are shown before a training."""
QUICK_EPISODES = 500
"""Episodes whose numbers the quick part reads: a fault of 1 % of them is met in 99 %."""
QUICK_PICTURES = 8
"""Episodes whose pictures it reads, ..."""
QUICK_FRAMES = 64
"""... and so many of each: 5 s of decoding for a video of 640 x 480."""
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Report:
    """What was found, and how much was looked at.

    Args:
        findings: errors first
        episodes: episodes of the data set
        looked: how many of them had their numbers read
        pictured: how many had their pictures read; None where there are none
        frames: how many pictures of each; None: all
        seconds: how long it took [s]
    """

    findings: Sequence[Finding]
    episodes: int
    looked: int
    pictured: int | None
    frames: int | None
    seconds: float

    @property
    def errors(self) -> list[Finding]:
        """What makes the data set unusable."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """What deserves a look."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def sampled(self) -> str:
        """What was left out; empty where everything was read."""
        parts: list[str] = []
        if self.looked < self.episodes:
            parts.append(f"the numbers of {self.looked:,} of {self.episodes:,} episodes")
        if self.pictured is not None and self.frames is not None:
            parts.append(
                f"at most {self.frames} pictures of {self.pictured} of {self.episodes:,} episodes"
            )
        return " and ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "episodes": self.episodes,
            "looked_at": self.looked,
            "pictures_looked_at": self.pictured,
            "seconds": self.seconds,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [finding.to_json() for finding in self.findings],
        }


def verify(dataset: Dataset, task_hz: float | None = None) -> list[Finding]:
    """Every finding, errors first; empty for a sound data set.

    Args:
        dataset: any data set; it is read episode by episode
        task_hz: the control rate of the task that it is for
    """
    return list(examine(dataset, task_hz).findings)


def examine(
    dataset: Dataset,
    task_hz: float | None = None,
    *,
    quick: bool = False,
    validation_share: float = 0.05,
    seed: int = 0,
) -> Report:
    """`verify`, with what was looked at.

    `quick` reads the numbers of at most QUICK_EPISODES episodes and 64 frames a camera of at most
    QUICK_PICTURES, drawn with a fixed seed. `validation_share` and `seed` are those of the training
    that it is for.
    """
    began = time.monotonic()
    ends = np.asarray(dataset.episode_ends, np.int64)
    subject = Subject(dataset, ends, task_hz, validation_share, seed)
    findings = list(check_ends(subject))
    looked: IntArray = np.zeros(0, np.int64)
    pictured: int | None = None
    frames: int | None = None
    if not findings:
        looked = _choose(len(ends), QUICK_EPISODES, quick)
        shown = looked[_choose(len(looked), QUICK_PICTURES, quick)]
        if subject.images:
            pictured = len(shown)
            if quick and (len(shown) < len(ends) or ends[-1] > QUICK_PICTURES * QUICK_FRAMES):
                frames = QUICK_FRAMES
        findings = [*check_lengths(subject), *check_files(subject)]
        findings += _run_checks(subject, looked, set(shown.tolist()), frames)
    findings.sort(key=lambda finding: finding.severity != "error")
    seconds = time.monotonic() - began
    return Report(findings, len(ends), len(looked), pictured, frames, seconds)


def find_faults(dataset: Dataset) -> Report:
    """The quick part, which a training runs first.

    Raises DataError where the data set cannot be trained on.
    """
    report = examine(dataset, quick=True)
    if report.errors:
        said = "; ".join(shorten_findings(report.errors))
        raise DataError(f"the data set cannot be trained on: {said}")
    return report


def shorten_findings(findings: Sequence[Finding]) -> list[str]:
    """The first messages, and how many more there are."""
    said = [finding.message for finding in findings]
    if len(said) <= MOST_SHOWN:
        return said
    more = len(said) - MOST_SHOWN
    return [*said[:MOST_SHOWN], f"and {more} more findings: `hotstart data verify` lists them"]


def _run_checks(
    subject: Subject, looked: IntArray, shown: set[int], frames: int | None
) -> list[Finding]:
    """Show every episode to every check."""
    checks: list[Check] = [make(subject) for make in CHECKS]
    for number in looked.tolist():
        count = frames
        if number not in shown:
            count = 0
        episode = read_episode(subject, number, count)
        for check in checks:
            check.look(episode)
    findings: list[Finding] = []
    for check in checks:
        findings += check.report()
    return findings


def _choose(count: int, most: int, quick: bool) -> IntArray:
    """Which of `count` episodes are read."""
    if not quick or count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(SAMPLE_SEED).choice(count, most, replace=False)
    return np.sort(drawn)
