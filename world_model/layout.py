"""What the numbers of a state mean to a model of dynamics: read from specifications and play.

Nothing here knows a task. Numbers that never change in an episode are context, numbers that repeat
others are copied, and what is left moves. Letters: B rows, N steps of the play, M frames, D numbers
of all state observations, S of what moves, C of the context, A of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..policy.actions import matrix_to_rotation_6d, quaternion_to_matrix, rotation_6d_to_matrix

Role = Literal["context", "copy", "moving"]
Sign = Literal["largest", "first", "last", "near"]


@dataclass(frozen=True)
class Group:
    """Moving numbers that change together: `raw` of the observation, `own` of what moves."""

    kind: Literal["plain", "quaternion", "angle"]
    raw: list[int]
    own: list[int]  # six for a quaternion: the first two columns of its matrix
    sign: Sign = "near"
    """Of a quaternion: which of its numbers is never negative; near: its sign has no rule."""


@dataclass(frozen=True)
class Position:
    """Where the numbers of a position are: places in what moves (S), then in the context (C)."""

    name: str
    axes: dict[str, int]  # axis -> place in the S + C numbers


@dataclass(frozen=True)
class SetPoint:
    """What a number of an action has commanded so far.

    An increment adds up to a commanded place of a moving number; else the last action counts.
    """

    place: int = -1  # which of the S numbers an increment moves; -1: none
    scale: float = 1.0  # what an action of 1 moves it by


@dataclass(frozen=True)
class Layout:
    """How observations become what moves and what does not; plain values, saved as JSON."""

    keys: dict[str, list[int]]  # state key -> its shape, in the order of the D numbers
    roles: list[Role]  # (D,)
    sources: list[int]  # (D,) of a copy, the number that it repeats
    lags: list[int]  # (D,) of a copy, how many control periods late
    groups: list[Group]
    positions: list[Position]
    set_points: list[SetPoint]  # (A,)
    context: list[int] = field(default_factory=list)  # (C,) context numbers that differ by episode

    @property
    def width(self) -> int:
        """D."""
        return len(self.roles)

    @property
    def moving(self) -> int:
        """S."""
        return sum(len(group.own) for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Layout:
        """Read back what `to_json` wrote."""
        read = dict(plain)
        read["groups"] = [Group(**group) for group in plain["groups"]]
        read["positions"] = [Position(**position) for position in plain["positions"]]
        read["set_points"] = [SetPoint(**point) for point in plain["set_points"]]
        return cls(**read)


def list_differences(layout: Layout) -> list[tuple[int, int]]:
    """Pairs of places in the S + C numbers whose difference says where things are to each other.

    Of many positions (keypoints) only the differences to the first and to the last are taken.
    """
    pairs: list[tuple[int, int]] = []
    count = len(layout.positions)
    few = count <= 6
    for first in range(count):
        for second in range(first + 1, count):
            if not few and first > 0 and second < count - 1:
                continue
            one = layout.positions[first].axes
            other = layout.positions[second].axes
            for axis in sorted(one.keys() & other.keys()):
                if min(one[axis], other[axis]) < layout.moving:
                    pairs.append((one[axis], other[axis]))
    return pairs


def take_moving(layout: Layout, states: Tensor) -> Tensor:
    """What moves (..., S) of states (..., D)."""
    parts: list[Tensor] = []
    for group in layout.groups:
        raw = states[..., group.raw]
        if group.kind == "quaternion":
            parts.append(matrix_to_rotation_6d(quaternion_to_matrix(raw)))
        else:
            parts.append(raw)
    return torch.cat(parts, -1)


def straighten(layout: Layout, moving: Tensor) -> Tensor:
    """Moving numbers (..., S) whose rotations and angles are made rotations and angles again."""
    parts: list[Tensor] = []
    for group in layout.groups:
        own = moving[..., group.own]
        if group.kind == "quaternion":
            own = matrix_to_rotation_6d(rotation_6d_to_matrix(own))
        elif group.kind == "angle":
            own = torch.nn.functional.normalize(own, dim=-1)
        parts.append(own)
    return torch.cat(parts, -1)


def put_moving(layout: Layout, states: Tensor, moving: Tensor) -> Tensor:
    """States (..., D) with other moving numbers (..., S); copies of the same time follow.

    A quaternion takes the sign that is nearer to the one before.
    """
    whole = states.clone()
    for group in layout.groups:
        own = moving[..., group.own]
        if group.kind == "quaternion":
            own = _to_quaternion(own, states[..., group.raw], group.sign)
        whole[..., group.raw] = own
    for number, source in enumerate(layout.sources):
        if layout.roles[number] == "copy" and layout.lags[number] == 0:
            whole[..., number] = whole[..., source]
    return whole


def put_late(layout: Layout, states: Tensor, before: Tensor) -> Tensor:
    """States (B, D) with the copies that are a control period late, from the states before."""
    whole = states.clone()
    for number, source in enumerate(layout.sources):
        if layout.roles[number] == "copy" and layout.lags[number] == 1:
            whole[..., number] = before[..., source]
    return whole


def _to_quaternion(columns: Tensor, near: Tensor, sign: Sign) -> Tensor:
    """Quaternions (..., 4) of six numbers (..., 6), with the sign of those `near` or by a rule."""
    matrix = rotation_6d_to_matrix(columns)
    flat = matrix.detach().reshape(-1, 3, 3).double().numpy()
    found = torch.as_tensor(Rotation.from_matrix(flat).as_quat(), dtype=columns.dtype)
    found = found.reshape(*columns.shape[:-1], 4)
    if sign == "near":
        side = (found * near).sum(-1, keepdim=True)
    else:
        side = find_signed(found, sign)
    return torch.where(side < 0, -found, found)


def find_signed(quaternions: Tensor, sign: Sign) -> Tensor:
    """The number (..., 1) of each quaternion (..., 4) that a rule wants not to be negative."""
    if sign == "first":
        return quaternions[..., :1]
    if sign == "last":
        return quaternions[..., 3:]
    largest = quaternions.abs().argmax(-1, keepdim=True)
    return quaternions.gather(-1, largest)
