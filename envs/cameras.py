"""Cameras whose pictures are part of the observation: what was asked for, in what size, under which
key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arms.rendering import SceneRenderer
from ..spec import ConfigError, ObsKey, unknown

CameraChoice = Mapping[str, Sequence[int] | int] | Sequence[str] | None
"""Names of cameras, or names with (height, width) or one side each."""
SIDE = 84
"""Height and width of pictures for which none are given."""


@dataclass(frozen=True)
class Cameras:
    """Names of a model's cameras with the height and width of their pictures; the key of one is
    its name with the suffix: `<name>_image`.
    """

    sizes: Mapping[str, tuple[int, int]]
    suffix: str = "_image"

    @classmethod
    def of(cls, asked: CameraChoice, side: int = SIDE, suffix: str = "_image") -> Cameras:
        """What was asked for; raises ConfigError for sizes that cannot be, and for a name that is
        given twice.
        """
        twice = [name for name in asked or () if list(asked or ()).count(name) > 1]
        if twice:
            raise ConfigError(
                f"camera {twice[0]!r} is asked for twice: both pictures would be called "
                f"'{twice[0]}{suffix}'"
            )
        if not isinstance(asked, Mapping):
            named = dict.fromkeys(asked or (), side)
        else:
            named = dict(asked)
        return cls({name: _size(name, size) for name, size in named.items()}, suffix)

    def check(self, known: Sequence[str]) -> None:
        """Raise ConfigError for a camera that is not among the known ones."""
        for name in self.sizes:
            if name not in known:
                raise ConfigError(unknown("camera", name, known))

    def __bool__(self) -> bool:
        return bool(self.sizes)

    @property
    def keys(self) -> dict[str, ObsKey]:
        """What the pictures are called in an observation, and what they are."""
        found: dict[str, ObsKey] = {}
        for name, size in self.sizes.items():
            found[name + self.suffix] = ObsKey((*size, 3), "uint8", "image")
        return found

    def largest(self, least: int = 0) -> tuple[int, int]:
        """Height and width that every picture fits in, and one of `least` by `least` beside
        them.
        """
        sizes = np.array([(least, least), *self.sizes.values()])
        height, width = sizes.max(0).tolist()
        return height, width

    def pictures(self, renderer: SceneRenderer, data: Any) -> dict[str, NDArray[np.uint8]]:
        """Key -> (H, W, 3): the scene in the state `data` through every camera."""
        found: dict[str, NDArray[np.uint8]] = {}
        for name, size in self.sizes.items():
            found[name + self.suffix] = renderer.frame(data, name, size)
        return found


def _size(name: str, size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        sides = (size, size)
    elif isinstance(size, list | tuple):
        sides = tuple(size)
    else:
        sides = ()
    if len(sides) != 2 or not all(isinstance(side, int) and 8 <= side <= 4096 for side in sides):
        raise ConfigError(
            f"camera {name!r} has size {size!r}; give one side or [height, width], from 8 to 4096 "
            f"pixels"
        )
    return int(sides[0]), int(sides[1])
