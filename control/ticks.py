"""A turn's actions: a hook may replace them, and the robot reports what it applied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..checks import check_replacement
from ..spec import Actor, Feedback, FloatArray, Tick


def replace_actions(tick: Tick, replacement: FloatArray | None) -> Tick:
    """The turn with the actions of a hook (B, A) in place of its own; rows of NaN stay as they are.

    Raises PlanError for another shape.
    """
    if replacement is None:
        return tick
    given = check_replacement(replacement, tick.actions.shape)
    replaced = ~np.isnan(given).all(axis=1) & ~tick.acted(Actor.NOBODY)
    actions = np.where(replaced[:, None], given, tick.actions)
    actors = np.where(replaced, int(Actor.INTERVENTION), tick.actors)
    return replace(tick, actions=actions, actors=actors, applied=actions)


def add_feedback(tick: Tick, feedback: Feedback) -> Tick:
    """The turn with what the robot reports; the actions as they were sent where it cannot tell."""
    applied = tick.actions
    if feedback.applied is not None:
        applied = np.where(np.isnan(feedback.applied), applied, feedback.applied)
    return replace(tick, applied=applied, feedback=feedback)
