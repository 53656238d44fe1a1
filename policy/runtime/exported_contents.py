"""The meaning of a folder: specifications, graphs and the sampler's numbers, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...rows import Array
from ...spec import ActionSpec, CheckpointError, Horizon, IntArray, ObsSpec
from ...spec.plain_values import is_whole
from .engines import HINTS
from .exported_folder import MANIFEST, Folder
from .program import LevelRows, Part, Program

MOST_ROWS = 4096
MOST_THREADS = 1024


@dataclass(frozen=True)
class Contents:
    """What an exported policy is made of."""

    obs_spec: ObsSpec
    action_spec: ActionSpec
    horizon: Horizon
    rate_hz: float | None
    engine: str
    precision: str
    threads: int
    rows: int  # rows of every graph
    width: int  # A'
    encode: str
    denoise: tuple[str, ...]
    decode: str
    rebase: str | None  # None: actions are not relative to what is observed
    reads: tuple[str, ...]  # observations that actions are relative to
    program: Program

    def to_plain(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The manifest's part of it, and its arrays."""
        plain = {
            "obs_spec": self.obs_spec.to_json(),
            "action_spec": self.action_spec.to_json(),
            "horizon": asdict(self.horizon),
            "rate_hz": self.rate_hz,
            "engine": self.engine,
            "precision": self.precision,
            "threads": self.threads,
            "rows": self.rows,
            "width": self.width,
            "reads": list(self.reads),
            "graphs": {
                "encode": self.encode,
                "denoise": list(self.denoise),
                "decode": self.decode,
                "rebase": self.rebase,
            },
        }
        numbers: dict[str, Array] = {}
        for name in ("first", "later"):
            part: Part = getattr(self.program, name)
            plain[name] = {"clip": part.clip, "nfe": part.nfe}
            numbers[f"{name}/weights"] = part.weights.astype(np.float32)
            numbers[f"{name}/levels"] = part.levels.astype(np.int64)
            numbers[f"{name}/level"] = part.level.astype(np.float32)
        levels = self.program.levels
        numbers["levels/scales"] = levels.scales.astype(np.float32)
        numbers["levels/graphs"] = levels.graphs.astype(np.int64)
        for graph in range(len(self.denoise)):
            mine = [levels.prepared[row] for row in np.flatnonzero(levels.graphs == graph)]
            for leaf, values in enumerate(zip(*mine, strict=True)):
                numbers[f"levels/{graph}/{leaf}"] = np.stack(values)
        return plain, numbers


def read_contents(folder: Folder) -> Contents:
    """The contents; raises CheckpointError, KeyError, TypeError or ValueError for what is none."""
    plain = folder.manifest
    graphs = plain["graphs"]
    width = plain["width"]
    horizon = Horizon(**plain["horizon"])
    precision = plain["precision"]
    counts_fit = is_whole(plain["rows"]) and 0 < plain["rows"] <= MOST_ROWS
    counts_fit = counts_fit and is_whole(plain["threads"])
    counts_fit = counts_fit and 0 <= plain["threads"] <= MOST_THREADS
    if precision not in HINTS or not counts_fit or not is_whole(width):
        raise CheckpointError(f"{folder.path / MANIFEST} is damaged: precision, rows or threads")
    denoise = tuple(graphs["denoise"])
    found = Contents(
        obs_spec=ObsSpec.from_json(plain["obs_spec"]),
        action_spec=ActionSpec.from_json(plain["action_spec"]),
        horizon=horizon,
        rate_hz=_read_rate(plain["rate_hz"]),
        engine=plain["engine"],
        precision=precision,
        threads=plain["threads"],
        rows=plain["rows"],
        width=width,
        encode=graphs["encode"],
        denoise=denoise,
        decode=graphs["decode"],
        rebase=graphs["rebase"],
        reads=tuple(plain["reads"]),
        program=Program(
            _read_part(folder, "first"),
            _read_part(folder, "later"),
            _read_levels(folder.numbers, len(denoise)),
        ),
    )
    _check_program(found, folder)
    return found


def _read_rate(value: Any) -> float | None:
    """The control rate [Hz], or None."""
    if value is None:
        return None
    return float(value)


def _read_part(folder: Folder, name: str) -> Part:
    """One part of the program."""
    plain: Mapping[str, Any] = folder.manifest[name]
    clip = plain["clip"]
    if clip is not None:
        clip = float(clip)
    numbers = folder.numbers
    return Part(
        weights=numbers[f"{name}/weights"],
        levels=numbers[f"{name}/levels"],
        level=numbers[f"{name}/level"],
        clip=clip,
        nfe=int(plain["nfe"]),
    )


def _read_levels(numbers: Mapping[str, Array], graphs: int) -> LevelRows:
    """The rows of levels, their prepared leaves put together again."""
    graph_of: IntArray = numbers["levels/graphs"]
    stacks = []
    for graph in range(graphs):
        leaves = []
        while f"levels/{graph}/{len(leaves)}" in numbers:
            leaves.append(numbers[f"levels/{graph}/{len(leaves)}"])
        stacks.append(leaves)
    used = [0] * graphs
    prepared = []
    for graph in graph_of.tolist():
        prepared.append(tuple(leaf[used[graph]] for leaf in stacks[graph]))
        used[graph] += 1
    return LevelRows(numbers["levels/scales"], graph_of, tuple(prepared))


def _check_program(found: Contents, folder: Folder) -> None:
    """Raise CheckpointError unless all shapes fit the plans, and all places the levels."""
    levels = found.program.levels
    planned = found.horizon.planned
    count = len(levels.graphs)
    good = levels.scales.shape == (count, 3, planned)
    good = good and set(found.reads) <= set(found.obs_spec.keys)
    for part in (found.program.first, found.program.later):
        shape = part.weights.shape
        good = good and len(shape) == 5 and min(shape[:3]) > 0 and part.draws >= 0
        good = good and shape[3] == planned and shape[4] in (1, found.width)
        good = good and part.levels.shape == (shape[0], shape[1] - 1)
        good = good and part.level.shape == (planned,)
        good = good and bool(((part.levels >= 0) & (part.levels < count)).all())
        good = good and bool(np.isfinite(part.weights).all())
    if not good:
        raise CheckpointError(
            f"{folder.path / MANIFEST} is damaged: its numbers do not fit its plans"
        )
