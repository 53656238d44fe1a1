"""Poses of a tool as six numbers: a position [m] and a rotation vector [rad]. numpy alone."""

from __future__ import annotations

import numpy as np

from ..spec import FloatArray

SMALL_RAD = 1e-9


def matrix_to_rotvec(matrix: FloatArray) -> FloatArray:
    """The rotation vector (3,) of a rotation matrix (3, 3), at most pi long."""
    skew = matrix - matrix.T
    axis = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
    # The quaternion of the largest part, so that nothing is divided by a number near zero.
    trace = float(np.trace(matrix))
    squares = np.array([trace, *np.diag(matrix)])
    largest = int(np.argmax(squares))
    if largest == 0:
        quaternion = np.array([1.0 + trace, *axis])
    else:
        i = largest - 1
        row = matrix[i] + matrix[:, i]
        row[i] = 1.0 - trace + 2.0 * matrix[i, i]
        quaternion = np.array([axis[i], *row])
    quaternion /= np.linalg.norm(quaternion)
    if quaternion[0] < 0:
        quaternion = -quaternion
    sine = float(np.linalg.norm(quaternion[1:]))
    if sine < SMALL_RAD:
        return 2.0 * quaternion[1:]
    return quaternion[1:] * (2.0 * np.arctan2(sine, quaternion[0]) / sine)


def rotvec_to_matrix(rotvec: FloatArray) -> FloatArray:
    """The rotation matrix (3, 3) of a rotation vector (3,): Rodrigues' formula."""
    angle = float(np.linalg.norm(rotvec))
    if angle < SMALL_RAD:
        return np.eye(3) + _cross_matrix(rotvec)
    cross = _cross_matrix(rotvec / angle)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def align_rotvec(rotvec: FloatArray, reference: FloatArray) -> FloatArray:
    """The same rotation (3,) on the side of `reference` (3,); it may be longer than pi.

    A rotation by nearly pi jumps from v to -v at a tremor: a tool that points down does so. Of the
    two vectors for one rotation this takes the one that makes a sharp angle with the reference.
    """
    angle = float(np.linalg.norm(rotvec))
    if angle < SMALL_RAD or float(rotvec @ reference) >= 0:
        return rotvec
    return rotvec * (1.0 - 2.0 * np.pi / angle)


def _cross_matrix(vector: FloatArray) -> FloatArray:
    """The matrix (3, 3) that takes the cross product of `vector` (3,) with another."""
    return np.cross(vector, np.eye(3), axisb=1).T
