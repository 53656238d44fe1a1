"""The runtime that a composed configuration asks for, put behind a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..policy.model import PolicyModel
from ..policy.registry import build
from ..policy.runtime.base import Runtime, use_runtime


def build_runtime(config: Mapping[str, Any]) -> Runtime:
    """The runtime; raises ConfigError for options that it does not have."""
    return build("runtime", config["runtime"])


def set_up_model(config: Mapping[str, Any], model: PolicyModel) -> PolicyModel:
    """The model with the precision and the runtime of a configuration."""
    return use_runtime(model.set_precision(config["precision"]), build_runtime(config))
