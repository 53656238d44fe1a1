"""How two data sets differ."""

from __future__ import annotations

from collections.abc import Mapping

from ..spec import ActionDim, ObsKey
from .episodes import Dataset


def compare_specs(one: Dataset, other: Dataset) -> list[str]:
    """How rate, actions and observations differ, a line each; empty where they are equal."""
    found: list[str] = []
    if one.fps != other.fps:
        found.append(f"fps is {one.fps:g} and {other.fps:g}")
    return found + _compare_actions(one, other) + _compare_observations(one, other)


def _compare_actions(one: Dataset, other: Dataset) -> list[str]:
    ours, theirs = one.action_spec.dims, other.action_spec.dims
    if len(ours) != len(theirs):
        return [f"an action is {len(ours)} numbers and {len(theirs)}"]
    found: list[str] = []
    for number, (dim, its) in enumerate(zip(ours, theirs, strict=True)):
        if dim != its:
            found.append(f"action {number} is {_describe_dim(dim)} and {_describe_dim(its)}")
    return found


def _compare_observations(one: Dataset, other: Dataset) -> list[str]:
    ours, theirs = one.obs_spec.keys, other.obs_spec.keys
    found: list[str] = []
    for name in dict.fromkeys([*ours, *theirs]):
        if ours.get(name) != theirs.get(name):
            here, there = _describe_key(ours, name), _describe_key(theirs, name)
            found.append(f"{name} is {here} and {there}")
    return found


def _describe_dim(dim: ActionDim) -> str:
    form = "a change"
    if dim.absolute:
        form = "absolute"
    return f"{dim.name} ({dim.unit or 'no unit'}, {dim.kind}, {form})"


def _describe_key(keys: Mapping[str, ObsKey], name: str) -> str:
    if name not in keys:
        return "not there"
    key = keys[name]
    return f"{key.kind} {key.dtype} {tuple(key.shape)}"
