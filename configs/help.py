"""The help printer: what a verb does, and every option with meaning, unit, type and default."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union

from ..spec import REQUIRED, Part
from ..system.options import Option, read_options
from .reader import PLAIN_TYPES
from .schema import MISSING

WIDEST = 28
"""Columns that the longest names may take before their meanings."""


def describe_verb(usage: str, cls: type) -> str:
    """Usage, the dataclass's docstring, and its options."""
    options = read_options(cls)
    return "\n".join([*describe_head(usage, cls, options), *describe_options(options.values())])


def describe_head(usage: str, cls: type, options: Mapping[str, Option]) -> list[str]:
    """The usage with positional options in capitals, and what the dataclass's docstring says."""
    parts = [usage]
    for option in options.values():
        if option.positional:
            parts.append(_name_positional(option))
    if any(not option.positional for option in options.values()):
        parts.append("[key=value ...]")
    return [" ".join(parts), "", inspect.cleandoc(cls.__doc__ or ""), ""]


def describe_options(options: Iterable[Option], prefix: str = "") -> list[str]:
    """A line for each option, names below each other.

    `prefix` leads into a part, as `denoiser.`.
    """
    listed = list(options)
    width = 1 + max((len(prefix + option.name) for option in listed), default=0)
    width = min(width, WIDEST)
    return [f"  {f'{prefix}{o.name}=':<{width}}  {_describe(o)}" for o in listed]


def describe_choices(
    name: str, meaning: str, default: str, choices: Mapping[str, str]
) -> list[str]:
    """An axis with its choices, each on a line with its meaning."""
    width = max((len(choice) for choice in choices), default=0)
    lines = [f"  {name}=  {meaning} (default {default}):"]
    for choice, text in choices.items():
        lines.append(f"      {choice:<{width}}  {text}".rstrip())
    return lines


def _name_positional(option: Option) -> str:
    name = option.name.upper()
    if typing.get_origin(option.hint) is tuple:
        name = f"{name} ..."
    if option.default is REQUIRED:
        return name
    return f"[{name}]"


def _describe(option: Option) -> str:
    """Meaning, unit, type and default of an option."""
    parts = [option.meaning]
    if option.unit:
        parts.append(f"[{option.unit}]")
    if option.default is REQUIRED or str(option.default) == MISSING:
        default = "must be given"
    else:
        default = f"default {describe_value(option.default)}"
    kind = describe_type(option.hint)
    notes = [default]
    if kind:
        notes = [kind, default]
    parts.append(f"({'; '.join(notes)})")
    return " ".join(parts).strip()


def describe_value(value: Any) -> str:
    """A default as the user would write it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, Part):
        return value.name
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return ",".join(describe_value(part) for part in value) or "empty"
    return str(value) or "empty"


def describe_type(hint: Any) -> str:
    """A type in plain words; empty where any value is taken."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        names = [describe_type(part) for part in parts if part is not type(None)]
        if not all(names):
            return ""
        return " or ".join([*names, "none"])
    if origin is Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (tuple, list):
        return f"{describe_type(parts[0])}, separated by commas"
    if origin is dict:
        return "name:value, separated by commas"
    return PLAIN_TYPES.get(hint, "")
