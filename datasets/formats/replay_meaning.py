"""What the arrays of a replay buffer mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import ActionSpec, ObsSpec
from .replay_buffer import ReplayBuffer

Translate = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Meaning:
    """What the arrays of a replay buffer mean: our name -> their key, and what is done to it."""

    named: Mapping[str, str]
    translate: Mapping[str, Translate]
    """For keys that are not taken as they are."""
    action_spec: ActionSpec
    obs_spec: ObsSpec
    notes: tuple[str, ...] = ()
    """What was decided about the keys, for people to read."""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Our name -> their keys, whose numbers (n, ...) follow each other in ours."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every key of ours."""
        return (*self.named, *self.joined)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every key of theirs that is read."""
        found = list(self.named.values())
        for keys in self.joined.values():
            found.extend(keys)
        return tuple(found)

    def read(self, buffer: ReplayBuffer, name: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of a key of ours, translated."""
        if name in self.joined:
            parts = [buffer.rows(key, start, stop) for key in self.joined[name]]
            values = np.concatenate(parts, axis=-1)
        else:
            values = buffer.rows(self.named[name], start, stop)
        if name in self.translate:
            return self.translate[name](values)
        return values
