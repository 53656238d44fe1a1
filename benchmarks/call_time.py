"""Milliseconds per planning call of a checkpoint, by way of inference, for one row and for many, side by side in one run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from ..commands.words import Word
from ..configs.compose import composed
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_way


@dataclass
class Words:
    """Time calls after warm-up, in turns over the ways, so that a busy moment hits all of them."""

    checkpoint: Annotated[str, Word("a checkpoint or a run", positional=True)]
    ways: Annotated[tuple[str, ...], Word("ways of inference, each as name or name:steps")] = (
        "ddim:10",
        "ddim:3",
        "dpmpp:10",
        "ddpm:100",
    )
    rows: Annotated[tuple[int, ...], Word("rows per call")] = (1, 16)
    calls: Annotated[int, Word("calls per way and number of rows")] = 30
    threads: Annotated[int, Word("threads; 0 leaves torch's own choice")] = 0


def run(words: Words) -> None:
    """Print p50 and p95 per way and number of rows."""
    if words.threads:
        torch.set_num_threads(words.threads)
    model, _ = checkpoint.load(words.checkpoint)
    policies = {way: DiffusionPolicy(model, build_way(_node(words.checkpoint, way))) for way in words.ways}
    print(f"{'way':<12}{'rows':>6}{'NFE':>6}{'p50 ms':>10}{'p95 ms':>10}   ({torch.get_num_threads()} threads)")
    for rows in words.rows:
        times = {way: [] for way in policies}
        nfe = {way: _timed(policy, rows)[1] for way, policy in policies.items()}  # warm-up
        for _ in range(words.calls):
            for way, policy in policies.items():
                times[way].append(_timed(policy, rows)[0])
        for way, seconds in times.items():
            p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
            print(f"{way:<12}{rows:>6}{nfe[way]:>6}{p50:>10.1f}{p95:>10.1f}")


def _node(path: str, way: str) -> dict:
    name, _, steps = way.partition(":")
    return composed("evaluate", [path, f"inference={name}", *([f"inference.steps={steps}"] if steps else [])])["inference"]


def _timed(policy: DiffusionPolicy, rows: int) -> tuple[float, int]:
    """Seconds of one call on a made-up observation, and its NFE."""
    generator = np.random.default_rng(0)
    observation = {
        name: generator.standard_normal((rows, *key.shape)).astype(key.dtype) for name, key in policy.obs_spec.keys.items()
    }
    state = policy.observe(policy.initial_state(range(rows)), observation)
    began = time.perf_counter()
    planned = policy.plan(state, np.arange(rows), np.zeros(rows, np.int64))
    return time.perf_counter() - began, int(planned.nfe[0])
