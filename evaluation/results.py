"""The result of an evaluation: its numbers, and the JSON file that `hotstart compare` reads."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..control import RowLog
from ..spec import ActionSpec, BoolArray, DataError, FloatArray, shorten
from ..system import outputs
from ..system.plugins import fits, words_of
from ..system.untrusted import read_json
from ..system.versions import versions
from .intervals import bootstrap_mean, median_interval, wilson

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
NOT_REPORTED = "not reported"
"""What stands for a success rate where the environment never says whether its task is fulfilled."""


@dataclass(frozen=True)
class Setting:
    """What was evaluated, and how.

    `rate_hz` is the robot's, not that of the training data. `executed` is Ta, which counts where no row has a second plan;
    otherwise the logs say how much a plan moves.
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


def smoothness(
    commands: Sequence[ArrayLike],
    rate_hz: float,
    scale: FloatArray,
    continuous: BoolArray,
    absolute: BoolArray,
) -> dict[str, float | None]:
    """How smooth the commands of some episodes, (n, A) each, were: root mean square jerk, and the largest step.

    Commands count in normalised units h: divided by `scale` (A,), half the range of each number in the training data, so that
    tasks compare. An absolute number is a position: its jerk is the third difference times rate^3 [h / s^3]. A relative
    one is a velocity already: the second difference times rate^2 [h / s^2, h being a speed]. `max_step` is the largest
    change from one tick to the next [h]. Numbers that are discrete, or that never change in the training data, stay out.
    None where no episode is long enough.
    """
    used = continuous & (scale > 0)
    jerks: list[FloatArray] = [np.zeros(0)]
    steps: list[FloatArray] = [np.zeros(0)]
    for episode in commands:
        path = np.asarray(episode, np.float64).reshape(-1, len(scale))
        for kind, order in ((used & absolute, 3), (used & ~absolute, 2)):
            scaled = path[:, kind] / scale[kind]
            jerks.append(np.diff(scaled, n=order, axis=0).ravel() * rate_hz**order)
            steps.append(np.abs(np.diff(scaled, axis=0)).ravel())
    jerk, step = np.concatenate(jerks), np.concatenate(steps)
    return {
        "jerk_rms": float(np.sqrt(np.mean(jerk**2))) if jerk.size else None,
        "max_step": float(step.max()) if step.size else None,
    }


def summarise(
    logs: Sequence[RowLog],
    call_seconds: Sequence[tuple[int, float]],
    setting: Setting,
    action_spec: ActionSpec,
    scale: FloatArray,
) -> dict[str, Any]:
    """The result of an evaluation as plain JSON values; `call_seconds` holds (rows, seconds) of every call of the policy.

    One call serves many rows: `p50` and `p95` are of whole calls, `rows` is the mean number of rows in one, and
    `per_second_of_motion` is what one row's share of the calls costs for a second of its motion. `scale` (A,) as in
    `smoothness`. Raises DataError when there are no episodes.
    """
    if not logs:
        raise DataError("there are no episodes to summarise; evaluate at least one")
    continuous = np.array([dim.kind != "discrete" for dim in action_spec.dims])
    absolute = np.array([dim.absolute for dim in action_spec.dims])
    commands = [at_ticks(log) for log in logs]
    unsolved = [log for log in logs if not log.solved_at_reset]
    return {
        "task": setting.task,
        "checkpoint": setting.checkpoint,
        "inference": setting.inference,
        "executed": setting.executed,
        "rate_hz": setting.rate_hz,
        "episodes": len(logs),
        "seed": min(log.seed for log in logs),
        "success": success_share(logs),
        "solved_at_reset": {
            "episodes": len(logs) - len(unsolved),
            "success_of_others": success_share(unsolved),
        },
        "score": bootstrap_mean([log.score for log in logs])._asdict(),
        "nfe": _nfe(logs, per_plan := actions_per_plan(logs) or setting.executed),
        "inference_ms": _milliseconds(call_seconds, setting, per_plan),
        "latency_s": setting.latency_s,
        "late_actions": sum(log.late_actions for log in logs),
        "starved_ticks": float(sum(log.starved_ticks for log in logs)),
        "planner": setting.planner,
        "reaction_s": reaction_s(logs),
        "smoothness": smoothness(commands, setting.rate_hz, scale, continuous, absolute),
        "per_episode": [_episode(log) for log in logs],
        "versions": versions(),
        "wall_seconds": setting.wall_seconds,
        "machine": machine(setting.device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def success_share(logs: Sequence[RowLog]) -> dict[str, float | None]:
    """Success rate with Wilson's 95 % interval; None for each where no episode reported success or failure."""
    if all(log.success is None for log in logs):
        return dict.fromkeys(("rate", "low", "high"))
    share = wilson(sum(bool(log.success) for log in logs), len(logs))
    return {"rate": share.rate, "low": share.low, "high": share.high}


def reports_success(result: Mapping[str, Any]) -> bool:
    """Whether the environment of a result said which episodes succeeded."""
    return result["success"]["rate"] is not None


def success_words(share: Mapping[str, float | None]) -> str:
    """A success rate with its interval, or that there is none."""
    if share["rate"] is None:
        return NOT_REPORTED
    return f"{share['rate']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def solved_words(result: Mapping[str, Any]) -> str:
    """How many episodes were solved at reset, before the policy did anything, and the success of the others; empty for none."""
    solved = result.get("solved_at_reset")
    if not solved or not solved["episodes"]:
        return ""
    others = f"success of the others {success_words(solved['success_of_others'])}"
    return f"{solved['episodes']} of {result['episodes']} episodes were solved at reset; {others}"


def family(result: Mapping[str, Any]) -> tuple[str, str]:
    """A sampler without its number of steps, and that number: `ddim-10` is (`ddim`, `10`), `ddim` (`ddim`, ``)."""
    sampler, _, steps = str(result["inference"]).rpartition("-")
    if sampler and steps.isdigit():
        return (sampler, steps)
    return (str(result["inference"]), "")


POLICY_KEYS = ("executed", "precision", "checkpoint_step")
"""What a result says of its policy beside the settings of its sampler."""


def settings(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a result was made with beside its way and steps, flat (`solver.eta`); of older results what they say."""

    def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            yield from (
                flat(value, f"{before}{key}.")
                if isinstance(value, Mapping)
                else [(before + key, value)]
            )

    sampler = dict(
        flat(result.get("sampler_settings", result.get("settings", {})))
    )  # older results call it settings
    options = {f"task.{key}": value for key, value in result.get("task_options", {}).items()}
    found = sampler | options | {key: result[key] for key in POLICY_KEYS if key in result}
    return {key: value for key, value in found.items() if key != "steps"}


def plain(value: Any) -> Any:
    """A value of settings or options as JSON holds it: tuples and arrays as lists, what it does not know as text."""
    return json.loads(
        json.dumps(value, default=lambda odd: odd.tolist() if hasattr(odd, "tolist") else str(odd))
    )


def by_task(logs: Sequence[RowLog], tasks: Sequence[str]) -> dict[str, Any]:
    """Success of each task alone, `tasks`, and of every episode with its task, `per_episode`; `tasks` names each log's."""
    found = {}
    for task in sorted(set(tasks)):
        own = [log for log, name in zip(logs, tasks, strict=True) if name == task]
        found[task] = {**success_share(own), "episodes": len(own)}
    episodes = [{**_episode(log), "task": name} for log, name in zip(logs, tasks, strict=True)]
    return {"tasks": found, "per_episode": episodes}


def at_ticks(log: RowLog) -> FloatArray:
    """The command in force at every control period of an episode, (n, A): a hold that was cut short is passed over."""
    ends = np.cumsum(log.durations)
    if len(ends):
        ticks = np.arange(int(np.ceil(ends[-1] - 1e-9)))
    else:
        ticks = np.zeros(0, int)
    return np.asarray(log.commands)[np.searchsorted(ends, ticks + 1e-9, side="right")]


def reaction_s(logs: Sequence[RowLog]) -> float | None:
    """Mean time from a moment of an episode to the first action that an observation at or after it has a part in [s].

    For the moments between the observations o' and o of two plans in a row that action is the first one of the later plan,
    at f: their mean is f - (o' + o) / 2, and counts as long as they are apart. None where no row has two plans.
    """
    pairs = [(a, b) for log in logs for a, b in itertools.pairwise(log.reactions)]
    apart = np.array([later[0] - earlier[0] for earlier, later in pairs])
    if not apart.sum() > 0:
        return None
    means = [acted - (before + observed) / 2 for (before, *_), (observed, acted, _) in pairs]
    return float(np.average(means, weights=apart))


def latency_words(result: Mapping[str, Any]) -> str:
    """What plans were charged with, and how the controller asked: `0`, `100`, `100 async` [ms]."""
    ms = f"{1000 * result.get('latency_s', 0.0):.3g}"
    if result.get("planner") == "async":
        return f"{ms} async"
    return ms


def _episode(log: RowLog) -> dict[str, Any]:
    """Of one episode; its success is None where the environment does not report it."""
    said = {"seed": log.seed, "success": log.success, "score": float(log.score), "steps": log.steps}
    return {**said, "solved_at_reset": log.solved_at_reset}


def actions_per_plan(logs: Sequence[RowLog]) -> float | None:
    """Actions that were executed from one usable plan to the next, on average; None where no row has two."""
    spans = [
        later[2] - earlier[2]
        for log in logs
        for earlier, later in itertools.pairwise(log.reactions)
    ]
    if spans and np.mean(spans) > 0:
        return float(np.mean(spans))
    return None


def _nfe(logs: Sequence[RowLog], executed: float) -> dict[str, float | None]:
    """Mean evaluations of a row's first plan, of its later ones, and per action in steady motion (where there is any)."""
    cold = [log.nfe[0] for log in logs if log.nfe]
    warm = [nfe for log in logs for nfe in log.nfe[1:]]
    steady = warm or cold
    return {
        "cold": float(np.mean(cold)) if cold else None,
        "warm": float(np.mean(warm)) if warm else None,
        "per_action": float(np.mean(steady)) / executed if steady else None,
    }


def _milliseconds(
    call_seconds: Sequence[tuple[int, float]], setting: Setting, executed: float
) -> dict[str, float | None]:
    """What a call takes, how many rows it serves, and what a row's share of it costs per second of motion."""
    if not call_seconds:
        return dict.fromkeys(
            ("p50", "p50_low", "p50_high", "p95", "per_second_of_motion", "rows", "calls")
        )
    rows, seconds = (np.array(column, np.float64) for column in zip(*call_seconds, strict=True))
    per_plan_ms = 1000 * seconds.sum() / rows.sum()
    median = median_interval(1000 * seconds)
    return {
        "p50": float(1000 * np.quantile(seconds, 0.50)),
        "p50_low": None if median is None else median.low,
        "p50_high": None if median is None else median.high,
        "calls": len(seconds),
        "p95": float(1000 * np.quantile(seconds, 0.95)),
        "per_second_of_motion": float(per_plan_ms * setting.rate_hz / executed),
        "rows": float(rows.mean()),
    }


def machine(device: str = "cpu") -> dict[str, str | int]:
    """The processor's name, its number of cores and the device used; never the machine's own name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.findall(r"model name\s*: (.+)", info.read_text())
    else:
        names = []
    return {
        "cpu": [*names, platform.processor() or platform.machine()][0],
        "cores": os.cpu_count() or 1,
        "device": device,
    }


def save(result: Mapping[str, Any], path: Path) -> None:
    """Write a result in one piece (see `outputs.write_text`), in the place of what was unfinished.

    Raises OSError where it cannot be written.
    """
    outputs.write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
    if not outputs.is_device(path):
        outputs.unfinished_path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a result; DataError that names what is missing or of another kind when the file is not one."""
    if not path.is_file():
        raise DataError(
            f"there is no result {path}; `hotstart evaluate CHECKPOINT out={path}` writes one"
        )
    what = f"{path} is not a result of `hotstart evaluate`"
    try:
        result = read_json(path, DataError)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None
    missing = _missing(result)
    if missing:
        raise DataError(f"{what}: it lacks {', '.join(missing)}")
    odd = _odd(result)
    if odd is not None:
        raise DataError(f"{what}: {odd}")
    return result


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
    **dict.fromkeys(("task", "checkpoint", "inference"), str),
    **dict.fromkeys(("episodes", "seed"), int),
    **dict.fromkeys(NUMBERS, float | None),
    "latency_s": float,
    "planner": str | None,
    **dict.fromkeys(("versions", "settings", "sampler_settings", "task_options"), dict),
    "machine": dict | None,
    "checkpoint_step": int | None,
    "precision": str | None,
}
"""Types of what a result says; of keys that it may lack too."""
LARGEST = 1e12
"""No number of a result is larger."""
EPISODE: dict[str, Any] = {"seed": int, "success": bool | None, "score": float, "steps": int}


def _odd(result: Mapping[str, Any]) -> str | None:
    """What is of another kind than `hotstart evaluate` writes; None where all is well."""
    for key, kind in KINDS.items():
        if key in result and not _is(result[key], kind):
            return f"{key} is {shorten(result[key])}; it must be {words_of(kind)}"
    for key, parts in SHAPE.items():
        for part in parts:
            if key == "score":
                wanted = float
            else:
                wanted = float | None
            if not _is(result[key][part], wanted):
                return (
                    f"{key}.{part} is {shorten(result[key][part])}; it must be {words_of(wanted)}"
                )
    reported = [part for part in SHAPE["success"] if result["success"][part] is not None]
    if len(reported) not in (0, len(SHAPE["success"])):
        return f"success is {shorten(result['success'])}; rate, low and high are numbers, or none where it is not reported"
    if not _is(result["inference_ms"].get("rows"), float | None):
        return f"inference_ms.rows is {shorten(result['inference_ms']['rows'])}; it must be a number or none"
    if not result["per_episode"]:
        return "per_episode is empty"
    for number, episode in enumerate(result["per_episode"]):
        for key, kind in EPISODE.items():
            if not _is(episode[key], kind):
                return f"per_episode {number} says {key} is {shorten(episode[key])}; it must be {words_of(kind)}"
    return None


def _is(value: object, kind: Any) -> bool:
    """Whether a value is of a kind, and a number finite and of moderate size."""
    moderate = (
        isinstance(value, bool) or not isinstance(value, int | float) or abs(value) <= LARGEST
    )
    return moderate and fits(value, kind)


def _missing(result: Any) -> list[str]:
    """Keys of a result, dotted, that are not there."""
    if not isinstance(result, dict):
        return list(SHAPE)
    lacking = [key for key in SHAPE if key not in result]
    parts = [(key, part) for key, wanted in SHAPE.items() if key in result for part in wanted]
    lacking += [
        f"{key}.{part}"
        for key, part in parts
        if not isinstance(result[key], dict) or part not in result[key]
    ]
    episodes = result.get("per_episode", [])
    whole = isinstance(episodes, list) and all(
        isinstance(one, dict) and set(EPISODE) <= set(one) for one in episodes
    )
    if whole:
        return lacking
    return [*lacking, "seed, success, score or steps in per_episode"]
