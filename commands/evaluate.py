"""`hotstart evaluate`: a checkpoint in simulation, on seeds of its own, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.compose import list_choices
from ..envs.registry import check_task, defaults, options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation import results
from ..evaluation.latency import PlannerTiming
from ..finetuning.ledger import Ledger
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.model import PolicyModel
from ..policy.normalizer import ACTION
from ..policy.samplers.base import Sampler
from ..spec import ConfigError, FloatArray, unknown
from ..system import outputs
from .after_evaluation import advise_after_evaluation
from .gallery import PAGE, write_gallery
from .rollouts import label, measure, start_robot
from .runtimes import build_runtime, set_up_model
from .unfinished import Unfinished

RATES = ("same", "any")


def run(config: Mapping[str, Any]) -> int:
    """Evaluate, print the figures, then write the result and a page that shows the videos."""
    result, videos = evaluate(config)
    for instruction, share in result.get("tasks", {}).items():
        print(f"  {results.success_words(share)} of {share['episodes']:>3}: {instruction}")
    print(f"{result['task']}, {result['inference']}: {headline(result)}", flush=True)
    page = write_files(config, result, videos)
    if page is not None:
        print(f"to watch: {page}")
    for purpose, command in advise_after_evaluation(config, result).items():
        print(f"{purpose}: {command}")
    return 0


def write_files(
    config: Mapping[str, Any], result: Mapping[str, Any], videos: Sequence[Path]
) -> Path | None:
    """Write the result where one is wanted, and the page that shows the videos; returns the page.

    None where there are no videos.
    """
    if config["out"]:
        results.save(result, Path(config["out"]))
    if videos:
        return write_gallery(config, result, videos)
    return None


def evaluate(
    config: Mapping[str, Any],
    sampler: Sampler | None = None,
    shared: SimulatedRobot | None = None,
) -> tuple[dict[str, Any], list[Path]]:
    """The result of a composed configuration, and the videos that were asked for.

    `sampler` is used in place of the one that the configuration describes. A robot that several
    evaluations share stays open; its rows count in place of `num_envs`. Nothing but videos is
    written, and what is finished while it goes on, see `unfinished`. Raises ConfigError as `check`
    does, and WorkerError where a worker process dies or does not answer.
    """
    check(config)
    if sampler is None:
        sampler = build_sampler(config["inference"])
    model, meta = checkpoint.load(config["checkpoint"], config["device"])
    task = choose_task(config, meta)
    begun = Unfinished(_find_unfinished(config), identify(config, meta, task), config["overwrite"])
    with begun.told(config["episodes"]), _open_robot(task, config, shared) as robot:
        timing = PlannerTiming.of(config, label(config), robot.rate_hz)
        policy = DiffusionPolicy(
            set_up_model(config, model),
            sampler,
            config["executed"],
            timing.replan_at,
        )
        policy.rate_hz = float(meta["rate_hz"])
        measured = measure(robot, policy, config, timing, begun)
    latency_s = 0.0
    if timing.latency_model is not None:
        latency_s = timing.latency_model.mean_s
    setting = results.Setting(
        task=task["name"],
        checkpoint=str(config["checkpoint"]),
        inference=label(config),
        rate_hz=robot.rate_hz,
        executed=policy.horizon.executed,
        latency_s=latency_s,
        planner=config["planner"],
        wall_seconds=measured.seconds,
        device=config["device"],
    )
    scale = find_action_scale(model, meta)
    result = results.summarise(measured.logs, measured.calls, setting, policy.action_spec, scale)
    if measured.tasks:
        result |= results.by_task(measured.logs, measured.tasks)
    result |= {"ledger": _note_spent(result, meta)}
    return result | _list_origins(config, meta, task, policy), measured.videos


def _note_spent(result: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, int]:
    """The checkpoint's ledger of real control periods, and those of this evaluation."""
    spent = sum(int(episode["steps"]) for episode in result["per_episode"])
    return Ledger.from_json(meta.get("ledger", {})).add("evaluation", spent).to_json()


def _open_robot(
    task: Mapping[str, Any], config: Mapping[str, Any], shared: SimulatedRobot | None
) -> AbstractContextManager[SimulatedRobot]:
    """The shared robot, which is left open, or one for this evaluation alone."""
    if shared is not None:
        return nullcontext(shared)
    return start_robot(task, config)


def _list_origins(
    config: Mapping[str, Any],
    meta: Mapping[str, Any],
    task: Mapping[str, Any],
    policy: DiffusionPolicy,
) -> dict[str, Any]:
    """What else decides a result: the task's options, the checkpoint, the sampler's settings."""
    return {
        "env": task["env"],
        "task_options": results.plain({**defaults(task["env"]), **options_of(task)}),
        "checkpoint_step": meta.get("step"),
        "weights_hash": find_weights_hash(meta),
        "data_rate_hz": float(meta["rate_hz"]),
        "precision": config["precision"],
        "runtime": build_runtime(config).label,
        "sampler_settings": results.plain(_list_settings(config["inference"], policy.sampler)),
    }


FREE = ("workers", "answer_s", "out", "overwrite", "video", "videos", "arguments")
"""Keys of an evaluation that its episodes do not depend on."""


def identify(
    config: Mapping[str, Any], meta: Mapping[str, Any], task: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the episodes of an evaluation; only those of the same one are put together."""
    chosen = {}
    for key, value in config.items():
        if key not in FREE:
            chosen[key] = value
    held = {
        "checkpoint_step": meta.get("step"),
        "weights_hash": find_weights_hash(meta),
        "warm_start": meta.get("warm_start"),
    }
    return {**chosen, "task": task, **held}


def find_weights_hash(meta: Mapping[str, Any]) -> str | None:
    """SHA-256 of a checkpoint's weights; None for one that holds none."""
    hashes = meta.get(checkpoint.HASHES)
    if isinstance(hashes, Mapping):
        return hashes.get(checkpoint.MODEL)
    return None


def _find_unfinished(config: Mapping[str, Any]) -> Path | None:
    """Where finished episodes are kept while the evaluation goes on.

    None where no result file is wanted.
    """
    out = Path(config["out"])
    if config["out"] and not outputs.is_device(out):
        return outputs.unfinished_path(out)
    return None


def _list_settings(node: Mapping[str, Any], sampler: Sampler) -> dict[str, Any]:
    """A sampler's configuration.

    What it left open is as the sampler took it, say from the checkpoint.
    """
    found = dict(node)
    for key, value in node.items():
        if not isinstance(value, Mapping):
            found[key] = getattr(sampler, key, value)
    return found


def choose_task(config: Mapping[str, Any], meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """The task that was given, or the one that the checkpoint was trained on.

    Raises ConfigError where there is neither.
    """
    if config["task"]:
        return config["task"]
    if meta.get("task") is None:
        raise ConfigError(
            f"{config['checkpoint']} does not say which task it was trained for (it was trained "
            "from Python): name it, as task=pusht or task=gymnasium "
            "task.options.id=my_package:MyEnv-v0; "
            f"tasks are {', '.join(list_choices('task'))}"
        )
    return check_task(meta["task"])


def find_action_scale(model: PolicyModel, meta: Mapping[str, Any]) -> FloatArray:
    """Half ranges (A,) of the training data's actions.

    Older checkpoints hold them in their statistics only.
    """
    if "action_scale" in meta:
        return np.asarray(meta["action_scale"], np.float64)
    return model.normalizer.get_buffer(f"{ACTION}__scale").cpu().numpy()


def headline(result: Mapping[str, Any]) -> str:
    """Success and score with their intervals, in one line."""
    success = results.success_words(result["success"])
    score = result["score"]
    text = (
        f"success {success}, "
        f"score {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}], "
        f"n = {result['episodes']}"
    )
    solved = results.solved_words(result)
    if solved:
        text += f"; {solved}"
    return text


def check(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for impossible numbers and for places that cannot be written."""
    for name in ("episodes", "num_envs"):
        if config[name] < 1:
            raise ConfigError(f"{name} is {config[name]}; it must be at least 1")
    if config["rate"] not in RATES:
        raise ConfigError(unknown("choice for rate", config["rate"], RATES))
    if config["out"]:
        outputs.check_file(Path(config["out"]), config["overwrite"])
    if config["video"]:
        page = Path(config["video"]) / PAGE
        outputs.check_folder(page.parent, "video")
        outputs.check_free(page, config["overwrite"], page.parent, "video")
