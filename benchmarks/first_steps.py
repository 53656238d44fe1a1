"""How fast networks learn in their first steps: mean loss of each stretch, side by side on the same batches."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from ..commands.train import build
from ..commands.words import Word
from ..configs.compose import composed
from ..datasets.store import Store
from ..policy.training.trainer import Trainer


@dataclass
class Words:
    """Train each setting for a few hundred steps and print its loss; settings are words of `hotstart train` joined by +."""

    data: Annotated[str, Word("the store to learn from", positional=True)]
    settings: Annotated[
        tuple[str, ...], Word("what to compare, as denoiser=unet+training.learning_rate=3e-4")
    ] = (
        "denoiser=unet+training.learning_rate=3e-4",
        "denoiser=transformer+training.learning_rate=3e-4",
        "denoiser=transformer+training.learning_rate=1e-3",
    )
    task: Annotated[str, Word("the task that the data is of")] = "pusht"
    steps: Annotated[int, Word("steps of training")] = 300
    batch: Annotated[int, Word("windows per step")] = 64
    every: Annotated[int, Word("steps of a stretch")] = 50
    threads: Annotated[int, Word("threads")] = 1


def run(words: Words) -> None:
    """Print a line per setting."""
    torch.set_num_threads(words.threads)
    ends = range(words.every, words.steps + 1, words.every)
    print("".join(f"{end:>9}" for end in ends))
    for setting in words.settings:
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(words, setting, Path(folder))
            losses = [float(trainer.advance()["loss"]) for _ in range(words.steps)]
        print(
            "".join(f"{np.mean(losses[end - words.every : end]):>9.4f}" for end in ends),
            "",
            setting.replace("+", " "),
        )


def _trainer(words: Words, setting: str, folder: Path) -> Trainer:
    warmup = min(50, words.steps)
    own = [f"task={words.task}", f"training.steps={words.steps}", f"training.batch={words.batch}"]
    own.append(f"training.warmup={warmup}")
    return build(
        composed("train", [words.data, *own, *setting.split("+")]), Store.open(words.data), folder
    )
