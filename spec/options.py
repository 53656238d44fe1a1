"""Options: fields of dataclasses that the command line fills."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any

REQUIRED: Any = MISSING
"""The default of an option that must be given."""


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
