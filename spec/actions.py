"""What the numbers of an action mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from .errors import ConfigError
from .messages import shorten
from .plain_values import has_types

ActionKind = Literal["continuous", "rotation", "discrete"]


@dataclass(frozen=True)
class ActionDim:
    """One number of an action."""

    name: str
    unit: str = ""
    kind: ActionKind = "continuous"
    absolute: bool = True  # else it says a change


@dataclass(frozen=True)
class ActionSpec:
    """What each number of an action means."""

    dims: tuple[ActionDim, ...]

    @property
    def width(self) -> int:
        """A, the numbers of an action."""
        return len(self.dims)

    @classmethod
    def plain(cls, width: int) -> ActionSpec:
        """A specification for numbers without names of their own: action_0, action_1, ..."""
        return cls(tuple(ActionDim(f"action_{i}") for i in range(width)))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain lists and dicts, for the store and the checkpoint."""
        return [asdict(dim) for dim in self.dims]

    @classmethod
    def from_json(cls, dims: Sequence[Mapping[str, Any]]) -> ActionSpec:
        """Read back what `to_json` wrote; raises ConfigError for anything else."""
        if not isinstance(dims, list | tuple):
            raise ConfigError(
                f"action_spec is {shorten(dims)}; a list of numbers with their names is wanted"
            )
        return cls(tuple(_read_dim(dim) for dim in dims))


def _read_dim(plain: Any) -> ActionDim:
    """One number of an action; raises ConfigError for anything that `to_json` does not write."""
    kinds = get_args(ActionKind)
    fitting = has_types(plain, {"name": str, "unit": str, "kind": str, "absolute": bool})
    if not fitting or "name" not in plain or plain.get("kind", "continuous") not in kinds:
        raise ConfigError(
            f"action_spec holds {shorten(plain)}; a name, a unit, a kind ({', '.join(kinds)}) and "
            "absolute (true or false) are wanted"
        )
    return ActionDim(**plain)
