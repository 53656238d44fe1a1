"""Generalised advantage estimation (1506.02438) over chunks, for rows with several episodes."""

from __future__ import annotations

import numpy as np

from ..spec import BoolArray, FloatArray


def estimate_advantages(
    reward: FloatArray,
    value: FloatArray,
    next_value: FloatArray,
    terminated: BoolArray,
    done: BoolArray,
    discount: float,
    trace: float,
) -> FloatArray:
    """Advantages (N, B) of N chunks in B rows.

    `next_value` (N, B) is the value of what each chunk led to: where an episode is over, of its
    final observation, not of the next episode's first. It counts after a truncation and not after a
    termination (`terminated` (N, B)). Nothing is carried over the end of an episode (`done`).
    `discount` is gamma for a whole chunk, `trace` lambda.
    """
    error = reward + discount * np.where(terminated, 0.0, next_value) - value
    advantages = np.zeros_like(error)
    following = np.zeros(error.shape[1])
    for chunk in reversed(range(len(error))):
        following = error[chunk] + discount * trace * np.where(done[chunk], 0.0, following)
        advantages[chunk] = following
    return advantages
