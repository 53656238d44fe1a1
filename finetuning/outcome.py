"""What came of a fine-tuning, as `finetuned.json` in the folder of its run holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from ..evaluation.intervals import Interval
from ..evaluation.pairing import pair_results, share_seeds
from ..spec import DataError
from ..system import outputs
from ..system.untrusted import read_json
from .progress import CurvePoint

FILE = "finetuned.json"
DREAMS = "dreams.json"
"""What a run in dreams writes of them."""
FORMAT = 1


class Estimate(TypedDict):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


class Shown(TypedDict):
    """What one evaluation showed."""

    file: str  # its result, in the folder of the run
    checkpoint: str
    inference: str
    task: str
    seed: int
    episodes: int
    success: dict[str, float | None]  # rate, low, high; None where it is not reported
    score: Estimate
    tasks: NotRequired[dict[str, Any]]  # success by instruction, where there are several


class SuccessGain(Estimate):
    """A paired difference of success."""

    p: float  # McNemar's exact test
    only_tuned: int  # episodes that the tuned policy alone solved
    only_other: int


class Gain(TypedDict):
    """The tuned policy less another one, paired by seed."""

    seeds: int
    success: SuccessGain | None  # None where it is not reported
    score: Estimate


class Kept(TypedDict):
    """Base and tuned policy on what was not tuned for."""

    base: Shown
    tuned: Shown
    gain: Gain | None  # None where they share no seed


class Dreamed(TypedDict):
    """A fine-tuning in the dreams of a world model."""

    offline: bool  # no real step of training or selection
    forced: bool  # the world model failed its audit
    audit: dict[str, Any]  # as `world_model.audit.audit` gives it
    begin: str  # which policy was tuned: base, or cloned
    imagined: dict[str, float]  # success in dreams from the same recorded starts, by policy
    imagined_steps: int  # control periods of the tuning
    play_steps: int  # recorded control periods that the world model was made of and judged by


class _Sometimes(TypedDict, total=False):
    """What only some outcomes have."""

    dreams: Dreamed


class Finetuned(_Sometimes):
    """A fine-tuning, what it showed, and what it cost."""

    format: int
    method: str
    settings: dict[str, Any]  # of the method
    task: str
    inference: str
    base: Shown
    controls: dict[str, Shown]
    tuned: Shown
    gains: dict[str, Gain]  # over the base and over each control, by name
    others: dict[str, Kept]  # by sampler or task
    ledger: dict[str, int]
    seconds: float  # wall time of the tuning
    evaluation_seconds: float
    curve: list[CurvePoint]  # of a run in dreams over imagined steps
    steps_to_gain: dict[str, int | None]  # real steps, by percentage points above the base
    date: str


def describe_result(result: Mapping[str, Any], file: str) -> Shown:
    """What a result of `hotstart evaluate` showed."""
    shown: dict[str, Any] = {"file": file}
    for key in ("checkpoint", "inference", "task", "seed", "episodes", "success", "score"):
        shown[key] = result[key]
    if len(result.get("tasks", {})) > 1:
        shown["tasks"] = result["tasks"]
    return cast(Shown, shown)


def describe_gain(tuned: Mapping[str, Any], other: Mapping[str, Any]) -> Gain | None:
    """The tuned policy's result less another one; None where they share no seed."""
    if not share_seeds(tuned, other):
        return None
    paired = pair_results(tuned, other)
    success = None
    if paired.success is not None:
        test = paired.success
        success = SuccessGain(
            **_describe_interval(test.difference),
            p=test.p,
            only_tuned=test.only_a,
            only_other=test.only_b,
        )
    return Gain(seeds=paired.seeds, success=success, score=_describe_interval(paired.score))


def _describe_interval(interval: Interval) -> Estimate:
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high)


def save_finetuned(outcome: Finetuned, folder: Path) -> Path:
    """Write what came of a fine-tuning into the folder of its run; returns the file."""
    path = folder / FILE
    outputs.write_text(path, json.dumps(outcome, indent=2, allow_nan=False) + "\n")
    return path


def load_finetuned(path: Path | str) -> Finetuned:
    """What came of a fine-tuning, from its file or the folder of its run.

    Raises DataError for a file that holds something else, or another format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise DataError(f"there is no {path}; `hotstart finetune CHECKPOINT` writes one")
    found = read_json(path, DataError)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path} is not what `hotstart finetune` writes in format {FORMAT}")
    missing = sorted(Finetuned.__required_keys__ - found.keys())
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return cast(Finetuned, found)


def read_dreams(folder: Path) -> Dreamed:
    """What a run in dreams has written of them; raises DataError where it is not there."""
    found = read_json(folder / DREAMS, DataError)
    if not isinstance(found, dict) or not Dreamed.__required_keys__ <= found.keys():
        raise DataError(f"{folder / DREAMS} is not what method=diwa writes: delete it, tune again")
    return cast(Dreamed, found)
