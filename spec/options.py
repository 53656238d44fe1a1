"""Options: fields of dataclasses that the command line fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, field
from types import MappingProxyType
from typing import Any, NamedTuple

REQUIRED: Any = MISSING
"""The default of an option that must be given."""


class Part(NamedTuple):
    """A part chosen by name, with options of its own: robot=ur5e robot.host=10.0.0.2."""

    name: str
    options: Mapping[str, Any] = MappingProxyType({})


def option(default: Any, meaning: str, unit: str = "", positional: bool = False) -> Any:
    """A field of a dataclass that the command line fills; `--help` shows its meaning and its unit.

    A `default` that can be called is a factory. A `positional` option may be given without its
    name.
    """
    notes = {"meaning": meaning, "unit": unit, "positional": positional}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=notes)
    if callable(default):
        return field(default_factory=default, metadata=notes)
    return field(default=default, metadata=notes)
