"""A gripper of Robotiq (2F-85, 2F-140, Hand-E) at an arm of Universal Robots, by its URCap's port.

The URCap serves the gripper's registers as text: `GET POS` is answered `POS 3`, and `SET POS 255`
by `ack`. Positions go from 0, open, to 255, closed. A thread follows the newest goal: an answer
takes some ms, which the arm's servo loop does not wait for.
"""

from __future__ import annotations

import threading
import time

from ..driver import DriverError
from .text_port import TextPort

PORT = 63352
REMEDY = (
    "is Robotiq's URCap installed on the pendant (Settings, System, URCaps), and the gripper "
    "plugged in at the wrist?"
)
TIMEOUT_S = 0.5
ACTIVATE_S = 15.0
PERIOD_S = 0.02
MOST_SPEED = 1.8
"""Of a 2F-85 at its fastest [open hands/s]: 150 mm/s of 85 mm."""
ACTIVE = 3
"""STA of a gripper that is ready."""
HOLDING = (1, 2)
"""OBJ of a gripper that an object has stopped, on opening or on closing."""
FAULTS = {
    5: "it was not activated",
    7: "it was not activated",
    8: "it is too hot",
    9: "its controller does not talk to it",
    10: "its supply is below 24 V",
    11: "it opens by itself: automatic release",
    12: "it has an internal fault",
    13: "it could not be activated: is something between the fingers?",
    14: "its current was too high",
    15: "it has opened by itself: automatic release",
}
"""FLT: what keeps it from moving."""


class RobotiqHand:
    """Follows `goal` (0 closed, 1 open), and tells `opening`; `fault` is empty, or what is wrong.

    speed: share of its fastest, force: share of its strongest, both in (0, 1].
    activate: whether it may be activated, for which it opens and closes once.

    Raises DriverError where there is no gripper, or it is not ready.
    """

    def __init__(self, host: str, speed: float, force: float, activate: bool) -> None:
        self._port = TextPort(host, PORT, "gripper of Robotiq", REMEDY, TIMEOUT_S)
        self._ended = threading.Event()
        self.fault = ""
        try:
            self._make_ready(activate)
            self._set("SPE", round(255 * speed))
            self._set("FOR", round(255 * force))
            self._set("GTO", 1)
            self.opening = self._read_opening()
        except DriverError:
            self._port.close()
            raise
        self._holds = False
        self._sent = -1
        self.goal = self.opening
        self._thread = threading.Thread(target=self._run, name="gripper", daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Rest where it is; an object between the fingers stays held. Any thread may call it."""
        if not self._holds:
            self.goal = self.opening

    def close(self) -> None:
        """Let go of the connection; the gripper stays as it is."""
        self._ended.set()
        self._thread.join()
        self._port.close()

    def _make_ready(self, activate: bool) -> None:
        if self._get("STA") == ACTIVE:
            return
        if not activate:
            raise DriverError(
                "the gripper of Robotiq is not activated: activate it on the pendant, or set "
                "power_on=true (it opens and closes once)"
            )
        self._set("ACT", 0)
        self._set("ACT", 1)
        limit = time.monotonic() + ACTIVATE_S
        while self._get("STA") != ACTIVE:
            if time.monotonic() > limit:
                raise DriverError(
                    f"the gripper of Robotiq is not ready {ACTIVATE_S:g} s after its activation: "
                    f"{_name_fault(self._get('FLT')) or 'see its light'}"
                )
            time.sleep(0.1)

    def _run(self) -> None:
        try:
            while not self._ended.wait(PERIOD_S):
                self._follow()
                self._holds = self._get("OBJ") in HOLDING
                self.opening = self._read_opening()
                self.fault = _name_fault(self._get("FLT"))
        except DriverError as error:
            self.fault = str(error)

    def _follow(self) -> None:
        position = round(255 * (1 - min(max(self.goal, 0.0), 1.0)))
        if position != self._sent:
            self._set("POS", position)
            self._sent = position

    def _read_opening(self) -> float:
        return 1 - self._get("POS") / 255

    def _get(self, name: str) -> int:
        """A register; DriverError for an answer that is none."""
        said = self._port.ask(f"GET {name}")
        number = said.removeprefix(f"{name} ")
        if number == said or not number.isdecimal():
            raise DriverError(f"the gripper of Robotiq answers {said!r} to GET {name}")
        return int(number)

    def _set(self, name: str, value: int) -> None:
        said = self._port.ask(f"SET {name} {value}")
        if said != "ack":
            raise DriverError(f"the gripper of Robotiq answers {said!r} to SET {name} {value}")


def _name_fault(code: int) -> str:
    """What FLT says, or nothing."""
    if code == 0:
        return ""
    return f"the gripper: {FAULTS.get(code, f'fault {code}')}"
