"""Time per chunk of a LeRobot policy: LeRobot's own code, and its weights in our samplers."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..policy.diffusion.solvers import DDIM
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.foreign.lerobot import import_policy
from ..policy.runtime.base import use_runtime
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.warm_start import WarmStart
from ..spec import REQUIRED, option
from .call_time import two_calls
from .inference import RUNTIMES

PEER = Path(__file__).with_name("_lerobot_peer.py")


@dataclass
class Options:
    """Time chunks of one row, with random weights.

    LeRobot runs in a Python of its own, right before ours, with as many threads.
    """

    python: str = option(REQUIRED, "a Python with lerobot 0.6 and diffusers", positional=True)
    kind: str = option("low_dim", "low_dim or image")
    channels: tuple[int, ...] = option((64, 128, 256), "the U-Net's channels")
    calls: int = option(20, "chunks by each")
    threads: int = option(1, "threads of either")
    runtimes: tuple[str, ...] = option((), f"runtimes of the warm start too: {', '.join(RUNTIMES)}")


def run(options: Options) -> None:
    """Print milliseconds per chunk and the ratio to LeRobot's default (DDPM in 100 steps)."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.python,
            str(PEER),
            folder,
            options.kind,
            str(options.calls),
            *map(str, options.channels),
        ]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
        )
        peer = np.load(Path(folder, "answer.npz"))["seconds"]
        model = import_policy(Path(folder))
    print(f"{'':<34}{'NFE':>6}{'p50 ms':>10}{'p95 ms':>10}{'ratio':>8}")
    base = _print_row("LeRobot, DDPM-100 (its default)", 100, peer, None)
    samplers: dict[str, Sampler] = {
        "imported, DDPM-100": Fresh(100, DDIM(1.0)),
        "imported, DDIM-10": Fresh(10),
        "imported, RTI, later plans": WarmStart(2),
    }
    for name, sampler in samplers.items():
        _time_calls(options, name, DiffusionPolicy(model, sampler), base)
    for runtime in options.runtimes:
        use_runtime(model, RUNTIMES[runtime](options.threads))
        _time_calls(options, f"the same, {runtime}", DiffusionPolicy(model, WarmStart(2)), base)


def _time_calls(options: Options, name: str, policy: DiffusionPolicy, base: float) -> None:
    """Time later plans and print their row; the first call warms up."""
    seconds: list[float] = []
    nfe = 0
    for seed in range(options.calls + 1):
        took_s, nfe = two_calls(policy, 1, seed)[1]
        seconds.append(took_s)
    _print_row(name, nfe, np.array(seconds[1:]), base)


def _print_row(name: str, nfe: int, seconds: np.ndarray, base: float | None) -> float:
    """Print a row; returns its median [ms]."""
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    ratio = ""
    if base is not None:
        ratio = f"{base / p50:8.1f}"
    print(f"{name:<34}{nfe:>6}{p50:>10.1f}{p95:>10.1f}{ratio}")
    return float(p50)
