# pyright: reportMissingImports=false, reportPrivateImportUsage=false, reportAttributeAccessIssue=false
"""What LeRobot's own library makes of a data set.

Run by its path, by a Python that has LeRobot:

    python _lerobot_data_peer.py check FOLDER SOURCE.npz EVERY
    python _lerobot_data_peer.py write FOLDER SOURCE.npz
    python _lerobot_data_peer.py upgrade FOLDER
    python _lerobot_data_peer.py speed FOLDER WINDOWS OBSERVED PLANNED

`check` opens a data set of version 3.0 and compares it with the arrays it was written from: every
row, every statistic with what LeRobot computes from the arrays, every EVERY-th frame. `write` makes
a data set of the arrays by LeRobot's own recorder. `upgrade` turns version 2.1 into 3.0 by
LeRobot's converter, in place. `speed` takes random windows. All but `write` and `upgrade` print one
line of JSON.

SOURCE.npz holds `/ends` (E,), `/tasks` (N,) words, and the steps (N, ...) of every feature by its
name in LeRobot; pictures are uint8 (N, H, W, C).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pyarrow.parquet as pq
import torch
from lerobot.datasets import compute_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset

import datasets

datasets.disable_progress_bars()
REPO = "local/compared"


def load_source(path: str) -> dict[str, np.ndarray]:
    """Every array of the file."""
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def compute_statistics(dataset: Any, source: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Statistics of every episode by LeRobot's code, from the arrays; pictures stay in memory."""
    features = dataset.meta.features
    found = []
    start = 0
    for number, end in enumerate(source["/ends"].tolist()):
        episode: dict[str, Any] = {}
        for name, values in source.items():
            if name.startswith("/"):
                continue
            if features[name]["dtype"] in ("video", "image"):
                episode[name] = [f"{name}:{step}" for step in range(start, end)]
            else:
                episode[name] = values[start:end]
        length = end - start
        tasks = [dataset.meta.get_task_index(task) for task in source["/tasks"][start:end]]
        episode["timestamp"] = np.stack([step / dataset.meta.fps for step in range(length)])
        episode["frame_index"] = np.arange(length)
        episode["episode_index"] = np.full((length,), number)
        episode["index"] = np.arange(start, end)
        episode["task_index"] = np.array(tasks)
        found.append(compute_stats.compute_episode_stats(episode, features))
        start = end
    return found


def compare_statistics(dataset: Any, source: dict[str, np.ndarray]) -> dict[str, Any]:
    """How many numbers of the statistics are there, how many differ, and how far relatively."""

    def load_image(path: str, dtype: Any = np.uint8, channel_first: bool = True) -> np.ndarray:
        name, step = path.rsplit(":", 1)
        picture = source[name][int(step)]
        if picture.shape[2] == 1:
            picture = np.repeat(picture, 3, axis=2)
        return picture.transpose(2, 0, 1)

    compute_stats.load_image_as_numpy = load_image
    rows: list[dict[str, Any]] = []
    for path in sorted((dataset.root / "meta" / "episodes").glob("*/*.parquet")):
        rows.extend(pq.read_table(path).to_pylist())
    told: dict[str, Any] = {"numbers": 0, "unequal": 0, "largest": 0.0, "missing": 0, "places": []}
    total = None
    for number, own in enumerate(compute_statistics(dataset, source)):
        for feature, measures in own.items():
            for measure, wanted in measures.items():
                held = rows[number].get(f"stats/{feature}/{measure}")
                count_differences(told, held, wanted, f"{number}/{feature}/{measure}")
        total = own if total is None else compute_stats.aggregate_stats([total, own])
    for feature, measures in (total or {}).items():
        for measure, wanted in measures.items():
            held = dataset.meta.stats.get(feature, {}).get(measure)
            count_differences(told, held, wanted, f"all/{feature}/{measure}")
    return told


def count_differences(told: dict[str, Any], held: Any, wanted: np.ndarray, place: str) -> None:
    """Add the numbers of one statistic to the count."""
    if held is None or np.shape(held) != np.shape(wanted):
        told["missing"] += 1
        told["places"] = [*told["places"], place][:8]
        return
    wanted = np.asarray(wanted, np.float64)
    differences = np.abs(np.asarray(held, np.float64) - wanted)
    told["numbers"] += wanted.size
    unequal = int((differences > 0).sum())
    told["unequal"] += unequal
    if unequal:
        relative = float((differences / np.maximum(np.abs(wanted), 1e-12)).max())
        told["largest"] = max(told["largest"], relative)
        told["places"] = [*told["places"], place][:8]


def compare_rows(dataset: Any, source: dict[str, np.ndarray]) -> dict[str, Any]:
    """Which columns hold other numbers than the arrays."""
    table = dataset.hf_dataset.with_format("arrow")[:].to_pydict()
    wrong = []
    for name, values in source.items():
        if name.startswith("/") or dataset.meta.features[name]["dtype"] in ("video", "image"):
            continue
        if not np.array_equal(np.asarray(table[name]).reshape(values.shape), values):
            wrong.append(name)
    begins = np.concatenate([[0], source["/ends"][:-1]])
    episode = np.searchsorted(source["/ends"], np.arange(len(source["/tasks"])), side="right")
    frame = np.arange(len(source["/tasks"])) - begins[episode]
    nominal = (frame / dataset.meta.fps).astype(np.float32)
    own = {"episode_index": episode, "frame_index": frame, "timestamp": nominal}
    for name, values in own.items():
        if not np.array_equal(np.asarray(table[name]), values):
            wrong.append(name)
    return {"rows": len(table["index"]), "columns": len(table), "wrong": wrong}


def compare_frames(dataset: Any, source: dict[str, np.ndarray], every: int) -> dict[str, Any]:
    """Errors of frames against the pictures they were made of, in steps of 1/255, and tasks."""
    cameras = [name for name in dataset.meta.camera_keys if name in source]
    told: dict[str, Any] = {"frames": 0, "wrong_tasks": 0, "mean": {}, "largest": {}, "sums": {}}
    errors: dict[str, list[float]] = {name: [] for name in cameras}
    for step in range(0, len(dataset), every):
        item = dataset[step]
        told["frames"] += 1
        told["wrong_tasks"] += item["task"] != str(source["/tasks"][step])
        for name in cameras:
            picture = (item[name] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            told["sums"].setdefault(name, []).append(int(picture.astype(np.int64).sum()))
            difference = np.abs(picture.astype(int) - source[name][step])
            errors[name].append(float(difference.mean()))
            told["largest"][name] = max(told["largest"].get(name, 0), int(difference.max()))
    for name in cameras:
        told["mean"][name] = float(np.mean(errors[name]))
    return told


def check(folder: Path, source: dict[str, np.ndarray], every: int) -> None:
    """Print what `check` finds."""
    dataset = LeRobotDataset(REPO, root=folder)
    told = {"episodes": dataset.num_episodes, "length": len(dataset)}
    told["rows"] = compare_rows(dataset, source)
    told["statistics"] = compare_statistics(dataset, source)
    told["frames"] = compare_frames(dataset, source, every)
    print(json.dumps(told))


def write(folder: Path, source: dict[str, np.ndarray]) -> None:
    """Record the arrays by LeRobot's own writer."""
    features: dict[str, dict[str, Any]] = {}
    for name, values in source.items():
        if name.startswith("/"):
            continue
        shape = values.shape[1:] or (1,)
        picture = values.dtype == np.uint8 and values.ndim == 4
        names = ["height", "width", "channels"] if picture else None
        dtype = "video" if picture else str(values.dtype)
        features[name] = {"dtype": dtype, "shape": shape, "names": names}
    dataset = LeRobotDataset.create(REPO, fps=10, features=features, root=folder)
    start = 0
    for end in source["/ends"].tolist():
        for step in range(start, end):
            frame: dict[str, Any] = {"task": str(source["/tasks"][step])}
            for name in features:
                value = source[name][step]
                frame[name] = np.asarray(value).reshape(features[name]["shape"])
            dataset.add_frame(frame)
        dataset.save_episode(parallel_encoding=False)
        start = end
    dataset.finalize()


def upgrade(folder: Path) -> None:
    """Version 2.1 to 3.0 by LeRobot's converter."""
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    convert_dataset(REPO, root=str(folder), push_to_hub=False)


def speed(folder: Path, windows: int, observed: int, planned: int) -> None:
    """Random windows of neighbouring frames with their states and actions, one at a time."""
    began = time.perf_counter()
    plain = LeRobotDataset(REPO, root=folder)
    rate = plain.meta.fps
    offsets = [-step / rate for step in reversed(range(observed))]
    asked = dict.fromkeys(plain.meta.camera_keys, offsets)
    for name in plain.meta.features:
        if name.startswith("observation."):
            asked[name] = offsets
    asked["action"] = [step / rate for step in range(planned)]
    dataset = LeRobotDataset(REPO, root=folder, delta_timestamps=asked, return_uint8=True)
    opened = time.perf_counter() - began
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(2):
        steps = rng.integers(0, len(dataset), windows)
        began = time.perf_counter()
        for step in steps:
            dataset[int(step)]
        rates.append(windows / (time.perf_counter() - began))
    print(json.dumps({"opened_s": opened, "first": rates[0], "second": rates[1]}))


def main() -> None:
    """See the module's text."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "check":
        check(folder, load_source(sys.argv[3]), int(sys.argv[4]))
    elif what == "write":
        write(folder, load_source(sys.argv[3]))
    elif what == "upgrade":
        upgrade(folder)
    else:
        speed(folder, int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))


main()
