"""config.yaml of a checkpoint: what its model is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from ...spec import ActionSpec, CheckpointError, Horizon, ObsSpec, shorten
from ..model import AS_GIVEN, ModelConfig
from ..registry import fill_defaults
from .files import CONFIG, check_kinds

PARTS = ("encoder", "denoiser", "schedule", "actions")
"""Keys that hold a `_target_` and its options."""
CONFIG_KINDS = {
    **dict.fromkeys((*PARTS, "horizon", "obs_spec"), dict),
    "action_spec": list,
    "prediction": str,
    "learned_weighting": bool,
    "anchors": int,
    "noise_policy": dict,
    "residual": dict,
    "values": dict,
    "filter": dict,
}
"""Types of the values of config.yaml; other keys may stand beside them."""


def config_to_plain(config: ModelConfig) -> dict[str, Any]:
    """A model's configuration as plain YAML values."""
    return {
        "encoder": dict(config.encoder),
        "denoiser": dict(config.denoiser),
        "schedule": dict(config.schedule),
        "actions": dict(config.actions),
        "prediction": config.prediction,
        "horizon": asdict(config.horizon),
        "obs_spec": config.obs_spec.to_json(),
        "action_spec": config.action_spec.to_json(),
        "learned_weighting": config.learned_weighting,
        "anchors": config.anchors,
        "noise_policy": dict(config.noise_policy),
        "residual": dict(config.residual),
        "values": dict(config.values),
        "filter": dict(config.filter),
    }


def config_from_plain(plain: Mapping[str, Any]) -> ModelConfig:
    """Read back what `config_to_plain` wrote.

    Raises CheckpointError naming what is missing or odd.
    """
    check_kinds(plain, CONFIG_KINDS, CONFIG)
    try:
        return ModelConfig(
            encoder=plain["encoder"],
            denoiser=plain["denoiser"],
            schedule=plain["schedule"],
            actions=plain.get("actions", AS_GIVEN),  # early checkpoints know nothing else
            prediction=plain["prediction"],
            horizon=Horizon(**plain["horizon"]),
            obs_spec=ObsSpec.from_json(plain["obs_spec"]),
            action_spec=ActionSpec.from_json(plain["action_spec"]),
            learned_weighting=plain.get("learned_weighting", False),
            anchors=plain.get("anchors", 0),
            noise_policy=plain.get("noise_policy", {}),
            residual=plain.get("residual", {}),
            values=plain.get("values", {}),
            filter=plain.get("filter", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{CONFIG} of the checkpoint is not complete: {shorten(error)}"
        ) from error


def find_difference(one: ModelConfig, other: ModelConfig) -> str | None:
    """The first part in which two configurations differ, as they would stand in a file.

    None where they are the same. What an older file leaves out counts as its constructor's default.
    """
    mine, others = _comparable(one), _comparable(other)
    for part in mine:
        if mine[part] != others[part]:
            return part
    return None


def _comparable(config: ModelConfig) -> dict[str, Any]:
    """A configuration as a file holds it, with all defaults; the order of observations counts."""
    plain = config_to_plain(config)
    plain["obs_spec"] = list(plain["obs_spec"].items())
    for part in PARTS:
        plain[part] = fill_defaults(part, plain[part])
    return yaml.safe_load(yaml.safe_dump(plain))
