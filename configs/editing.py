"""Options of the actions of `hotstart data` that make new data sets of others, or show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..spec import REQUIRED, option


@dataclass
class Merge:
    """Join data sets into a new one: hotstart data merge A.zarr B.zarr OUT.zarr.

    Rate, actions and observations must be the same; the message names what differs. Where the
    sources have different tasks, each becomes the instruction of its episodes. Extras that not all
    sources have (reward, success, actor, weight, ...) are left out, or fill= gives their number.
    """

    paths: tuple[Path, ...] = option(
        REQUIRED, "the data sets, in any format, and last the new one's folder", positional=True
    )
    task: str = option("", "one task for all; empty: what the sources say")
    fill: dict[str, float] | None = option(
        None, "numbers of extras that a source lacks, as in weight:1,actor:4"
    )
    common: bool = option(False, "whether to leave out observations that not all sources have")
