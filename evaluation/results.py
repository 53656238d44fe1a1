"""The result of an evaluation: its numbers, and the JSON file that `hotstart compare` reads."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..control import RowLog
from ..spec import ActionSpec, DataError, FloatArray, shorten
from ..system import outputs
from ..system.plugins import fits, words_of
from ..system.untrusted import read_json
from ..system.versions import versions
from .intervals import bootstrap_mean, wilson
from .measures import (
    actions_per_plan,
    at_ticks,
    count_nfe,
    measure_calls,
    measure_jerks,
    reaction_s,
    smoothness,
)
from .old_results import convert_result
from .result_types import EvaluationResult

FORMAT = 2
"""What is written; results of format 1 say no format, and are converted as they are read."""
SHAPE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("task", "checkpoint", "inference", "episodes", "seed"), ()),
    "success": ("rate", "low", "high"),
    "score": ("mean", "low", "high"),
    "nfe": ("cold", "warm", "per_action"),
    "inference_ms": ("p50", "p95", "per_second_of_motion"),
    **dict.fromkeys(("latency_s", "late_actions", "starved_ticks", "reaction_s"), ()),
    "smoothness": ("jerk_rms", "max_step"),
    **dict.fromkeys(("per_episode", "versions"), ()),
}
"""What a result must hold: every key, and the keys under it."""
NUMBERS = (
    "latency_s",
    "late_actions",
    "starved_ticks",
    "reaction_s",
    "executed",
    "data_rate_hz",
    "wall_seconds",
)
KINDS: dict[str, Any] = {
    "format": int,
    **dict.fromkeys(("task", "checkpoint", "inference"), str),
    **dict.fromkeys(("episodes", "seed"), int),
    **dict.fromkeys(NUMBERS, float | None),
    "latency_s": float,
    "planner": str | None,
    **dict.fromkeys(("versions", "sampler_settings", "task_options", "ledger"), dict),
    "machine": dict | None,
    "checkpoint_step": int | None,
    "precision": str | None,
    "runtime": str | None,
}
"""Types of the values of a result, of keys that it may lack too."""
EPISODE: dict[str, Any] = {"seed": int, "success": bool | None, "score": float, "steps": int}
"""Types of the values of an episode, which must hold all of them."""
LARGEST = 1e12
"""No number of a result is larger."""
NOT_REPORTED = "not reported"
"""Stands for a success rate where the environment does not report success."""
POLICY_KEYS = ("executed", "precision", "runtime", "checkpoint_step")
"""What a result says of its policy beside the settings of its sampler."""


@dataclass(frozen=True)
class Setting:
    """What was evaluated, and how.

    `rate_hz` is the robot's, not that of the training data. `executed` is Ta, which counts where no
    row has a second plan; otherwise the logs say how much a plan moves.
    """

    task: str
    checkpoint: str
    inference: str
    rate_hz: float
    executed: int
    latency_s: float = 0.0
    planner: str = "sync"
    wall_seconds: float = 0.0
    device: str = "cpu"


def summarise(
    logs: Sequence[RowLog],
    call_seconds: Sequence[tuple[int, float]],
    setting: Setting,
    action_spec: ActionSpec,
    scale: FloatArray,
) -> dict[str, Any]:
    """The result of an evaluation as plain JSON values.

    `call_seconds` holds (rows, seconds) of every call of the policy, see `measure_calls`; `scale`
    (A,) is as in `smoothness`. Raises DataError when there are no episodes.
    """
    if not logs:
        raise DataError("there are no episodes to summarise; evaluate at least one")
    continuous = np.array([dim.kind != "discrete" for dim in action_spec.dims])
    absolute = np.array([dim.absolute for dim in action_spec.dims])
    commands = [at_ticks(log) for log in logs]
    executed = actions_per_plan(logs) or setting.executed
    return {
        "format": FORMAT,
        "task": setting.task,
        "checkpoint": setting.checkpoint,
        "inference": setting.inference,
        "executed": setting.executed,
        "rate_hz": setting.rate_hz,
        "episodes": len(logs),
        "seed": min(log.seed for log in logs),
        "success": success_share(logs),
        "solved_at_reset": _count_solved(logs),
        "score": bootstrap_mean([log.score for log in logs])._asdict(),
        "nfe": count_nfe(logs, executed),
        "inference_ms": measure_calls(call_seconds, setting.rate_hz, executed),
        "latency_s": setting.latency_s,
        "late_actions": sum(log.late_actions for log in logs),
        "starved_ticks": float(sum(log.starved_ticks for log in logs)),
        "planner": setting.planner,
        "reaction_s": reaction_s(logs),
        "smoothness": smoothness(commands, setting.rate_hz, scale, continuous, absolute),
        "jerk_per_episode": measure_jerks(commands, setting.rate_hz, scale, continuous, absolute),
        "per_episode": [_episode(log) for log in logs],
        "versions": versions(),
        "wall_seconds": setting.wall_seconds,
        "machine": machine(setting.device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def success_share(logs: Sequence[RowLog]) -> dict[str, float | None]:
    """Success rate with Wilson's 95 % interval; None for each where no episode reported success."""
    outcomes = [log.success for log in logs]
    if outcomes.count(None) == len(outcomes):
        return dict.fromkeys(("rate", "low", "high"))
    share = wilson(outcomes.count(True), len(outcomes))
    return {"rate": share.rate, "low": share.low, "high": share.high}


def _count_solved(logs: Sequence[RowLog]) -> dict[str, Any]:
    """How many episodes were solved before the policy acted, and the success of the others."""
    others: list[RowLog] = []
    for log in logs:
        if not log.solved_at_reset:
            others.append(log)
    return {"episodes": len(logs) - len(others), "success_of_others": success_share(others)}


def _episode(log: RowLog) -> dict[str, Any]:
    """One episode's part of a result; success is None where the environment does not report it."""
    return {
        "seed": log.seed,
        "success": log.success,
        "score": float(log.score),
        "steps": log.steps,
        "solved_at_reset": log.solved_at_reset,
    }


def by_task(logs: Sequence[RowLog], tasks: Sequence[str]) -> dict[str, Any]:
    """Success of each task alone, `tasks`, and every episode with its task, `per_episode`.

    The argument `tasks` names each log's task.
    """
    own: dict[str, list[RowLog]] = {}
    episodes: list[dict[str, Any]] = []
    for log, task in zip(logs, tasks, strict=True):
        own.setdefault(task, []).append(log)
        episodes.append({**_episode(log), "task": task})
    shares: dict[str, Any] = {}
    for task in sorted(own):
        shares[task] = {**success_share(own[task]), "episodes": len(own[task])}
    return {"tasks": shares, "per_episode": episodes}


def reports_success(result: Mapping[str, Any]) -> bool:
    """Whether the environment of a result said which episodes succeeded."""
    return result["success"]["rate"] is not None


def success_words(share: Mapping[str, float | None]) -> str:
    """A success rate with its interval, or that there is none."""
    if share["rate"] is None:
        return NOT_REPORTED
    return f"{share['rate']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def solved_words(result: Mapping[str, Any]) -> str:
    """How many episodes were solved at reset, and the success of the others; empty for none."""
    solved = result.get("solved_at_reset")
    if not solved or not solved["episodes"]:
        return ""
    others = f"success of the others {success_words(solved['success_of_others'])}"
    return f"{solved['episodes']} of {result['episodes']} episodes were solved at reset; {others}"


def latency_words(result: Mapping[str, Any]) -> str:
    """The latency of plans and how the controller asked for them: `0`, `100`, `100 async` [ms]."""
    ms = f"{1000 * result.get('latency_s', 0.0):.3g}"
    if result.get("planner") == "async":
        return f"{ms} async"
    return ms


def family(result: Mapping[str, Any]) -> tuple[str, str]:
    """A sampler without its number of steps, and that number.

    `ddim-10` is (`ddim`, `10`), `ddim` is (`ddim`, ``).
    """
    sampler, _, steps = str(result["inference"]).rpartition("-")
    if sampler and steps.isdigit():
        return (sampler, steps)
    return (str(result["inference"]), "")


def settings(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made with beside sampler and steps, flat: `solver.eta`, `task.robot`."""
    found = _flatten(result.get("sampler_settings", {}), "")
    for key, value in result.get("task_options", {}).items():
        found[f"task.{key}"] = value
    for key in POLICY_KEYS:
        if key in result:
            found[key] = result[key]
    found.pop("steps", None)
    return found


def _flatten(values: Mapping[str, Any], before: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{before}{key}.")
        else:
            found[before + key] = value
    return found


def plain(value: Any) -> Any:
    """A value of settings or options as JSON holds it: arrays as lists, unknown values as text."""
    return json.loads(json.dumps(value, default=_to_json))


def _to_json(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def machine(device: str = "cpu") -> dict[str, str | int]:
    """The processor's name, its number of cores and the device used; never the host's name."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*: (.+)", info.read_text())
        if found:
            name = found[1]
    return {"cpu": name, "cores": os.cpu_count() or 1, "device": device}


def save(result: Mapping[str, Any], path: Path) -> None:
    """Write a result in one piece (see `outputs.write_text`), and remove its unfinished file.

    Raises OSError where it cannot be written.
    """
    outputs.write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    if not outputs.is_device(path):
        outputs.unfinished_path(path).unlink(missing_ok=True)


def load(path: Path | str) -> EvaluationResult:
    """Read a result, by the names of today.

    Raises DataError that names what is missing or of another type when the file is no result, and
    for one of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"there is no result {path}; `hotstart evaluate CHECKPOINT out={path}` writes one"
        )
    try:
        return cast("EvaluationResult", _check(read_json(path, DataError)))
    except DataError as error:
        raise DataError(f"{path} is not a result of `hotstart evaluate`: {error}") from None


def _check(result: Any) -> dict[str, Any]:
    """A result that holds all it must, converted where it is old; DataError for another one."""
    if isinstance(result, dict) and fits(result.get("format", 1), int):
        if result.get("format", 1) > FORMAT:
            raise DataError(
                f"its format is {result['format']}, this hotstart reads up to {FORMAT}: "
                "upgrade hotstart"
            )
        if result.get("format", 1) < FORMAT:
            result = convert_result(result)
    missing = _find_missing(result)
    if missing:
        raise DataError(f"it lacks {', '.join(missing)}")
    _check_kinds(result)
    _check_episodes(result["per_episode"])
    return result


def _find_missing(result: Any) -> list[str]:
    """Keys of a result, dotted, that are not there."""
    if not isinstance(result, dict):
        return list(SHAPE)
    whole: list[str] = []
    parts: list[str] = []
    for key, wanted in SHAPE.items():
        if key not in result:
            whole.append(key)
            continue
        for part in wanted:
            if not isinstance(result[key], dict) or part not in result[key]:
                parts.append(f"{key}.{part}")
    found = whole + parts
    if not _holds_episodes(result.get("per_episode", [])):
        found.append("seed, success, score or steps in per_episode")
    return found


def _holds_episodes(episodes: Any) -> bool:
    """Whether it is a list of mappings that hold all keys of an episode."""
    if not isinstance(episodes, list):
        return False
    for episode in episodes:
        if not isinstance(episode, dict) or not EPISODE.keys() <= episode.keys():
            return False
    return True


def _check_kinds(result: Mapping[str, Any]) -> None:
    """Raise DataError for a value of another type than `hotstart evaluate` writes."""
    for key, kind in KINDS.items():
        if key in result:
            _check_value(key, result[key], kind)
    for key, parts in SHAPE.items():
        for part in parts:
            if key == "score":
                _check_value(f"{key}.{part}", result[key][part], float)
            else:
                _check_value(f"{key}.{part}", result[key][part], float | None)
    _check_value("inference_ms.rows", result["inference_ms"].get("rows"), float | None)
    success = [result["success"][part] for part in SHAPE["success"]]
    if success.count(None) not in (0, len(success)):
        raise DataError(
            f"success is {shorten(result['success'])}; rate, low and high are numbers, or none "
            "where it is not reported"
        )


def _check_episodes(episodes: Sequence[Mapping[str, Any]]) -> None:
    if not episodes:
        raise DataError("per_episode is empty")
    for number, episode in enumerate(episodes):
        for key, kind in EPISODE.items():
            _check_value(f"per_episode {number} says {key}", episode[key], kind)


def _check_value(name: str, value: object, kind: Any) -> None:
    """Raise DataError unless a value is of a type, and a number finite and of moderate size."""
    moderate = not isinstance(value, int | float) or abs(value) <= LARGEST
    if not fits(value, kind) or not moderate:
        raise DataError(f"{name} is {shorten(value)}; it must be {words_of(kind)}")
