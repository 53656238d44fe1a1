"""A recording session: the operator moves the arm, and keys begin, end and drop episodes."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from ..spec import Tick
from .keys import Keys
from .recorder import Recorder, RecordError

HELP = (
    "C begins an episode, S ends it (then Y: success, N: failure), "
    "Backspace drops it or takes the last one back, Q ends"
)
KEYS = ("c", "s", "y", "n", "q", "backspace")


class SessionEnd(Exception):
    """The operator ends the session; raised out of the control loop, which stops the arm."""


class Phase(Enum):
    """What a session is at."""

    IDLE = "idle"
    RECORDING = "recording"
    MARKING = "marking"
    """The episode is over, and the operator is asked whether it succeeded."""


class Session:
    """A listener of the control loop that records what keys say.

    The arm follows the operator all the time, also between episodes, so that the next one can be
    prepared. An error of recording is said, and the session goes on.
    """

    def __init__(
        self,
        recorder: Recorder,
        keys: Keys,
        say: Callable[[str], None],
        seconds: float = 0.0,
        episodes: int = 0,
    ) -> None:
        """Record by keys.

        Args:
            recorder: what writes the episodes
            keys: the operator's
            say: shows the operator a line
            seconds: longest episode; 0: as long as the operator likes [s]
            episodes: the session ends after so many; 0: when the operator ends it
        """
        self.recorder, self.keys = recorder, keys
        self.say = say
        self.most_steps = round(seconds * recorder.robot.rate_hz)
        self.wanted = episodes
        self.phase = Phase.IDLE
        self._told = 0

    def __call__(self, tick: Tick) -> None:
        """Add a turn to the episode, and do what keys say; SessionEnd at the end."""
        try:
            if self.phase is Phase.RECORDING:
                self.recorder(tick)
            else:
                self.recorder.poll()
            for key in self.keys.take(KEYS):
                self._obey(key)
            if self.most_steps and self.recorder.steps >= self.most_steps:
                self._obey("s")
        except RecordError as error:
            self.phase = Phase.IDLE
            self.say(str(error))
        self._tell()
        if self.keys.closed:
            raise SessionEnd("the terminal is gone")

    def end_episode(self, success: bool | None) -> None:
        """The loop has ended by itself: so has the episode, if one was going on."""
        if self.phase is not Phase.IDLE:
            self.recorder.finish(success)
        self.phase = Phase.IDLE

    def _obey(self, key: str) -> None:
        """Do what a key says; one that makes no sense now is passed over."""
        if key == "c" and self.phase is Phase.IDLE:
            self.recorder.begin()
            self.phase = Phase.RECORDING
            self.say(f"recording episode {self.recorder.next_number}")
        elif key == "s" and self.phase is Phase.RECORDING:
            self.phase = Phase.MARKING
            self.say(f"{self.recorder.steps} steps; success? Y or N, Backspace drops it")
        elif key in ("y", "n") and self.phase is Phase.MARKING:
            self.recorder.finish(success=key == "y")
            self.phase = Phase.IDLE
        elif key == "backspace":
            self._drop()
        elif key == "q" and self.phase is Phase.IDLE:
            raise SessionEnd("")
        elif key == "q":
            self.say("an episode is going on: S ends it, Backspace drops it")

    def _drop(self) -> None:
        if self.phase is Phase.IDLE:
            self.say("the last episode is taken back")
        else:
            self.say("the episode is dropped")
        self.recorder.drop_last()
        self.phase = Phase.IDLE

    def _tell(self) -> None:
        """Say what has been written since."""
        for report in self.recorder.reports[self._told :]:
            self._told += 1
            self.say(report.describe())
        idle = self.phase is Phase.IDLE
        if self.wanted and idle and self._told and self.recorder.episodes >= self.wanted:
            raise SessionEnd("")
