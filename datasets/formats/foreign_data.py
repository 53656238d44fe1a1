"""What a data set of another program offers once it is opened, and how it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...spec import option
from ..episodes import Dataset


@dataclass
class ReadOptions:
    """What to take of a data set in another format, and what the format does not say."""

    keys: dict[str, str] | None = option(
        None, "arrays to take, ours:theirs, as in action:actions,state:obs; none: all"
    )
    fps: float | None = option(None, "rate of the steps; needed where the format has none", "Hz")
    task: str = option("", "what is demonstrated, as a sentence; empty: as the format says")
    images: bool = option(True, "whether to take the images too")
    kinds: dict[str, str] | None = option(
        None, "state or image for a key whose shape leaves it open, as in depth:state"
    )
    layout: str = option(
        "auto", "what the arrays mean, where a format has several; auto finds out: plain, pusht"
    )
    mapping: Path | None = option(None, "a file that says which topics become which keys (YAML)")
    resample: bool = option(
        False, "whether to bring the steps to a fixed rate, fps, by their timestamps"
    )
    cache: Path | None = option(
        None, "folder that keeps shards of object storage; none: ~/.cache/hotstart/shards"
    )
    cache_gb: float = option(10.0, "what the kept shards may take on disk", "GB")


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

    @property
    def notes(self) -> Sequence[str]:
        """What was decided while opening, for people to read."""
        ...

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
