# pyright: reportMissingImports=false
"""How fast robomimic's own library takes random windows of its HDF5.

Run by its path, by a Python that has robomimic 0.3:

    python _robomimic_peer.py FILE WINDOWS PLANNED

It prints one line of JSON. robomimic takes the observations of all PLANNED steps of a window.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import h5py
import numpy as np
from robomimic.utils import obs_utils
from robomimic.utils.dataset import SequenceDataset


def find_keys(path: str) -> dict[str, list[str]]:
    """The observations of the first demo: pictures, and the rest."""
    found: dict[str, list[str]] = {"rgb": [], "low_dim": []}
    with h5py.File(path) as file:
        demos: Any = file["data"]
        for name, values in demos[next(iter(demos))]["obs"].items():
            if values.dtype == np.uint8 and values.ndim == 4:
                found["rgb"].append(name)
            else:
                found["low_dim"].append(name)
    return found


def measure(path: str, windows: int, planned: int) -> dict[str, float]:
    """Seconds to open the file, and windows per second of the first and the second time."""
    began = time.perf_counter()
    keys = find_keys(path)
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": keys})
    dataset = SequenceDataset(
        path,
        obs_keys=[*keys["low_dim"], *keys["rgb"]],
        dataset_keys=["actions"],
        frame_stack=1,
        seq_length=planned,
        hdf5_cache_mode=None,
        hdf5_use_swmr=False,
        load_next_obs=False,
    )
    opened = time.perf_counter() - began
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(2):
        steps = rng.integers(0, len(dataset), windows)
        began = time.perf_counter()
        for step in steps:
            dataset[int(step)]
        rates.append(windows / (time.perf_counter() - began))
    return {"opened_s": opened, "first": rates[0], "second": rates[1]}


if __name__ == "__main__":
    found = measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print("\n" + json.dumps(found))
