"""The verbs as Python functions: `hotstart.evaluate`, `hotstart.collect` and `hotstart.compare`.

Each composes the configuration that the command line composes, and calls what it calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, cast

from ..configs.compose import compose_config
from ..configs.naming import name_sampler
from ..configs.reader import Argument
from ..configs.schema import VERBS, Compare, PlaySettings
from ..datasets.store import Store
from ..evaluation.result_types import EvaluationResult
from ..policy.registry import describe_part
from ..policy.runtime.base import Runtime
from ..policy.samplers.base import Sampler
from ..spec import ConfigError
from ..system.options import read_options
from . import collect as collecting
from . import compare as comparing
from . import evaluate as evaluating
from .comparison_page import Comparison
from .entries import make_entries, read_entries
from .play import settle_play

PLAIN_TEXT = re.compile(r"[A-Za-z_./][\w./-]*")
"""Text that Hydra reads as it stands."""
READ_OTHERWISE = ("true", "false", "null", "none", "nan", "inf")
"""Words that Hydra does not read as text."""
NO_PLAY = PlaySettings()


def evaluate(
    checkpoint: Path | str,
    inference: Sampler | None = None,
    *,
    task: str | None = None,
    task_options: Mapping[str, object] | None = None,
    max_steps: int | None = None,
    episodes: int = 100,
    seed: int = 100_000,
    num_envs: int = 50,
    workers: int = -1,
    answer_s: float = 120.0,
    rate: Literal["same", "any"] = "same",
    executed: int | None = None,
    latency: str = "none",
    profile: Path | str = "latency.json",
    planner: Literal["sync", "async"] = "sync",
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    runtime: Literal["eager", "compiled", "cuda_graph", "openvino", "onnx"] | Runtime = "eager",
    out: Path | str | None = None,
    overwrite: bool = False,
    video: Path | str | None = None,
    videos: int = 4,
) -> EvaluationResult:
    """Run a checkpoint in simulation, as `hotstart evaluate` does, and return its result.

    The result holds success with Wilson's 95 % interval, score with a bootstrap interval, cost,
    smoothness and every episode: what the command line writes as JSON.

    Args:
        checkpoint: folder of a checkpoint or of a run
        inference: the sampler; None is DDIM in 10 steps
        task: name of the task, as "pusht"; None takes the one that the checkpoint was trained on,
            which a run that was trained from Python does not know
        task_options: options of the task's environment; needs `task`
        max_steps: length of an episode [ticks]; needs `task`
        episodes: episodes; each has a seed of its own
        seed: seed of the first episode; never one that was trained or tuned on
        num_envs: environments that run in step
        workers: processes to simulate in; 0 is this one, -1 one per core
        answer_s: time that a worker may take to answer [s]
        rate: "same" refuses a task of another control rate than the data's, "any" takes it
        executed: actions of each chunk to execute [ticks]; None is the checkpoint's own Ta
        latency: time that a plan is charged with: "none", a time as "0.1s" or "100ms", or "profile"
        profile: file of measured times, for latency="profile"
        planner: "sync" asks when a chunk is used up, "async" before
        device: torch device of the network
        precision: numbers of the denoiser's weights
        runtime: what evaluates the denoiser network: a name, or a Runtime with its options, as
            hotstart.policy.runtime.openvino.OpenVino(precision="bf16")
        out: file for the result; None writes none
        overwrite: whether a result, videos and their page may be replaced
        video: folder for videos of the first episodes and a page that shows them; None makes none
        videos: how many episodes to film

    Raises:
        ConfigError: for an unknown task or option, and where checkpoint, sampler and task do not
            fit each other
        CheckpointError: where the checkpoint cannot be read

    Examples:
        >>> result = hotstart.evaluate("runs/pusht", hotstart.WarmStart(steps=2), episodes=500)
        >>> print(result["success"])  # {"rate": ..., "low": ..., "high": ...}
    """
    given = _name_options(locals())
    del given["inference"]
    if isinstance(runtime, Runtime):
        del given["runtime"]
    config = _compose("evaluate", given)
    if isinstance(runtime, Runtime):
        config["runtime"] = describe_part(runtime)
    if inference is not None:
        config["inference"] = describe_part(inference)
        config["choices"]["inference"] = name_sampler(config["inference"])
    result, filmed = evaluating.evaluate(config, inference)
    evaluating.write_files(config, result, filmed)
    return cast("EvaluationResult", result)


def collect(
    out: Path | str,
    task: str,
    *,
    task_options: Mapping[str, object] | None = None,
    max_steps: int | None = None,
    demonstrator: Literal["scripted", "play", "random"] | Path | str = "scripted",
    inference: Sampler | None = None,
    keep: Literal["success", "all"] = "success",
    episodes: int = 100,
    seed: int = 0,
    noise: float = 0.0,
    workers: int = -1,
    play: PlaySettings = NO_PLAY,
) -> Store:
    """Collect demonstrations or play into a store, as `hotstart collect` does; returns the store.

    The same call goes on with a collection that was stopped.

    Args:
        out: the store to write, as "data/lift.zarr"
        task: name of the task, as "lift"
        task_options: options of the task's environment, as {"robot": "UR5e"}
        max_steps: length of an episode [ticks]; None is the task's own
        demonstrator: who acts: "scripted", "play", "random", or the folder of a checkpoint
        inference: the sampler of a checkpoint that acts; None is DDIM in 10 steps
        keep: which episodes: those that succeed, or all
        episodes: episodes to keep
        seed: first seed; each attempt takes the next one
        noise: standard deviation of noise on the demonstrator's actions [share of their range]
        workers: processes to simulate in; 0 is this one, -1 one per core
        play: whether play for a world model is recorded around the policy that demonstrates, and
            how it is disturbed

    Raises:
        ConfigError: for an unknown task, option or demonstrator
        DataError: where `out` holds other data, and where no episode would be kept

    Examples:
        >>> store = hotstart.collect("data/lift.zarr", "lift", episodes=50, noise=0.2)
        >>> hotstart.train(store, "runs/lift")
    """
    given = _name_options(locals())
    del given["inference"]
    config = _compose("collect", given)
    if inference is not None:
        config["inference"] = describe_part(inference)
    collecting.collect(settle_play(config))
    return Store.open(out)


def compare(
    *results: Path | str | Mapping[str, Any] | EvaluationResult,
    baseline: str | None = None,
    out: Path | str | None = None,
    measure: Literal["success", "score"] = "success",
    overwrite: bool = False,
) -> Comparison:
    """Compare results of evaluations, paired by seed, as `hotstart compare` does.

    Args:
        results: result files, or what `evaluate` returned; all of one kind
        baseline: name or file of the result that the others are compared with; None: the first
        out: folder for plots (PNG and SVG) and the table; None writes none
        measure: what the plots show
        overwrite: whether a comparison in `out` may be replaced

    Raises:
        ConfigError: for a file that is given twice, for an unknown baseline, and for a folder that
            shows a comparison already
        DataError: for a file that is no result

    Examples:
        >>> found = hotstart.compare("ddim.json", "rti.json")
        >>> print(found)  # the table
        >>> print(found.differences["rti-2"].success)  # McNemar's test
    """
    files: list[Path] = []
    held: list[Mapping[str, Any]] = []
    for result in results:
        if isinstance(result, Mapping):
            held.append(result)
        else:
            files.append(Path(result))
    if bool(files) == bool(held):
        raise ConfigError("compare takes result files, or results: give some, all of one kind")
    if files:
        entries = read_entries(files)
    else:
        files = [Path(f"result{number}") for number in range(1, 1 + len(held))]
        entries = make_entries(held, files)
    if out is not None:
        comparing.check_place(Path(out), overwrite)
    found = comparing.compare(entries, comparing.find_base(entries, baseline))
    if out is not None:
        options = Compare(tuple(files), Path(out), baseline, measure)
        comparing.write_files(found, options, Path(out))
    return replace(found, text=comparing.describe_comparison(found))


def _name_options(given: Mapping[str, Any]) -> dict[str, object]:
    """Arguments of a function under the names that the command line has for them."""
    named = dict(given)
    options = named.pop("task_options") or {}
    max_steps = named.pop("max_steps")
    if named["task"] is None:
        del named["task"]
        if options or max_steps is not None:
            raise ConfigError("task_options and max_steps change a task: give task= too")
    if max_steps is not None:
        named["task.max_steps"] = max_steps
    for name, value in options.items():
        named[f"task.options.{name}"] = value
    return named


def _compose(verb: str, given: Mapping[str, object]) -> dict[str, Any]:
    """The configuration of a verb whose options have these values."""
    schema = VERBS[verb].options
    assert schema is not None
    options = read_options(schema)
    arguments = []
    for name, value in given.items():
        if name in ("out", "video") and value is None:
            value = ""  # not written
        if name not in options or value != options[name].default:
            arguments.append(f"{name}={_write(value)}")
    return compose_config(verb, arguments)


def _write(value: object) -> str:
    """A value as Hydra reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, PlaySettings):
        value = asdict(value)
    if isinstance(value, Mapping):
        pairs = [f"{key}: {_write(part)}" for key, part in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write, value)) + "]"
    text = str(value)
    plain = PLAIN_TEXT.fullmatch(text) and text.lower() not in READ_OTHERWISE
    if isinstance(value, str | Path) and not plain:
        return Argument("", text, bare=True).quoted
    return text
