"""Time to the first action and reaction time of each sampler, on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..evaluation.results import machine
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..spec import REQUIRED, ConfigError, FloatArray, option
from .call_time import Calls, make_sampler_node, time_in_turns

DRAWS = 10_000


@dataclass
class Options:
    """What happens is seen by the next observation that a plan is made from, and answered by it.

    The time to the first action (TTFA) is that of a planning call. A plan is made every Ta control
    periods, or as often as it takes: the reaction time is uniform over [TTFA, TTFA + that
    interval] (the measure of FASTER).
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    samplers: tuple[str, ...] = option(
        ("ddim:10", "ddim:2", "rti:2", "sdp:4"), "inference= of each, as name or name:steps"
    )
    executed: int | None = option(None, "Ta; none: the checkpoint's own", "ticks")
    rate_hz: float | None = option(None, "control rate; none: that of the checkpoint's data", "Hz")
    calls: int = option(100, "calls per sampler")
    threads: int = option(0, "threads; 0 leaves torch's own choice")


@dataclass(frozen=True)
class Reaction:
    """Times of one sampler [s]."""

    first: FloatArray  # of first plans
    later: FloatArray  # of later plans, the TTFA while it runs
    interval: float  # between two plans
    reaction: FloatArray  # drawn


def run(options: Options) -> None:
    """Print a line for every sampler, in milliseconds."""
    if options.threads:
        torch.set_num_threads(options.threads)
    model, meta = checkpoint.load(options.checkpoint)
    rate_hz = options.rate_hz or meta.get("rate_hz")
    if not rate_hz:
        raise ConfigError("the checkpoint does not say its control rate: give rate_hz")
    policies = {}
    for sampler in options.samplers:
        built = build_sampler(make_sampler_node(options.checkpoint, sampler))
        policies[sampler] = DiffusionPolicy(model, built, options.executed)
    executed = next(iter(policies.values())).horizon.executed
    print(
        f"{machine()}, {torch.get_num_threads()} threads, {rate_hz:g} Hz, Ta {executed} "
        f"({1e3 * executed / rate_hz:.0f} ms), milliseconds"
    )
    print(
        f"{'sampler':<10}{'NFE':>5}{'first plan p50':>16}{'TTFA p50':>10}{'p95':>8}{'p99':>8}"
        f"{'a plan every':>14}{'reaction mean':>15}{'p95':>8}"
    )
    for sampler, (cold, warm) in time_in_turns(policies, 1, options.calls).items():
        found = measure_reaction(cold, warm, executed, 1 / rate_hz)
        p50, p95 = np.percentile(found.later, (50, 95)) * 1e3
        p99 = np.percentile(found.later, 99) * 1e3
        print(
            f"{sampler:<10}{warm[0][1]:>5}{1e3 * np.median(found.first):>16.1f}{p50:>10.1f}"
            f"{p95:>8.1f}{p99:>8.1f}{1e3 * found.interval:>14.1f}"
            f"{1e3 * found.reaction.mean():>15.1f}{1e3 * np.percentile(found.reaction, 95):>8.1f}",
            flush=True,
        )


def measure_reaction(cold: Calls, warm: Calls, executed: int, period_s: float) -> Reaction:
    """Reaction times for chunks of `executed` (Ta) periods of `period_s` [s].

    Where a plan takes longer than its chunk lasts (at the 95th percentile), plans are made less
    often, and the interval is the whole periods that one takes.
    """
    first = np.array([seconds for seconds, _ in cold])
    later = np.array([seconds for seconds, _ in warm])
    needed = math.ceil(float(np.percentile(later, 95)) / period_s - 1e-9)
    interval = max(executed, needed) * period_s
    rng = np.random.default_rng(0)
    reaction = rng.choice(later, DRAWS) + interval * rng.random(DRAWS)
    return Reaction(first, later, interval, reaction)
