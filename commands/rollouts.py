"""Episodes of an evaluation: waves of rows that run in step, their videos and their progress."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..control import LoopSettings, RowLog, VirtualClock
from ..control import run as run_loop
from ..envs.registry import options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation import results
from ..evaluation.latency import PlannerTiming
from ..policy.diffusion_policy import DiffusionPolicy
from ..spec import ObsSpec, Tick, bytes_to_text
from .processes import worker_count
from .unfinished import Measured, Unfinished
from .video import write_video

OUTCOMES = {True: "success", False: "failure", None: "unreported"}
"""How a video's name says how its episode went."""


def label(config: Mapping[str, Any]) -> str:
    """The sampler with its steps, as `ddim-10`."""
    sampler = config["choices"]["inference"]
    steps = config["inference"].get("steps")
    if steps:
        return f"{sampler}-{steps}"
    return sampler


def start_robot(task: Mapping[str, Any], config: Mapping[str, Any]) -> SimulatedRobot:
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
            if first == 0 and config["video"]:
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
