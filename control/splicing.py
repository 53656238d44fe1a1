"""Splicing chunks, and holding: pure functions, for the loop and for a servo."""

from __future__ import annotations

import numpy as np

from ..spec import ActionSpec, FloatArray, ObsSpec, TimedActions, TimedObservation

LATE_S = 1e-6
"""An action is late when its time lies further back than this."""


def zero_order_hold(spec: ActionSpec, last: FloatArray, holding: FloatArray) -> FloatArray:
    """What starved robots are told, (..., A): absolute and discrete numbers stay, others rest.

    `last` (..., A) is what they were told last, NaN before the first action. `holding` (..., A) is
    what keeps them where they are now; it alone counts before the first action.
    """
    stays = np.array([dim.absolute or dim.kind == "discrete" for dim in spec.dims])
    return np.where(stays & ~np.isnan(last), last, holding)


def splice(pending: TimedActions, chunk: TimedActions, now_s: float) -> tuple[TimedActions, int]:
    """Put a new chunk in the place of the pending actions from its first usable time on.

    Actions of the chunk meant for a time before `now_s` are dropped and counted. Pending actions
    that come half a step or more before the first one kept stay: they bridge the gap. Returns the
    actions to execute from now on and the number dropped.
    """
    on_time = chunk.times_s >= now_s - LATE_S
    times_s, actions = chunk.times_s[on_time], chunk.actions[on_time]
    if len(times_s) == 0:
        return pending, len(chunk)
    half_step_s = 0.5 * (chunk.times_s[-1] - chunk.times_s[0]) / max(len(chunk) - 1, 1)
    before = (pending.times_s >= now_s - LATE_S) & (
        pending.times_s < times_s[0] - half_step_s - LATE_S
    )
    joined = TimedActions(
        np.concatenate((pending.times_s[before], times_s)),
        np.concatenate((pending.actions[before], actions)),
    )
    return joined, int((~on_time).sum())


def find_oldest(seen: TimedObservation, obs_spec: ObsSpec, now_s: FloatArray) -> FloatArray:
    """When the oldest part was made that a policy reads (B,) [s]; parts without a time: now.

    Now, too, for a policy that reads nothing, as an operator's.
    """
    if not obs_spec.keys:
        return now_s
    made_s = np.full_like(now_s, np.inf)
    for name in obs_spec.keys:
        made_s = np.minimum(made_s, seen.made_s.get(name, now_s))
    return made_s
