"""How often scripted demonstrators succeed, with intervals, and how long they take: robosuite's
tasks by arm, or Meta-World's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..commands.processes import ordered, worker_count
from ..envs.demonstrators.demonstrate import DemonstrationRunner, make_demonstrator
from ..envs.metaworld import INSTRUCTIONS
from ..evaluation.intervals import wilson
from ..spec import option


@dataclass
class Options:
    """Run demonstrators on seeds of their own; a line per task and arm."""

    tasks: tuple[str, ...] = option(
        (
            "lift",
            "can",
            "square",
            "stack",
            "door",
        ),
        "robosuite tasks, or metaworld for its 50",
    )
    robots: tuple[str, ...] = option(("Panda", "UR5e"), "arms of the robosuite tasks")
    episodes: int = option(100, "episodes of each")
    seed: int = option(7000, "the first seed")
    noise: float = option(0.0, "disturbance of the demonstrator's actions")
    workers: int = option(-1, "processes; 0 is this one, -1 one per core")


def run(options: Options) -> None:
    """Print success with its interval, ticks of the successes and the seeds that failed."""
    print(
        f"{'task':<30}{'success':>10}   95 % interval   ticks mean / longest   seconds   failed "
        f"seeds"
    )
    total = [0, 0]
    for name, env, env_options in _cases(options):
        began = time.monotonic()
        seeds = range(options.seed, options.seed + options.episodes)
        shown = list(
            ordered(
                _demonstrator,
                (env, env_options, options.noise),
                seeds,
                worker_count(options.workers),
            )
        )
        good = [len(one.arrays["action"]) for one in shown if one.success]
        failed = [seed for seed, one in zip(seeds, shown, strict=True) if not one.success]
        rate = wilson(len(good), len(shown))
        if good:
            ticks = f"{np.mean(good):.0f} / {max(good)}"
        else:
            ticks = "-"
        print(
            f"{name:<30}{len(good):>5}/{len(shown):<4}   [{rate.low:.3f}, {rate.high:.3f}]   "
            f"{ticks:>20}   "
            f"{time.monotonic() - began:>7.0f}   {failed or ''}",
            flush=True,
        )
        total = [total[0] + len(good), total[1] + len(shown)]
    whole = wilson(*total)
    print(f"all: {total[0]}/{total[1]} = {whole.rate:.4f} [{whole.low:.4f}, {whole.high:.4f}]")


def _cases(options: Options) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, environment, options) of every line."""
    for task in options.tasks:
        if task == "metaworld":
            yield from ((name, "metaworld", {"task": name}) for name in INSTRUCTIONS)
        else:
            yield from ((f"{task} {robot}", task, {"robot": robot}) for robot in options.robots)


def _demonstrator(env: str, options: dict[str, Any], noise: float) -> DemonstrationRunner:
    return DemonstrationRunner(env, options, make_demonstrator(env, noise))
