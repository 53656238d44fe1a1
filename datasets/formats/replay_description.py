"""What a replay buffer that hotstart wrote says beside its arrays: rate, task, specifications.

Diffusion Policy's format has no place for them. They stand in the group's attributes, which other
programs leave alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...spec import ActionSpec, ConfigError, DataError, ObsKey, ObsSpec, shorten
from ..episodes import Dataset

NAME = "hotstart"


@dataclass(frozen=True)
class Description:
    """What is said about a replay buffer; empty where nothing is."""

    fps: float | None = None
    task: str = ""
    action_spec: ActionSpec | None = None
    obs: Mapping[str, ObsKey] = field(default_factory=dict)


def describe(dataset: Dataset, task: str) -> dict[str, Any]:
    """The attributes of a group that holds the data set."""
    return {
        NAME: {
            "fps": dataset.fps,
            "task": task,
            "action_spec": dataset.action_spec.to_json(),
            "obs_spec": dataset.obs_spec.to_json(),
        }
    }


def read_description(attributes: Mapping[str, Any], where: str) -> Description:
    """What `describe` wrote; DataError, which begins with `where`, for wrong values."""
    plain = attributes.get(NAME)
    if plain is None:
        return Description()
    try:
        return _parse(plain)
    except (ConfigError, KeyError, TypeError) as error:
        raise DataError(f"{where}: the attribute {NAME!r} is wrong ({shorten(error)})") from error


def _parse(plain: Any) -> Description:
    fps, task = plain["fps"], plain["task"]
    if not isinstance(fps, int | float) or not 0 < fps < math.inf or not isinstance(task, str):
        raise TypeError("fps is a positive number, task a text")
    obs = ObsSpec.from_json(plain["obs_spec"]).keys
    return Description(float(fps), task, ActionSpec.from_json(plain["action_spec"]), obs)
