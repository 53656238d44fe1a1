"""Checks of timestamps: order, gaps, drift, and the rate against the data's and the task's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...spec import FloatArray
from ..episodes import TIMESTAMP
from .finding import Finding, list_episodes
from .reading import Episode, Subject

RATE_SHARE = 0.05
"""A rate may be off by so much: what control loops on ordinary computers reach."""
GAP_PERIODS = 1.75
"""An interval of so many periods has lost a step: two periods less a quarter of jitter."""
DRIFT_PERIODS = 0.5
"""A stamp so far from step / fps is nearer to another step: a video's frame is then mistaken."""
RESAMPLE = "resample to the nominal rate (what=resample)"


class Times:
    """Timestamps of every episode."""

    def __init__(self, subject: Subject) -> None:
        self._fps = subject.dataset.fps
        self._task_hz = subject.task_hz
        self._order: dict[int, int] = {}
        self._repeats: dict[int, int] = {}
        self._gaps: dict[int, int] = {}
        self._rates: dict[int, float] = {}
        self._drifts: dict[int, float] = {}

    def look(self, episode: Episode) -> None:
        """Judge one episode's stamps."""
        stamps = episode.values.get(TIMESTAMP)
        if stamps is None or len(stamps) < 2 or not np.isfinite(stamps).all():
            return
        intervals = np.diff(stamps.astype(np.float64))
        if (intervals <= 0).any():
            step = int(np.argmax(intervals <= 0)) + 1
            kind = self._order
            if intervals[step - 1] == 0:
                kind = self._repeats
            kind[episode.number] = step
            return
        self._judge_intervals(episode.number, intervals)

    def _judge_intervals(self, number: int, intervals: FloatArray) -> None:
        """Gaps, then the rate and the drift of what lies between them."""
        usual = float(np.median(intervals))
        wide = intervals > GAP_PERIODS * usual
        missing = np.round(intervals[wide] / usual) - 1
        if wide.any():
            self._gaps[number] = int(missing.sum())
        steps = 1.0 + np.zeros(len(intervals))
        steps[wide] += missing
        rate = float(steps.sum() / intervals.sum())
        if abs(self._fps / rate - 1) > RATE_SHARE:
            self._rates[number] = rate
            return
        drift = np.abs(np.cumsum(intervals) - np.cumsum(steps) / self._fps).max()
        if drift * self._fps > DRIFT_PERIODS:
            self._drifts[number] = float(drift)

    def report(self) -> Iterator[Finding]:
        """One finding a kind of fault."""
        yield from self._report_order()
        if self._gaps:
            worst = max(self._gaps, key=lambda number: self._gaps[number])
            total = sum(self._gaps.values())
            message = (
                f"{total} steps are missing in the timestamps of episodes "
                f"{list_episodes(list(self._gaps))}; the most, {self._gaps[worst]}, "
                f"in episode {worst}"
            )
            numbers = {"missing": float(total), "worst": float(self._gaps[worst])}
            yield self._warn("timestamps-gap", message, self._gaps, numbers, RESAMPLE)
        yield from self._report_rates()
        if self._drifts:
            worst = max(self._drifts, key=lambda number: self._drifts[number])
            message = (
                f"timestamps of {len(self._drifts)} episodes drift from step / fps; "
                f"the worst, episode {worst}, by {self._drifts[worst]:.3f} s "
                f"({self._drifts[worst] * self._fps:.1f} steps)"
            )
            numbers = {"drift_s": self._drifts[worst]}
            yield self._warn("timestamps-drift", message, self._drifts, numbers, RESAMPLE)

    def _report_order(self) -> Iterator[Finding]:
        """Stamps that stand still or go back."""
        repair = "stamp the steps anew (what=stamps)"
        for code, found in (
            ("timestamps-back", self._order),
            ("timestamps-repeat", self._repeats),
        ):
            for first, step in list(found.items())[:1]:
                verb = "go back"
                if code == "timestamps-repeat":
                    verb = "repeat"
                message = (
                    f"timestamps of episode {first} do not increase at its step {step}: they {verb}"
                )
                if len(found) > 1:
                    message += f"; so do those of episodes {list_episodes(list(found)[1:])}"
                yield Finding(code, "error", message, TIMESTAMP, tuple(found), repair=repair)

    def _report_rates(self) -> Iterator[Finding]:
        """Another rate than the data set names, and than the task has."""
        if self._rates:
            ratios = {number: rate / self._fps for number, rate in self._rates.items()}
            worst = max(ratios, key=lambda number: abs(np.log(ratios[number])))
            message = (
                f"{len(self._rates)} episodes do not run at {self._fps:g} fps; "
                f"the worst, episode {worst}, at {self._rates[worst]:.2f}"
            )
            numbers = {"fps": self._rates[worst]}
            yield self._warn("rate", message, self._rates, numbers, RESAMPLE)
        if self._task_hz and abs(self._fps / self._task_hz - 1) > RATE_SHARE:
            message = (
                f"the data run at {self._fps:g} steps a second, the task at {self._task_hz:g}: "
                "an evaluation will refuse that"
            )
            numbers = {"fps": self._fps, "task_hz": self._task_hz}
            yield self._warn("rate-task", message, {}, numbers, "resample (what=resample fps=...)")

    def _warn(
        self,
        code: str,
        message: str,
        episodes: dict[int, int] | dict[int, float],
        numbers: dict[str, float],
        repair: str,
    ) -> Finding:
        return Finding(code, "warning", message, TIMESTAMP, tuple(episodes), numbers, repair)
