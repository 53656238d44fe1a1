"""Normalisation: actions and states between their own units and [-1, 1]; the statistics live in the checkpoint.

There is no silent identity: a key without statistics, or with statistics of another shape, is an error. A number that never
changes in the data has the scale 0: it is centred, noise leaves it alone, and it reads back as exactly its one value.
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
"""Statistics of the robot's own actions, where the network sees them in another form: only what never changes is used."""


def expected_shapes(
    obs_spec: ObsSpec, action_spec: ActionSpec, command_spec: ActionSpec | None = None
) -> dict[str, tuple[int, ...]]:
    """Key -> shape of its statistics: the action's, and those of every state (images have a fixed range).

    `action_spec` is of the network's actions; `command_spec` of the robot's, where these are others.
    """
    states = {}
    for name, key in obs_spec.keys.items():
        if key.kind == "state":
            states[name] = tuple(key.shape)
    if command_spec is None:
        commands = {}
    else:
        commands = {COMMAND: (command_spec.width,)}
    return {**states, ACTION: (action_spec.width,), **commands}


def _buffer(key: str, part: str) -> str:
    """Name of a key's buffer: torch allows no dots, which LeRobot's keys have, and no key has a slash."""
    return f"{key.replace('.', '/')}__{part}"


class Normalizer(nn.Module):
    """Per number: (value - centre) / scale, which maps [min, max] onto [-1, 1]."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        for key, shape in self.shapes.items():
            self.register_buffer(_buffer(key, "centre"), torch.full(shape, torch.nan))
            self.register_buffer(_buffer(key, "scale"), torch.full(shape, torch.nan))

    @classmethod
    def fit(
        cls, statistics: Mapping[str, Statistics], shapes: Mapping[str, tuple[int, ...]]
    ) -> Normalizer:
        """A normaliser from the data set's statistics; raises ConfigError for a key that has none or has another shape."""
        normalizer = cls(shapes)
        for key, shape in shapes.items():
            if key not in statistics:
                raise ConfigError(
                    f"there are no statistics for {shorten(key)}; there are some for {shorten(sorted(statistics), 400)}"
                )
            low, high = np.asarray(statistics[key]["min"]), np.asarray(statistics[key]["max"])
            if low.shape != shape:
                raise ConfigError(
                    f"statistics of {shorten(key)} have shape {low.shape}; its specification says {shape}"
                )
            normalizer._set(key, low, high)
        return normalizer

    @classmethod
    def of_ranges(
        cls,
        ranges: Mapping[str, tuple[np.ndarray, np.ndarray]],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> Normalizer:
        """A normaliser by somebody else's rule: key -> (centre, scale), taken as they are; scale 0 is a constant.

        Raises CheckpointError for numbers that are not finite and normalised units below 0.
        """
        normalizer = cls(shapes)
        for key in shapes:
            for part, values in zip(("centre", "scale"), ranges[key], strict=True):
                normalizer.get_buffer(_buffer(key, part)).copy_(torch.as_tensor(values))
        normalizer.check()
        return normalizer

    def _set(self, key: str, low: np.ndarray, high: np.ndarray) -> None:
        centre = (high + low) / 2
        half = (high - low) / 2
        constant = find_constants(low, high, commanded=key in (ACTION, COMMAND))
        self.get_buffer(_buffer(key, "centre")).copy_(torch.as_tensor(centre))
        self.get_buffer(_buffer(key, "scale")).copy_(torch.as_tensor(np.where(constant, 0.0, half)))

    def check(self) -> None:
        """Raise CheckpointError naming the first key whose statistics are missing or impossible."""
        for key in self.shapes:
            centre, half = self._pair(key)
            if not bool((torch.isfinite(half) & (half >= 0) & torch.isfinite(centre)).all()):
                raise CheckpointError(
                    f"the statistics of {shorten(key)} are missing or impossible: centre {centre}, scale {half}"
                )

    def _pair(self, key: str) -> tuple[Tensor, Tensor]:
        if key not in self.shapes:
            raise ConfigError(
                f"no statistics for {shorten(key)}; there are some for {shorten(sorted(self.shapes), 400)}"
            )
        return self.get_buffer(_buffer(key, "centre")), self.get_buffer(_buffer(key, "scale"))

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """From the key's own units to [-1, 1] on the data; value (..., *shape). A constant keeps its unit."""
        centre, half = self._pair(key)
        return (value - centre) / torch.where(half == 0, 1.0, half)

    def denormalize(self, key: str, value: Tensor) -> Tensor:
        """Back to the key's own units; value (..., *shape). A constant is its one value, whatever `value` says."""
        centre, half = self._pair(key)
        return value * half + centre

    def pin_constants(self, key: str, value: Tensor) -> Tensor:
        """Values (..., *shape) in the key's own units, with its constants put back to their one value."""
        centre, half = self._pair(key)
        return torch.where(half == 0, centre.to(value.dtype), value)

    def augment_with_noise(
        self, values: Mapping[str, Tensor], share: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Values in their own units, key -> (..., *shape), with noise of `share` normalised units; keys without statistics stay."""

        def noisy(key: str, value: Tensor) -> Tensor:
            noise = draw_rows(
                lambda rows: torch.randn(rows, *value.shape[1:], generator=generator), len(value)
            )
            return value + share * self._pair(key)[1] * noise.to(value.device)

        return {
            key: noisy(key, value) if key in self.shapes else value for key, value in values.items()
        }
