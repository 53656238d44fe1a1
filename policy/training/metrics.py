"""Metrics of a run: `metrics.jsonl` and TensorBoard.

Both are cut back to the step that a resumed run goes on from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Writes numbers under a step; a context manager that closes both files."""

    def __init__(self, folder: Path, step: int) -> None:
        """Keep what `folder` holds up to `step`, the last one before a run goes on."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        kept = ""
        for record in read_metrics(folder):
            if record["step"] <= step:
                kept += json.dumps(record) + "\n"
        self.path.write_text(kept)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._file = self.path.open("a")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """One line, and one point per number."""
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Records of a run, oldest first; a last line cut short by a kill is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
