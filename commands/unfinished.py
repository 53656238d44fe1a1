"""What an evaluation has finished so far, on disk while it goes on: a kill loses no finished
episode.

One line of JSON after the other beside the result file: what is evaluated, every episode as it
ends, and each batch of rows that ran in step as a whole. The same command takes the batches from
there and runs the rest, so that the result is, to the bit, that of an evaluation that was never
stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..control import RowLog
from ..envs.workers import WorkerError
from ..spec import ConfigError, DataError, Feedback
from ..system import outputs
from ..system.interrupts import explain


@dataclass
class Measured:
    """What the episodes of an evaluation left behind, all of them or a batch."""

    logs: list[RowLog] = field(default_factory=list)
    calls: list[tuple[int, float]] = field(
        default_factory=list
    )  # (rows, seconds) of each planning call
    seconds: float = 0.0
    videos: list[Path] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    """The instruction of every episode, where it is observed."""

    def add(self, batch: Measured) -> None:
        """Further episodes."""
        self.logs += batch.logs
        self.calls += batch.calls
        self.seconds += batch.seconds
        self.videos += batch.videos
        self.tasks += batch.tasks


class Unfinished:
    """The file of one evaluation; without a path nothing is kept."""

    def __init__(
        self, path: Path | None, evaluation: Mapping[str, Any], overwrite: bool = False
    ) -> None:
        """Go on with the file where it is there, else begin one at the first episode.

        `evaluation` says what is evaluated.

        Raises ConfigError where the file is of another evaluation, unless it may be overwritten,
        and DataError where it cannot be read.
        """
        self.path, self.batches = path, list[Measured]()
        self._ended: set[int] = set()  # seeds
        self._fulfilled: set[int] = (
            set()
        )  # seeds of episodes in which the task was fulfilled at any time
        header = json.loads(_line({**evaluation, "log": [each.name for each in fields(RowLog)]}))
        self._header: dict[str, Any] | None = header
        if path is None or not path.exists():
            return
        begun, batches = _read(path)
        if begun == header:
            self._header, self.batches = None, batches
        elif overwrite:
            path.unlink()
        else:
            raise ConfigError(
                f"{path} holds finished episodes of another evaluation "
                f"({_find_difference(begun, header)}): delete it, choose another out=, or say "
                f"overwrite=true"
            )

    def note_ended(self, seeds: Sequence[int], feedback: Feedback) -> None:
        """Keep what came of the rows that have ended since the call before, one for each seed of
        the batch that runs.
        """
        for row, seed in enumerate(seeds):
            if seed in self._ended:
                continue
            if feedback.fulfilled(row):
                self._fulfilled.add(seed)
            if feedback.done[row]:
                self._ended.add(seed)
                success = seed in self._fulfilled or feedback.fulfilled(row)
                self._append(
                    {"episode": {"seed": seed, "success": success, "score": feedback.score[row]}}
                )

    def note_batch(self, batch: Measured) -> None:
        """Keep a batch of which every row has ended."""
        self.batches.append(batch)
        self._append({"batch": asdict(batch)})

    @contextmanager
    def told(self, total: int) -> Iterator[None]:
        """Where what is done within is interrupted, or a worker fails, the message says what is
        kept.
        """
        try:
            yield
        except KeyboardInterrupt as interrupt:
            raise explain(interrupt, f"stopped; {self.explain(total)}") from None
        except WorkerError as error:
            raise WorkerError(f"{error}; {self.explain(total)}") from error

    def explain(self, total: int) -> str:
        """What is kept, and how to go on."""
        whole = set()
        for batch in self.batches:
            whole.update(log.seed for log in batch.logs)
        finished = len(whole | self._ended)
        if self.path is None:
            return f"{finished} of {total} episodes were finished; a result file, out=, keeps them"
        return (
            f"{self.path} keeps {finished} of {total} episodes; "
            f"the same command goes on after the first {len(whole)}"
        )

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        text = _line(entry)
        if self._header is not None:
            text = _line(self._header) + text
            self._header = None
        with self.path.open("a") as file:
            file.write(text)


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy as JSON takes them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


def _read(path: Path) -> tuple[Mapping[str, Any], list[Measured]]:
    """What the file says of its evaluation, and its batches.

    A last line that a kill cut off is cut off the file.
    """
    try:
        text = path.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            outputs.write_text(path, whole)
        header: dict[str, Any] = {}
        batches = []
        for number, line in enumerate(whole.splitlines()):
            entry = json.loads(line)
            if number == 0:
                header = entry
            elif "batch" in entry:
                batches.append(_read_batch(entry["batch"]))
        return header, batches
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}): delete it, or choose another out="
        ) from error


def _read_batch(entry: Mapping[str, Any]) -> Measured:
    batch = Measured(seconds=float(entry["seconds"]), tasks=list(entry["tasks"]))
    batch.logs += map(_read_log, entry["logs"])
    batch.videos += map(Path, entry["videos"])
    for rows, seconds in entry["calls"]:
        batch.calls.append((int(rows), float(seconds)))
    return batch


def _read_log(entry: Mapping[str, Any]) -> RowLog:
    commands = []
    for command in entry["commands"]:
        commands.append(np.asarray(command, np.float64))
    reactions = []
    for seen_s, acted_s, executed in entry["reactions"]:
        reactions.append((float(seen_s), float(acted_s), int(executed)))
    return RowLog(**{**entry, "commands": commands, "reactions": reactions})


def _find_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first key in which two evaluations differ."""
    for key in {**one, **other}:
        if one.get(key) != other.get(key):
            return f"its {key} is {one.get(key)!r:.80}, here it is {other.get(key)!r:.80}"
    return "its keys stand in another order"
