"""What other packages may add: environments, robots and encoders by name, through entry points.

A package that brings, say, an environment names it in its own pyproject.toml, under `project.entry-points."hotstart.envs"`,
as `my_task = "my_package.my_module:MyEnv"`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .spec import ConfigError, unknown

PACKAGE = __name__.split(".", maxsplit=1)[0]


@dataclass(frozen=True)
class Entry:
    """Where a thing lives, "module:Class", and what installs what it needs."""

    target: str
    install: str


def added(group: str) -> dict[str, Entry]:
    """What installed packages add to an entry-point group, by name."""
    return {
        point.name: Entry(point.value, f'pip install "{point.dist.name}"' if point.dist else "install the package that adds it")
        for point in entry_points(group=group)
    }


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
        entry = self.entries().get(name)
        if entry is None:
            raise ConfigError(unknown(self.kind, name, self.names()))
        factory = self._load(name, entry)
        self._check_options(name, factory, options)
        return factory(**options)

    def _load(self, name: str, entry: Entry) -> Callable[..., Any]:
        """Import "module:Class"; a package that is missing becomes a ConfigError that says what to install."""
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
            raise ConfigError(f"{self.kind} {name!r} names {entry.target!r}, but {module} has no {attribute!r}") from None

    def _check_options(self, name: str, factory: Callable[..., Any], options: Mapping[str, object]) -> None:
        """Refuse options that the constructor does not take; one with `**options` of its own judges for itself."""
        parameters = inspect.signature(factory).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        valid = sorted(parameter.name for parameter in parameters)
        for option in options:
            if option not in valid:
                raise ConfigError(unknown(f"option of {self.kind} {name!r}:", option, valid))
