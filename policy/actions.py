"""How the network sees actions: as the robot takes them, with rotations as matrices, or as a trajectory relative to the hand.

`encode` comes before statistics and normalisation, `decode` after the plan is sampled; a round trip changes nothing. A rotation
vector jumps where its angle passes pi, which is where a hand that points down works; six numbers of the matrix never jump
(Zhou et al., 1812.07035). Trajectories relative to the newest pose of the hand are UMI's (2402.10329, section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import normalize

from ..datasets.statistics import Statistics
from ..spec import ActionDim, ActionSpec, BoolArray, ConfigError, ObsSpec, shorten

MATRIX_UNIT = "of the rotation matrix"
"""Unit of the six numbers that stand for a rotation; their range is known, so they are not scaled."""


@dataclass(frozen=True)
class PoseGroup:
    """Where the numbers of one hand's pose lie in an action: its rotation vector, and its position where it has one."""

    rotation: slice
    position: slice | None


class Representation:
    """Actions (B, T, A) of a robot <-> actions (B, T, A') of the network; `spec` says what the A' numbers are.

    `rotation`: `vector` leaves rotation vectors as they are, `rotation_6d` writes the first two columns of the matrix instead.
    `frame`: `world` leaves poses as they are, `hand` takes them relative to the newest observed pose, whose position and
    quaternion (xyzw) are the observations `pose`; it needs absolute poses, and rotations as matrices.
    `discrete_size`: the network sees numbers that take two values only as plus and minus this; small ones (0.1 to 0.2) let a
    warm start at low levels decide anew (RTI-DP's scaled gripper, 2508.05396, section III).
    """

    def __init__(
        self,
        action_spec: ActionSpec,
        obs_spec: ObsSpec,
        rotation: Literal["vector", "rotation_6d"] = "vector",
        frame: Literal["world", "hand"] = "world",
        pose: Sequence[str] = ("eef_pos", "eef_quat_site"),
        discrete_size: float = 1.0,
    ) -> None:
        """Build it with these options.

        rotation: vector (rotation vectors as they are) or rotation_6d (two columns of the matrix)
        frame: world (poses as they are) or hand (relative to the newest observed pose)
        pose: observations that hold the hand's position and quaternion (xyzw)
        discrete_size: the network sees numbers of two values as plus and minus this
        """
        _check(rotation, frame)
        if not 0 < discrete_size <= 1:
            raise ConfigError(
                f"actions.discrete_size is {discrete_size}; it must be above 0 and at most 1"
            )
        self.robot_spec, self.rotation, self.frame, self.pose = (
            action_spec,
            rotation,
            frame,
            tuple(pose),
        )
        self.groups = pose_groups(action_spec)
        if frame == "hand":
            _check_relative(self, obs_spec)
        if rotation == "rotation_6d":
            self.spec = _encoded_spec(action_spec, self.groups)
        else:
            self.spec = action_spec
        self.discrete_size = discrete_size
        self.discrete: BoolArray = np.array([dim.kind == "discrete" for dim in self.spec.dims])

    @property
    def reads(self) -> tuple[str, ...]:
        """Observations that encoding and decoding need."""
        if self.frame == "hand":
            return self.pose
        return ()

    @property
    def changes(self) -> bool:
        """Whether encoding does anything."""
        return self.rotation == "rotation_6d" and bool(self.groups)

    def encode(self, actions: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """The robot's actions (B, T, A), with the observation (B, To, ...) they belong to, as the network's (B, T, A')."""
        if not self.changes:
            return actions
        positions, matrices = self._split(actions)
        if self.frame == "hand":
            origin, axes = self._hand(observation)
            positions = [None if p is None else (p - origin) @ axes for p in positions]
            matrices = [axes.transpose(-1, -2).unsqueeze(1) @ m for m in matrices]
        return self._joined(actions, self.groups, positions, [six_of_matrix(m) for m in matrices])

    def decode(self, plan: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """The network's actions (B, T, A') as the robot's (B, T, A): the inverse of `encode`."""
        if not self.changes:
            return plan
        groups = _encoded_groups(self.groups)
        positions = [None if g.position is None else plan[..., g.position] for g in groups]
        matrices = [matrix_of_six(plan[..., g.rotation]) for g in groups]
        if self.frame == "hand":
            origin, axes = self._hand(observation)
            positions = [
                None if p is None else origin + p @ axes.transpose(-1, -2) for p in positions
            ]
            matrices = [axes.unsqueeze(1) @ m for m in matrices]
        return self._joined(plan, groups, positions, [vector_of_matrix(m) for m in matrices])

    def rebase(
        self, plan: Tensor, before: Mapping[str, Tensor], now: Mapping[str, Tensor]
    ) -> Tensor:
        """A plan (B, T, A') made at the observation `before`, said again from `now`: the robot is meant to do the same."""
        if self.reads:
            return self.encode(self.decode(plan, before), now)
        return plan

    def known_range(self, found: Statistics) -> Statistics:
        """Statistics of encoded actions with the ranges that are known by nature: [-1, 1] of matrix entries, and a range so
        wide that the two values of a discrete number lie at plus and minus `discrete_size` of it.
        """
        entries = np.array([dim.unit == MATRIX_UNIT for dim in self.spec.dims])
        low, high = np.where(entries, -1.0, found["min"]), np.where(entries, 1.0, found["max"])
        wider = np.where(self.discrete, (high - low) / 2 * (1 / self.discrete_size - 1), 0.0)
        return {**found, "min": low - wider, "max": high + wider}

    def _split(self, actions: Tensor) -> tuple[list[Tensor | None], list[Tensor]]:
        positions = [None if g.position is None else actions[..., g.position] for g in self.groups]
        return positions, [matrix_of_vector(actions[..., g.rotation]) for g in self.groups]

    def _hand(self, observation: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Newest position (B, 1, 3) and axes (B, 3, 3) of the hand."""
        position, quaternion = (observation[name][:, -1].float() for name in self.pose)
        return position.unsqueeze(1), matrix_of_quaternion(quaternion)

    @staticmethod
    def _joined(
        source: Tensor,
        groups: Sequence[PoseGroup],
        positions: Sequence[Tensor | None],
        rotations: Sequence[Tensor],
    ) -> Tensor:
        """`source` with its groups' positions and rotations replaced; everything between them stays."""
        parts, place = [], 0
        for group, position, rotation in zip(groups, positions, rotations, strict=True):
            if group.position is None:
                first = group.rotation.start
            else:
                first = group.position.start
            parts += [source[..., place:first], *([] if position is None else [position]), rotation]
            place = group.rotation.stop
        return torch.cat([*parts, source[..., place:]], -1)


def pose_groups(spec: ActionSpec) -> list[PoseGroup]:
    """The rotation vectors of an action (three rotation numbers each), with the three numbers before each as its position."""
    groups, place = [], 0
    kinds = [dim.kind for dim in spec.dims]
    while place < len(kinds):
        if kinds[place] != "rotation":
            place += 1
            continue
        if kinds[place : place + 3] != ["rotation"] * 3:
            raise ConfigError(
                f"action {shorten(spec.dims[place].name)} begins a rotation of fewer than three numbers"
            )
        free = place >= 3 and kinds[place - 3 : place] == ["continuous"] * 3
        groups.append(PoseGroup(slice(place, place + 3), slice(place - 3, place) if free else None))
        place += 3
    return groups


def _encoded_groups(groups: Sequence[PoseGroup]) -> list[PoseGroup]:
    """Where the groups lie once each rotation takes six numbers."""
    shifted = []
    for number, group in enumerate(groups):
        grown = 3 * number
        position = group.position and slice(
            group.position.start + grown, group.position.stop + grown
        )
        shifted.append(
            PoseGroup(
                slice(group.rotation.start + grown, group.rotation.stop + grown + 3), position
            )
        )
    return shifted


def _encoded_spec(spec: ActionSpec, groups: Sequence[PoseGroup]) -> ActionSpec:
    dims = list(spec.dims)
    for group in reversed(groups):
        first = dims[group.rotation.start]
        entries = []
        for i in range(6):
            entries.append(ActionDim(f"{first.name}_m{i}", MATRIX_UNIT, "rotation", first.absolute))
        dims[group.rotation] = entries
    return ActionSpec(tuple(dims))


def _check(rotation: str, frame: str) -> None:
    if rotation not in ("vector", "rotation_6d"):
        raise ConfigError(f"actions.rotation is {shorten(rotation)}; choose vector or rotation_6d")
    if frame not in ("world", "hand"):
        raise ConfigError(f"actions.frame is {shorten(frame)}; choose world or hand")
    if frame == "hand" and rotation != "rotation_6d":
        raise ConfigError(
            "actions.frame=hand needs actions.rotation=rotation_6d: relative rotation vectors would jump"
        )


def _check_relative(representation: Representation, obs_spec: ObsSpec) -> None:
    dims, pose = representation.robot_spec.dims, representation.pose
    if len(representation.groups) != 1 or representation.groups[0].position is None:
        raise ConfigError("actions.frame=hand needs actions with one position and one rotation")
    group = representation.groups[0]
    if not all(dim.absolute for dim in dims[: group.rotation.stop]):
        raise ConfigError(
            "actions.frame=hand needs absolute poses (robosuite: task.options.control=absolute); these are changes"
        )
    missing = []
    for name in pose:
        if name not in obs_spec.keys:
            missing.append(name)
    if missing:
        raise ConfigError(
            f"actions.frame=hand reads the hand's pose from {shorten(list(pose), 400)}; {shorten(missing[0])} is not in "
            "task.obs_keys"
        )


def matrix_of_vector(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) [rad], by Rodrigues' formula, exact at zero too."""
    angle = vector.norm(dim=-1)[..., None, None]
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    first, second = torch.sinc(angle / torch.pi), 0.5 * torch.sinc(angle / (2 * torch.pi)) ** 2
    return (
        torch.eye(3, dtype=vector.dtype, device=vector.device)
        + first * cross
        + second * (cross @ cross)
    )


def vector_of_matrix(matrix: Tensor) -> Tensor:
    """Rotation vectors (..., 3) [rad], angle at most pi, of rotation matrices (..., 3, 3)."""
    flat = matrix.detach().reshape(-1, 3, 3).cpu().double().numpy()
    vectors = torch.as_tensor(Rotation.from_matrix(flat).as_rotvec(), dtype=matrix.dtype)
    return vectors.reshape(*matrix.shape[:-2], 3).to(matrix.device)


def six_of_matrix(matrix: Tensor) -> Tensor:
    """The first two columns (..., 6) of rotation matrices (..., 3, 3)."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def matrix_of_six(six: Tensor) -> Tensor:
    """The rotation matrices (..., 3, 3) nearest, by Gram and Schmidt, to two columns (..., 6) that need not be orthogonal."""
    first = normalize(six[..., :3], dim=-1)
    second = normalize(six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def matrix_of_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), xyzw, of any length but zero."""
    x, y, z, w = normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
