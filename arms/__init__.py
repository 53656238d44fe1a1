"""Arms in MuJoCo scenes: one model for the Gymnasium environment and the simulated device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..spec import ConfigError, unknown

if TYPE_CHECKING:
    from .scene import Scene

SCENES = {
    "ur5e_push": "ur5e:PushScene",
    "so101_lift": "so101:LiftScene",
    "franka_push": "franka:FrankaPushScene",
}
"""Scene -> "module:Class" of this folder."""


def make_scene(name: str) -> Scene:
    """Build a scene by its name; MuJoCo is imported only now.

    Raises ConfigError for an unknown name, and where the package with the arm's model is missing.
    """
    if name not in SCENES:
        raise ConfigError(unknown("scene", name, sorted(SCENES)))
    module, kind = SCENES[name].split(":")
    return getattr(import_module(f".{module}", __name__), kind)()
