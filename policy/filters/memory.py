"""What a policy with a filter remembers, and how an observation changes it.

A value of arrays (B, ...) that stands in `PolicyState.memory`. Letters: B rows, A numbers of an
action, S numbers of all states that the filter reads, F numbers that it says.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...rows import Array, RowArrays
from ...spec import BoolArray, ConfigError, Executed, FloatArray, Observation
from .latent import LatentFilter


def begin_memory(latent: LatentFilter, rows: int) -> RowArrays:
    """The memory of rows that have observed nothing."""
    latents = latent.width - latent.hidden - latent.read
    return {
        "h": np.zeros((rows, latent.hidden), np.float32),
        "z": np.zeros((rows, latents), np.float32),
        "values": np.zeros((rows, latent.read), np.float32),
        "before": np.zeros((rows, latent.read), np.float32),  # values one control period before
        "told": np.zeros((rows, latent.actions)),  # integral of actions since then
        "told_s": np.zeros(rows),
    }


@torch.no_grad()
def follow(
    latent: LatentFilter,
    memory: RowArrays,
    observation: Observation,
    executed: Executed | None,
    new: BoolArray,
    seen: BoolArray,
) -> tuple[RowArrays, Array]:
    """The memory with an observation (B, ...) in it, and what is believed then, (B, F) float32.

    executed: what the rows executed since the observation before
    new: (B,) rows for which a control period has passed; in the others, and where nothing was
        executed, this observation replaces the one before
    seen: (B,) rows that have observed something; the others begin
    Raises ConfigError where nobody says what was executed.
    """
    told, told_s = _add_actions(memory, executed, new & seen, seen)
    further = new & seen & (told_s > 0)
    values = _join_states(latent, observation)
    before = np.where(further[:, None], memory["values"], memory["before"])
    before = np.where(seen[:, None], before, values)
    action = told / np.maximum(told_s, 1e-9)[:, None]
    h = np.where(further[:, None], _advance(latent, memory, action), memory["h"])
    z = _look(latent, h, observation, values, values - before)
    changed = {
        "h": h,
        "z": z,
        "values": values,
        "before": before,
        "told": np.where(further[:, None], 0.0, told),
        "told_s": np.where(further, 0.0, told_s),
    }
    said = latent.describe(*(_tensor(latent, changed[name]) for name in ("h", "z", "values")))
    return changed, said.cpu().numpy()


def _add_actions(
    memory: RowArrays, executed: Executed | None, asked: BoolArray, seen: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Integral of the actions (B, A) since the last control period, and its length (B,) [s]."""
    if executed is None:
        if asked.any():
            raise ConfigError(
                "the policy follows what is executed: give observe() `executed` after a row's "
                "first observation"
            )
        return memory["told"], memory["told_s"]
    lasted = np.where(seen & np.isfinite(executed.actions).all(1), executed.duration_s, 0.0)
    told = memory["told"] + np.nan_to_num(executed.actions) * lasted[:, None]
    told_s = memory["told_s"] + lasted
    return np.where(seen[:, None], told, 0.0), np.where(seen, told_s, 0.0)


def _join_states(latent: LatentFilter, observation: Observation) -> Array:
    """All states that are read, joined, float32 (B, S)."""
    rows = len(next(iter(observation.values())))
    parts = [np.zeros((rows, 0), np.float32)]
    for name in latent.states:
        parts.append(np.asarray(observation[name], np.float32).reshape(rows, -1))
    return np.concatenate(parts, 1)


def _advance(latent: LatentFilter, memory: RowArrays, action: FloatArray) -> Array:
    """h one control period later, (B, H)."""
    values = _tensor(latent, memory["values"])
    change = values - _tensor(latent, memory["before"])
    inputs = latent.join_inputs(values, change, _tensor(latent, action))
    h = latent.advance(_tensor(latent, memory["h"]), _tensor(latent, memory["z"]), inputs)
    return h.cpu().numpy()


def _look(
    latent: LatentFilter, h: Array, observation: Observation, values: Array, change: Array
) -> Array:
    """Latents (B, G C) of what is observed."""
    pictures: dict[str, Tensor] = {}
    for name in latent.cameras:
        pictures[name] = torch.as_tensor(np.asarray(observation[name])).to(latent.centre.device)
    embedded = latent.embed(
        latent.embed_pictures(pictures), _tensor(latent, values), _tensor(latent, change)
    )
    z = latent.pick(latent.judge(_tensor(latent, h), embedded))
    return z.cpu().numpy()


def _tensor(latent: LatentFilter, values: Array) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32).to(latent.centre.device)
