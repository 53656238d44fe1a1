"""What a plan is charged with in simulation: nothing, a constant time, or times that were measured
on a machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..planners import DelayedPlanner, ImmediatePlanner, Latency, constant_latency, drawn_latency
from ..spec import ConfigError, DataError, Policy, cut, shorten
from ..system.plugins import fits
from ..system.untrusted import read_json

UNITS_S = {"s": 1.0, "ms": 1e-3}
PLANNERS = ("sync", "async")
LONGEST_S = 1000.0
"""No plan takes longer."""
SURE = 0.95
"""An asynchronous controller asks early enough for this share of its plans to be in time."""


@dataclass(frozen=True)
class LatencyModel:
    """The seconds that plans take: `cold_s` are those of a row's first plan, `warm_s` of the later
    ones.
    """

    cold_s: Sequence[float]
    warm_s: Sequence[float]

    @property
    def expected_s(self) -> float:
        """What a plan is said to take when it is asked for."""
        return float(np.quantile(self.warm_s, SURE))

    @property
    def mean_s(self) -> float:
        """Mean time of a later plan."""
        return float(np.mean(self.warm_s))

    def latency(self, seeds: Sequence[int]) -> Latency:
        """The time of every plan of rows with these seeds."""
        if len(set(self.cold_s)) == len(set(self.warm_s)) == 1 and self.cold_s[0] == self.warm_s[0]:
            return constant_latency(self.cold_s[0])
        return drawn_latency(self.cold_s, self.warm_s, seeds)


@dataclass(frozen=True)
class PlannerTiming:
    """How a controller asks: what plans are charged with, and with how many actions left the next
    one is asked for.
    """

    latency_model: LatencyModel | None
    replan_at: int

    @classmethod
    def of(cls, config: Mapping[str, Any], sampler: str, rate_hz: float) -> PlannerTiming:
        """From the keys latency, profile and planner of an evaluation by `sampler` (as `rti-2`)."""
        if config["planner"] not in PLANNERS:
            raise ConfigError(
                f"planner is {config['planner']!r}; choose one of {', '.join(PLANNERS)}"
            )
        latency_model = parse(config["latency"], config["profile"], sampler)
        replan_at = 0
        if latency_model is not None and config["planner"] == "async":
            replan_at = int(np.ceil(latency_model.expected_s * rate_hz - 1e-9))
        return cls(latency_model, replan_at)

    def planner(self, policy: Policy, seeds: Sequence[int]) -> ImmediatePlanner | DelayedPlanner:
        """A planner for one episode in each row."""
        if self.latency_model is None:
            return ImmediatePlanner(policy)
        return DelayedPlanner(
            policy, self.latency_model.latency(seeds), self.latency_model.expected_s
        )


def parse(latency: str, profile: str, sampler: str) -> LatencyModel | None:
    """`none`, a time as `0.1s` or `100ms`, or `profile`: measured times of `sampler`, read from the
    file `profile`.
    """
    if latency == "none":
        return None
    if latency == "profile":
        return read_profile(Path(profile), sampler)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|ms)", latency)
    if not found:
        raise ConfigError(
            f"latency is {latency!r}; write none, a time as 0.1s or 100ms, or profile"
        )
    seconds = float(found[1]) * UNITS_S[found[2]]
    return LatencyModel([seconds], [seconds])


def read_profile(path: Path, sampler: str) -> LatencyModel:
    """The times of a sampler from a file that `hotstart bench call_time` wrote."""
    asked = sampler.replace("-", ":")
    wanted = f"`hotstart bench call_time CHECKPOINT samplers={asked} out={path}` measures one"
    if not path.is_file():
        raise DataError(f"there is no latency profile {path}: {wanted}")
    try:
        found = read_json(path, DataError)
    except DataError as error:
        raise DataError(f"{path} is no latency profile ({error}): {wanted}") from None
    measured = None
    if isinstance(found, dict):
        measured = found.get("seconds")
    if not isinstance(measured, dict):
        raise DataError(f"{path} is no latency profile: {wanted}")
    if sampler not in measured:
        raise DataError(
            f"{path} holds no times of {sampler}, only of {cut(', '.join(measured))}: {wanted}"
        )
    times = measured[sampler]
    if not isinstance(times, dict):
        times = {}
    return LatencyModel(_read_times(times, "cold", path), _read_times(times, "warm", path))


def _read_times(times: Mapping[str, Any], part: str, path: Path) -> list[float]:
    """Measured seconds; raises DataError where there are none, or where some are no times."""
    found = times.get(part)
    if not isinstance(found, list) or not fits(found, list[float]) or not found:
        raise DataError(
            f"{path} holds {shorten(found)} as times of {part} plans; a list of seconds is wanted"
        )
    if not all(0 <= seconds <= LONGEST_S for seconds in found):
        raise DataError(
            f"{path} holds times of {part} plans that are none: {shorten(found)}; "
            f"0 to {LONGEST_S} s are possible"
        )
    return found
