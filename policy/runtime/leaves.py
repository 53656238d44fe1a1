"""Contexts and prepared levels as flat lists of tensors, and back: what crosses to an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Leaf:
    """A tensor's place in the list."""

    index: int


@dataclass(frozen=True)
class Made:
    """A dataclass, of its class and its fields' structures."""

    kind: type
    parts: tuple[Any, ...]


def split_leaves(value: Any, leaves: list[Tensor]) -> Any:
    """Append the tensors of nested tuples and dataclasses to `leaves`, in a fixed order.

    Returns the structure: hashable, with a Leaf for each tensor. Other values, as the numbers of
    experts in a dispatch, are part of it: values that differ there need graphs of their own.
    """
    if isinstance(value, Tensor):
        leaves.append(value)
        return Leaf(len(leaves) - 1)
    if isinstance(value, tuple):
        return tuple(split_leaves(each, leaves) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = [split_leaves(getattr(value, each.name), leaves) for each in fields(value)]
        return Made(type(value), tuple(parts))
    return value


def join_leaves(structure: Any, leaves: Sequence[Tensor]) -> Any:
    """The value that `split_leaves` took apart, with these tensors."""
    if isinstance(structure, Leaf):
        return leaves[structure.index]
    if isinstance(structure, tuple):
        return tuple(join_leaves(each, leaves) for each in structure)
    if isinstance(structure, Made):
        return structure.kind(*[join_leaves(each, leaves) for each in structure.parts])
    return structure
