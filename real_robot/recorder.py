"""Recording: a listener of the control loop that appends an episode at a time to a store.

What is finished outlives kills and power cuts; the episode that is going on is lost at most.
"""

from __future__ import annotations

import pickle
import socket
import subprocess
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..control import RealClock
from ..datasets.episodes import MADE, TIMESTAMP
from ..spec import Actor, Clock, ConfigError, HotstartError, Robot, Tick
from ..system.children import start_module
from .recording import EPISODE, Job, list_images, make_record
from .shared_memory import Queue, QueueFullError

OPEN_S = 60.0
FINISH_S = 120.0
"""How long opening a store and finishing an episode may take."""
TIMES = (TIMESTAMP, "target_s", "recorded_s")
LEAST_SLOTS = 16
MOST_SLOTS = 1024
LATE_SHARE = 1.5
"""A step that comes later than so many control periods after the one before is counted as late."""


class RecordError(HotstartError):
    """Nothing can be recorded; the message says why, and what is kept."""


@dataclass(frozen=True)
class EpisodeReport:
    """A finished episode."""

    steps: int
    seconds: float
    success: bool | None
    """What the operator says; None: nobody said it."""
    late_steps: int
    """Steps that came more than half a period late."""
    longest_s: float
    """The longest time between two steps."""
    number: int = -1
    """Its place in the store, once it is there."""

    def describe(self) -> str:
        """A line for the operator."""
        words = {True: "success", False: "failure", None: "unmarked"}[self.success]
        rate_hz = (self.steps - 1) / max(self.seconds, 1e-9)
        text = f"episode {self.number}: {self.steps} steps, {self.seconds:.1f} s, {words}"
        return (
            f"{text}; {rate_hz:.1f} Hz, {self.late_steps} late steps, "
            f"longest gap {1000 * self.longest_s:.0f} ms"
        )


class Recorder:
    """Records row 0 of a robot; give it to `hotstart.run` as a listener.

    Between `begin` and `finish` every turn is a step of the episode: the observation, the action as
    it was applied, who acted, and the times of each. Pictures are compressed in another process
    while the episode goes on. Nothing here waits for the disk but `start` and `wait`.
    """

    def __init__(
        self,
        path: str | Path,
        robot: Robot,
        *,
        task: str = "",
        source: str = "a robot",
        planner: Actor = Actor.OPERATOR,
        clock: Clock | None = None,
        memory_mb: float = 256.0,
    ) -> None:
        """Record into the store at `path`; it is made, or goes on where it holds the same.

        Args:
            path: the store
            robot: whose observations and actions are recorded
            task: what is done, in words
            source: where the episodes come from, in words
            planner: who acts where the loop says POLICY: an operator, or a policy
            clock: the loop's own; None: this machine's
            memory_mb: what pictures may take that wait for compression [MB]

        Raises ConfigError for a robot of several rows.
        """
        if robot.rows != 1:
            raise ConfigError(f"the robot has {robot.rows} rows; one row is recorded")
        self.path, self.robot = Path(path), robot
        self.planner = planner
        self.clock: Clock = clock or RealClock()
        self.images = list_images(robot.obs_spec)
        self.episodes = 0
        """Finished episodes in the store."""
        self.reports: list[EpisodeReport] = []
        """Of the episodes that this recorder has finished, oldest first."""
        self._about = (task, source)
        self._memory_mb = memory_mb
        self._steps: list[dict[str, Any]] = []
        self._episode = -1
        self._recording = False
        self._waiting: deque[EpisodeReport] = deque()
        self._drops = 0
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._queue: Queue | None = None

    @property
    def recording(self) -> bool:
        """Whether an episode is going on."""
        return self._recording

    @property
    def steps(self) -> int:
        """Of the episode that is going on."""
        return len(self._steps)

    @property
    def next_number(self) -> int:
        """The place in the store of the episode that is going on, or is the next to begin."""
        return self.episodes + len(self._waiting) - self._drops

    def start(self) -> None:
        """Open the store in a process of its own; RecordError where that cannot be."""
        if self._connection is not None:
            return
        robot = self.robot
        files: list[int] = []
        if self.images:
            record = make_record(robot.obs_spec)
            slots = int(self._memory_mb * 1e6 / record.itemsize)
            self._queue = Queue.create(record, int(np.clip(slots, LEAST_SLOTS, MOST_SLOTS)))
            self._queue.unlink()  # without a name it goes with the last process that has it
            files.append(self._queue.inherit())
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = start_module(f"{__package__}.recording", [theirs.fileno(), *files])
        self._connection = Connection(ours.detach())
        task, source = self._about
        specs = (robot.action_spec, robot.obs_spec)
        self._send(Job(self.path.absolute(), robot.rate_hz, *specs, task, source))
        self._hear(OPEN_S)

    def begin(self) -> None:
        """The next turn is the first step of an episode; one that was going on is given up."""
        self.start()
        self._episode += 1
        self._steps = []
        self._recording = True
        self._send(("begin", self._episode))

    def __call__(self, tick: Tick) -> None:
        """Add a turn; RecordError where recording has failed."""
        self.poll()
        if not self._recording or tick.substeps[0] == 0:
            return
        self._steps.append(self._read(tick))
        if self._queue is None:
            return
        record = self._queue.blank()
        record[EPISODE] = self._episode
        for name in self.images:
            record[name] = tick.observation[name][0]
        try:
            self._queue.put(record)
        except QueueFullError as error:
            self.drop()
            raise RecordError(
                f"pictures come faster than they can be compressed and written: this episode is "
                f"given up, {self.path} keeps {self.episodes}; take smaller pictures, fewer "
                "cameras, a faster disk, or a lower rate"
            ) from error

    def finish(self, success: bool | None = None) -> None:
        """The episode is over; it is written while the loop goes on, see `reports` and `wait`.

        An episode of less than two steps is given up.
        """
        if not self._recording:
            return
        if len(self._steps) < 2:
            self.drop()
            return
        self._recording = False
        arrays = self._join(success)
        gaps_s = np.diff(arrays["recorded_s"])
        late = gaps_s > LATE_SHARE / self.robot.rate_hz
        seconds = float(gaps_s.sum())
        report = EpisodeReport(
            len(self._steps), seconds, success, int(late.sum()), float(gaps_s.max())
        )
        self._waiting.append(report)
        self._steps = []
        self._send(("finish", arrays))

    def drop(self) -> None:
        """Give up the episode that is going on."""
        if self._recording:
            self._recording = False
            self._steps = []
            self._send(("drop",))

    def drop_last(self) -> None:
        """Give up the episode that is going on; where there is none, take the newest one back."""
        if self._recording:
            self.drop()
            return
        self.start()
        if self.next_number > 0:
            self._drops += 1
            self._send(("drop_last",))

    def poll(self) -> None:
        """Take note of what has been written; RecordError where something could not be."""
        while self._connection is not None and self._connection.poll():
            self._hear(0.0)

    def wait(self) -> None:
        """Return when every finished episode is on the disk; RecordError where one is not."""
        while self._waiting or self._drops:
            self._hear(FINISH_S)

    def close(self) -> None:
        """Wait for what is finished, give up the rest, and end the process."""
        if self._connection is None:
            return
        try:
            self.drop()
            self.wait()
        finally:
            self._end()

    def __enter__(self) -> Recorder:
        """Start, for `with`."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close, however the block ended."""
        self.close()

    def _read(self, tick: Tick) -> dict[str, Any]:
        """The numbers of a turn, by the keys of an episode; times are of the loop's clock."""
        now_s = float(tick.now_s[0])
        step: dict[str, Any] = {}
        for name in self.robot.obs_spec.keys:
            if name not in self.images:
                step[name] = np.array(tick.observation[name][0])
            made_s = tick.key_made_s.get(name, tick.now_s)
            step[MADE + name] = float(made_s[0])
        actor = Actor(int(tick.actors[0]))
        if actor == Actor.POLICY:
            actor = self.planner
        step["action"] = np.array(tick.applied[0])
        step["actor"] = np.uint8(actor)
        step["success"] = bool(tick.feedback.fulfilled(0))
        step[TIMESTAMP] = now_s
        step["target_s"] = float(tick.target_s[0])
        step["recorded_s"] = self.clock.now_s()
        return step

    def _join(self, success: bool | None) -> dict[str, NDArray[Any]]:
        """The arrays (n, ...) of the episode; times count from its first step."""
        start_s = self._steps[0][TIMESTAMP]
        arrays: dict[str, NDArray[Any]] = {}
        for name in self._steps[0]:
            values = np.stack([step[name] for step in self._steps])
            if name in TIMES or name.startswith(MADE):
                values = values - start_s
            arrays[name] = values
        if success is not None:
            arrays["success"][-1] = success
        return arrays

    def _send(self, message: Any) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send_bytes(pickle.dumps(message))
        except OSError as error:
            raise self._explain_death() from error

    def _hear(self, wait_s: float) -> None:
        """Take one answer; RecordError where it says a failure, or none comes."""
        assert self._connection is not None, "it is started"
        try:
            if not self._connection.poll(wait_s):
                self._end()
                raise RecordError(
                    f"{self.path}: the recorder has not answered for {wait_s:g} s; is the disk "
                    f"there? {self.episodes} finished episodes are kept"
                )
            word, value = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._explain_death() from error
        if word == "failed":
            self._recording = False
            self._waiting.clear()
            self._drops = 0
            raise RecordError(value)
        self.episodes = value
        if word == "appended":
            report = self._waiting.popleft()
            self.reports.append(replace(report, number=value - 1))
        if word == "dropped":
            self._drops -= 1

    def _explain_death(self) -> RecordError:
        """What is left when the process is gone."""
        self._recording = False
        self._waiting.clear()
        self._drops = 0
        self._end()
        return RecordError(
            f"the recorder's process died, perhaps for want of memory: the episode that was going "
            f"on is lost, {self.path} keeps {self.episodes}"
        )

    def _end(self) -> None:
        """Let go of everything."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._queue is not None:
            self._queue.close()
        self._connection, self._process = None, None
        self._queue = None
