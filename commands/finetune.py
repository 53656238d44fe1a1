"""`hotstart finetune`: reinforcement learning on a checkpoint, and what came of it, paired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..configs.compose import compose_config
from ..configs.schema import Compare
from ..datasets.locks import hold
from ..envs.registry import options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation import results
from ..finetuning.ledger import Ledger
from ..finetuning.settings import PPOSettings
from ..finetuning.sources import SimulatorSource
from ..finetuning.trainer import FineTuner
from ..policy import checkpoint
from ..policy.diffusion_policy import build_sampler
from ..policy.training.metrics import read_metrics
from ..spec import CheckpointError
from . import compare
from .curves import tuning_curve
from .drawing import to_png
from .evaluate import choose_task, evaluate
from .next_steps import keep_arguments, write_command, write_option, write_path
from .processes import worker_count

OWN = (
    "name",
    "runs",
    "method",
    "episodes",
    "seed",
    "num_envs",
    "executed",
    "workers",
    "checkpoint",
)
"""Options of this verb that an evaluation gets from here, or not at all."""


def run(config: Mapping[str, Any]) -> int:
    """Fine-tune as the configuration says, or go on; then compare with the base on fresh seeds."""
    folder = find_folder(config)
    with hold(folder, CheckpointError, shared=True):
        tuner = tune(config, folder)
        curve = folder / "success.png"
        curve.write_bytes(to_png(tuning_curve(read_metrics(folder))))
        print(f"{folder}: {tuner.ledger.training} real steps of training; curve: {curve}")
        if config["episodes"]:
            compare_with_base(config, folder, tuner.ledger)
    print(f"next: {write_command('evaluate', write_path(folder), *_keep(config), 'video=videos')}")
    return 0


def find_folder(config: Mapping[str, Any]) -> Path:
    """The run's folder; it is named after the base and the method unless the user names it."""
    name = config["name"]
    if not name:
        base = Path(config["checkpoint"])
        name = f"{base.name}_{config['choices']['method']}"
    return Path(config["runs"]) / name


def tune(config: Mapping[str, Any], folder: Path) -> FineTuner:
    """Run the fine-tuning to its end, with rollouts in the simulator."""
    base, meta = checkpoint.load(config["checkpoint"])
    task = choose_task(config, meta)
    settings = read_settings(config["method"])
    workers = worker_count(config["workers"])
    with SimulatedRobot(task["env"], options_of(task), settings.rows, workers) as robot:
        source = SimulatorSource(robot, robot.max_steps, settings.reward)
        sampler = build_sampler(config["inference"])
        tuner = FineTuner(
            base,
            sampler,
            source,
            settings,
            folder,
            {**meta, "task": dict(task), "tuned_from": str(config["checkpoint"])},
            config["executed"],
        )
        tuner.run()
    return tuner


def read_settings(node: Mapping[str, Any]) -> PPOSettings:
    """The method's settings from its part of the configuration."""
    options = dict(node)
    options.pop("_target_")
    return PPOSettings(**options)


def compare_with_base(config: Mapping[str, Any], folder: Path, ledger: Ledger) -> None:
    """Evaluate base and tuned policy on the same seeds, with the same sampler, and compare them.

    The results lie in the run's folder; each holds the ledger of real steps.
    """
    files: list[Path] = []
    for name, place in (("base", Path(config["checkpoint"])), ("tuned", folder)):
        out = folder / f"{name}.json"
        words = [write_path(place), *_keep(config), write_option("out", out), "overwrite=true"]
        for key in ("episodes", "seed", "num_envs", "workers"):
            words.append(f"{key}={config[key]}")
        if config["executed"] is not None:
            words.append(f"executed={config['executed']}")
        result, _ = evaluate(compose_config("evaluate", words))
        spent = sum(int(episode["steps"]) for episode in result["per_episode"])
        ledger = ledger.add("evaluation", spent)
        results.save({**result, "ledger": ledger.to_json()}, out)
        files.append(out)
    compare.run(Compare(files=tuple(files), out=folder / "comparison"))


def _keep(config: Mapping[str, Any]) -> list[str]:
    """The arguments that say which sampler and which task: an evaluation takes the same."""
    named = [argument for argument in config["arguments"] if argument != config["checkpoint"]]
    return keep_arguments(named, OWN)
