"""How fast networks learn in their first steps, side by side on the same batches."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..commands.train import build
from ..configs.compose import compose_config
from ..datasets.store import Store
from ..policy.training.trainer import Trainer
from ..spec import REQUIRED, option


@dataclass
class Options:
    """Train each setting for a few hundred steps and print the mean loss of each stretch.

    Settings are arguments of `hotstart train` joined by +.
    """

    data: str = option(REQUIRED, "the store to learn from", positional=True)
    settings: tuple[str, ...] = option(
        (
            "denoiser=unet+training.learning_rate=3e-4",
            "denoiser=transformer+training.learning_rate=3e-4",
            "denoiser=transformer+training.learning_rate=1e-3",
        ),
        "what to compare, as denoiser=unet+training.learning_rate=3e-4",
    )
    task: str = option("pusht", "the task that the data is of")
    steps: int = option(300, "steps of training")
    batch: int = option(64, "windows per step")
    every: int = option(50, "steps of a stretch")
    threads: int = option(1, "threads")


def run(options: Options) -> None:
    """Print a line per setting."""
    torch.set_num_threads(options.threads)
    ends = range(options.every, options.steps + 1, options.every)
    print("".join(f"{end:>9}" for end in ends))
    for setting in options.settings:
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(options, setting, Path(folder))
            losses: list[float] = []
            for _ in range(options.steps):
                losses.append(float(trainer.advance()["loss"]))
        cells = ""
        for end in ends:
            cells += f"{np.mean(losses[end - options.every : end]):>9.4f}"
        print(cells, "", setting.replace("+", " "))


def _trainer(options: Options, setting: str, folder: Path) -> Trainer:
    own = [
        f"task={options.task}",
        f"training.steps={options.steps}",
        f"training.batch={options.batch}",
        f"training.warmup={min(50, options.steps)}",
    ]
    config = compose_config("train", [options.data, *own, *setting.split("+")])
    return build(config, Store.open(options.data), folder)
