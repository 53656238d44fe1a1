"""Writes robomimic's HDF5, with checksums over the numbers and over the file's own structure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...spec import DataError
from ..episodes import ACTION, Dataset, count_steps, episode_slice, list_extras
from ..locks import hold
from ..store import refuse_full_disk
from ..writing import name_unfinished
from .foreign_data import Progress
from .robomimic import NAMES, OURS

GYM = 2
"""robomimic's EnvType.GYM_TYPE: what env_args says where the data does not know better."""
CHUNK_BYTES = 1 << 20


def write_robomimic(dataset: Dataset, target: Path, task: str, progress: Progress) -> None:
    """Write every episode as a demo; `target` appears when the file is whole.

    A file that was cut off cannot be gone on with: it is begun anew. A data set that came from
    robomimic keeps its env_args and masks. Where there is no reward, 1 stands at steps of success;
    `dones` is 1 there and at the last step. What the format has no place for (rate, names, units,
    timestamps) is kept in an attribute `hotstart` and beside the actions. Raises DataError where
    the target exists or the disk is full.
    """
    if target.exists():
        raise DataError(f"{target} is there already: choose another target, or delete it")
    making = name_unfinished(target)
    with hold(target, shared=True), refuse_full_disk(f"{target} cannot be written"):
        making.unlink(missing_ok=True)
        with h5py.File(making, "w", libver=("v110", "v110")) as file:
            _write_file(file, dataset, task, progress)
        making.rename(target)


def _write_file(file: h5py.File, dataset: Dataset, task: str, progress: Progress) -> None:
    data = file.create_group("data")
    data.attrs["total"] = count_steps(dataset)
    data.attrs["env_args"] = getattr(dataset, "env_args", "") or _describe_env(dataset, task)
    data.attrs[OURS] = json.dumps(
        {
            "fps": dataset.fps,
            "task": task,
            "action_spec": dataset.action_spec.to_json(),
            "obs_spec": dataset.obs_spec.to_json(),
            "extras": list_extras(dataset.keys),
        }
    )
    count = len(dataset.episode_ends)
    for number in range(count):
        _write_demo(data.create_group(f"demo_{number}"), dataset, number)
        progress(number + 1, count)
    masks: Mapping[str, list[int]] = getattr(dataset, "masks", {})
    for name, numbers in masks.items():
        file[f"mask/{name}"] = np.array([f"demo_{number}" for number in numbers], "S")


def _describe_env(dataset: Dataset, task: str) -> str:
    """env_args of an environment that the data set does not name."""
    kwargs = {"control_freq": dataset.fps}
    return json.dumps({"env_name": task or "unknown", "type": GYM, "env_kwargs": kwargs})


def _write_demo(demo: h5py.Group, dataset: Dataset, number: int) -> None:
    steps = episode_slice(dataset.episode_ends, number)
    length = steps.stop - steps.start
    demo.attrs["num_samples"] = length
    held = {key: dataset.rows(key, steps.start, steps.stop) for key in dataset.keys}
    success = held.get("success", np.zeros(length, np.bool_))
    dones = success.astype(np.int64)
    dones[-1] = 1
    _write(demo, "dones", dones)
    if "reward" not in held:
        _write(demo, "rewards", success.astype(np.float32))
    for key in dataset.obs_spec.keys:
        values = held.pop(key)
        _write(demo, f"obs/{key}", values)
        _write(demo, f"next_obs/{key}", np.concatenate([values[1:], values[-1:]]))
    for key, values in held.items():
        _write(demo, NAMES.get(key, key), values)
    if ACTION not in held:
        raise DataError(f"episode {number} has no actions")


def _write(demo: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """An array in chunks with checksums: pictures one a chunk and packed, numbers many a chunk."""
    row_bytes = max(values[:1].nbytes, 1)
    rows = min(len(values), max(CHUNK_BYTES // row_bytes, 1))
    packing: int | None = None
    if values.ndim == 4:
        rows, packing = 1, 1
    demo.create_dataset(
        name,
        data=values,
        chunks=(rows, *values.shape[1:]),
        compression=packing,
        fletcher32=True,
    )
