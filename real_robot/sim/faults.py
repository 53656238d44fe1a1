"""What goes wrong with a simulated device, and when: lost messages, silence, stops, stale data.

One `Faults` is shared by the devices of a process, whose threads ask it, and the control port,
which schedules. Times are seconds of `time.monotonic`; chance comes from a seed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...seeds import Purpose, numpy_generator
from ...spec import ConfigError, unknown

KINDS = {
    "packet_loss": "messages are lost by chance, a share `amount` of them (default 0.05)",
    "bus_silence": "every message is lost",
    "stale": "the device goes on answering, with the state that it had when the fault began",
    "protective_stop": "the arm stops itself until it is unlocked",
    "emergency_stop": "the arm loses its power until it is released and switched on again",
    "corrupt": "a share `amount` of a bus's answers has a wrong byte (default 0.05)",
    "unplugged": "the adapter of a bus is unplugged; it comes back under another name",
    "overheat": "a motor is too hot; `amount` is its number",
    "low_voltage": "a motor has too low a voltage; `amount` is its number",
    "overload": "a motor switches its torque off until it is cleared; `amount` is its number",
    "camera_stale": "cameras repeat the picture that they had when the fault began",
    "camera_hang": "cameras send nothing, with the connection open",
}
"""What can be scheduled."""
DEFAULT_AMOUNT = {"packet_loss": 0.05, "corrupt": 0.05}


@dataclass(frozen=True)
class Link:
    """What a connection does to every message, faults apart."""

    delay_s: float = 0.0
    """How long a message takes at least [s]."""
    jitter_s: float = 0.0
    """At most so much longer, uniformly drawn [s]."""
    loss: float = 0.0
    """The share of messages that is lost."""

    def __post_init__(self) -> None:
        for name, value in (("delay_s", self.delay_s), ("jitter_s", self.jitter_s)):
            if not 0 <= value <= 10:
                raise ConfigError(f"{name} is {value} s; 0 to 10 s can be simulated")
        if not 0 <= self.loss <= 1:
            raise ConfigError(f"the share of lost messages is {self.loss}; it lies in [0, 1]")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong from `begin_s` until `end_s`."""

    kind: str
    begin_s: float
    end_s: float
    amount: float = 0.0

    def holds(self, now_s: float) -> bool:
        """Whether it is on at this time."""
        return self.begin_s <= now_s < self.end_s


class Faults:
    """What goes wrong now. Its methods may be called from any thread."""

    def __init__(
        self, link: Link | None = None, seed: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.link = link or Link()
        self._clock = clock
        self._random = numpy_generator(seed, Purpose.FAULTS)
        self._lock = threading.Lock()
        self._scheduled: list[Fault] = []
        self._waiting: list[Fault] = []  # for `take`

    def schedule(
        self,
        kind: str,
        after_s: float = 0.0,
        for_s: float = math.inf,
        amount: float | None = None,
    ) -> Fault:
        """Let something go wrong `after_s` from now, for `for_s`.

        Raises ConfigError for an unknown kind, for times that are negative or no numbers, and for
        a share of lost messages outside [0, 1].
        """
        if kind not in KINDS:
            raise ConfigError(unknown("fault", kind, list(KINDS)))
        if not (math.isfinite(after_s) and after_s >= 0 and for_s > 0):
            raise ConfigError(
                f"a fault after {after_s} s, for {for_s} s: the first is 0 or more, "
                f"the second above 0"
            )
        if amount is None:
            amount = DEFAULT_AMOUNT.get(kind, 0.0)
        if not math.isfinite(amount) or (kind in DEFAULT_AMOUNT and not 0 <= amount <= 1):
            raise ConfigError(f"the amount of {kind} is {amount}; a share lies in [0, 1]")
        begin = self._clock() + after_s
        fault = Fault(kind, begin, begin + for_s, amount)
        with self._lock:
            self._scheduled.append(fault)
            self._waiting.append(fault)
        return fault

    def clear(self, kind: str | None = None) -> None:
        """Nothing of this kind goes wrong any more; of no kind where none is named."""
        with self._lock:
            for faults in (self._scheduled, self._waiting):
                faults[:] = [fault for fault in faults if kind not in (None, fault.kind)]

    def active(self, kind: str) -> Fault | None:
        """The fault of this kind that holds now; None: there is none."""
        now = self._clock()
        with self._lock:
            for fault in self._scheduled:
                if fault.kind == kind and fault.holds(now):
                    return fault
        return None

    def take(self, kind: str) -> Fault | None:
        """A fault of this kind that has begun, handed out once: for what a device latches.

        A stop that is unlocked while its fault still holds does not come back by itself.
        """
        now = self._clock()
        with self._lock:
            for fault in self._waiting:
                if fault.kind == kind and fault.begin_s <= now:
                    self._waiting.remove(fault)
                    return fault
        return None

    def drops(self) -> bool:
        """Whether the message at hand is lost; asked once per message."""
        if self.active("bus_silence") is not None:
            return True
        loss = self.link.loss
        fault = self.active("packet_loss")
        if fault is not None:
            loss = max(loss, fault.amount)
        if loss <= 0:
            return False
        with self._lock:
            return bool(self._random.random() < loss)

    def delay_s(self) -> float:
        """How long the message at hand takes [s]; asked once per message."""
        if self.link.jitter_s <= 0:
            return self.link.delay_s
        with self._lock:
            return self.link.delay_s + self.link.jitter_s * float(self._random.random())
