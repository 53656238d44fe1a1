"""Structured configurations for Hydra, made of the options of verbs, settings and parts."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import field, is_dataclass, make_dataclass
from typing import Any, Literal, Union

from ..spec import REQUIRED
from ..system.options import read_options
from .schema import MISSING

PLAIN = (int, float, bool, str)


def make_node(source: Callable[..., Any], target: str = "", required: bool = False) -> type:
    """A dataclass with the options of a dataclass or the plain parameters of a constructor.

    A constructor comes with its `target`, which becomes the key `_target_`; parameters without a
    default are left out, unless they are `required` of who composes the configuration.
    """
    keys: list[tuple[str, Any, Any]] = []
    if target:
        keys.append(("_target_", str, field(default=target)))
    for option in read_options(source).values():
        if target and option.default is REQUIRED and not required:
            continue
        hint = _convert_hint(option.hint)
        if hint is None and option.default is None:
            hint = Any  # a part with a configuration of its own, as the solver inside a sampler
        if hint is not None:
            keys.append((option.name, hint, _convert_default(hint, option.default)))
    return make_dataclass(getattr(source, "__name__", "Node") + "Node", keys)


def _convert_hint(hint: Any) -> Any:
    """The hint as OmegaConf knows it, or None for what no configuration can hold."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN or hint is Any or origin is dict:
        return hint
    if is_dataclass(hint):
        return make_node(hint)  # type: ignore[arg-type]
    if origin is Literal and {type(part) for part in parts} == {str}:
        return str  # the reader and the constructor know the choices
    if origin in (Sequence, list, tuple) and parts[0] in PLAIN:
        return list[parts[0]]  # type: ignore[valid-type]
    if origin in (Union, types.UnionType) and type(None) in parts:
        inner = [part for part in parts if part is not type(None)]
        if len(inner) == 1 and inner[0] in PLAIN:
            return Union[inner[0], None]  # noqa: UP007
    return None


def _convert_default(hint: Any, default: Any) -> Any:
    if default is REQUIRED:
        return field(default=MISSING)
    if is_dataclass(hint):
        return field(default_factory=hint)  # type: ignore[arg-type]
    if isinstance(default, list | tuple):
        return field(default_factory=lambda: list(default))
    if isinstance(default, dict):
        return field(default_factory=default.copy)
    return field(default=default)
