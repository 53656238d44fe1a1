"""How the network sees actions: as the robot takes them, or in another form.

Rotations may be six numbers of the matrix, and poses relative to the hand. `encode` comes before
statistics and normalisation, `decode` after the plan is sampled; a round trip changes nothing. A
rotation vector jumps where its angle passes pi, which is where a hand that points down works; six
numbers of the matrix never jump (Zhou et al., 1812.07035). Trajectories relative to the newest pose
of the hand are UMI's (2402.10329, section 3.3). The rotation functions have pytorch3d's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..datasets.statistics import Statistics
from ..spec import ActionDim, ActionSpec, BoolArray, ConfigError, ObsSpec, shorten

MATRIX_UNIT = "of the rotation matrix"
"""Unit of the six numbers of a rotation; their range is known, so they are not scaled."""
Pose = tuple[Tensor, Tensor]
"""A position (..., 3) or (..., 0), and a rotation: a matrix, or six or three numbers."""


@dataclass(frozen=True)
class PoseGroup:
    """Where the numbers of one hand's pose lie in an action: its position, then its rotation.

    The position is an empty slice where the action holds a rotation only.
    """

    position: slice
    rotation: slice

    @property
    def has_position(self) -> bool:
        """Whether the action holds the position too."""
        return self.position.start < self.position.stop


@dataclass(frozen=True)
class HandFrame:
    """The newest observed pose of the hand: a frame to express other poses in."""

    origin: Tensor  # (B, 1, 3)
    axes: Tensor  # (B, 3, 3), columns

    def express(self, position: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (B, T, 3) and (B, T, 3, 3) of the world, relative to the hand."""
        inverse = self.axes.transpose(-1, -2)
        return (position - self.origin) @ self.axes, inverse.unsqueeze(1) @ matrix

    def restore(self, position: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Poses relative to the hand as poses of the world: the inverse of `express`."""
        inverse = self.axes.transpose(-1, -2)
        return self.origin + position @ inverse, self.axes.unsqueeze(1) @ matrix


class Representation:
    """Actions (B, T, A) of a robot <-> actions (B, T, A') of the network.

    `spec` says what the A' numbers are. `rotation`: `vector` leaves rotation vectors as they are,
    `rotation_6d` writes the first two columns of the matrix instead. `frame`: `world` leaves poses
    as they are, `hand` takes them relative to the newest observed pose. Its position and quaternion
    (xyzw) are the observations `pose`; `hand` needs absolute poses and rotations as matrices.
    `joints` takes absolute angles relative to the newest measured ones, the observation `measured`
    in the action's order: steps of a few hundredths of a joint's range are learned as such.
    `discrete_size`: the network sees numbers that take two values only as plus and minus this.
    Small ones (0.1 to 0.2) let a warm start at low levels decide anew (RTI-DP's scaled gripper,
    2508.05396, section III).
    """

    def __init__(
        self,
        action_spec: ActionSpec,
        obs_spec: ObsSpec,
        rotation: Literal["vector", "rotation_6d"] = "vector",
        frame: Literal["world", "hand", "joints"] = "world",
        pose: Sequence[str] = ("eef_pos", "eef_quat_site"),
        discrete_size: float = 1.0,
        measured: str = "joints",
    ) -> None:
        """Build it with these options.

        rotation: vector (rotation vectors as they are) or rotation_6d (two columns of the matrix)
        frame: world (as they are), hand (poses relative to the newest observed pose) or joints
            (angles relative to the newest measured ones)
        pose: observations that hold the hand's position and quaternion (xyzw)
        discrete_size: the network sees numbers of two values as plus and minus this
        measured: observation that holds the measured angles, in the action's order
        """
        _check_choices(rotation, frame)
        if not 0 < discrete_size <= 1:
            raise ConfigError(
                f"actions.discrete_size is {discrete_size}; it must be above 0 and at most 1"
            )
        self.robot_spec = action_spec
        self.rotation = rotation
        self.frame = frame
        self.pose = tuple(pose)
        self.measured = measured
        self.angles = [dim.unit == "rad" and dim.absolute for dim in action_spec.dims]
        self.groups = find_pose_groups(action_spec)
        if frame == "hand":
            _check_relative(self, obs_spec)
        if frame == "joints":
            _check_joints(self, obs_spec)
        if rotation == "rotation_6d":
            self.spec = _encode_spec(action_spec, self.groups)
        else:
            self.spec = action_spec
        self.discrete_size = discrete_size
        self.discrete: BoolArray = np.array([dim.kind == "discrete" for dim in self.spec.dims])

    @property
    def reads(self) -> tuple[str, ...]:
        """Observations that encoding and decoding need."""
        if self.frame == "hand":
            return self.pose
        if self.frame == "joints":
            return (self.measured,)
        return ()

    @property
    def changes(self) -> bool:
        """Whether encoding does anything."""
        return self.frame == "joints" or (self.rotation == "rotation_6d" and bool(self.groups))

    def encode(self, actions: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """The robot's actions (B, T, A) as the network's (B, T, A').

        The observation, key -> (B, To, ...), is the one that they belong to.
        """
        if not self.changes:
            return actions
        if self.frame == "joints":
            return actions - self._read_joints(observation)
        poses = []
        for group in self.groups:
            matrix = axis_angle_to_matrix(actions[..., group.rotation])
            poses.append((actions[..., group.position], matrix))
        return _replace_poses(actions, self.groups, self._express(poses, observation))

    def decode(self, plan: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """The network's actions (B, T, A') as the robot's (B, T, A): the inverse of `encode`."""
        if not self.changes:
            return plan
        if self.frame == "joints":
            return plan + self._read_joints(observation)
        poses = []
        for position, matrix in self._restore(plan, observation):
            poses.append((position, matrix_to_axis_angle(matrix)))
        return _replace_poses(plan, _shift_groups(self.groups), poses)

    def rebase(
        self, plan: Tensor, before: Mapping[str, Tensor], now: Mapping[str, Tensor]
    ) -> Tensor:
        """A plan (B, T, A') made at the observation `before`, as seen from `now`.

        It asks the robot to do the same.
        """
        if self.frame == "joints":
            return plan + self._read_joints(before) - self._read_joints(now)
        if self.frame == "hand":
            poses = self._express(self._restore(plan, before), now)
            return _replace_poses(plan, _shift_groups(self.groups), poses)
        return plan

    def _express(self, poses: Sequence[Pose], observation: Mapping[str, Tensor]) -> list[Pose]:
        """Positions and matrices in the world as the network sees them: with six numbers each."""
        hand = self._read_hand(observation)
        found = []
        for position, matrix in poses:
            if hand is not None:
                position, matrix = hand.express(position, matrix)
            found.append((position, matrix_to_rotation_6d(matrix)))
        return found

    def _restore(self, plan: Tensor, observation: Mapping[str, Tensor]) -> list[Pose]:
        """The positions and matrices of a plan (B, T, A') in the world."""
        hand = self._read_hand(observation)
        found = []
        for group in _shift_groups(self.groups):
            position = plan[..., group.position]
            matrix = rotation_6d_to_matrix(plan[..., group.rotation])
            if hand is not None:
                position, matrix = hand.restore(position, matrix)
            found.append((position, matrix))
        return found

    def set_known_ranges(self, found: Statistics) -> Statistics:
        """Statistics of encoded actions, with the ranges that are known by nature.

        Entries of a matrix lie in [-1, 1]. The range of a discrete number is so wide that its two
        values lie at plus and minus `discrete_size` of it.
        """
        entries = np.array([dim.unit == MATRIX_UNIT for dim in self.spec.dims])
        low = np.where(entries, -1.0, found["min"])
        high = np.where(entries, 1.0, found["max"])
        wider = np.where(self.discrete, (high - low) / 2 * (1 / self.discrete_size - 1), 0.0)
        return {**found, "min": low - wider, "max": high + wider}

    def _read_joints(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The newest measured angles (B, 1, A); zeros for other numbers."""
        newest = observation[self.measured][:, -1:].float()
        return newest * torch.tensor(self.angles, device=newest.device)

    def _read_hand(self, observation: Mapping[str, Tensor]) -> HandFrame | None:
        """The newest pose of the hand; None where poses stay in the world."""
        if self.frame == "world":
            return None
        position, quaternion = self.pose
        origin = observation[position][:, -1].float()
        axes = quaternion_to_matrix(observation[quaternion][:, -1].float())
        return HandFrame(origin.unsqueeze(1), axes)


def _replace_poses(
    source: Tensor, groups: Sequence[PoseGroup], poses: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """`source` (..., A) with the poses of its groups replaced; everything between them stays.

    A pose is a position (..., 3) or (..., 0), and a rotation (..., 3) or (..., 6).
    """
    parts = []
    place = 0
    for group, pose in zip(groups, poses, strict=True):
        parts += [source[..., place : group.position.start], *pose]
        place = group.rotation.stop
    return torch.cat([*parts, source[..., place:]], -1)


def find_pose_groups(spec: ActionSpec) -> list[PoseGroup]:
    """The rotation vectors of an action: three rotation numbers each.

    The three continuous numbers before a rotation are its position. Raises ConfigError for a
    rotation of fewer than three numbers.
    """
    groups = []
    place = 0
    kinds = [dim.kind for dim in spec.dims]
    while place < len(kinds):
        if kinds[place] != "rotation":
            place += 1
            continue
        if kinds[place : place + 3] != ["rotation"] * 3:
            name = shorten(spec.dims[place].name)
            raise ConfigError(f"action {name} begins a rotation of fewer than three numbers")
        begin = place
        if place >= 3 and kinds[place - 3 : place] == ["continuous"] * 3:
            begin = place - 3
        groups.append(PoseGroup(slice(begin, place), slice(place, place + 3)))
        place += 3
    return groups


def _shift_groups(groups: Sequence[PoseGroup]) -> list[PoseGroup]:
    """Where the groups lie once each rotation takes six numbers."""
    moved = []
    for number, group in enumerate(groups):
        begin = group.position.start + 3 * number
        place = group.rotation.start + 3 * number
        moved.append(PoseGroup(slice(begin, place), slice(place, place + 6)))
    return moved


def _encode_spec(spec: ActionSpec, groups: Sequence[PoseGroup]) -> ActionSpec:
    """The actions' specification with six entries of a matrix for each rotation vector."""
    dims = list(spec.dims)
    for group in reversed(groups):
        first = dims[group.rotation.start]
        entries = []
        for i in range(6):
            entries.append(ActionDim(f"{first.name}_m{i}", MATRIX_UNIT, "rotation", first.absolute))
        dims[group.rotation] = entries
    return ActionSpec(tuple(dims))


def _check_choices(rotation: str, frame: str) -> None:
    if rotation not in ("vector", "rotation_6d"):
        raise ConfigError(f"actions.rotation is {shorten(rotation)}; choose vector or rotation_6d")
    if frame not in ("world", "hand", "joints"):
        raise ConfigError(f"actions.frame is {shorten(frame)}; choose world, hand or joints")
    if frame == "joints" and rotation != "vector":
        raise ConfigError("actions.frame=joints leaves rotations as they are: rotation=vector")
    if frame == "hand" and rotation != "rotation_6d":
        raise ConfigError(
            "actions.frame=hand needs actions.rotation=rotation_6d: "
            "relative rotation vectors would jump"
        )


def _check_relative(representation: Representation, obs_spec: ObsSpec) -> None:
    groups = representation.groups
    if len(groups) != 1 or not groups[0].has_position:
        raise ConfigError("actions.frame=hand needs actions with one position and one rotation")
    for dim in representation.robot_spec.dims[: groups[0].rotation.stop]:
        if not dim.absolute:
            raise ConfigError(
                "actions.frame=hand needs absolute poses "
                "(robosuite: task.options.control=absolute); these are changes"
            )
    names = list(representation.pose)
    for name in names:
        if name not in obs_spec.keys:
            raise ConfigError(
                f"actions.frame=hand reads the hand's pose from {shorten(names, 400)}; "
                f"{shorten(name)} is not in task.obs_keys"
            )


def _check_joints(representation: Representation, obs_spec: ObsSpec) -> None:
    """Raise ConfigError unless the measured angles are observed, and some actions are angles."""
    name, width = representation.measured, representation.robot_spec.width
    key = obs_spec.keys.get(name)
    if key is None or tuple(key.shape) != (width,):
        raise ConfigError(
            f"actions.frame=joints reads the {width} measured numbers from {shorten(name)}; "
            "task.obs_keys has no such observation"
        )
    if not any(representation.angles):
        raise ConfigError(
            "actions.frame=joints needs absolute angles (unit rad); the action has none"
        )


def axis_angle_to_matrix(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) [rad].

    Rodrigues' formula, exact at zero too.
    """
    angle = vector.norm(dim=-1)[..., None, None]
    x = vector[..., 0]
    y = vector[..., 1]
    z = vector[..., 2]
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    sine = torch.sinc(angle / torch.pi)
    cosine = 0.5 * torch.sinc(angle / (2 * torch.pi)) ** 2
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + sine * cross + cosine * (cross @ cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Rotation vectors (..., 3) [rad], angle at most pi, of rotation matrices (..., 3, 3).

    By the quaternion whose largest entry is taken from the matrix's diagonal, so that no angle is
    ill-conditioned (Markley, Journal of Guidance 31(2), 2008); in float64.
    """
    quaternion = _matrix_to_quaternion(matrix.double())
    vector = quaternion[..., :3]
    scalar = quaternion[..., 3:]
    sine = vector.norm(dim=-1, keepdim=True)  # of half the angle
    angle = 2 * torch.atan2(sine, scalar.abs())
    small = sine < 1e-9
    factor = torch.where(small, 2.0, angle / torch.where(small, 1.0, sine))
    return (factor * torch.where(scalar < 0, -vector, vector)).to(matrix.dtype)


def _matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Quaternions (..., 4), xyzw, of length 1, of rotation matrices (..., 3, 3)."""
    diagonal = torch.stack([matrix[..., i, i] for i in range(3)], -1)
    trace = diagonal.sum(-1, keepdim=True)
    turned = matrix.transpose(-1, -2)
    sums = matrix + turned
    differences = turned - matrix
    xx = 1 - trace + 2 * diagonal  # (..., 3): four times the squares of x, y and z
    ww = (1 + trace).squeeze(-1)
    xy, xz = sums[..., 0, 1], sums[..., 0, 2]
    yz, xw = sums[..., 1, 2], differences[..., 1, 2]
    yw, zw = differences[..., 2, 0], differences[..., 0, 1]
    # Row i is the quaternion times four of its entry i.
    rows = (
        *(xx[..., 0], xy, xz, xw),
        *(xy, xx[..., 1], yz, yw),
        *(xz, yz, xx[..., 2], zw),
        *(xw, yw, zw, ww),
    )
    candidates = torch.stack(rows, -1).unflatten(-1, (4, 4))
    largest = torch.cat((diagonal, trace), -1).argmax(-1)[..., None, None]
    chosen = candidates.gather(-2, largest.expand(*largest.shape[:-1], 4))
    return normalize(chosen.squeeze(-2), dim=-1)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """The first two columns (..., 6) of rotation matrices (..., 3, 3) (Zhou et al., 1812.07035).

    pytorch3d takes the first two rows.
    """
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def rotation_6d_to_matrix(columns: Tensor) -> Tensor:
    """The rotation matrices (..., 3, 3) nearest to two columns (..., 6), by Gram and Schmidt.

    The columns need not be orthogonal or of length 1.
    """
    first = normalize(columns[..., :3], dim=-1)
    second = columns[..., 3:]
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), xyzw, of any length but zero.

    pytorch3d's quaternions are wxyz.
    """
    unit = normalize(quaternion, dim=-1)
    x = unit[..., 0]
    y = unit[..., 1]
    z = unit[..., 2]
    w = unit[..., 3]
    entries = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(entries, -1).unflatten(-1, (3, 3))
