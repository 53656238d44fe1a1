"""Options of `hotstart data verify` and `hotstart data repair`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..spec import REQUIRED, option


@dataclass
class Verify:
    """Look through a data set for what would spoil training; the exit status is 1 for errors.

    Errors: numbers that are not finite, wrong ends, timestamps that repeat or go back, parts that
    cannot be read, no episode of two steps.
    Warnings: clocks that drift or have gaps, wrong rates, numbers that never change, are stuck,
    jump, lie far outside or at their limits, units that differ, cameras that freeze, lose frames,
    are black or out of step with the states, copies, leakage into validation, and more.
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    json: Path | None = option(None, "file for the findings as JSON; none: only printed")
    quick: bool = option(
        False, "whether to read only what train reads: 500 episodes, 64 pictures of 8 of them"
    )
    task: str | None = option(None, "task that it is for, as lift: its rate is compared")
    fps: float | None = option(None, "rate of the steps, where the format has none", "Hz")
    validation_share: float = option(0.05, "the training's, to look for copies on both sides")
    seed: int = option(0, "the training's seed, which draws what is held out")
    overwrite: bool = option(False, "whether the JSON file may be replaced by a new one")


@dataclass
class Repair:
    """Write a new data set without the faults that can be mended: hotstart data repair A B.zarr.

    The source stays as it is; a damaged store gives every episode that can still be read. `what`
    chooses the repairs. Safe ones: ends, unreadable, short, nan, stamps, duplicates. On demand: cut
    (the longest stretch without NaN instead of dropping), resample (to the nominal rate), still
    (standing at both ends), and episodes with findings: outliers, jumps, stuck, units, cameras,
    out-of-step.
    """

    path: Path = option(REQUIRED, "the data set, in any format", positional=True)
    target: Path = option(REQUIRED, "the new data set's folder", positional=True)
    what: tuple[str, ...] = option(
        ("ends", "unreadable", "short", "nan", "stamps", "duplicates"), "repairs to make"
    )
    shift: dict[str, int] | None = option(
        None, "steps by which cameras are late, as verify says them, as in top:2"
    )
    fps: float | None = option(None, "rate of the steps, where the format has none", "Hz")
    json: Path | None = option(None, "file for what was done and what is left; none: only printed")
    overwrite: bool = option(False, "whether the JSON file may be replaced by a new one")
