"""What a client asks: read from a message, checked, and refused in words. No sockets."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...spec import FloatArray, Observation, ObsKey, ObsSpec, shorten, text_to_bytes
from ..client.client import REQUEST

KINDS = ("infer", "observe", "reset")
LONGEST_S = 3600.0
"""No time in a request is longer [s]."""
OLDER = 256
"""So many messages of a client say how long its messages travel at the least."""


class RefusedError(Exception):
    """A request that is not served; `kind` is a word for programs."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def to_text(self, number: int | None) -> str:
        """As it is sent: a text, which openpi's client raises as an error."""
        return json.dumps({"error": self.kind, "message": str(self), "id": number})


@dataclass(frozen=True)
class Request:
    """One message of a client."""

    kind: str
    observation: Mapping[str, Any]
    number: int | None = None  # the client's own, which the answer repeats
    sent_s: float | None = None  # by the client's clock
    age_s: float = 0.0  # of the observation when it was sent
    deadline_s: float | None = None  # for the answer, from when the message arrives
    max_age_s: float | None = None
    executed: int | None = None
    frozen: int = 0
    seed: int = 0
    applied: FloatArray | None = None  # (A,)


def read_request(message: Mapping[str, Any]) -> Request:
    """The request in a message; raises RefusedError for fields that are wrong.

    A message without `__request__`, as openpi's clients send it, asks for a plan.
    """
    observation = dict(message)
    fields = observation.pop(REQUEST, {})
    if not isinstance(fields, dict):
        raise RefusedError("refused", f"{REQUEST} is {shorten(fields)}; a map is wanted")
    kind = fields.get("kind", "infer")
    if kind not in KINDS:
        raise RefusedError(
            "refused", f"the kind of a request is {shorten(kind)}; {', '.join(KINDS)} are known"
        )
    return Request(
        kind,
        observation,
        _read_whole(fields, "id", 2**62),
        _read_seconds(fields, "sent_s", math.inf),
        _read_seconds(fields, "age_s", LONGEST_S) or 0.0,
        _read_seconds(fields, "deadline_s", LONGEST_S),
        _read_seconds(fields, "max_age_s", LONGEST_S),
        _read_whole(fields, "executed", 10**6),
        _read_whole(fields, "frozen", 10**6) or 0,
        _read_whole(fields, "seed", 2**62) or 0,
        _read_applied(fields.get("applied")),
    )


def find_number(message: Mapping[str, Any]) -> int | None:
    """The number of a request that could not be read, where it has one."""
    fields = message.get(REQUEST)
    if isinstance(fields, dict) and type(fields.get("id")) is int:
        return fields["id"]
    return None


def _read_whole(fields: Mapping[str, Any], name: str, most: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= most:
        raise RefusedError(
            "refused", f"{name} is {shorten(value)}; a whole number from 0 to {most} is wanted"
        )
    return int(value)


def _read_seconds(fields: Mapping[str, Any], name: str, most: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= value <= most or not math.isfinite(value):
        raise RefusedError(
            "refused", f"{name} is {shorten(value)}; seconds from 0 to {most:g} are wanted"
        )
    return float(value)


def _read_applied(value: Any) -> FloatArray | None:
    if value is None:
        return None
    return read_numbers("applied", value).astype(np.float64)


def read_numbers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """An array of finite numbers; raises RefusedError for anything else."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RefusedError("refused", f"{shorten(name)} is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise RefusedError("refused", f"{shorten(name)} is {array.dtype}; numbers are wanted")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RefusedError("refused", f"{shorten(name)} holds numbers that are not finite")
    return array


def split_frames(
    observation: Mapping[str, Any], obs_spec: ObsSpec, observed: int
) -> list[Observation]:
    """The control periods in an observation, oldest first, each key -> (1, ...).

    A key with one axis more than the policy's is a history of 1 to `observed` (To) steps; a key
    without it stands in every step. Raises RefusedError for histories of different lengths.
    """
    values, lengths = {}, set()
    for name, key in obs_spec.keys.items():
        if name not in observation:
            raise RefusedError(
                "refused",
                f"the observation lacks {shorten(name)}; the policy wants "
                f"{shorten(list(obs_spec.keys), 400)}",
            )
        values[name] = _read_key(name, observation[name], key)
        if values[name].ndim == len(key.shape) + 1:
            lengths.add(len(values[name]))
    count = next(iter(lengths), 1)
    if len(lengths) > 1 or not 1 <= count <= observed:
        raise RefusedError(
            "refused", f"histories of {sorted(lengths)} steps; 1 to {observed} are wanted, of all"
        )
    frames: list[Observation] = []
    for step in range(count):
        frame = {}
        for name, key in obs_spec.keys.items():
            value = values[name]
            if value.ndim == len(key.shape) + 1:
                value = value[step]
            frame[name] = value[None]
        frames.append(frame)
    return frames


def _read_key(name: str, value: Any, key: ObsKey) -> np.ndarray[Any, Any]:
    """One key's numbers with the axes of the policy's, or one axis more."""
    if key.kind == "language" and isinstance(value, str):
        return text_to_bytes(value)
    array = read_numbers(name, value)
    if array.ndim not in (len(key.shape), len(key.shape) + 1):
        raise RefusedError(
            "refused",
            f"{shorten(name)} has shape {array.shape}; {tuple(key.shape)} is wanted, or a history",
        )
    return array


class Transit:
    """How much longer than the fastest of a client's newest messages one has travelled.

    The clocks of two machines have nothing in common, and drift: what is known is how the time
    between sending and arriving changes.
    """

    def __init__(self) -> None:
        self._differences: deque[float] = deque(maxlen=OLDER)

    def measure(self, sent_s: float | None, arrived_s: float) -> float:
        """The delay [s] of a message beyond that of the fastest; 0 where it has no time."""
        if sent_s is None:
            return 0.0
        self._differences.append(arrived_s - sent_s)
        return self._differences[-1] - min(self._differences)
