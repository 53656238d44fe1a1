"""`hotstart evaluate`: a checkpoint in simulation, on seeds of its own, with intervals."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..configs.compose import list_choices
from ..control import LoopSettings, RowLog, VirtualClock
from ..control import run as run_loop
from ..envs.registry import check_task, defaults, options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation import results
from ..evaluation.latency import PlannerTiming
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.model import PolicyModel
from ..policy.normalizer import ACTION
from ..policy.samplers.base import Sampler
from ..spec import ConfigError, FloatArray, ObsSpec, Tick, bytes_to_text, unknown
from ..system import outputs
from . import report
from .processes import worker_count
from .unfinished import Measured, Unfinished
from .video import write_video

PAGE = "gallery.html"
"""The page in the folder of an evaluation's videos that shows them."""
RATES = ("same", "any")
OUTCOMES = {True: "success", False: "failure", None: "unreported"}
"""How a video's name says how its episode went."""


def run(config: Mapping[str, Any]) -> int:
    """Evaluate, print the figures, then write the result and a page that shows the videos."""
    result, videos = evaluate(config)
    for instruction, share in result.get("tasks", {}).items():
        print(f"  {results.success_words(share)} of {share['episodes']:>3}: {instruction}")
    print(f"{result['task']}, {result['inference']}: {headline(result)}", flush=True)
    if config["out"]:
        results.save(result, Path(config["out"]))
    if videos:
        print(f"to watch: {gallery(config, result, videos)}")
    return 0


def evaluate(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """The result of a composed configuration, and the videos that were asked for.

    Nothing but videos is written, and what is finished while it goes on, see `unfinished`. Raises
    ConfigError as `check` does, and WorkerError where a worker process dies or does not answer.
    """
    check(config)
    model, meta = checkpoint.load(config["checkpoint"], config["device"])
    task = _choose_task(config, meta)
    begun = Unfinished(_find_unfinished(config), _identify(config, meta, task), config["overwrite"])
    with begun.told(config["episodes"]), _start_robot(task, config) as robot:
        timing = PlannerTiming.of(config, label(config), robot.rate_hz)
        policy = DiffusionPolicy(
            model.set_precision(config["precision"]),
            build_sampler(config["inference"]),
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
    scale = _find_action_scale(model, meta)
    result = results.summarise(measured.logs, measured.calls, setting, policy.action_spec, scale)
    if measured.tasks:
        result |= results.by_task(measured.logs, measured.tasks)
    return result | _list_origins(config, meta, task, policy), measured.videos


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
        "weights_hash": _weights_hash(meta),
        "data_rate_hz": float(meta["rate_hz"]),
        "precision": config["precision"],
        "sampler_settings": results.plain(_list_settings(config["inference"], policy.sampler)),
    }


FREE = ("workers", "answer_s", "out", "overwrite", "video", "videos", "arguments")
"""Keys of an evaluation that its episodes do not depend on."""


def _identify(
    config: Mapping[str, Any], meta: Mapping[str, Any], task: Mapping[str, Any]
) -> dict[str, Any]:
    """What decides the episodes of an evaluation; only those of the same one are put together."""
    chosen = {}
    for key, value in config.items():
        if key not in FREE:
            chosen[key] = value
    held = {
        "checkpoint_step": meta.get("step"),
        "weights_hash": _weights_hash(meta),
        "warm_start": meta.get("warm_start"),
    }
    return {**chosen, "task": task, **held}


def _weights_hash(meta: Mapping[str, Any]) -> str | None:
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


def _choose_task(config: Mapping[str, Any], meta: Mapping[str, Any]) -> Mapping[str, Any]:
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


def _find_action_scale(model: PolicyModel, meta: Mapping[str, Any]) -> FloatArray:
    """Half ranges (A,) of the training data's actions.

    Older checkpoints hold them in their statistics only.
    """
    if "action_scale" in meta:
        return np.asarray(meta["action_scale"], np.float64)
    return model.normalizer.get_buffer(f"{ACTION}__scale").cpu().numpy()


def gallery(config: Mapping[str, Any], result: Mapping[str, Any], videos: Sequence[Path]) -> Path:
    """A page with all videos of an evaluation in a grid, failures first, each marked."""
    page = Path(config["video"]) / PAGE
    failures_first = sorted(videos, key=lambda video: ("_failure" not in video.stem, video.stem))
    filmed = (
        f"Filmed: the first {len(videos)} of {result['episodes']} evaluated episodes, failures "
        "first; the figures count all."
    )
    report.write_report(
        page,
        title=f"{result['task']} by {result['inference']}",
        task=result["task"],
        results=[result],
        metrics=[],
        videos=failures_first,
        facts={},
        notes=[filmed],
        commands=_suggest_commands(config),
    )
    return page


def _suggest_commands(config: Mapping[str, Any]) -> dict[str, str]:
    """What to try after an evaluation: the same with more episodes, and the help."""
    replaced = ("episodes", "out", "video", "videos", "overwrite")
    kept = []
    for argument in config["arguments"]:
        if argument.partition("=")[0] not in replaced:
            kept.append(argument)
    more = max(500, 4 * config["episodes"])
    out = outputs.free_name(Path(config["out"] or "result.json"))
    return {
        "The same with more episodes, for a narrower interval:": shlex.join(
            ["hotstart", "evaluate", *kept, f"episodes={more}", f"out={out}"]
        ),
        "Everything that can be chosen:": "hotstart evaluate --help",
    }


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


def label(config: Mapping[str, Any]) -> str:
    """The sampler with its steps, as `ddim-10`."""
    sampler = config["choices"]["inference"]
    steps = config["inference"].get("steps")
    if steps:
        return f"{sampler}-{steps}"
    return sampler


def _start_robot(task: Mapping[str, Any], config: Mapping[str, Any]) -> SimulatedRobot:
    """The rows that the episodes run in; the first ones are filmed where videos are wanted."""
    num_envs = min(config["num_envs"], config["episodes"])
    filmed = 0
    if config["video"]:
        filmed = min(config["videos"], num_envs)
    return SimulatedRobot(
        task["env"],
        options_of(task),
        num_envs,
        worker_count(config["workers"]),
        tuple(range(filmed)),
        answer_s=float(config["answer_s"]),
    )


def measure(
    robot: SimulatedRobot,
    policy: DiffusionPolicy,
    config: Mapping[str, Any],
    timing: PlannerTiming,
    begun: Unfinished,
) -> Measured:
    """Run the episodes, all rows in step.

    Seed k always runs in row k % rows, whatever the number of workers.

    What was finished before is taken from `begun`, and what is finished now is kept there.
    """
    start = int(config["seed"])
    seeds = range(start, start + config["episodes"])
    num_envs = robot.rows
    waves = -(-len(seeds) // num_envs)
    measured = Measured()
    for batch in begun.batches:
        measured.add(batch)
    with (
        torch.no_grad(),  # not inference_mode: guidance differentiates
        tqdm(total=waves * robot.max_steps, desc=f"evaluating {label(config)}", unit="tick") as bar,
    ):
        bar.update(len(begun.batches) * robot.max_steps)
        for first in range(len(measured.logs), len(seeds), num_envs):
            began = time.monotonic()
            batch = Measured()
            _run_wave(
                robot,
                policy,
                timing,
                seeds[first : first + num_envs],
                batch,
                bar,
                config["rate"] == "any",
                begun,
            )
            if first == 0 and robot.record_rows:
                batch.videos = _film(robot, batch.logs, robot.record_rows, config)
            batch.seconds = time.monotonic() - began
            begun.note_batch(batch)
            measured.add(batch)
            tqdm.write(_describe_progress(measured))
    return measured


def _run_wave(
    robot: SimulatedRobot,
    policy: DiffusionPolicy,
    timing: PlannerTiming,
    seeds: Sequence[int],
    measured: Measured,
    bar: Any,
    any_rate: bool,
    begun: Unfinished,
) -> None:
    """One episode in every environment.

    A simulation can wait, so a plan may be as old as it likes.
    """
    planner = timing.planner(policy, seeds)
    end = bar.n + robot.max_steps
    settings = LoopSettings(robot.max_steps, timing.replan_at, math.inf, any_rate)
    instruction = _find_instruction(robot.obs_spec)

    def show(tick: Tick) -> None:
        if tick.number == 0 and instruction is not None:
            texts = tick.observation[instruction][: len(seeds)]
            measured.tasks += map(bytes_to_text, texts)
        begun.note_ended(seeds, tick.feedback)
        bar.update()
        bar.set_postfix(running=int((~tick.feedback.done).sum()), refresh=False)

    logs = run_loop(robot, policy, planner, VirtualClock(), seeds, settings, [show])
    measured.logs += logs
    measured.calls += planner.seconds
    bar.update(end - bar.n)


def _find_instruction(obs_spec: ObsSpec) -> str | None:
    """The key of the observation that holds the instruction; None where there is none."""
    for name, key in obs_spec.keys.items():
        if key.kind == "language":
            return name
    return None


def _describe_progress(measured: Measured) -> str:
    rate = results.success_share(measured.logs)["rate"]
    success = results.NOT_REPORTED
    if rate is not None:
        success = f"{rate:.2f}"
    score = float(np.mean([log.score for log in measured.logs]))
    return f"  {len(measured.logs)} episodes: success {success}, score {score:.3f}"


def _film(
    robot: SimulatedRobot, logs: Sequence[RowLog], filmed: Sequence[int], config: Mapping[str, Any]
) -> list[Path]:
    """Write the videos of the first rows.

    One that cannot be written is said, and the evaluation goes on.
    """
    written = []
    for row in filmed:
        path = Path(config["video"]) / video_name(label(config), logs[row])
        try:
            write_video(
                path, robot.frames(row), robot.rate_hz, title=f"{path.stem} {config['checkpoint']}"
            )
        except OSError as error:
            tqdm.write(f"  {path} could not be written: {error.strerror}")
            continue
        written.append(path)
    return written


def video_name(sampler: str, log: RowLog) -> str:
    """The file of an episode's video, which says how it went: `ddim-10_100000_success_0.98.mp4`."""
    return f"{sampler}_{log.seed}_{OUTCOMES[log.success]}_{log.score:.2f}.mp4"


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
        if page.exists() and not config["overwrite"]:
            raise ConfigError(
                f"{page} shows another evaluation's videos already: choose another folder, as "
                f"video={outputs.free_name(page.parent)}, or say overwrite=true"
            )
