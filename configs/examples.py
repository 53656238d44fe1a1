"""Where to begin, and an example of each verb: with what lies in this folder where it fits."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

START = """\
hotstart trains diffusion policies from demonstrations, evaluates them and runs them on robots.

Where to begin:
  a laptop, no robot   hotstart demo
  your own data        hotstart data convert recordings.zarr data/mine.zarr fps=10
                       then `data verify` and `train`, as each command says when it ends
  your own simulator   hotstart train data/mine.zarr task=gymnasium \\
                           task.options.id=my_package:MyEnv-v0
  your own robot       python examples/real_robot.py   (a simulated arm; read it, then copy it)
The guide: README.md, and docs/ (`make docs` builds the pages)."""


@dataclass(frozen=True)
class Example:
    """A command whose `{}` are files or folders that fit `patterns`; `maker` makes the first."""

    command: str
    patterns: tuple[str, ...] = ()
    maker: str = ""
    most: int = 1


RUNS = ("runs/*/checkpoints",)
STORES = ("data/*.zarr", "runs/*/*.zarr")
RESULTS = ("result*.json", "runs/*/result*.json", "results/*.json")
FETCH = "hotstart data download pusht"
EXAMPLES = {
    "train": Example("hotstart data verify {}   (it prints the training that fits)", STORES, FETCH),
    "data": Example("hotstart data info {}", STORES, FETCH),
    "checkpoint": Example("hotstart checkpoint import pretrained_model fps=10 task=pusht"),
    "evaluate": Example("hotstart evaluate {}", RUNS, "hotstart demo"),
    "serve": Example("hotstart serve {} port=8000", RUNS, "hotstart demo"),
    "compare": Example("hotstart compare {}", RESULTS, "hotstart demo", most=4),
    "data info": Example("hotstart data info {}", STORES, FETCH),
    "data verify": Example("hotstart data verify {}", STORES, FETCH),
    "data convert": Example("hotstart data convert recordings.zarr data/mine.zarr fps=10"),
    "data download": Example(FETCH),
    "checkpoint import": Example("hotstart checkpoint import pretrained_model fps=10 task=pusht"),
    "checkpoint calibrate": Example("hotstart checkpoint calibrate {} data=data/pusht.zarr", RUNS),
    "checkpoint anchors": Example("hotstart checkpoint anchors {} data=data/pusht.zarr", RUNS),
}


def write_example(words: Sequence[str]) -> str:
    """A line with an example of a verb or of a verb's action; empty where there is none."""
    example = EXAMPLES.get(" ".join(words))
    if example is None:
        return ""
    found = _find_files(example)
    if found:
        return f"for example: {example.command.format(shlex.join(found))}"
    if example.maker:
        return f"there is none here yet; to make one: {example.maker}"
    return f"for example: {example.command.format('runs/demo')}"


def _find_files(example: Example) -> list[str]:
    """Files of this folder that fit, the newest first; a run stands for its checkpoints."""
    paths: list[Path] = []
    for pattern in example.patterns:
        paths += Path().glob(pattern)
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    names: list[str] = []
    for path in paths[: example.most]:
        if path.name == "checkpoints":
            path = path.parent
        names.append(str(path))
    return names
