"""Every control period of the real task that was spent, by what it was spent on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from ..spec import CheckpointError, shorten

Spent = Literal["demonstrations", "play", "training", "selection", "evaluation"]
PURPOSES: tuple[str, ...] = get_args(Spent)
"""The parts of a ledger, in the order in which they are spent."""


@dataclass(frozen=True)
class Ledger:
    """Control periods of the real task (simulator or robot). Imagined ones are not in it."""

    demonstrations: int = 0  # that the base was trained on
    play: int = 0  # recorded for a world model
    training: int = 0  # rollouts that the fine-tuning learned from
    selection: int = 0  # evaluations by which a checkpoint or a setting was chosen
    evaluation: int = 0  # the final evaluation

    def add(self, spent: Spent, steps: int) -> Self:
        """The ledger with `steps` more under `spent`."""
        return replace(self, **{spent: getattr(self, spent) + int(steps)})

    @property
    def was_tuned(self) -> bool:
        """Whether more was spent than demonstrations and evaluations."""
        return self.play + self.training + self.selection > 0

    def describe(self) -> list[str]:
        """The counts of `PURPOSES` as text; bases from before ledgers know no demonstrations."""
        counts = [f"{getattr(self, purpose):,}" for purpose in PURPOSES]
        if not self.demonstrations:
            counts[0] = "not recorded"
        return counts

    def in_words(self) -> str:
        """The counts with what they were spent on, in one line."""
        spent = zip(PURPOSES, self.describe(), strict=True)
        return ", ".join(f"{purpose} {count}" for purpose, count in spent)

    def to_json(self) -> dict[str, int]:
        """Plain values, as they stand in results and checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises CheckpointError for anything but counts."""
        if not isinstance(plain, Mapping):
            raise CheckpointError(f"the ledger is {shorten(plain)}; counts by name are wanted")
        counts: dict[str, int] = {}
        for name in PURPOSES:
            count = plain.get(name, 0)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise CheckpointError(f"the ledger's {name} is {shorten(count)}; a count is wanted")
            counts[name] = count
        return cls(**counts)
