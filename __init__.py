"""hotstart: diffusion policies for robots that must move smoothly, now.

The public names are imported when they are first used, so that `import hotstart` costs nothing. It
sets the environment of torch's threads where torch is not loaded yet and the user has not set it,
see `system.threads`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .system.threads import set_up_environment

__version__ = "0.1.0"

set_up_environment()  # before anything imports torch

_PUBLIC = {
    "ActionSpec": "spec",
    "ObsSpec": "spec",
    "Horizon": "spec",
    "HotstartError": "spec",
    "Arrays": "datasets.arrays",
    "Store": "datasets.store",
    "Agent": "policy.agent",
    "load": "policy.agent",
    "train": "policy.training.api",
    "node": "policy.training.api",
    "TrainingSettings": "policy.training.settings",
    "DiffusionPolicy": "policy.diffusion_policy",
    "Fresh": "policy.samplers.fresh",
    "DDIM": "policy.diffusion.solvers",
    "DPMSolverPP": "policy.diffusion.solvers",
    "ConditionalUnet": "policy.denoisers.unet",
    "DiffusionTransformer": "policy.denoisers.transformer",
    "make_env": "envs",
    "make_robot": "real_robot",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module it lives in."""
    if name not in _PUBLIC:
        raise AttributeError(f"hotstart has no {name!r}; it has {', '.join(__dir__())}")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
