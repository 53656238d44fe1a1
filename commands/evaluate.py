"""`hotstart evaluate`: a checkpoint in simulation, on seeds of its own, with intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..control import LoopSettings, RowLog, VirtualClock
from ..control import run as run_loop
from ..envs.registry import options_of, told_task
from ..envs.vectorised import SimulatedRobot
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_way
from ..policy.model import PolicyModel
from ..policy.normalizer import ACTION
from ..spec import ConfigError, Feedback, FloatArray, Observation, bytes_to_text
from . import report, results
from .latency import Pace
from .processes import worker_count
from .video import write_video


@dataclass
class Measured:
    """What the episodes of an evaluation left behind."""

    logs: list[RowLog] = field(default_factory=list)
    calls: list[tuple[int, float]] = field(default_factory=list)  # (rows, seconds) of each planning call
    seconds: float = 0.0
    videos: list[Path] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    """The words of every episode's task, where they are observed."""


def run(config: Mapping[str, Any]) -> int:
    """Evaluate, write the result and, with videos, a page that shows them; print what came of it."""
    result, videos = evaluate(config)
    for words, share in result.get("tasks", {}).items():
        print(f"  {share['rate']:.2f} [{share['low']:.2f}, {share['high']:.2f}] of {share['episodes']:>3}: {words}")
    print(f"{result['task']}, {result['inference']}: {headline(result)}")
    if videos:
        print(f"to watch: {gallery(Path(config['video']), result, videos)}")
    return 0


def evaluate(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """The result of a composed configuration (see DESIGN: command line) and the videos that were asked for."""
    _check(config)
    model, meta = checkpoint.load(config["checkpoint"], config["device"])
    task = config["task"] or told_task(meta.get("task"))
    pace = Pace.of(config, label(config), float(meta["rate_hz"]))
    policy = DiffusionPolicy(
        model.weights_in(config["weights"]), build_way(config["inference"]), config["executed"], pace.replan_at
    )
    measured = measure(policy, task, config, pace)
    setting = results.Setting(
        task=task["name"],
        checkpoint=str(config["checkpoint"]),
        inference=label(config),
        rate_hz=float(meta["rate_hz"]),
        executed=policy.horizon.executed,
        latency_s=0.0 if pace.charge is None else pace.charge.mean_s,
        planner=config["planner"],
        wall_seconds=measured.seconds,
        device=config["device"],
    )
    scale = np.asarray(meta["action_half_range"], np.float64) if "action_half_range" in meta else _half_range(model)
    result = results.summarise(measured.logs, measured.calls, setting, policy.action_spec, scale)
    if measured.tasks:
        result |= results.by_task(measured.logs, measured.tasks)
    result |= {"checkpoint_step": meta.get("step"), "weights": config["weights"], "settings": config["inference"]}
    if config["out"]:
        results.save(result, Path(config["out"]))
    return result, measured.videos


def _half_range(model: PolicyModel) -> FloatArray:
    """Half ranges (A,) of the training data's actions, from a checkpoint that names them only in its statistics."""
    return model.normalizer.get_buffer(f"{ACTION}__half_range").cpu().numpy()


def gallery(folder: Path, result: Mapping[str, Any], videos: Sequence[Path]) -> Path:
    """A page with all videos of an evaluation in a grid, failures first, each marked."""
    page = folder / "gallery.html"
    failures_first = sorted(videos, key=lambda video: ("_failure" not in video.stem, video.stem))
    title = f"{result['task']} by {result['inference']}: {len(videos)} of {result['episodes']} episodes"
    report.write_report(
        page, title=title, task=result["task"], results=[result], metrics=[], videos=failures_first, facts={}, notes=[]
    )
    return page


def headline(result: Mapping[str, Any]) -> str:
    """Success and score with their intervals, in one line."""
    success, score = result["success"], result["score"]
    return (
        f"success {success['rate']:.3f} [{success['low']:.3f}, {success['high']:.3f}], "
        f"score {score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}], n = {result['episodes']}"
    )


def label(config: Mapping[str, Any]) -> str:
    """The way of inference with its steps, as `ddim-10`."""
    steps = config["inference"].get("steps")
    return config["choices"]["inference"] + (f"-{steps}" if steps else "")


def measure(policy: DiffusionPolicy, task: Mapping[str, Any], config: Mapping[str, Any], pace: Pace) -> Measured:
    """Run the episodes, `slots` rows in step; seed k always runs in slot k % slots, whatever the number of workers."""
    seeds = [int(config["seed"]) + i for i in range(config["episodes"])]
    slots = min(config["slots"], len(seeds))
    filmed = tuple(range(min(config["videos"], slots))) if config["video"] else ()
    measured, began, waves = Measured(), time.monotonic(), -(-len(seeds) // slots)
    with (
        torch.no_grad(),  # not inference_mode: guidance differentiates
        SimulatedRobot(task["env"], options_of(task), slots, worker_count(config["workers"]), filmed) as robot,
        tqdm(total=waves * robot.max_steps, desc=f"evaluating {label(config)}", unit="tick") as bar,
    ):
        for first in range(0, len(seeds), slots):
            _wave(robot, policy, pace, seeds[first : first + slots], measured, bar)
            if first == 0 and filmed:
                measured.videos = _film(robot, measured.logs, filmed, config)
    measured.seconds = time.monotonic() - began
    return measured


def _wave(
    robot: SimulatedRobot, policy: DiffusionPolicy, pace: Pace, seeds: Sequence[int], measured: Measured, bar: Any
) -> None:
    """One episode in every slot."""
    planner, end = pace.planner(policy, seeds), bar.n + robot.max_steps
    settings = LoopSettings(robot.max_steps, pace.replan_at, patience_s=math.inf)  # a simulation can wait

    words = next((name for name, key in robot.obs_spec.keys.items() if key.kind == "language"), None)

    def show(turn: int, observation: Observation, _: Any, feedback: Feedback) -> None:
        if turn == 0 and words is not None:
            measured.tasks += [bytes_to_text(each) for each in observation[words][: len(seeds)]]
        bar.update()
        bar.set_postfix(running=int((~feedback.done).sum()), refresh=False)

    logs = run_loop(robot, policy, planner, VirtualClock(), seeds, settings, [show])
    measured.logs += logs
    measured.calls += planner.seconds
    bar.update(end - bar.n)
    tqdm.write(
        f"  {len(measured.logs)} episodes: success {_mean(measured, 'success'):.2f}, score {_mean(measured, 'score'):.3f}"
    )


def _mean(measured: Measured, name: str) -> float:
    return float(np.mean([getattr(log, name) for log in measured.logs]))


def _film(robot: SimulatedRobot, logs: Sequence[RowLog], filmed: Sequence[int], config: Mapping[str, Any]) -> list[Path]:
    """Write the videos of the first rows; the name says how it went."""
    written = []
    for row in filmed:
        outcome = "success" if logs[row].success else "failure"
        path = Path(config["video"]) / f"{label(config)}_{logs[row].seed}_{outcome}.mp4"
        write_video(path, robot.frames(row), robot.rate_hz)
        written.append(path)
    return written


def _check(config: Mapping[str, Any]) -> None:
    for name in ("episodes", "slots"):
        if config[name] < 1:
            raise ConfigError(f"{name} is {config[name]}; it must be at least 1")
