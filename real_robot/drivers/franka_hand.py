"""The Franka Hand through `franky`, in a thread of its own: each of its commands takes a second.

A motion of the fingers cannot be changed once it has begun; the newest goal counts when it ends.
"""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import Any

MAX_M = 0.08
"""Between the fingers of an open hand."""
HOMED_M = 0.01
"""A hand that was not homed tells no width above this."""
STEP = 0.02
"""Goals that lie nearer to the last one start no motion, in shares of the open hand."""
ANY_M = MAX_M
"""A grasp ends well with whatever width the object has."""
PERIOD_S = 0.01


class HandThread:
    """Follows `goal` (0 closed, 1 open), and tells `opening`.

    It opens by a move, and closes by a grasp with a force, so that an object between the fingers is
    held. `fault` is empty, or what went wrong.
    """

    def __init__(self, host: str, speed: float, force: float) -> None:
        """`speed` in m/s, `force` in N. Raises what `franky` throws where there is no hand."""
        self._hand: Any = import_module("franky").Gripper(host)
        self._speed = speed
        self._force = force
        self._motion: Any = None
        self._sent = 0.0
        self.fault = ""
        self.opening = self._read()
        self.goal = self.opening
        self._sent = self.opening
        threading.Thread(target=self._run, name="hand", daemon=True).start()

    def _read(self) -> float:
        state = self._hand.state
        if state.max_width < HOMED_M:
            raise RuntimeError("the hand was not homed: home it in Desk, under Settings, Hand")
        return min(max(state.width / MAX_M, 0.0), 1.0)

    def _run(self) -> None:
        try:
            while True:
                self.opening = self._read()
                self._follow()
                time.sleep(PERIOD_S)
        except Exception as error:  # whatever the client throws
            self.fault = f"the hand: {error}"

    def _follow(self) -> None:
        """Start a motion to a new goal where none is under way."""
        if self._motion is not None:
            if not self._motion.wait(0.0):
                return
            self._motion.get()  # raises what went wrong
            self._motion = None
        goal = self.goal
        if abs(goal - self._sent) < STEP:
            return
        width = goal * MAX_M
        if goal > self._sent:
            self._motion = self._hand.move_async(width, self._speed)
        else:
            self._motion = self._hand.grasp_async(width, self._speed, self._force, ANY_M, ANY_M)
        self._sent = goal
