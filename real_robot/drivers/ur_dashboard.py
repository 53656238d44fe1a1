"""The dashboard of a controller of Universal Robots: one line asks, one line answers.

It needs nothing but a socket, so that it also works when `ur_rtde` does not.
"""

from __future__ import annotations

from .text_port import TextPort

PORT = 29999
TIMEOUT_S = 1.0
REMEDY = (
    "is the controller of Universal Robots switched on, is the address the one that the pendant "
    "shows under Settings, System, Network, and does `ping` reach it?"
)


class Dashboard(TextPort):
    """A connection to the dashboard; use it in a `with`. Every call ends within `timeout_s`.

    Raises DriverError where the controller does not answer.
    """

    def __init__(self, host: str, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(host, PORT, "dashboard", REMEDY, timeout_s)
        self.read_line()  # the greeting

    def ask_word(self, line: str) -> str:
        """The last word of its answer: RUNNING of "Robotmode: RUNNING"."""
        return self.ask(line).rpartition(" ")[2]
