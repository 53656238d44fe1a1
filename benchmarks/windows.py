"""Windows per second from pictures, by cache, with the memory that each takes."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.frames import CACHES, ChunkFrames, count_decoded_bytes, open_frames
from ..datasets.store import Store
from ..spec import REQUIRED, option
from ..system.plugins import PACKAGE


@dataclass
class Options:
    """Take random windows of two neighbouring frames, one at a time and in batches.

    Each cache runs in a process of its own.
    """

    data: str = option(REQUIRED, "a store with pictures", positional=True)
    key: str = option("image", "which pictures")
    windows: int = option(2000, "windows to take")
    batch: int = option(64, "windows in a batch")
    memory_gb: float = option(4.0, "memory that decoded frames may take")
    cache: str = option("", "one cache alone, in this process; empty: every one")


def run(options: Options) -> None:
    """Print windows per second, seconds to begin and peak memory, a line per cache."""
    if options.cache:
        print(_measure(options))
        return
    store = Store.open(options.data)
    size = 0
    for file in Path(options.data, "data", options.key).rglob("*"):
        if file.is_file():
            size += file.stat().st_size
    decoded = count_decoded_bytes(store, [options.key])
    print(
        f"{len(store):,} frames, {size / 1e6:.1f} MB on disk, {decoded / 1e6:.0f} MB decoded "
        f"({decoded / size:.1f} times)"
    )
    print(f"{'cache':<8}{'one by one':>14}{'in batches':>14}{'begin s':>10}{'peak MB':>10}")
    for cache in CACHES[1:]:
        own = []
        for name in ("key", "windows", "batch", "memory_gb"):
            own.append(f"{name}={getattr(options, name)}")
        command = [
            sys.executable,
            "-m",
            PACKAGE,
            "bench",
            "windows",
            options.data,
            f"cache={cache}",
            *own,
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(done.stdout.strip(), flush=True)


def _measure(options: Options) -> str:
    store = Store.open(options.data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    most_bytes = int(options.memory_gb * 1e9)
    frames = open_frames(store, [options.key], options.cache, most_bytes)[options.key]
    opened = time.perf_counter() - began
    starts = np.random.default_rng(0).integers(0, len(store) - 1, options.windows)
    began = time.perf_counter()
    for start in starts:
        frames.take(np.array([start, start + 1]))
    single = options.windows / (time.perf_counter() - began)
    if isinstance(frames, ChunkFrames):
        # Nothing left over from before.
        frames = open_frames(store, [options.key], options.cache, 1)[options.key]
    began = time.perf_counter()
    for number in range(math.ceil(options.windows / options.batch)):
        chosen = starts[number * options.batch : (number + 1) * options.batch]
        frames.take(np.stack([chosen, chosen + 1], axis=1))
    many = options.windows / (time.perf_counter() - began)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return f"{options.cache:<8}{single:>10.0f} /s{many:>11.0f} /s{opened:>10.2f}{peak:>10.0f}"
