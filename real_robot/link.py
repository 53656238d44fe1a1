"""What the policy's process and the controller's process tell each other, as records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from ..spec import ActionSpec, Limits, ObsSpec

MOST_ACTIONS = 128
"""Of a plan: the further ones are handed over in later turns."""
FAULT_BYTES = 1000
REPORT_BYTES = 32000
MESSAGES = 32
"""That may wait: more than a second of turns."""
HISTORY_S = 4.0
"""States are kept for so long, for pictures that come late."""


class Order(IntEnum):
    """What the policy's process asks for."""

    START = 1  # hold where the arm is; plans may come
    PLAN = 2
    STOP = 3  # come to rest, and let the driver stop the arm
    RECOVER = 4  # somebody has looked at the fault
    CLOSE = 5  # STOP, and end the process
    STOP_AT_ONCE = 6  # let the driver stop the arm, without slowing down first


class Mode(IntEnum):
    """What the controller does."""

    IDLE = 0  # connected; nothing is commanded
    FOLLOW = 1
    HOLD = 2  # the plan has run out
    SLOW_DOWN = 3
    STOPPED = 4  # the driver has stopped the arm
    FAULT = 5  # stopped, and it stays so until RECOVER


MOVING = (Mode.FOLLOW, Mode.HOLD, Mode.SLOW_DOWN)


@dataclass(frozen=True)
class Description:
    """What the controller says of its driver and itself when it is ready."""

    name: str
    servo_hz: float
    action_spec: ActionSpec
    obs_spec: ObsSpec
    limits: Limits
    watchdog_s: float | None
    states: str
    """Name of the ring of states, and so on."""
    reports: str
    messages: str
    real_time: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """Why the controller did not come up."""

    kind: str
    """Name of the error's class."""
    message: str


def make_message_record(width: int) -> np.dtype[Any]:
    """An order, and a plan of `count` actions (n, A) with their times."""
    fields = [
        ("order", "<i8"),
        ("number", "<i8"),
        ("count", "<i8"),
        ("times_s", "<f8", (MOST_ACTIONS,)),
        ("actions", "<f8", (MOST_ACTIONS, width)),
    ]
    return np.dtype(fields)


def make_state_record(width: int, obs_spec: ObsSpec) -> np.dtype[Any]:
    """How the arm and the controller are in one period."""
    seen = []
    for name, key in obs_spec.keys.items():
        seen.append((name, key.dtype, key.shape))
    fields = [
        ("made_s", "<f8"),
        ("written_s", "<f8"),
        ("mode", "<i8"),
        ("answered", "<i8"),
        ("positions", "<f8", (width,)),
        ("velocities", "<f8", (width,)),
        ("target", "<f8", (width,)),
        ("observation", seen),
        ("fault", f"S{FAULT_BYTES}"),
    ]
    return np.dtype(fields)


REPORT_RECORD = np.dtype([("text", f"S{REPORT_BYTES}")])
"""JSON."""


def fit_text(text: str, size: int) -> bytes:
    """Words for a field of `size` bytes; what is too long is cut."""
    return text.encode()[:size].decode(errors="ignore").encode()
