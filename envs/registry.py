"""Environments by name: our own, and those that other packages add through the entry-point group `hotstart.envs`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points

from ..spec import ConfigError, unknown
from .base import TaskEnv

GROUP = "hotstart.envs"
PACKAGE = __name__.split(".", maxsplit=1)[0]


@dataclass(frozen=True)
class Entry:
    """Where an environment lives: "module:Class", and what installs the simulator that it needs."""

    target: str
    install: str


BUILT_IN = {
    "pusht": Entry(f"{PACKAGE}.envs.pusht:PushTEnv", f'pip install "{PACKAGE}[pusht]"'),
    "lift": Entry(f"{PACKAGE}.envs.robosuite:LiftEnv", f'pip install "{PACKAGE}"'),
}


def entries() -> dict[str, Entry]:
    """Every environment by name. A plug-in cannot take the name of one of ours: ours stands."""
    added = {
        point.name: Entry(point.value, f'pip install "{point.dist.name}"' if point.dist else "install the package that adds it")
        for point in entry_points(group=GROUP)
    }
    return {**added, **BUILT_IN}


def names() -> list[str]:
    """The names that `make` knows, sorted."""
    return sorted(entries())


def make(name: str, **options: object) -> TaskEnv:
    """Build the environment `name` with its own options; its simulator is imported only now.

    Raises ConfigError for an unknown name, an unknown option or a simulator that is not installed.
    """
    entry = entries().get(name)
    if entry is None:
        raise ConfigError(unknown("environment", name, names()))
    factory = _load(name, entry)
    _check_options(name, factory, options)
    return factory(**options)


def _load(name: str, entry: Entry) -> Callable[..., TaskEnv]:
    """Import "module:Class"; a package that is missing becomes a ConfigError that says what to install."""
    module, _, attribute = entry.target.partition(":")
    try:
        found = import_module(module)
    except ImportError as error:
        # A fault inside our own modules is a bug, not a missing simulator: let it be seen.
        if (error.name or "").split(".")[0] == PACKAGE:
            raise
        raise ConfigError(
            f"environment {name!r} cannot be imported ({error}); install what it needs: {entry.install}"
        ) from error
    try:
        return getattr(found, attribute)
    except AttributeError:
        raise ConfigError(f"environment {name!r} names {entry.target!r}, but {module} has no {attribute!r}") from None


def _check_options(name: str, factory: Callable[..., TaskEnv], options: dict[str, object]) -> None:
    """Refuse options that the constructor does not take; one with `**options` of its own judges for itself."""
    parameters = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    valid = sorted(parameter.name for parameter in parameters)
    for option in options:
        if option not in valid:
            raise ConfigError(unknown(f"option of environment {name!r}:", option, valid))
