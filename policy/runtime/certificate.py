"""Certificates: how far a runtime's plans lie from PyTorch's over recorded observations.

Both policies plan from the same states: each plan continues PyTorch's plan before it, and both draw
the same noise. So a difference is the engine's own and does not add up over an episode.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.arrays import Arrays
from ...datasets.episodes import ACTION, Dataset
from ...spec import ConfigError, DataError, Executed, FloatArray, Planned, Policy, unknown
from ...system import outputs
from ..diffusion_policy import DiffusionPolicy
from ..state import PolicyState

FORMAT = 1
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.1}
"""Greatest difference of plans that is passed, by number format [normalised units, -1 to 1]."""
EPISODE_PLANS = 10
"""Most plans of one recorded episode: the others come from further ones."""


@dataclass(frozen=True)
class Differences:
    """What `compare_plans` measured."""

    plans: int
    plan_max: float
    """Greatest absolute difference of plans [normalised units]."""
    plan_mean: float
    action_max: tuple[float, ...]
    """Greatest absolute difference of each number of decoded actions, in its own unit."""
    action_mean: tuple[float, ...]
    eager_ms: dict[str, float]
    """Median and 99th percentile of a plan by PyTorch, p50 and p99 [ms]."""
    runtime_ms: dict[str, float]


@dataclass(frozen=True)
class Certificate:
    """Differences of one runtime, for one checkpoint and one sampler."""

    checkpoint: str
    """SHA-256 of the weights."""
    runtime: str
    """Its label, as openvino-bf16."""
    inference: str
    """The sampler's label, as rti-2."""
    sampler: dict[str, Any]
    """Its configuration."""
    tolerance: float
    """Greatest difference of plans that is passed [normalised units]."""
    differences: Differences
    data: str
    """Name of the data set whose observations were planned from."""
    machine: dict[str, Any]
    versions: dict[str, str]
    made: str
    """Day of the measurement."""

    @property
    def passed(self) -> bool:
        """Whether all plans lie within the tolerance."""
        return self.differences.plan_max <= self.tolerance

    def save(self, folder: Path) -> Path:
        """Write it beside the weights; a later save of the checkpoint removes it."""
        path = find_path(folder, self.runtime, self.inference)
        plain = {**asdict(self), "format": FORMAT}
        outputs.write_text(path, json.dumps(plain, indent=2, allow_nan=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Certificate:
        """Read what `save` wrote; raises ConfigError for anything else."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            if plain.pop("format") != FORMAT:
                raise ValueError(f"format {FORMAT} is wanted")
            plain["tolerance"] = float(plain["tolerance"])
            differences = Differences(**plain.pop("differences"))
            float(differences.plan_max)
            return cls(differences=differences, **plain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is no certificate of a runtime: {error}") from error


def find_path(folder: Path, runtime: str, inference: str) -> Path:
    """Where the certificate of a runtime and a sampler lies in a checkpoint's folder."""
    return folder / f"certificate_{runtime}_{inference}.json"


def find_tolerance(runtime: str, wanted: float | None) -> float:
    """The tolerance that is asked for, or that of the runtime's number format."""
    if wanted is None:
        return TOLERANCES[runtime.rpartition("-")[2]]
    if not 0 < wanted < float("inf"):
        raise ConfigError(f"tolerance is {wanted}; a number above 0 is wanted")
    return wanted


def compare_plans(
    eager: DiffusionPolicy, other: Policy, dataset: Dataset, plans: int, seed: int = 0
) -> Differences:
    """Plan `plans` times by both policies, in turns, along the episodes of a data set.

    Raises ConfigError for fewer than one plan, DataError for data without an observation that the
    policy wants or with no step at all.
    """
    if plans < 1:
        raise ConfigError(f"plans is {plans}; at least 1 is wanted")
    for name in eager.obs_spec.keys:
        if name not in dataset.keys:
            raise DataError(unknown("observation", name, list(dataset.keys)))
    ends = np.asarray(dataset.episode_ends)
    starts = np.concatenate(([0], ends[:-1]))
    pairs: list[tuple[Planned, Planned]] = []
    seconds: list[tuple[float, float]] = []
    order = np.random.default_rng(seed).permutation(len(ends))
    for episode in order.tolist():
        state = eager.initial_state([seed + episode])
        most = min(EPISODE_PLANS, plans - len(pairs))
        for tick in range(int(starts[episode]), int(ends[episode])):
            state = observe_tick(eager, state, dataset, tick)
            if (tick - starts[episode]) % eager.horizon.executed or most == 0:
                continue
            pair, times = plan_by_both(eager, other, state)
            pairs.append(pair)
            seconds.append(times)
            state = eager.adopt(state, pair[0])
            most -= 1
        if len(pairs) == plans:
            break
    if not pairs:
        raise DataError("the data set has no step to plan from")
    return summarise(pairs, np.array(seconds))


def draw_observations(policy: DiffusionPolicy, plans: int, seed: int = 0) -> Arrays:
    """Observations to plan from where none are recorded: enough for `plans` plans.

    States are drawn evenly within the range that the checkpoint's statistics give, pictures at
    random; an instruction is empty.
    """
    generator = np.random.default_rng(seed)
    steps = EPISODE_PLANS * policy.horizon.executed
    episodes = []
    for _ in range(math.ceil(plans / EPISODE_PLANS)):
        episode: dict[str, Any] = {ACTION: np.zeros((steps, policy.action_spec.width))}
        for name, key in policy.obs_spec.keys.items():
            shape = (steps, *key.shape)
            if key.kind == "state":
                drawn = torch.as_tensor(generator.uniform(-1, 1, shape), dtype=torch.float32)
                episode[name] = policy.model.normalizer.denormalize(name, drawn).cpu().numpy()
            elif key.kind == "image":
                episode[name] = generator.integers(0, 256, shape, np.uint8)
            else:
                episode[name] = np.zeros(shape, np.uint8)
        episodes.append(episode)
    return Arrays(episodes, 1.0, policy.action_spec, policy.obs_spec)


def observe_tick(
    policy: DiffusionPolicy, state: PolicyState, dataset: Dataset, tick: int
) -> PolicyState:
    """The state of one row after it has seen a recorded step."""
    frame = {}
    for name in policy.obs_spec.keys:
        frame[name] = np.asarray(dataset.rows(name, tick, tick + 1))
    return policy.observe(state, frame, Executed.nothing(1, policy.action_spec.width))


def plan_by_both(
    eager: DiffusionPolicy, other: Policy, state: PolicyState
) -> tuple[tuple[Planned, Planned], tuple[float, float]]:
    """The plans of one state by both policies, and the seconds that each took."""
    executed = np.full(1, eager.horizon.executed)
    planned = []
    seconds = []
    for policy in (eager, other):
        began = time.perf_counter()
        planned.append(policy.plan(state, np.zeros(1, np.int64), executed))
        seconds.append(time.perf_counter() - began)
    return (planned[0], planned[1]), (seconds[0], seconds[1])


def summarise(pairs: list[tuple[Planned, Planned]], seconds: FloatArray) -> Differences:
    """Differences of pairs of plans, and percentiles of seconds (N, 2)."""
    plans = np.stack([np.abs(one.plan.x - other.plan.x) for one, other in pairs])
    actions = np.stack([np.abs(one.actions - other.actions) for one, other in pairs])
    each = actions.reshape(-1, actions.shape[-1])
    return Differences(
        plans=len(pairs),
        plan_max=float(plans.max()),
        plan_mean=float(plans.mean()),
        action_max=tuple(map(float, each.max(0))),
        action_mean=tuple(map(float, each.mean(0))),
        eager_ms=describe_times(seconds[:, 0]),
        runtime_ms=describe_times(seconds[:, 1]),
    )


def describe_times(seconds: FloatArray) -> dict[str, float]:
    """Median and 99th percentile [ms]."""
    p50, p99 = 1000 * np.percentile(seconds, (50, 99))
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}
