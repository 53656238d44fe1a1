"""What other packages may add: environments, robots and encoders by name, through entry points.

A package that brings, say, an environment names it in its own pyproject.toml, under `project.entry-points."hotstart.envs"`,
as `my_task = "my_package.my_module:MyEnv"`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..spec import ConfigError, shorten, unknown

PACKAGE = __name__.split(".", maxsplit=1)[0]


@dataclass(frozen=True)
class Entry:
    """Where a thing lives, "module:Class", and what installs what it needs."""

    target: str
    install: str


def added(group: str) -> dict[str, Entry]:
    """What installed packages add to an entry-point group, by name."""
    found: dict[str, Entry] = {}
    for point in entry_points(group=group):
        found[point.name] = Entry(
            point.value,
            f'pip install "{point.dist.name}"'
            if point.dist
            else "install the package that adds it",
        )
    return found


@dataclass(frozen=True)
class Registry:
    """Things of one kind by name: ours (`built_in`), and those that other packages add to the entry-point `group`."""

    kind: str  # as it is called in messages: "environment"
    group: str
    built_in: Mapping[str, Entry]

    def entries(self) -> dict[str, Entry]:
        """Everything by name. A plug-in cannot take the name of one of ours: ours stands."""
        return {**added(self.group), **self.built_in}

    def names(self) -> list[str]:
        """The names that `make` knows, sorted."""
        return sorted(self.entries())

    def make(self, name: str, **options: object) -> Any:
        """Build `name` with its own options; what it needs is imported only now.

        Raises ConfigError for an unknown name, an unknown option or a package that is not installed.
        """
        factory = self.load(name)
        self._check_options(name, factory, options)
        return factory(**options)

    def load(self, name: str) -> Callable[..., Any]:
        """The class of `name`, imported; raises ConfigError for an unknown name and for a package that is not installed."""
        entry = self.entries().get(name)
        if entry is None:
            raise ConfigError(unknown(self.kind, name, self.names()))
        module, _, attribute = entry.target.partition(":")
        try:
            found = import_module(module)
        except ImportError as error:
            # A fault inside our own modules is a bug, not a missing package: let it be seen.
            if (error.name or "").split(".")[0] == PACKAGE:
                raise
            raise ConfigError(
                f"{self.kind} {name!r} cannot be imported ({error}); install what it needs: {entry.install}"
            ) from error
        try:
            return getattr(found, attribute)
        except AttributeError:
            raise ConfigError(
                f"{self.kind} {name!r} names {entry.target!r}, but {module} has no {attribute!r}"
            ) from None

    def _check_options(
        self, name: str, factory: Callable[..., Any], options: Mapping[str, object]
    ) -> None:
        """Refuse values of another type than the constructor's, and options that it does not take.

        One with `**options` of its own judges those for itself.
        """
        hints = hints_of(factory)
        for option, value in options.items():
            if option in hints and not fits(value, hints[option]):
                wanted = words_of(hints[option])
                raise ConfigError(
                    f"option {option} of {self.kind} {name!r} is {shorten(value)}; it must be {wanted}"
                )
        parameters = inspect.signature(factory).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        valid = sorted(parameter.name for parameter in parameters)
        for option in options:
            if option not in valid:
                raise ConfigError(unknown(f"option of {self.kind} {name!r}:", option, valid))


def hints_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """Types of a constructor's parameters; none where they cannot be told."""
    try:
        return get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (NameError, TypeError, AttributeError):
        return {}


def fits(value: object, hint: Any) -> bool:
    """Whether a plain value may stand where a parameter has this type; types that are not plain fit everything."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int | None) and value in parts
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, NoneType):
        return isinstance(value, hint)
    if hint in (list, dict):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        if parts:
            inner = parts[0]
        else:
            inner = object
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and all(fits(each, inner) for each in value)
        )
    if origin is Mapping or origin is dict:
        return isinstance(value, Mapping) and all(
            fits(key, parts[0]) and fits(each, parts[1]) for key, each in value.items()
        )
    return True


def words_of(hint: Any) -> str:
    """A type for a message: its choices, or its name."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(part) for part in parts)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(words_of(part) for part in parts)
    plain = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        NoneType: "none",
    }
    words = {**plain, list: "a list", dict: "keys with values"}
    return words.get(hint, str(hint).replace("typing.", "").replace("collections.abc.", ""))
