"""Requests for plans at moments of a data set, for benchmarks that look at plans and not at
episodes.
"""

from __future__ import annotations

import numpy as np
import torch

from ..datasets.store import Store
from ..datasets.windows import window_index
from ..policy.diffusion.noise import RowNoise
from ..policy.model import PolicyModel
from ..policy.samplers.base import PlanRequest
from ..policy.training.batches import WindowBatches
from ..spec import IntArray


def noise_of(rows: int, plan: int) -> RowNoise:
    """Noise of the rows' plan number `plan`; row k has seed k."""
    return RowNoise(np.arange(rows), np.full(rows, plan))


def request_at(model: PolicyModel, store: Store, steps: IntArray, plan: int = 0) -> PlanRequest:
    """A request for plans, one row for each of the data's `steps` (R,), which is its newest
    observation.
    """
    index = window_index(np.asarray(store.episode_ends), model.config.horizon)
    batches = WindowBatches(store, model.config, index, len(steps), 0, "cpu")
    newest = torch.as_tensor(index[:, model.config.horizon.past])
    rows = torch.stack([torch.nonzero(newest == int(step))[0, 0] for step in steps])
    observation, _ = batches.of(batches.index[rows])
    return PlanRequest(
        denoiser=model.denoiser,
        schedule=model.schedule,
        context=model.encode(observation),
        horizon=model.config.horizon,
        width=model.actions.spec.width,
        noise=noise_of(len(steps), plan),
        discrete=torch.as_tensor(model.actions.discrete),
        discrete_size=model.actions.discrete_size,
    )
