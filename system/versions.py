"""Versions that a checkpoint or a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import distributions

PACKAGES = ("hotstart", "torch", "numpy", "gymnasium", "mujoco", "robosuite", "pymunk")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that weights and results depend on, those that are installed."""
    installed = {distribution.name: distribution.version for distribution in distributions()}
    return {
        "python": platform.python_version(),
        **{name: installed[name] for name in PACKAGES if name in installed},
    }
