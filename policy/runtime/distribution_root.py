"""hotstart-runtime: exported policies of hotstart on numpy and one inference engine.

This file is the root of the distribution `hotstart-runtime`, see `pyproject.toml` beside it. All
its other files are hotstart's own, at the same places below the root.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Agent": "policy.agent",
    "ExportedPolicy": "policy.runtime.exported",
    "load": "policy.runtime.exported",
    "load_policy": "policy.runtime.exported",
}
"""Public name -> the module that it is imported from when it is first used."""


def __getattr__(name: str) -> Any:
    """A public name, from the module it lives in."""
    if name not in _PUBLIC:
        raise AttributeError(f"hotstart_runtime has no {name!r}; it has {', '.join(_PUBLIC)}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
