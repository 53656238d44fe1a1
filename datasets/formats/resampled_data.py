"""A foreign data set at a fixed rate by its timestamps."""

from __future__ import annotations

from collections.abc import Sequence

from ..resampled import Resampled
from .foreign_data import ForeignData


class ResampledData(Resampled):
    """A foreign data set, resampled; it stays one for whoever reads it."""

    def __init__(self, source: ForeignData, fps: float | None) -> None:
        """`fps` is the rate of the result; None keeps that of the source [Hz]."""
        super().__init__(source, fps or source.fps)
        self.foreign = source
        self.path, self.format = source.path, source.format
        self.task = source.task
        self.notes: Sequence[str] = (*source.notes, self.describe())

    def close(self) -> None:
        """Close the files."""
        self.foreign.close()
