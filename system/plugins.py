"""What other packages may add: environments, robots and encoders by name, through entry points.

A package that brings an environment names it in its pyproject.toml, under
`project.entry-points."hotstart.envs"`, as `my_task = "my_package.my_module:MyEnv"`. Nothing is
imported before it is asked for.
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
        install = "install the package that adds it"
        if point.dist:
            install = f'pip install "{point.dist.name}"'
        found[point.name] = Entry(point.value, install)
    return found


@dataclass(frozen=True)
class Registry:
    """Things of one kind by name: ours, and those that other packages add to `group`."""

    kind: str  # as it is called in messages: "environment"
    group: str  # of entry points
    built_in: Mapping[str, Entry]  # ours

    def entries(self) -> dict[str, Entry]:
        """Everything by name. A plug-in cannot take the name of one of ours: ours stands."""
        return {**added(self.group), **self.built_in}

    def names(self) -> list[str]:
        """The names that `make` knows, sorted."""
        return sorted(self.entries())

    def make(self, name: str, **options: object) -> Any:
        """Build `name` with its own options; what it needs is imported only now.

        Raises ConfigError for an unknown name or option, and for a package that is not installed.
        """
        factory = self.load(name)
        self._check_options(name, factory, options)
        return factory(**options)

    def load(self, name: str) -> Callable[..., Any]:
        """The class of `name`, imported.

        Raises ConfigError for an unknown name, and for a package that is not installed.
        """
        entry = self.entries().get(name)
        if entry is None:
            raise ConfigError(unknown(self.kind, name, self.names()))
        module, attribute = entry.target.split(":", maxsplit=1)
        try:
            found = import_module(module)
        except ImportError as error:
            # A fault inside our own modules is a bug, not a missing package: let it be seen.
            if (error.name or "").split(".")[0] == PACKAGE:
                raise
            raise ConfigError(
                f"{self.kind} {name!r} cannot be imported ({error}); "
                f"install what it needs: {entry.install}"
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
                    f"option {option} of {self.kind} {name!r} is {shorten(value)}; "
                    f"it must be {wanted}"
                )
        parameters = inspect.signature(factory).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        valid = sorted(inspect.signature(factory).parameters)
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
    """Whether a plain value fits a parameter's type; types that are not plain fit everything."""
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
        inner = next(iter(parts), object)
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        return all(fits(each, inner) for each in value)
    if origin in (Mapping, dict):
        if not isinstance(value, Mapping):
            return False
        return all(fits(each, parts[0]) for each in value) and all(
            fits(each, parts[1]) for each in value.values()
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
