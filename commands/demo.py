"""`hotstart demo`: from nothing to a measured policy and a report; every stage can be resumed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configs.compose import compose_config
from ..datasets.store import Store
from ..evaluation import results
from ..policy.training.metrics import read_metrics
from ..policy.training.trainer import Trainer
from . import collect, evaluate, report, train


def run(config: Mapping[str, Any]) -> int:
    """Collect, train, evaluate by every sampler, and write the report."""
    began, folder = time.monotonic(), Path(config["runs"]) / config["name"]
    film, notes = _can_film()
    for note in notes:
        print(note)
    count, task = config["demonstrations"], config["task"]["name"]
    _say(1, f"demonstrations: {count} of {task}, from a scripted demonstrator")
    collected = _collect(config, folder)
    _say(2, "training a small diffusion policy")
    trainer = train.build(config, Store.open(folder / "demonstrations.zarr"), folder)
    trainer.run()
    found, videos = [], []
    for name in config["inferences"]:
        _say(3, f"evaluating on {config['episodes']} fresh seeds: {name}")
        result, filmed = evaluate.evaluate(_evaluation(config, folder, name, film and not found))
        print(f"    {evaluate.headline(result)}", flush=True)
        results.save(result, _result_file(folder, name))
        found.append(result)
        videos += filmed
    _say(4, "writing the report")
    page = folder / "report.html"
    _write(page, config, collected, trainer, found, videos, notes, time.monotonic() - began)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{page} is ready after {minutes:.1f} minutes: open it in a browser")
    return 0


def _say(stage: int, text: str) -> None:
    print(f"\n[{stage}/4] {text}", flush=True)


def _can_film() -> tuple[bool, list[str]]:
    """Whether a GL library draws here, and what to tell the user where none does."""
    from ..envs.rendering import choose_gl, explain_missing_gl

    if choose_gl():
        return (True, [])
    return (False, [f"There will be no video: {explain_missing_gl()}"])


def _collect(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    own = {name: config[name] for name in ("task", "noise", "workers", "choices")}
    own |= {
        "demonstrator": "scripted",
        "keep": "success",
        "episodes": config["demonstrations"],
        "seed": 0,
        "out": str(folder / "demonstrations.zarr"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return collect.collect(own)


def _evaluation(config: Mapping[str, Any], folder: Path, name: str, film: bool) -> dict[str, Any]:
    """The configuration that `hotstart evaluate` would compose for this run."""
    arguments = [
        f"inference={name}",
        f"out='{_result_file(folder, name)}'",
        "overwrite=true",
        f"workers={config['workers']}",
    ]
    arguments += [f"episodes={config['episodes']}", f"seed={config['seed']}"]
    if film:
        arguments.append(f"video='{folder / 'videos'}'")
    return compose_config("evaluate", [str(folder / "checkpoints" / "last"), *arguments])


def _result_file(folder: Path, name: str) -> Path:
    """Where the result of a sampler is kept; a demo that is called again overwrites its own."""
    return folder / f"result_{name}.json"


def _write(
    page: Path,
    config: Mapping[str, Any],
    collected: Mapping[str, Any],
    trainer: Trainer,
    found: Sequence[Mapping[str, Any]],
    videos: Sequence[Path],
    notes: Sequence[str],
    seconds: float,
) -> None:
    denoiser = config["choices"]["denoiser"]
    facts = {
        "demonstrations": f"{collected['episodes']} scripted episodes, {collected['steps']} steps",
        "network": f"{denoiser}, {trainer.model.parameter_count / 1e6:.2f} M parameters",
        "training": f"{trainer.step} steps, {trainer.seconds / 60:.1f} minutes",
        "everything": f"{seconds / 60:.1f} minutes",
    }
    task = config["task"]["name"]
    episodes = collected["episodes"]
    title = f"{task.capitalize()}: a diffusion policy from {episodes} demonstrations"
    folder = page.parent
    metrics = read_metrics(folder)
    report.write_report(
        page,
        title=title,
        task=task,
        results=found,
        metrics=metrics,
        videos=videos,
        facts=facts,
        notes=notes,
        figures=train.figures(trainer.ema.model.network, folder),
        commands=_commands(config, folder, len(found), bool(videos)),
    )


def _commands(
    config: Mapping[str, Any], folder: Path, results_count: int, film: bool
) -> dict[str, str]:
    """What to try after the demo, as commands that run."""
    checkpoint, own = str(folder / "checkpoints" / "last"), shlex.quote(str(folder))
    few = [
        "evaluate",
        checkpoint,
        "inference=ddim",
        "inference.steps=4",
        "episodes=500",
        f"out={folder / 'ddim4.json'}",
    ]
    if film:
        few.append(f"video={folder / 'videos4'}")
    other = "transformer"
    if config["choices"]["denoiser"] == "transformer":
        other = "unet"
    kept = []
    for argument in config["arguments"]:
        if "=" in argument and not argument.startswith(("name=", "denoiser")):
            kept.append(argument)
    again = ["demo", f"{config['name']}_{other}", f"denoiser={other}", *kept]
    commands = {"A narrower interval, with fewer steps per plan:": shlex.join(["hotstart", *few])}
    if results_count > 1:
        compared = f"hotstart compare {own}/result_*.json out={own}/comparison"
        commands["Results side by side, paired by seed, with plots:"] = compared
    commands["The same with another network, in a run of its own:"] = shlex.join(
        ["hotstart", *again]
    )
    commands["Everything that can be chosen:"] = "hotstart train --help"
    return commands
