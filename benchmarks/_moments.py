"""Requests for plans at moments of a data set, for benchmarks that look at plans alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..datasets.store import Store
from ..datasets.windows import window_index
from ..policy.diffusion.noise import RowNoise
from ..policy.model import PolicyModel
from ..policy.samplers.base import PlanRequest, PreviousPlan
from ..policy.samplers.conditioning import condition
from ..policy.training.batches import WindowBatches
from ..spec import IntArray


def noise_of(rows: int, plan: int) -> RowNoise:
    """Noise of the rows' plan number `plan`; row k has seed k."""
    return RowNoise(np.arange(rows), np.full(rows, plan))


def request_at(model: PolicyModel, store: Store, steps: IntArray, plan: int = 0) -> PlanRequest:
    """A request for plans of R rows, whose newest observations are the data's `steps` (R,)."""
    index = window_index(np.asarray(store.episode_ends), model.config.horizon)
    batches = WindowBatches(store, model.config, index, len(steps), 0, "cpu")
    newest = torch.as_tensor(index[:, model.config.horizon.past])
    rows = torch.stack([torch.nonzero(newest == int(step))[0, 0] for step in steps])
    observation, _ = batches.of(batches.index[rows])
    return PlanRequest(condition(model, observation), noise_of(len(steps), plan))


def continue_plan(request: PlanRequest, plan: Tensor, executed: int, frozen: int) -> PlanRequest:
    """The request of rows that have a plan before (R, T, A), with noise of their second plan.

    `executed` of its steps lie behind, and `frozen` further ones are executed meanwhile.
    """
    rows = len(plan)
    previous = PreviousPlan(
        plan=plan,
        level=torch.zeros(plan.shape[:2]),
        executed=torch.full((rows,), executed),
        frozen=torch.full((rows,), frozen),
    )
    return replace(request, noise=noise_of(rows, plan=1), previous=previous)
