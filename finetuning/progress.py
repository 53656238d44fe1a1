"""How fast a fine-tuning learned: success of its rollouts over its steps, and its gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

WINDOW = 100
"""Episodes that a running mean is taken over, at least."""
GAINS = (10, 20)
"""Gains over the base whose real steps are told [percentage points]."""


class CurvePoint(TypedDict):
    """One rollout of the learning curve."""

    steps: int  # control periods of training so far; of a run in dreams the imagined ones
    success: float  # of its episodes, with the noise of exploration
    episodes: int
    mean: float | None  # over the last WINDOW episodes or more; None before there are as many
    disagreement: NotRequired[float]  # of a run in dreams [standard deviations of a change]


def read_curve(metrics: Sequence[Mapping[str, float]]) -> list[CurvePoint]:
    """The learning curve that the records of a fine-tuning hold; others are passed over."""
    curve: list[CurvePoint] = []
    for record in metrics:
        if not {"training_steps", "success", "episodes"} <= record.keys():
            continue
        point = CurvePoint(
            steps=int(record["training_steps"]),
            success=float(record["success"]),
            episodes=int(record["episodes"]),
            mean=None,
        )
        if "imagined_steps" in record:
            point["steps"] = int(record["imagined_steps"])
            point["disagreement"] = float(record.get("disagreement", 0.0))
        curve.append(point)
        point["mean"] = _average_last(curve)
    return curve


def was_dreamed(curve: Sequence[CurvePoint]) -> bool:
    """Whether the rollouts were imagined ones."""
    return any("disagreement" in point for point in curve)


def _average_last(curve: Sequence[CurvePoint]) -> float | None:
    """Success over the last rollouts that hold WINDOW episodes together."""
    episodes = 0
    successes = 0.0
    for point in reversed(curve):
        episodes += point["episodes"]
        successes += point["success"] * point["episodes"]
        if episodes >= WINDOW:
            return successes / episodes
    return None


def find_gains(curve: Sequence[CurvePoint], base: float | None) -> dict[str, int | None]:
    """Real steps until the running mean first lay 10 and 20 points above the base's success.

    None where it never did, where the base's success is not reported, and for a run in dreams.
    """
    found: dict[str, int | None] = {str(points): None for points in GAINS}
    if base is None or was_dreamed(curve):
        return found
    for points in GAINS:
        found[str(points)] = find_steps(curve, base + points / 100)
    return found


def find_steps(curve: Sequence[CurvePoint], goal: float) -> int | None:
    """Real steps until the running mean first reached a success rate."""
    for point in curve:
        if point["mean"] is not None and point["mean"] >= goal - 1e-9:
            return point["steps"]
    return None
