"""Time per chunk of a LeRobot policy: LeRobot's own code by its defaults, and the same weights
imported, by several ways.
"""

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
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.warm_start import WarmStart
from ..spec import REQUIRED, option
from .call_time import two_calls

PEER = Path(__file__).with_name("_lerobot_peer.py")


@dataclass
class Options:
    """One row, random weights; LeRobot runs in a Python of its own, right before ours, with as
    many threads.
    """

    python: str = option(REQUIRED, "a Python with lerobot 0.6 and diffusers", positional=True)
    kind: str = option("low_dim", "low_dim or image")
    channels: tuple[int, ...] = option((64, 128, 256), "the U-Net's channels")
    calls: int = option(20, "chunks by each")
    threads: int = option(1, "threads of either")


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
    base = _line("LeRobot, DDPM-100 (its default)", 100, peer, None)
    samplers: dict[str, Sampler] = {
        "imported, DDPM-100": Fresh(100, DDIM(1.0)),
        "imported, DDIM-10": Fresh(10),
        "imported, RTI, later plans": WarmStart(2),
    }
    for name, sampler in samplers.items():
        calls = [
            two_calls(DiffusionPolicy(model, sampler), 1, seed)[1]
            for seed in range(options.calls + 1)
        ][1:]
        _line(name, calls[0][1], np.array([seconds for seconds, _ in calls]), base)


def _line(name: str, nfe: int, seconds: np.ndarray, base: float | None) -> float:
    """Print a row; returns its median."""
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    print(
        f"{name:<34}{nfe:>6}{p50:>10.1f}{p95:>10.1f}{'' if base is None else f'{base / p50:8.1f}'}"
    )
    return float(p50)
