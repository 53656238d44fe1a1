"""`hotstart demo`: from nothing to a measured policy and a report; every stage can be resumed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets.store import Store
from ..policy.training.metrics import read_metrics
from ..policy.training.trainer import Trainer
from . import collect, dream_demo, train
from .demo_film import Film, choose_pair, film_pair
from .demo_page import DemoReport, write_demo
from .demo_rows import DemoRow, Result, evaluate_rows, list_rows

OWN_TASK = {
    "Your own task: collect demonstrations of another one, ...": (
        "hotstart collect task=stack episodes=200 noise=0.2"
    ),
    "... train on them, ...": "hotstart train data/stack.zarr task=stack denoiser=unet_small",
    "... and see how often it succeeds:": "hotstart evaluate runs/stack inference=rti video=videos",
    "Your own recordings, as a Diffusion Policy replay buffer:": (
        "hotstart data convert my_replay_buffer.zarr.zip data/mine.zarr fps=10"
    ),
    "Every choice and option, with its meaning:": "hotstart train --help",
}
"""What to try on one's own task."""
ACTIONS: dict[str, Callable[[Any], int]] = {"world-model": dream_demo.run}


def run(config: Mapping[str, Any]) -> int:
    """Collect, train, evaluate by every sampler, film two of them, and write the report."""
    began, folder = time.monotonic(), Path(config["runs"]) / config["name"]
    rows = list_rows(config)
    film, notes = _can_film()
    for note in notes:
        print(note)
    count, task = config["demonstrations"], config["task"]["name"]
    _say(1, f"demonstrations: {count} of {task}, from a scripted demonstrator")
    collected = _collect(config, folder)
    _say(2, "training a small diffusion policy")
    trainer = train.build(config, Store.open(folder / "demonstrations.zarr"), folder)
    trainer.run()
    _say(3, f"evaluating {len(rows)} ways of running it, on the same fresh seeds")
    found = evaluate_rows(config, folder)
    _say(4, "filming and writing the report")
    shown = None
    pair = choose_pair(rows)
    if film and len(pair) == 2:
        shown = film_pair(pair, found, config, folder)
        print(f"    {shown.video} and {shown.gif.name}: {shown.caption}")
    page = folder / "report.html"
    facts = _list_facts(config, collected, trainer, found)
    facts["everything"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
    _write(page, config, trainer, found, shown, facts, notes)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{page} is ready after {minutes:.1f} minutes: open it in a browser")
    return 0


def _say(stage: int, text: str) -> None:
    print(f"\n[{stage}/4] {text}", flush=True)


def _can_film() -> tuple[bool, list[str]]:
    """Whether a GL library draws here, and what to tell the user where none does."""
    from ..arms.rendering import choose_gl, explain_missing_gl

    if choose_gl():
        return (True, [])
    return (False, [f"There will be no video: {explain_missing_gl()}"])


def _collect(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    own = {name: config[name] for name in ("task", "noise", "workers", "choices")}
    own |= {
        "demonstrator": "scripted",
        "inference": None,
        "keep": "success",
        "play": {"on": False},
        "episodes": config["demonstrations"],
        "seed": 0,
        "out": str(folder / "demonstrations.zarr"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return collect.collect(own)


def _list_facts(
    config: Mapping[str, Any],
    collected: Mapping[str, Any],
    trainer: Trainer,
    found: Mapping[DemoRow, Result],
) -> dict[str, str]:
    """What was done, in short lines by name."""
    episodes, seconds = 0, 0.0
    for result in found.values():
        episodes += result["episodes"]
        seconds += result["wall_seconds"] or 0.0
    denoiser = config["choices"]["denoiser"]
    return {
        "demonstrations": f"{collected['episodes']} scripted episodes, {collected['steps']} steps",
        "network": f"{denoiser}, {trainer.model.parameter_count / 1e6:.2f} M parameters",
        "training": f"{trainer.step} steps, {trainer.seconds / 60:.1f} minutes",
        "evaluation": f"{episodes} episodes, {len(found)} rows, {seconds / 60:.1f} minutes",
    }


def _write(
    page: Path,
    config: Mapping[str, Any],
    trainer: Trainer,
    found: Mapping[DemoRow, Result],
    film: Film | None,
    facts: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """The page from what was done."""
    folder, task = page.parent, config["task"]["name"]
    episodes = config["demonstrations"]
    report = DemoReport(
        title=f"{task.capitalize()}: a diffusion policy from {episodes} demonstrations",
        task=task,
        found=found,
        evaluation_ms=config["evaluation_ms"],
        metrics=read_metrics(folder),
        film=film,
        facts=facts,
        commands=_suggest_commands(config, folder),
        notes=notes,
        figures=train.figures(trainer.ema.model.network, folder),
    )
    write_demo(page, report)


def _suggest_commands(config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """What to try after the demo, as commands that run."""
    own = shlex.quote(str(folder))
    few = ["inference=rti", "episodes=500", f"out={folder / 'rti_500.json'}"]
    other = "transformer"
    if config["choices"]["denoiser"] == "transformer":
        other = "unet"
    kept = []
    for argument in config["arguments"]:
        if "=" in argument and not argument.startswith(("name=", "denoiser")):
            kept.append(argument)
    again = ["hotstart", "demo", f"{config['name']}_{other}", f"denoiser={other}", *kept]
    compared = f"hotstart compare {own}/result_*.json out={own}/comparison"
    return {
        "A narrower interval for the warm start:": shlex.join(
            ["hotstart", "evaluate", str(folder), *few]
        ),
        "Results side by side, paired by seed, with plots:": compared,
        "The same with another network, in a run of its own:": shlex.join(again),
        **OWN_TASK,
    }
