"""Results of format 1, converted as they are read: their files call some things by other names.

The only place that knows these names. Nothing on disk is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..system.old_names import convert_task_options, rename_keys

RESULT_KEYS = {"weights": "precision", "slots": "num_envs", "settings": "sampler_settings"}
SAMPLER_KEYS = {"rising": "ramp", "least_start": "min_start"}
SOLVER_DEFAULTS = {"min_std": 0.0}
"""What solvers did before they had a setting for it."""
SAMPLER_FOLDER = "hotstart.policy.diffusion."
SAMPLERS = {
    "plans.Fresh": "fresh.Fresh",
    "warm_start.WarmStart": "warm_start.WarmStart",
    "streaming.Streaming": "streaming.Streaming",
    "chunking.RealTimeChunking": "real_time_chunking.RealTimeChunking",
    "bidirectional.BidirectionalDecoding": "bidirectional.BidirectionalDecoding",
    "anchored.Anchored": "anchored.Anchored",
    "classifier_free.ClassifierFreeGuidance": "classifier_free.ClassifierFreeGuidance",
}
"""Old places of samplers in `hotstart.policy.diffusion`; new ones in `hotstart.policy.samplers`."""


def convert_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result by the names of today: keys, settings of the sampler, options of the task."""
    converted = dict(rename_keys(result, RESULT_KEYS))
    if "sampler_settings" in converted:
        converted["sampler_settings"] = _convert_sampler(converted["sampler_settings"])
    if "task_options" in converted:
        converted["task_options"] = convert_task_options(converted["task_options"])
    return converted


def _convert_sampler(settings: Any) -> Any:
    """Settings of a sampler, with its class's place of today; what is no mapping stays."""
    renamed = rename_keys(settings, SAMPLER_KEYS)
    if not isinstance(renamed, Mapping) or not isinstance(renamed.get("_target_"), str):
        return renamed
    solver = renamed.get("solver")
    if isinstance(solver, Mapping):
        renamed = {**renamed, "solver": {**SOLVER_DEFAULTS, **solver}}
    target = renamed["_target_"]
    moved = SAMPLERS.get(target.removeprefix(SAMPLER_FOLDER))
    if moved is not None and target.startswith(SAMPLER_FOLDER):
        return {**renamed, "_target_": f"hotstart.policy.samplers.{moved}"}
    return renamed
