"""Parts made in Python as the configuration that makes them again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..spec import ConfigError
from .registry import PLAIN

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def node(part: Callable[..., Any] | Mapping[str, Any], /, **options: Any) -> dict[str, Any]:
    """The configuration of a part: its class, and the options that differ from the class's own.

    `part` is the class, `functools.partial(Class, option=value)`, or a configuration. Options that
    are parts themselves are described in the same way.
    """
    found: dict[str, Any] = {}
    if isinstance(part, Mapping):
        found |= part
    elif isinstance(part, partial):
        if part.args:
            raise ConfigError(f"give the options of {part.func.__name__} by name, in a partial too")
        found |= {"_target_": _name_target(part.func), **part.keywords}
    else:
        found["_target_"] = _name_target(part)
    for name, value in {**found, **options}.items():
        if callable(value):
            found[name] = node(value)
        else:
            found[name] = value
    return found


def describe_part(part: object) -> dict[str, Any]:
    """The configuration of an object, say of a sampler: its class and all of its options.

    Every option of the constructor must be an attribute of the same name; raises ConfigError where
    one is not.
    """
    factory = type(part)
    found: dict[str, Any] = {"_target_": _name_target(factory)}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in VARIABLE:
            continue
        if not hasattr(part, parameter.name):
            raise ConfigError(
                f"{factory.__name__} takes {parameter.name}, and has no attribute of that name: "
                f"set self.{parameter.name} in it, so that a result can say how it was made"
            )
        found[parameter.name] = _describe_value(getattr(part, parameter.name))
    return found


def _describe_value(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_describe_value(each) for each in value]
    if isinstance(value, (*PLAIN, dict)):
        return value
    return describe_part(value)


def _name_target(factory: Any) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"
