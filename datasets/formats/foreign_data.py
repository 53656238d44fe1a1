"""What a data set of another program offers once it is opened, and how it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..episodes import Dataset


@dataclass(frozen=True)
class ReadOptions:
    """What to take of a foreign data set, and what its format does not say.

    Args:
        keys: our names to theirs, `action` included; None takes everything that can be stored
        fps: steps per second [Hz]; None: as the format says
        task: what is demonstrated; empty: as the format says
        images: whether pictures are taken
        kinds: our name -> state or image, for a key whose shape leaves it open
        layout: what the arrays mean, where a format has several; auto finds out
        mapping: a YAML file that says how topics or columns become keys
    """

    keys: Mapping[str, str] | None = None
    fps: float | None = None
    task: str = ""
    images: bool = True
    kinds: Mapping[str, str] = field(default_factory=dict)
    layout: str = "auto"
    mapping: Path | None = None


class ForeignData(Dataset, Protocol):
    """A foreign data set, opened for reading: a `Dataset` whose rows are read when asked for.

    `rows` decodes no more than what is asked; arrays have the dtypes of the specification and the
    forms of `kinds.read_key`, so that an episode of them can be appended to a store as it is. It
    may be asked from several threads. Damage raises DataError.
    """

    path: Path
    format: str
    """The format's name in the registry."""
    task: str
    """What is demonstrated, as a sentence; empty where the format does not say it."""
    notes: Sequence[str]
    """What was decided while opening, for people to read."""

    def close(self) -> None:
        """Close the files."""
        ...


Progress = Callable[[int, int], None]
"""Told how many episodes are written, and of how many."""


class Writer(Protocol):
    """Writes a data set in a foreign format."""

    def __call__(self, dataset: Dataset, target: Path, task: str, progress: Progress) -> None:
        """Write every episode; `target` appears only when it is whole.

        A kill leaves `target` with `.converting` behind it; the same call goes on from there where
        the format allows, else it begins anew. Raises DataError where something does not fit the
        format or the disk is full.
        """
        ...
