"""Options of verbs, parts and environments: name, type, default, meaning and unit, read from where
they are declared.

A dataclass declares its options by `spec.option`. A constructor declares them by its signature and
by lines `NAME: MEANING` in its docstring, units in brackets; a meaning ends at the next
name or an empty line.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from ..spec import REQUIRED
from .plugins import hints_of

MEANING = re.compile(r"^(\w+): (.+(?:\n(?!\w+: ).+)*)", re.MULTILINE)
"""`NAME: MEANING` in a docstring, with the lines up to the next name or an empty line."""


@dataclass(frozen=True)
class Option:
    """An option: `default` is REQUIRED where it must be given.

    A `positional` one may be given without its name.
    """

    name: str
    hint: Any
    default: Any
    meaning: str = ""
    unit: str = ""
    positional: bool = False


def read_options(source: Callable[..., Any]) -> dict[str, Option]:
    """The options of a dataclass, or the parameters of a constructor or function, by name."""
    if is_dataclass(source):
        return _read_fields(source)
    return _read_parameters(source)


def _read_fields(cls: Any) -> dict[str, Option]:
    hints = typing.get_type_hints(cls)
    found = {}
    for field in fields(cls):
        if field.default_factory is MISSING:
            default = field.default
        else:
            default = field.default_factory()
        notes = field.metadata
        found[field.name] = Option(
            field.name,
            hints[field.name],
            default,
            notes.get("meaning", ""),
            notes.get("unit", ""),
            notes.get("positional", False),
        )
    return found


def _read_parameters(factory: Callable[..., Any]) -> dict[str, Option]:
    meanings = _read_meanings(factory)
    hints = hints_of(factory)
    found = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.default is parameter.empty:
            default = REQUIRED
        else:
            default = parameter.default
        found[name] = Option(name, hints.get(name, Any), default, meanings.get(name, ""))
    return found


def _read_meanings(factory: Callable[..., Any]) -> dict[str, str]:
    """Meanings of a constructor's parameters by name, from the lines of its docstring."""
    if inspect.isclass(factory):
        documented = factory.__init__
    else:
        documented = factory
    found = {}
    for name, text in MEANING.findall(inspect.getdoc(documented) or ""):
        found[name] = " ".join(text.split())
    return found
