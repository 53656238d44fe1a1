"""The methods of fine-tuning by the dotted names of their settings, as configurations name them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tuner import MethodSettings

_HERE = __name__.rsplit(".", 1)[0]
METHODS: dict[str, tuple[str, ...]] = {
    "method": (
        f"{_HERE}.trainer.PPOSettings",
        f"{_HERE}.noise.NoiseSettings",
        f"{_HERE}.cloning.CloningSettings",
        f"{_HERE}.weighting.WeightingSettings",
        f"{_HERE}.residual.ResidualSettings",
        f"{_HERE}.branch.BranchSettings",
        f"{_HERE}.preferences.PreferenceSettings",
        f"{_HERE}.diwa.DreamSettings",
        f"{_HERE}.values.ValuesSettings",
    ),
}
"""Axis of the configuration -> the settings that it may name. A new method is one line here."""


def read_settings(node: Mapping[str, Any]) -> MethodSettings:
    """The settings that a composed configuration's part names in `_target_`."""
    options = dict(node)
    target = str(options.pop("_target_"))
    module, name = target.rsplit(".", 1)
    settings: type[MethodSettings] = getattr(importlib.import_module(module), name)
    return settings(**options)
