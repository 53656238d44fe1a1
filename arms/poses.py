"""Poses of a tool as six numbers: a position [m] and a rotation vector [rad]. numpy alone."""

from __future__ import annotations

import numpy as np

from ..spec import FloatArray

SMALL_RAD = 1e-9


def align_rotvec(rotvec: FloatArray, reference: FloatArray) -> FloatArray:
    """The same rotation (3,) on the side of `reference` (3,); it may be longer than pi.

    A rotation by nearly pi jumps from v to -v at a tremor: a tool that points down does so. Of the
    two vectors for one rotation this takes the one that makes a sharp angle with the reference.
    """
    angle = float(np.linalg.norm(rotvec))
    if angle < SMALL_RAD or float(rotvec @ reference) >= 0:
        return rotvec
    return rotvec * (1.0 - 2.0 * np.pi / angle)
