"""The structure of every configuration: which keys there are, their types, their defaults and what they mean.

Verbs are dataclasses here. A part that becomes an object (denoiser, schedule, solver ...) takes its keys and types from the
constructor it is for, so that they are written down once.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from typing import Any, Literal, Union

from omegaconf import MISSING

from ..spec import LONGEST_EPISODE

PLAIN = (int, float, bool, str)


MOST = {
    "episodes": 10**6,
    "demonstrations": 10**6,
    "num_envs": 10_000,
    "workers": 1024,
    "videos": 10_000,
    "seed": 2**62,
    "max_steps": LONGEST_EPISODE,
}
"""The largest whole number that a key of this name may have, wherever it stands."""


def word(meaning: str, default: Any = NO_DEFAULT, positional: bool = False) -> Any:
    """A key of a verb with its meaning for `--help`; `positional` may be given without its name."""
    notes = {"help": meaning, "positional": positional}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=notes)
    return field(default=MISSING if default is NO_DEFAULT else default, metadata=notes)


@dataclass
class TaskConfig:
    """A task: the environment that simulates it and what the policy sees of it."""

    name: str = word("the task's name; data and runs are named after it")
    env: str = word("the environment that simulates it, as pusht, lift, metaworld or gymnasium")
    options: dict[str, Any] = word("options of the environment", {})
    obs_keys: list[str] = word(
        "which observations the policy sees, in this order; none named: all", []
    )
    max_steps: int = word(
        "ticks until an episode ends; 0: as many as the environment itself says", 300
    )


@dataclass
class Learning:
    """What is trained and how: the keys that every training verb has."""

    encoder: Any = MISSING
    denoiser: Any = MISSING
    schedule: Any = MISSING
    actions: Any = MISSING
    prediction: str = word("what the network predicts: v, eps, x0 or edm", "v")
    horizon: Any = MISSING
    training: Any = MISSING


@dataclass
class CollectConfig:
    """Collect demonstrations into a store; a killed collection goes on where it stopped."""

    task: TaskConfig = field(default_factory=TaskConfig)
    out: str = word("the store to write", "data/${task.name}.zarr", positional=True)
    demonstrator: str = word(
        "who acts: scripted, play (scripted, wandering off in between), random, or a checkpoint",
        "scripted",
    )
    keep: str = word(
        "which episodes: success, or all (each step says whether the task was fulfilled)", "success"
    )
    episodes: int = word("episodes to keep", 100)
    seed: int = word("first seed; each attempt takes the next one", 0)
    noise: float = word(
        "standard deviation of the disturbance injected into the demonstrator's actions", 0.0
    )
    workers: int = word("processes to simulate in; 0 is this one, -1 one per core", -1)


@dataclass
class TrainConfig(Learning):
    """Train a policy on a store; the same command goes on with a run that was stopped, more training.steps with one that is
    done (the learning rate then follows the longer cosine).
    """

    data: str = word("the store to learn from", "data/${task.name}.zarr", positional=True)
    name: str = word("the run's name", "${task.name}")
    runs: str = word("folder of all runs", "runs")
    task: TaskConfig = field(default_factory=TaskConfig)


@dataclass
class EvaluateConfig:
    """Run a checkpoint in simulation on seeds of its own and write success, score, cost and smoothness with intervals."""

    checkpoint: str = word("a checkpoint or a run", positional=True)
    inference: Any = MISSING
    task: Any = word("another task than the checkpoint's own", None)
    episodes: int = word("episodes; each has a seed of its own", 100)
    seed: int = word("seed of the first episode; never one that was trained or tuned on", 100000)
    num_envs: int = word(
        "rows that run in step; part of what makes a result reproducible to the bit", 50
    )
    workers: int = word("processes to simulate in; 0 is this one, -1 one per core", -1)
    answer_s: float = word(
        "seconds that a worker process may take to answer before the evaluation stops", 120.0
    )
    rate: str = word(
        "control rate: same refuses a task that runs at another rate than the data did, any allows it",
        "same",
    )
    executed: Any = word(
        "actions of each chunk to execute instead of the checkpoint's own Ta", None
    )
    latency: str = word(
        "time a plan is charged with: none, a time as 0.1s or 100ms, or profile (measured times)",
        "none",
    )
    profile: str = word(
        "measured times of planning calls, from `hotstart bench call_time CHECKPOINT out=FILE`",
        "latency.json",
    )
    planner: str = word(
        "sync asks when a chunk is used up, async so early that the next one is there in time",
        "sync",
    )
    device: str = word("where the network runs: cpu or cuda", "cpu")
    precision: str = word(
        "what the denoiser's weights are held in: fp32, or bf16 (denoiser=mode), half the bytes",
        "fp32",
    )
    out: str = word("result file; empty: not written", "result.json")
    overwrite: bool = word(
        "whether a result, videos and their page may be replaced by new ones", False
    )
    video: str = word(
        "folder for videos of the first episodes and a page that shows them; empty: none", ""
    )
    videos: int = word("how many episodes to film", 4)


@dataclass
class DemoConfig(Learning):
    """Collect, train and evaluate robosuite Lift, and write the report: runs/demo/report.html."""

    name: str = word("the run's name", "demo", positional=True)
    runs: str = word("folder of all runs", "runs")
    task: TaskConfig = field(default_factory=TaskConfig)
    demonstrations: int = word("scripted demonstrations to collect", 100)
    noise: float = word("disturbance injected into the demonstrator's actions", 0.3)
    episodes: int = word("episodes of each evaluation", 100)
    seed: int = word("seed of the first evaluation episode", 100000)
    workers: int = word("processes to simulate in; 0 is this one, -1 one per core", -1)
    inferences: list[str] = word("samplers to evaluate", ["ddim", "dpmpp", "ddpm"])


VERBS: dict[str, type] = {
    "collect": CollectConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "demo": DemoConfig,
}


def node_of(factory: Callable[..., Any], target: str = "") -> type:
    """A dataclass with the constructor's plain parameters: their types and defaults, and `_target_` where one is given."""
    hints = typing.get_type_hints(
        factory.__init__ if inspect.isclass(factory) and not is_dataclass(factory) else factory
    )
    made: list[tuple[str, Any, Any]]
    if target:
        made = [("_target_", str, field(default=target))]
    else:
        made = []
    for name, parameter in inspect.signature(factory).parameters.items():
        hint = _plain(hints.get(name, Any))
        if hint is None and parameter.default is None:
            hint = Any  # a part with a configuration of its own, as the solver inside a sampler
        if hint is not None and parameter.default is not parameter.empty:
            made.append((name, hint, _default(hint, parameter.default)))
    return make_dataclass(getattr(factory, "__name__", "Node") + "Config", made)


def _plain(hint: Any) -> Any:
    """The hint as OmegaConf knows it, or None for what no configuration can hold."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return hint
    if is_dataclass(hint) and isinstance(hint, type):
        return node_of(hint)
    if origin is Literal:  # one of some words: the constructor says which
        if {type(arg) for arg in args} == {str}:
            return type(args[0])
        return None
    if origin in (Sequence, list, tuple):
        return list[args[0]] if args[0] in PLAIN else None  # type: ignore[valid-type]
    if origin in (Union, types.UnionType) and type(None) in args:
        inner = []
        for a in args:
            if a is not type(None):
                inner.append(a)
        return Union[inner[0], None] if len(inner) == 1 and inner[0] in PLAIN else None  # noqa: UP007
    return None


def _default(hint: Any, default: Any) -> Any:
    if is_dataclass(hint):
        return field(default_factory=hint)  # type: ignore[arg-type]
    if isinstance(default, list | tuple):
        return field(default_factory=lambda: list(default))
    return field(default=default)


def fill(cls: type, plain: dict[str, Any]) -> Any:
    """The dataclass `cls`, dataclasses inside it included, from plain values."""
    hints = typing.get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls)}
    return cls(**{k: fill(known[k], v) if is_dataclass(known[k]) else v for k, v in plain.items()})
