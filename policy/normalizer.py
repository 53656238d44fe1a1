"""Normalisation: actions and states between their own units and [-1, 1].

The statistics live in the checkpoint. There is no silent identity: a key without statistics, or
with statistics of another shape, is an error. A number that never changes in the data has the scale
0: it is centred, noise leaves it alone, and it reads back as exactly its one value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.statistics import Statistics, find_constants
from ..spec import ActionSpec, CheckpointError, ConfigError, ObsSpec, shorten
from .training.processes import draw_rows

ACTION = "action"
COMMAND = "command"
"""Statistics of the robot's own actions, where the network sees them in another form.

Only what never changes is used.
"""
PRECISIONS = 20
"""A change of the precision of a number is at most 1/20 of what a policy sees of its range."""


def collect_shapes(
    obs_spec: ObsSpec, action_spec: ActionSpec, command_spec: ActionSpec | None = None
) -> dict[str, tuple[int, ...]]:
    """Key -> shape of its statistics: of every state, and of the actions.

    Images have a fixed range. `action_spec` is of the network's actions, `command_spec` of the
    robot's where these are others.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, key in obs_spec.keys.items():
        if key.kind == "state":
            shapes[name] = tuple(key.shape)
    shapes[ACTION] = (action_spec.width,)
    if command_spec is not None:
        shapes[COMMAND] = (command_spec.width,)
    return shapes


def _name_buffer(key: str, part: str) -> str:
    """Name of a key's buffer: torch allows no dots, which LeRobot's keys have.

    No key has a slash.
    """
    return f"{key.replace('.', '/')}__{part}"


class Normalizer(nn.Module):
    """Per number: (value - centre) / scale, which maps [min, max] onto [-1, 1]."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        for key, shape in self.shapes.items():
            for part in ("centre", "scale"):
                self.register_buffer(_name_buffer(key, part), torch.full(shape, torch.nan))

    @classmethod
    def fit(
        cls,
        statistics: Mapping[str, Statistics],
        shapes: Mapping[str, tuple[int, ...]],
        obs_spec: ObsSpec | None = None,
    ) -> Normalizer:
        """A normaliser from the data set's statistics.

        A number of `obs_spec` with a precision is scaled by PRECISIONS of it at least: one that
        hardly moves in the data would otherwise shout as soon as the robot is a little elsewhere.
        Raises ConfigError for a key that has none, or some of another shape.
        """
        normalizer = cls(shapes)
        for key, shape in shapes.items():
            if key not in statistics:
                raise ConfigError(
                    f"there are no statistics for {shorten(key)}; "
                    f"there are some for {shorten(sorted(statistics), 400)}"
                )
            low = np.asarray(statistics[key]["min"])
            high = np.asarray(statistics[key]["max"])
            if low.shape != shape:
                raise ConfigError(
                    f"statistics of {shorten(key)} have shape {low.shape}; "
                    f"its specification says {shape}"
                )
            normalizer.set_range(key, low, high)
            if obs_spec is not None and key in obs_spec.keys:
                normalizer.widen(key, PRECISIONS * obs_spec.keys[key].precisions())
        return normalizer

    @classmethod
    def from_ranges(
        cls,
        ranges: Mapping[str, tuple[np.ndarray, np.ndarray]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> Normalizer:
        """A normaliser by somebody else's rule: key -> (centre, scale), taken as they are.

        Scale 0 is a constant. Raises CheckpointError for numbers that are not finite, and for
        scales below 0.
        """
        normalizer = cls(shapes)
        for key in shapes:
            centre, scale = ranges[key]
            normalizer._write(key, centre, scale)
        normalizer.check()
        return normalizer

    def set_range(self, key: str, low: np.ndarray, high: np.ndarray) -> None:
        """Map [low, high], both (*shape), onto [-1, 1]; numbers that never change are constants."""
        constant = find_constants(low, high, commanded=key in (ACTION, COMMAND))
        scale = np.where(constant, 0.0, (high - low) / 2)
        self._write(key, (high + low) / 2, scale)

    def widen(self, key: str, least: np.ndarray) -> None:
        """Scale the numbers of a key by at least so much (*shape); constants stay constants."""
        centre, scale = self._read(key)
        wanted = torch.as_tensor(least, dtype=scale.dtype)
        self._write(
            key, centre.numpy(), torch.where(scale > 0, scale.maximum(wanted), scale).numpy()
        )

    def check(self) -> None:
        """Raise CheckpointError naming the first key whose statistics are missing or impossible."""
        for key in self.shapes:
            centre, scale = self._read(key)
            possible = torch.isfinite(scale) & (scale >= 0) & torch.isfinite(centre)
            if not bool(possible.all()):
                raise CheckpointError(
                    f"the statistics of {shorten(key)} are missing or impossible: "
                    f"centre {centre}, scale {scale}"
                )

    def list_unscaled(self) -> list[str]:
        """Keys whose numbers the network sees as they are: centre 0 and scale 1 throughout."""
        found: list[str] = []
        for key in self.shapes:
            centre, scale = self._read(key)
            if bool((centre == 0).all()) and bool((scale == 1).all()):
                found.append(key)
        return found

    def _write(self, key: str, centre: np.ndarray, scale: np.ndarray) -> None:
        self.get_buffer(_name_buffer(key, "centre")).copy_(torch.as_tensor(centre))
        self.get_buffer(_name_buffer(key, "scale")).copy_(torch.as_tensor(scale))

    def _read(self, key: str) -> tuple[Tensor, Tensor]:
        """Centre and scale of a key, both (*shape)."""
        if key not in self.shapes:
            raise ConfigError(
                f"no statistics for {shorten(key)}; "
                f"there are some for {shorten(sorted(self.shapes), 400)}"
            )
        centre = self.get_buffer(_name_buffer(key, "centre"))
        return centre, self.get_buffer(_name_buffer(key, "scale"))

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """From the key's own units to [-1, 1] on the data; value (..., *shape).

        A constant keeps its unit.
        """
        centre, scale = self._read(key)
        return (value - centre) / torch.where(scale == 0, 1.0, scale)

    def denormalize(self, key: str, value: Tensor) -> Tensor:
        """Back to the key's own units; value (..., *shape).

        A constant is its one value, whatever `value` says.
        """
        centre, scale = self._read(key)
        return value * scale + centre

    def pin_constants(self, key: str, value: Tensor) -> Tensor:
        """Values (..., *shape) in the key's own units, with its constants at their one value."""
        centre, scale = self._read(key)
        return torch.where(scale == 0, centre.to(value.dtype), value)

    def augment_with_noise(
        self, values: Mapping[str, Tensor], share: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Values in their own units, key -> (B, ..., *shape), with noise added.

        The noise is `share` in normalised units. Keys without statistics stay as they are.
        """
        noisy = {}
        for key, value in values.items():
            noisy[key] = value
            if key in self.shapes:
                _, scale = self._read(key)
                noise = _draw_noise(value, generator)
                noisy[key] = value + share * scale * noise.to(value.device)
        return noisy


def _draw_noise(value: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape of `value` (B, ...): this process's rows of the batch."""
    shape = value.shape[1:]
    return draw_rows(lambda rows: torch.randn(rows, *shape, generator=generator), len(value))
