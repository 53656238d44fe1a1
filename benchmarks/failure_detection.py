"""Failures seen while they happen: detection, false alarms and the time left, by score."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from ..commands.evaluate import choose_task, find_weights_hash
from ..configs.compose import compose_config
from ..control import LoopSettings, VirtualClock
from ..control import run as run_loop
from ..datasets.store import Store
from ..envs.registry import options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation.conformal import Threshold, calibrate
from ..evaluation.intervals import wilson
from ..planners import ImmediatePlanner
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.failure import (
    Detector,
    Disagreement,
    Moment,
    Samples,
    Scorer,
    StateDistance,
    WatchedPlanner,
)
from ..spec import REQUIRED, FloatArray, option
from ..system import outputs
from ..system.versions import versions

SCORES = ("disagreement", "energy", "spread", "mahalanobis", "nearest", "elapsed", "chance")


@dataclass
class Options:
    """Thresholds are calibrated on successful rollouts of some seeds, and tried on others.

    disagreement: of a plan with the one before. energy, spread: of several plans with those before,
    and among themselves. mahalanobis, nearest: distance of the state from the training data.
    elapsed: the number of the plan. chance: a number drawn anew for each plan.
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: str = option(REQUIRED, "the store it was trained on")
    inferences: tuple[str, ...] = option(("ddim-10", "rti-2"), "samplers with their steps")
    rate: float = option(0.1, "false alarms an episode that thresholds are chosen for")
    calibration: int = option(200, "episodes whose successes thresholds are chosen from")
    test: int = option(200, "episodes that they are tried on")
    calibration_seed: int = option(400000, "seed of the first one to calibrate on")
    test_seed: int = option(500000, "seed of the first one to try on")
    samples: int = option(8, "plans that energy and spread compare")
    num_envs: int = option(50, "environments that run in step")
    detector: str = option("", "file for the detector of the first sampler; empty: not written")
    score: str = option("disagreement", "score of that detector")
    out: str = option("", "file for all figures; empty: not written")
    overwrite: bool = option(False, "whether those files may be replaced by new ones")


@dataclass
class Episode:
    """One rollout and what each of its plans scored."""

    success: bool
    steps: int
    scores: dict[str, list[float]] = field(default_factory=dict)

    def of(self, score: str) -> FloatArray:
        """(K,), NaN where a plan has none."""
        return np.asarray(self.scores[score], np.float64)


def run(options: Options) -> None:
    """Print a table for every sampler."""
    for file in filter(None, (options.out, options.detector)):
        outputs.check_file(Path(file), options.overwrite)
    figures: dict[str, Any] = {"versions": versions(), "options": vars(options)}
    for place, inference in enumerate(options.inferences):
        began_s = time.process_time()
        policy = _load(options.checkpoint, inference)
        calibration = roll_out(policy, options, options.calibration_seed, options.calibration)
        test = roll_out(policy, options, options.test_seed, options.test)
        thresholds = _calibrate(calibration, options.rate)
        figures[inference] = _print_table(inference, calibration, test, thresholds)
        figures[inference]["cpu_seconds"] = time.process_time() - began_s
        if options.detector and place == 0:
            _save_detector(options, inference, thresholds)
    if options.out:
        outputs.write_text(Path(options.out), json.dumps(figures, indent=1))


def _load(path: str, inference: str) -> DiffusionPolicy:
    """The checkpoint's policy with a sampler as `rti-2`."""
    name, *steps = inference.split("-")
    words = [path, f"inference={name}"]
    if steps:
        words.append(f"inference.steps={steps[0]}")
    node = compose_config("evaluate", words)["inference"]
    return DiffusionPolicy.load(path, build_sampler(node))


def roll_out(policy: DiffusionPolicy, options: Options, first: int, count: int) -> list[Episode]:
    """Episodes of the seeds from `first` on, with every score."""
    found = checkpoint.find(options.checkpoint)
    task = choose_task({"task": None, "checkpoint": str(found)}, checkpoint.read_meta(found))
    scorers = [
        Disagreement(policy),
        Samples(policy, options.samples),
        StateDistance(policy, Store.open(options.data)),
        Baselines(),
    ]
    episodes: list[Episode] = []
    rows = min(options.num_envs, count)
    with SimulatedRobot(task["env"], options_of(task), rows) as robot, torch.no_grad():
        settings = LoopSettings(robot.max_steps, patience_s=math.inf)
        for start in range(first, first + count, rows):
            seeds = range(start, min(start + rows, first + count))
            episodes += _run_wave(robot, policy, scorers, seeds, settings)
    return episodes


def _run_wave(
    robot: SimulatedRobot,
    policy: DiffusionPolicy,
    scorers: Sequence[Scorer],
    seeds: range,
    settings: LoopSettings,
) -> list[Episode]:
    """An episode in every row."""
    planner = WatchedPlanner(ImmediatePlanner(policy), scorers)
    logs = run_loop(robot, policy, planner, VirtualClock(), seeds, settings)
    episodes = []
    for log in logs:
        episodes.append(Episode(bool(log.success), log.steps, {name: [] for name in SCORES}))
    for scored in planner.found:
        for name, value in scored.scores.items():
            episodes[scored.row].scores[name].append(value)
    return episodes


class Baselines:
    """What knows nothing of the policy: the time that has passed, and chance."""

    def __call__(self, moment: Moment) -> Mapping[str, float]:
        """The scores `elapsed` and `chance`."""
        drawn = np.random.default_rng([int(moment.state.seeds[0]), moment.number]).random()
        return {"elapsed": float(moment.number), "chance": float(drawn)}


Thresholds = Mapping[str, Threshold]


def _calibrate(episodes: Sequence[Episode], rate: float) -> Thresholds:
    """A constant and a time-varying threshold of every score, from the successes alone."""
    good = [episode for episode in episodes if episode.success]
    found = {}
    for name in SCORES:
        rollouts = [episode.of(name) for episode in good]
        found[name] = calibrate(rollouts, rate)
        if name not in ("elapsed", "chance"):
            found[f"{name}, by time"] = calibrate(rollouts, rate, varying=True)
    return found


def _print_table(
    inference: str,
    calibration: Sequence[Episode],
    test: Sequence[Episode],
    thresholds: Thresholds,
) -> dict[str, Any]:
    """Print what every threshold does on the test episodes; returns the same."""
    good = [episode for episode in test if episode.success]
    bad = [episode for episode in test if not episode.success]
    calibrated = sum(episode.success for episode in calibration)
    usual = int(np.median([len(episode.of("chance")) for episode in good]))
    print(
        f"\n{inference}: {len(good)} successes and {len(bad)} failures, calibrated on {calibrated} "
        f"successes; half of the successes end within {usual} plans"
    )
    print(f"{'score':<24}{'detected':>24}{'early':>24}{'false alarms':>24}{'left':>16}{'AUROC':>8}")
    figures: dict[str, Any] = {"successes": len(good), "failures": len(bad)}
    for name, threshold in thresholds.items():
        score = name.partition(",")[0]
        alarms = [threshold.first_alarm(episode.of(score)) for episode in bad]
        false = [threshold.first_alarm(episode.of(score)) for episode in good]
        detected = wilson(sum(alarm is not None for alarm in alarms), len(bad))
        early = wilson(sum(alarm is not None and alarm < usual for alarm in alarms), len(bad))
        wrong = wilson(sum(alarm is not None for alarm in false), len(good))
        left = _find_time_left(bad, alarms)
        area = None
        if name == score:
            area = compare_beginnings(good, bad, score, usual)
        figures[name] = {
            "detected": detected,
            "early": early,
            "false": wrong,
            "left": left,
            "auroc": area,
            "threshold": threshold.to_json(),
        }
        area_words = ""
        if area is not None:
            area_words = f"{area:.2f}"
        print(
            f"{name:<24}{_show(detected):>24}{_show(early):>24}{_show(wrong):>24}"
            f"{_show_left(left):>16}{area_words:>8}",
            flush=True,
        )
    return figures


def _find_time_left(bad: Sequence[Episode], alarms: Sequence[int | None]) -> list[float]:
    """Share of the episode that is left at the alarm: quartiles over the detected failures."""
    left = []
    for episode, alarm in zip(bad, alarms, strict=True):
        if alarm is not None:
            left.append(1 - alarm / len(episode.of("chance")))
    if not left:
        return []
    return np.quantile(left, (0.25, 0.5, 0.75)).tolist()


def compare_beginnings(
    good: Sequence[Episode], bad: Sequence[Episode], score: str, plans: int
) -> float:
    """Chance that a failure's highest score among the first `plans` is above a success's.

    Failures last longer, and so have more chances of a high score: only successes that last as long
    are compared.
    """
    highest = []
    lasting = [episode for episode in good if len(episode.of(score)) >= plans]
    for episode in (*bad, *lasting):
        highest.append(np.nanmax(episode.of(score)[:plans], initial=-np.inf))
    ranks = rankdata(highest)[: len(bad)]
    return float((ranks.mean() - (len(bad) + 1) / 2) / len(lasting))


def _save_detector(options: Options, inference: str, thresholds: Thresholds) -> None:
    meta = checkpoint.read_meta(checkpoint.find(options.checkpoint))
    threshold = thresholds[options.score]
    weights = find_weights_hash(meta) or ""
    Detector.make(options.score, threshold, weights, inference).save(Path(options.detector))


def _show(share: Any) -> str:
    return f"{share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]"


def _show_left(quartiles: Sequence[float]) -> str:
    if not quartiles:
        return "-"
    return f"{quartiles[1]:.2f} ({quartiles[0]:.2f}-{quartiles[2]:.2f})"
