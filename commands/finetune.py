"""`hotstart finetune`: reinforcement learning on a checkpoint, and what came of it, paired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..datasets.locks import hold
from ..envs.registry import options_of
from ..envs.simulated_robot import SimulatedRobot
from ..finetuning.choices import ChoicesWanted
from ..finetuning.diwa import DreamSettings
from ..finetuning.registry import read_settings
from ..finetuning.sources import SimulatorSource
from ..finetuning.tuner import Setup, Tuner
from ..policy import checkpoint
from ..policy.diffusion_policy import build_sampler
from ..spec import CheckpointError, ConfigError
from .after_finetuning import check_contest, plan_contest
from .choices_page import list_filmed_rows, write_choices
from .dreaming import tune_in_dreams
from .evaluate import choose_task
from .finetuned import draw_curve, evaluate_tuned, list_next
from .processes import worker_count


def run(config: Mapping[str, Any]) -> int:
    """Fine-tune as the configuration says, or go on; then compare with the base on fresh seeds."""
    folder = find_folder(config)
    contest = None
    if config["episodes"]:
        contest = plan_contest(config, folder)
        check_contest(contest, config)
    with hold(folder, CheckpointError, shared=True):
        tuner = tune(config, folder)
        curve = draw_curve(folder)
        print(f"{folder}: {tuner.ledger.training} real steps of training; curve: {curve}")
        if contest is not None:
            evaluate_tuned(config, folder, contest)
    for purpose, command in list_next(config, folder).items():
        print(f"{purpose} {command}")
    return 0


def find_folder(config: Mapping[str, Any]) -> Path:
    """The run's folder; it is named after the base and the method unless the user names it."""
    name = config["name"]
    if not name:
        base = Path(config["checkpoint"])
        name = f"{base.name}_{config['choices']['method']}"
    return Path(config["runs"]) / name


def tune(config: Mapping[str, Any], folder: Path) -> Tuner[Any]:
    """Run the fine-tuning to its end, with rollouts in the simulator or in dreams."""
    base, meta = checkpoint.load(config["checkpoint"])
    task = choose_task(config, meta)
    settings = read_settings(config["method"])
    if config["play"] or isinstance(settings, DreamSettings):
        return tune_in_dreams(config, folder, settings, task)
    if config["world_model"]:
        raise ConfigError("world_model= wants the play that it was learned from: play=PLAY.zarr")
    workers = worker_count(config["workers"])
    filmed = list_filmed_rows(settings)
    with SimulatedRobot(task["env"], options_of(task), settings.rows, workers, filmed) as robot:
        setup = Setup(
            base,
            build_sampler(config["inference"]),
            SimulatorSource(robot, robot.max_steps, settings.reward),
            folder,
            {**meta, "task": dict(task), "tuned_from": str(config["checkpoint"])},
            config["executed"],
        )
        tuner = settings.make_tuner(setup)
        try:
            tuner.run()
        except ChoicesWanted as wanted:
            print(f"page: {write_choices(wanted, robot, task['name'])}")
            raise
    return tuner
