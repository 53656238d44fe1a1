"""Windows per second from pictures, by cache and number of threads, with the memory that each takes."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from ..commands.words import Word
from ..datasets.frames import CACHES, ChunkFrames, decoded_bytes, open_frames
from ..datasets.store import Store
from ..system.plugins import PACKAGE


@dataclass
class Words:
    """Take random windows of two neighbouring frames, one at a time and in batches; each cache in a process of its own."""

    data: Annotated[str, Word("a store with pictures", positional=True)]
    key: Annotated[str, Word("which pictures")] = "image"
    windows: Annotated[int, Word("windows to take")] = 2000
    batch: Annotated[int, Word("windows in a batch")] = 64
    memory_gb: Annotated[float, Word("memory that decoded frames may take")] = 4.0
    cache: Annotated[str, Word("one cache alone, in this process; empty: every one")] = ""


def run(words: Words) -> None:
    """Print a line per cache: windows per second one by one and in batches, seconds to begin, peak memory."""
    if words.cache:
        print(_line(words))
        return
    store = Store.open(words.data)
    size = sum(
        file.stat().st_size
        for file in Path(words.data, "data", words.key).rglob("*")
        if file.is_file()
    )
    decoded = decoded_bytes(store, [words.key])
    print(
        f"{len(store):,} frames, {size / 1e6:.1f} MB on disk, {decoded / 1e6:.0f} MB decoded ({decoded / size:.1f} times)"
    )
    print(f"{'cache':<8}{'one by one':>14}{'in batches':>14}{'begin s':>10}{'peak MB':>10}")
    for cache in CACHES[1:]:
        own = []
        for name in ("key", "windows", "batch", "memory_gb"):
            own.append(f"{name}={getattr(words, name)}")
        command = [
            sys.executable,
            "-m",
            PACKAGE,
            "bench",
            "windows",
            words.data,
            f"cache={cache}",
            *own,
        ]
        print(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(),
            flush=True,
        )


def _line(words: Words) -> str:
    store = Store.open(words.data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    frames = open_frames(store, [words.key], words.cache, int(words.memory_gb * 1e9))[words.key]
    opened = time.perf_counter() - began
    starts = np.random.default_rng(0).integers(0, len(store) - 1, words.windows)
    began = time.perf_counter()
    for start in starts:
        frames.take(np.array([start, start + 1]))
    single = words.windows / (time.perf_counter() - began)
    if isinstance(frames, ChunkFrames):
        frames = open_frames(store, [words.key], words.cache, 1)[
            words.key
        ]  # nothing left over from before
    began = time.perf_counter()
    for number in range(math.ceil(words.windows / words.batch)):
        chosen = starts[number * words.batch : (number + 1) * words.batch]
        frames.take(np.stack([chosen, chosen + 1], axis=1))
    many = words.windows / (time.perf_counter() - began)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return f"{words.cache:<8}{single:>10.0f} /s{many:>11.0f} /s{opened:>10.2f}{peak:>10.0f}"
