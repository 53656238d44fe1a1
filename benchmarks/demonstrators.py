"""How often scripted demonstrators succeed, with intervals, and how long they take: robosuite's tasks by arm, or Meta-World's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from ..commands.processes import ordered, worker_count
from ..commands.words import Word
from ..envs.demonstrators.demonstrate import DemonstrationRunner, make_demonstrator
from ..envs.metaworld import INSTRUCTIONS
from ..evaluation.intervals import wilson


@dataclass
class Words:
    """Run demonstrators on seeds of their own; a line per task and arm."""

    tasks: Annotated[tuple[str, ...], Word("robosuite tasks, or metaworld for its 50")] = (
        "lift",
        "can",
        "square",
        "stack",
        "door",
    )
    robots: Annotated[tuple[str, ...], Word("arms of the robosuite tasks")] = ("Panda", "UR5e")
    episodes: Annotated[int, Word("episodes of each")] = 100
    seed: Annotated[int, Word("the first seed")] = 7000
    noise: Annotated[float, Word("disturbance of the demonstrator's actions")] = 0.0
    workers: Annotated[int, Word("processes; 0 is this one, -1 one per core")] = -1


def run(words: Words) -> None:
    """Print success with its interval, ticks of the successes and the seeds that failed."""
    print(
        f"{'task':<30}{'success':>10}   95 % interval   ticks mean / longest   seconds   failed seeds"
    )
    total = [0, 0]
    for name, env, options in _cases(words):
        began = time.monotonic()
        seeds = range(words.seed, words.seed + words.episodes)
        shown = list(
            ordered(_demonstrator, (env, options, words.noise), seeds, worker_count(words.workers))
        )
        good = [len(one.arrays["action"]) for one in shown if one.success]
        failed = [seed for seed, one in zip(seeds, shown, strict=True) if not one.success]
        rate = wilson(len(good), len(shown))
        if good:
            ticks = f"{np.mean(good):.0f} / {max(good)}"
        else:
            ticks = "-"
        print(
            f"{name:<30}{len(good):>5}/{len(shown):<4}   [{rate.low:.3f}, {rate.high:.3f}]   {ticks:>20}   "
            f"{time.monotonic() - began:>7.0f}   {failed or ''}",
            flush=True,
        )
        total = [total[0] + len(good), total[1] + len(shown)]
    whole = wilson(*total)
    print(f"all: {total[0]}/{total[1]} = {whole.rate:.4f} [{whole.low:.4f}, {whole.high:.4f}]")


def _cases(words: Words) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, environment, options) of every line."""
    for task in words.tasks:
        if task == "metaworld":
            yield from ((name, "metaworld", {"task": name}) for name in INSTRUCTIONS)
        else:
            yield from ((f"{task} {robot}", task, {"robot": robot}) for robot in words.robots)


def _demonstrator(env: str, options: dict[str, Any], noise: float) -> DemonstrationRunner:
    return DemonstrationRunner(env, options, make_demonstrator(env, noise))
