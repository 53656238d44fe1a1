"""Data sets written for LeRobot, against what LeRobot's own library reads and computes."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.episodes import Dataset, count_steps
from ..datasets.formats.conversion import export
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.lerobot_info import INSTRUCTION
from ..datasets.formats.lerobot_plan import Plan, make_plan
from ..datasets.formats.registry import open_foreign
from ..datasets.opening import open_dataset
from ..spec import REQUIRED, ConfigError, bytes_to_text, option
from ._peer_calls import call_lerobot

BLOCK = 256
VERSIONS = {"lerobot-v3": "v3.0", "lerobot-v2.1": "v2.1"}


@dataclass
class Options:
    """Write a data set in a format of LeRobot's and compare it with what LeRobot makes of it."""

    data: str = option(REQUIRED, "a data set in any format", positional=True)
    target: str = option(REQUIRED, "where it is written, or is already", positional=True)
    peer: str = option(REQUIRED, "a Python with LeRobot 0.6")
    to: str = option("lerobot-v3", "lerobot-v3 or lerobot-v2.1")
    layout: str = option("auto", "layout of the source")
    every: int = option(1, "every so many frames are decoded by both")


def run(options: Options) -> None:
    """Print what is equal, and the errors of the pictures."""
    if options.to not in VERSIONS:
        raise ConfigError(f"to is {options.to!r}; it is one of {', '.join(VERSIONS)}")
    target = Path(options.target)
    dataset = open_dataset(options.data, ReadOptions(layout=options.layout))
    task = str(getattr(dataset, "task", ""))
    if not target.exists():
        began = time.perf_counter()
        export(dataset, target, options.to, task)
        print(f"written in {time.perf_counter() - began:.1f} s, {count_bytes(target) / 1e6:.2f} MB")
    told = check(options.peer, dataset, target, options.to, task, options.every)
    print(json.dumps(told, indent=1))


def check(
    peer: str, dataset: Dataset, folder: Path, to: str, task: str, every: int
) -> dict[str, Any]:
    """What LeRobot says of a folder that the data set was written to, and how its frames differ
    from hotstart's of the same folder (`unlike_ours`: how many).

    Version 2.1 is turned into 3.0 by LeRobot's converter first, in a copy.
    """
    plan = make_plan(dataset, task, VERSIONS[to])
    source = folder.with_suffix(".npz")
    np.savez(source, **gather_source(plan))
    opened = open_foreign(folder)
    if to == "lerobot-v2.1":
        copy = folder.with_name(folder.name + ".upgraded")
        for left in (copy, copy.with_name(copy.name + "_old")):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(folder, copy)
        call_lerobot(peer, "upgrade", copy)
        folder = copy
    told = json.loads(call_lerobot(peer, "check", folder, source, every).splitlines()[-1])
    sums = told["frames"].pop("sums")
    told["frames"]["unlike_ours"] = 0
    for key, name in {**plan.videos, **plan.pictures}.items():
        if dataset.obs_spec.keys[key].shape[2] == 1:
            continue  # gray comes back from the brightness alone
        ours = _sum_frames(opened, key, every)
        told["frames"]["unlike_ours"] += int((ours != np.array(sums[name])).sum())
    source.unlink()
    return told


def gather_source(plan: Plan) -> dict[str, NDArray[Any]]:
    """Every array by its name in LeRobot, with the episodes' ends and the words of every step."""
    dataset = plan.dataset
    steps = count_steps(dataset)
    words = np.full(steps, plan.task)
    if plan.has_instruction:
        words = np.array([bytes_to_text(text) for text in dataset.array(INSTRUCTION)])
    source: dict[str, NDArray[Any]] = {"/ends": dataset.episode_ends, "/tasks": words}
    for key, name in {**plan.numbers, **plan.videos, **plan.pictures}.items():
        source[name] = _read_all(dataset, key)
    return source


def _read_all(dataset: Dataset, key: str) -> NDArray[Any]:
    """All steps of a key, read some at a time: a reader may need several times their memory."""
    steps = count_steps(dataset)
    first = dataset.rows(key, 0, 1)
    found = np.empty((steps, *first.shape[1:]), first.dtype)
    for start in range(0, steps, BLOCK):
        found[start : start + BLOCK] = dataset.rows(key, start, min(start + BLOCK, steps))
    return found


def count_bytes(folder: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sum_frames(dataset: Dataset, key: str, every: int) -> NDArray[np.int64]:
    """Every so many pictures, each as the sum of its numbers."""
    found: list[int] = []
    for step in range(0, count_steps(dataset), every):
        frame = dataset.rows(key, step, step + 1)[0].astype(np.int64)
        found.append(int(frame.sum()))
    return np.array(found)
