"""Milliseconds per planning call of a checkpoint, by sampler, for one row and for many."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..configs.compose import compose_config
from ..evaluation.results import machine
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..spec import REQUIRED, option
from ..system import outputs
from ..system.versions import versions


@dataclass
class Options:
    """Time calls after warm-up, in turns over the samplers: a busy moment hits all of them."""

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    samplers: tuple[str, ...] = option(
        ("ddim:10", "ddim:3", "dpmpp:10", "ddpm:100"),
        "inference= of each, as name or name:steps; rti:2 is a warm start",
    )
    rows: tuple[int, ...] = option((1, 16), "rows per call")
    calls: int = option(30, "calls per sampler and number of rows")
    threads: int = option(0, "threads; 0 leaves torch's own choice")
    out: str = option(
        "",
        "file for the times of one row, which `evaluate latency=profile` draws from; empty: none",
    )
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


def run(options: Options) -> None:
    """Print evaluations, p50 and p95 of a row's first plan (cold) and of later ones (warm)."""
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, _ = checkpoint.load(options.checkpoint)
    policies: dict[str, DiffusionPolicy] = {}
    for sampler in options.samplers:
        built = build_sampler(make_sampler_node(options.checkpoint, sampler))
        policies[sampler] = DiffusionPolicy(model, built)
    print(f"{'':<18}{'cold':>24}{'warm':>30}   ({torch.get_num_threads()} threads)")
    print(f"{'sampler':<12}{'rows':>6}" + f"{'NFE':>8}{'p50 ms':>10}{'p95 ms':>10}" * 2)
    profile: dict[str, dict[str, list[float]]] = {}
    for rows in options.rows:
        found = time_in_turns(policies, rows, options.calls)
        for sampler, (cold, warm) in found.items():
            print(f"{sampler:<12}{rows:>6}" + _columns(cold) + _columns(warm))
            if rows == 1:
                profile[sampler.replace(":", "-")] = {
                    "cold": _list_seconds(cold),
                    "warm": _list_seconds(warm),
                }
    if options.out:
        kept = {
            "seconds": profile,
            "machine": machine(),
            "versions": versions(),
            "threads": torch.get_num_threads(),
        }
        outputs.write_text(Path(options.out), json.dumps(kept))


Calls = list[tuple[float, int]]
"""(seconds, NFE) of each call."""


def time_in_turns(
    policies: Mapping[str, DiffusionPolicy], rows: int, calls: int
) -> dict[str, tuple[Calls, Calls]]:
    """Cold and warm calls of every sampler; a first turn warms the machine up and is dropped."""
    found: dict[str, tuple[Calls, Calls]] = {sampler: ([], []) for sampler in policies}
    for turn in range(calls + 1):
        for sampler, policy in policies.items():
            cold, warm = two_calls(policy, rows, turn)
            if turn:
                found[sampler][0].append(cold)
                found[sampler][1].append(warm)
    return found


def _list_seconds(calls: Calls) -> list[float]:
    return [seconds for seconds, _ in calls]


def _columns(calls: Calls) -> str:
    p50, p95 = np.percentile(_list_seconds(calls), (50, 95)) * 1e3
    return f"{calls[0][1]:>8}{p50:>10.1f}{p95:>10.1f}"


def make_sampler_node(path: str, sampler: str) -> dict:
    """The configuration of a sampler that is named as `ddim:10`."""
    name = sampler.split(":")[0]
    words = [path, f"inference={name}"]
    steps = sampler.partition(":")[2]
    if steps:
        words.append(f"inference.steps={steps}")
    return compose_config("evaluate", words)["inference"]


def two_calls(
    policy: DiffusionPolicy, rows: int, seed: int
) -> tuple[tuple[float, int], tuple[float, int]]:
    """A row's first plan and the next one, on made-up observations."""
    generator = np.random.default_rng(seed)
    state = policy.initial_state(range(rows))
    calls = []
    executed = np.full(rows, policy.horizon.executed)
    for _ in range(2):
        observation = {}
        for name, key in policy.obs_spec.keys.items():
            observation[name] = generator.standard_normal((rows, *key.shape)).astype(key.dtype)
        state = policy.observe(state, observation)
        began = time.perf_counter()
        planned = policy.plan(state, np.arange(rows), executed)
        calls.append((time.perf_counter() - began, int(planned.nfe[0])))
        state = policy.adopt(state, planned)
    return calls[0], calls[1]
