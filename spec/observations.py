"""What an observation holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError
from .messages import shorten
from .plain_values import has_types, is_whole

ObsKind = Literal["state", "image", "language"]
PartKind = Literal["number", "position", "quaternion", "angle"]


@dataclass(frozen=True)
class ObsPart:
    """Consecutive numbers of a state that mean one thing.

    Positions of one observation are in the same frame and unit. An angle is its sine and cosine.
    """

    name: str
    size: int = 1
    kind: PartKind = "number"
    axes: str = "xyz"
    """Of a position: the axes of its numbers, in order."""
    precision: float = 0.0
    """Smaller changes mean nothing: noise of a sensor, play of a joint, in the unit of the numbers.

    A policy sees so little of them that it cannot learn from them; 0 where nobody says it.
    """

    def to_json(self) -> dict[str, Any]:
        """Plain values; the precision only where it is known."""
        plain = dict(vars(self))
        if self.precision == 0:
            del plain["precision"]
        return plain


@dataclass(frozen=True)
class ObsKey:
    """One entry of an observation."""

    shape: tuple[int, ...]  # without the axes of rows and time
    dtype: str = "float32"  # numpy's name
    kind: ObsKind = "state"
    parts: tuple[ObsPart, ...] = field(default=(), compare=False)
    """What the numbers of a state mean, in order; empty where nobody says it."""

    def precisions(self) -> NDArray[np.float64]:
        """The precision of every number, (*shape); zeros where nobody says it."""
        found = np.zeros(math.prod(self.shape))
        if self.parts:
            sizes = [part.size for part in self.parts]
            found = np.repeat([part.precision for part in self.parts], sizes)
        return found.reshape(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Plain values; parts only where there are any."""
        plain: dict[str, Any] = {"shape": list(self.shape), "dtype": self.dtype, "kind": self.kind}
        if self.parts:
            plain["parts"] = [part.to_json() for part in self.parts]
        return plain


TEXT_BYTES = 96
"""Room for a task's words in an observation of kind `language`: UTF-8, filled up with zeros."""
TEXT_KEY = ObsKey((TEXT_BYTES,), "uint8", "language")


def text_to_bytes(text: str) -> NDArray[np.uint8]:
    """Words as a `language` observation, (TEXT_BYTES,); raises ConfigError for too many words."""
    raw = text.encode()
    if len(raw) > TEXT_BYTES:
        raise ConfigError(
            f"the instruction {shorten(text)} is {len(raw)} bytes long; "
            f"at most {TEXT_BYTES} are possible: shorten it"
        )
    return np.frombuffer(raw.ljust(TEXT_BYTES, b"\0"), np.uint8).copy()


def bytes_to_text(values: ArrayLike) -> str:
    """The words of a `language` observation (TEXT_BYTES,)."""
    return np.asarray(values, np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")


@dataclass(frozen=True)
class ObsSpec:
    """What an observation holds, key by key, in a fixed order."""

    keys: Mapping[str, ObsKey]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain dicts, for the store and the checkpoint."""
        return {name: key.to_json() for name, key in self.keys.items()}

    @classmethod
    def from_json(cls, keys: Mapping[str, Mapping[str, Any]]) -> ObsSpec:
        """Read back what `to_json` wrote; raises ConfigError for anything else."""
        if not isinstance(keys, Mapping):
            raise ConfigError(f"obs_spec is {shorten(keys)}; keys with a shape each are wanted")
        return cls({name: _read_key(name, key) for name, key in keys.items()})


WHOLE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
NUMBER_TYPES = ("bool", *WHOLE_TYPES, "float16", "float32", "float64")
"""What the numbers of an observation may be."""


def _read_key(name: object, plain: Any) -> ObsKey:
    """One entry of an observation; raises ConfigError for what `to_json` does not write."""
    shown = f"obs_spec holds {shorten(name)}: {shorten(plain)}"
    known = {"shape": (list, tuple), "dtype": str, "kind": str, "parts": (list, tuple)}
    fitting = has_types(plain, known)
    if not fitting or "shape" not in plain or not isinstance(name, str):
        raise ConfigError(f"{shown}; a shape, a dtype and a kind are wanted")
    parts = tuple(_read_part(part, shown) for part in plain.get("parts", ()))
    key = ObsKey(**{**plain, "shape": tuple(plain["shape"]), "parts": parts})
    kinds = get_args(ObsKind)
    whole = all(map(is_whole, key.shape)) and min(key.shape, default=0) >= 0
    if not whole or key.dtype not in NUMBER_TYPES or key.kind not in kinds:
        raise ConfigError(
            f"{shown}; the shape is of whole numbers, the dtype one of {', '.join(NUMBER_TYPES)}, "
            f"the kind one of {', '.join(kinds)}"
        )
    if parts and sum(part.size for part in parts) != math.prod(key.shape):
        raise ConfigError(f"{shown}; the parts must have as many numbers as the key")
    return key


def _read_part(plain: Any, shown: str) -> ObsPart:
    """One part of a state; raises ConfigError for what `to_json` does not write."""
    known: dict[str, Any] = {field.name: str for field in fields(ObsPart)}
    known |= {"size": int, "precision": (int, float)}
    kinds = get_args(PartKind)
    fitting = has_types(plain, known) and "name" in plain
    fitting = fitting and is_whole(plain.get("size", 1)) and plain.get("size", 1) >= 1
    fitting = fitting and 0 <= plain.get("precision", 0) < math.inf
    if fitting and plain.get("kind", "number") in kinds:
        return ObsPart(**plain)
    raise ConfigError(
        f"{shown}; a part has a name, a size of 1 or more, a kind ({', '.join(kinds)}), axes and "
        "a precision of 0 or more"
    )
