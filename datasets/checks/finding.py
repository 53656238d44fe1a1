"""What a check says, and what a foreign format may offer to the checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ...spec import shorten
from ..statistics import Statistics

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One fault of a data set.

    Args:
        code: a short name that stays, as `timestamps-drift`
        severity: an error makes the data set unusable, a warning deserves a look
        message: what is wrong, where, in plain words
        key: the key that it is about; empty for the data set as a whole
        episodes: where it was found; empty where it concerns all of them
        numbers: what was measured
        repair: what `hotstart data repair` can do about it; empty for nothing
    """

    code: str
    severity: Severity
    message: str
    key: str = ""
    episodes: Sequence[int] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    repair: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = asdict(self)
        plain["episodes"] = [int(number) for number in self.episodes]
        plain["numbers"] = {name: float(value) for name, value in self.numbers.items()}
        return plain


@runtime_checkable
class ChecksFiles(Protocol):
    """A foreign data set that knows faults of its own files.

    Such are videos with another number of frames than the table has rows, or a file that the index
    names and that is not there. Implementing it is left to each format; it must not decode a video
    to count its frames where the container says how many there are.
    """

    def check_files(self) -> Iterable[Finding]:
        """Faults of the files; code `frame-count` for a video that does not fit its table."""
        ...


@runtime_checkable
class StoresStatistics(Protocol):
    """A foreign data set whose files hold statistics of its numbers."""

    def stored_statistics(self) -> Mapping[str, Statistics]:
        """Our key -> min, max, mean, std as far as they are stored, each of the key's shape.

        Raises DataError where they cannot be read.
        """
        ...


@runtime_checkable
class StoresEpisodeStatistics(Protocol):
    """A foreign data set whose files hold statistics of every episode's numbers."""

    def episode_statistics(self, number: int) -> Mapping[str, Statistics]:
        """The same of one episode; DataError where they cannot be read."""
        ...


def list_episodes(numbers: Sequence[int], most: int = 10) -> str:
    """Numbers of episodes for a message: the first ones and how many more there are."""
    text = ", ".join(str(number) for number in numbers[:most])
    if len(numbers) > most:
        return f"{text} and {len(numbers) - most} more"
    return text


def compare_count(where: str, name: str, declared: object, found: int) -> Iterator[Finding]:
    """A warning where a file says another number of something than there is; None says nothing."""
    count = isinstance(declared, int | float | np.number)
    if declared is not None and not (count and declared == found):
        message = f"{where} says that {name} is {shorten(declared)}; there are {found:,}"
        yield Finding("index-differs", "warning", message, numbers={"found": found})
