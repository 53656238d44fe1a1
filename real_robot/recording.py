"""The recorder's process: it compresses pictures while an episode goes on, and appends episodes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import rates_differ
from ..datasets.store import Store
from ..spec import ActionSpec, DataError, HotstartError, ObsSpec
from ..system.lifelines import end_with
from .shared_memory import Queue, path_of

EPISODE = "episode"
PAUSE_S = 0.02
GRACE_S = 60.0
"""How long an episode that is being finished may still take when who asked for it is gone."""


@dataclass(frozen=True)
class Job:
    """What a store holds."""

    path: Path
    fps: float
    action_spec: ActionSpec
    obs_spec: ObsSpec
    task: str
    source: str


def list_images(obs_spec: ObsSpec) -> list[str]:
    """The keys of pictures."""
    return [name for name, key in obs_spec.keys.items() if key.kind == "image"]


def make_record(obs_spec: ObsSpec) -> np.dtype[Any]:
    """A step's pictures with the number of their episode, as they cross processes."""
    fields: list[Any] = [(EPISODE, "<i8")]
    for name in list_images(obs_spec):
        fields.append((name, np.uint8, tuple(obs_spec.keys[name].shape)))
    return np.dtype(fields)


def main() -> None:
    """Entry: the arguments are the numbers of a socket and, for pictures, of shared memory.

    A `Job` comes first. Commands are answered by ("open", episodes), ("appended", episodes),
    ("dropped", episodes) or ("failed", words).
    """
    end_with(int(sys.argv[1]), GRACE_S)
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, ConnectionError):
        serve(connection, [int(number) for number in sys.argv[2:]])
    os._exit(0)


def serve(connection: Connection, files: Sequence[int]) -> None:
    """Open the store and do what is asked until the other side is gone."""
    try:
        writer = EpisodeWriter(connection.recv(), files)
    except (HotstartError, OSError) as error:
        connection.send(("failed", str(error)))
        return
    connection.send(("open", writer.episodes))
    while True:
        answer = work(writer, connection)
        if answer is not None:
            connection.send(answer)


def work(writer: EpisodeWriter, connection: Connection) -> tuple[str, Any] | None:
    """Take what has come; returns what to answer."""
    try:
        writer.take_pictures()
        if connection.poll(PAUSE_S):
            return writer.obey(*connection.recv())
    except DataError as error:
        writer.give_up()
        return "failed", str(error)
    return None


class EpisodeWriter:
    """A store with an episode that is going on: its pictures are on the disk already."""

    def __init__(self, job: Job, files: Sequence[int]) -> None:
        """Open the store or make it; DataError where it holds other data.

        `files` holds the number of the shared memory that pictures come in; it may be empty.
        """
        if not job.path.exists():
            make_store(job)
        self.store = Store.open(job.path, durable=True)
        check_store(self.store, job)
        self.images = list_images(job.obs_spec)
        self.queue: Queue | None = None
        if files:
            self.queue = Queue.attach(path_of(files[0]), make_record(job.obs_spec))
        self.episode = -1
        """The number of the newest episode that was begun; the recorder counts them."""
        self._going_on = False
        self._taken: deque[Any] = deque()
        self._written = 0
        self._block: list[Any] = []

    @property
    def episodes(self) -> int:
        """How many are finished."""
        return len(self.store.lengths)

    def obey(self, command: str, value: Any = None) -> tuple[str, Any] | None:
        """Do what the recorder asks; returns the answer, where there is one."""
        if command == "begin":
            self.give_up()
            self.episode, self._going_on = value, True
        elif command == "finish" and self._going_on:
            self.take_pictures()
            self._write_block()
            self.store.append(value)
            self.give_up()
            return "appended", self.episodes
        elif command == "drop":
            self.give_up()
        elif command == "drop_last":
            self.give_up()
            self.store.drop_last()
            return "dropped", self.episodes
        return None

    def take_pictures(self) -> None:
        """Compress the pictures that have come; whole chunks go to the disk.

        Pictures may come before the command that begins their episode: they wait for it.
        """
        if self.queue is None:
            return
        self._taken.extend(self.queue.take())
        while self._taken and self._taken[0][EPISODE] <= self.episode:
            record = self._taken.popleft()
            if self._going_on and record[EPISODE] == self.episode:
                self._block.append(record)
                self._written += 1
                if self._ends_chunk():
                    self._write_block()

    def give_up(self) -> None:
        """Forget the episode that is going on; its pictures that still come are dropped."""
        self.store.drop_ahead()
        self._going_on = False
        self._written = 0
        self._block = []

    def _ends_chunk(self) -> bool:
        """Whether the newest picture is the last of its chunk in the store."""
        rows = self.store.rows_per_chunk(self.images[0])
        return (len(self.store) + self._written) % rows == 0

    def _write_block(self) -> None:
        if not self._block:
            return
        for name in self.images:
            self.store.write_ahead(name, np.stack([record[name] for record in self._block]))
        self._block = []


def make_store(job: Job) -> None:
    """An empty store, on the disk when this returns."""
    job.path.parent.mkdir(parents=True, exist_ok=True)
    store = Store.create(
        job.path,
        fps=job.fps,
        action_spec=job.action_spec,
        obs_spec=job.obs_spec,
        task=job.task,
        source=job.source,
    )
    store.release()
    os.sync()


def check_store(store: Store, job: Job) -> None:
    """Raise DataError unless a store holds what the robot observes and is told."""
    faults = []
    if store.action_spec != job.action_spec:
        faults.append(_say_difference("actions", store.action_spec, job.action_spec))
    if store.obs_spec != job.obs_spec:
        faults.append(_say_difference("observations", store.obs_spec, job.obs_spec))
    if rates_differ(store.fps, job.fps):
        faults.append(f"it runs at {store.fps:g} Hz, the robot at {job.fps:g} Hz")
    if faults:
        raise DataError(f"{job.path} is of another robot: {'; '.join(faults)}; record elsewhere")


def _say_difference(what: str, stored: ActionSpec | ObsSpec, robots: ActionSpec | ObsSpec) -> str:
    return f"its {what} are {stored.to_json()}, the robot's {robots.to_json()}"
