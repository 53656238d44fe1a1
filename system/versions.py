"""Versions that a checkpoint or a result depends on."""

from __future__ import annotations

import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("hotstart", "torch", "numpy", "gymnasium", "mujoco", "robosuite", "pymunk")


def versions() -> dict[str, str]:
    """Versions of Python, and of the installed packages that weights and results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
