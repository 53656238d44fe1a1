"""Sampling as numbers: what a sampler does between two evaluations of the network.

Every solver step is a weighted sum of what was there before, so a plan needs no solver to run: the
weights are recorded when a policy is exported (`policy.runtime.recording`). Letters of the shapes:
V variants, S evaluations, D draws, N = 1 + D + S terms, U rows of levels; R, T and A as in `spec`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...rows import Array
from ...spec import FloatArray, IntArray

Estimate = Callable[[FloatArray, int], FloatArray]
"""(x (R, T, A), row of levels) -> the clean plan that the network expects, (R, T, A)."""


@dataclass(frozen=True)
class Part:
    """Plans of one kind: those of rows without a plan, or those that continue one.

    The terms are the previous plan, seen from the newest observation, then the draws of noise, then
    the estimates so far. What goes into evaluation i is the sum of the terms by `weights[v, i]`;
    the plan is the one by `weights[v, S]`. The variant v is how many steps of the previous plan lie
    behind, or 0 where that changes nothing.
    """

    weights: FloatArray  # (V, S + 1, N, T, A), or (V, S + 1, N, T, 1) where all numbers have one
    levels: IntArray  # (V, S) the row of levels of each evaluation
    level: FloatArray  # (T,) noise that is left in the plan
    clip: float | None  # estimates are clipped to this; None: never
    nfe: int  # what a plan is charged

    @property
    def evaluations(self) -> int:
        """S."""
        return self.weights.shape[1] - 1

    @property
    def draws(self) -> int:
        """D."""
        return self.weights.shape[2] - 1 - self.evaluations

    def choose_variant(self, executed: int) -> int:
        """The variant for so many executed steps of the previous plan."""
        return min(max(executed, 0), len(self.weights) - 1)

    def sample(
        self, variant: int, previous: FloatArray, noise: FloatArray, estimate: Estimate
    ) -> FloatArray:
        """Plans (R, T, A) from shifted previous ones (R, T, A) and noise (D, R, T, A)."""
        weights = self.weights[variant]
        terms = np.zeros((weights.shape[1], *previous.shape), np.float32)
        first = 1 + self.draws
        terms[0] = previous
        terms[1:first] = noise
        for step, row in enumerate(self.levels[variant].tolist()):
            known = first + step
            x = add_terms(weights[step, :known], terms[:known])
            found = estimate(x, row)
            if self.clip is not None:
                found = np.clip(found, -self.clip, self.clip)
            terms[known] = found
        return add_terms(weights[-1], terms)


@dataclass(frozen=True)
class LevelRows:
    """What the network needs of each row of levels (U in all), and which of its graphs runs it."""

    scales: FloatArray  # (U, 3, T): c_in, c_skip and c_out; x0 = c_skip x + c_out F(c_in x)
    graphs: IntArray  # (U,)
    prepared: tuple[tuple[Array, ...], ...]  # of each row the leaves that its graph takes


@dataclass(frozen=True)
class Program:
    """All that a sampler does, for plans that begin and for plans that continue others."""

    first: Part
    later: Part
    levels: LevelRows


def add_terms(weights: FloatArray, terms: FloatArray) -> FloatArray:
    """The sum (R, T, A) of terms (N, R, T, A) by weights (N, T, A) or (N, T, 1)."""
    return (weights[:, None] * terms).sum(0)


def shift_plans(plans: FloatArray, executed: int) -> FloatArray:
    """Drop the first `executed` steps of plans (R, T, A); the last one is repeated at the end."""
    length = plans.shape[1]
    index = np.minimum(np.arange(length) + max(executed, 0), length - 1)
    return plans[:, index]
