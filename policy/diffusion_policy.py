"""A trained model with a sampler: the `Policy` that the control loop and people's own loops run.

The policy object holds weights and settings and hides nothing else: what is remembered between ticks is a PolicyState.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..rows import put_rows
from ..spec import (
    ActionSpec,
    BoolArray,
    ConfigError,
    Executed,
    Horizon,
    IntArray,
    Observation,
    ObsSpec,
    Planned,
)
from . import checkpoint
from .diffusion.noise import RowNoise
from .model import PolicyModel
from .normalizer import ACTION
from .registry import build
from .samplers.base import (
    NeedsUnconditional,
    PlanOutcome,
    PlanRequest,
    Requirements,
    Sampler,
    Settling,
    check_finite,
)
from .samplers.fresh import Fresh
from .state import Plan, PolicyState, adopt_plans, create_state, push_observation


class DiffusionPolicy:
    """Observations in, chunks out; see `hotstart.spec.Policy`."""

    rate_hz: float | None = None
    """Control rate of the data that it was trained on [Hz], as its checkpoint says; None for a model of one's own."""

    def __init__(
        self,
        model: PolicyModel,
        sampler: Sampler | None = None,
        executed: int | None = None,
        delay: int = 0,
    ) -> None:
        """`executed` is another number of steps to execute than the Ta that the model was trained with.

        `delay` more steps are handed out after them: the first ones of a chunk go by while it is made. What `way` leaves open
        is settled for this model in a copy of it. A model under training is left alone: the policy holds a copy of its weights
        as they are now. Raises ConfigError where the model cannot run this way, or its plans are too short.
        """
        self.model = _finished(model)
        trained = model.config.horizon
        if executed is None:
            given = trained.executed
        else:
            given = executed
        self.horizon: Horizon = replace(trained, executed=given, delay=delay)
        self.obs_spec: ObsSpec = model.config.obs_spec
        self.action_spec: ActionSpec = model.config.action_spec
        about = model.trained
        if sampler is None:
            sampler = Fresh()
        else:
            sampler = sampler
        self.sampler: Sampler
        if isinstance(sampler, Settling):
            self.sampler = sampler.settled(about)
        else:
            self.sampler = sampler
        if isinstance(self.sampler, Requirements):
            self.sampler.check(about, self.horizon)

    @classmethod
    def load(
        cls,
        path: Path | str,
        inference: Mapping[str, Any] | Sampler | None = None,
        device: str = "cpu",
    ) -> DiffusionPolicy:
        """A policy from a checkpoint or a run; `inference` is a way, or a configuration of one (default: DDIM in 10 steps)."""
        model, meta = checkpoint.load(path, device)
        policy = cls(
            model, build_sampler(inference) if isinstance(inference, Mapping) else inference
        )
        policy.rate_hz = meta.get("rate_hz")
        return policy

    def initial_state(self, seeds: Sequence[int]) -> PolicyState:
        """One row per seed, nothing seen and nothing planned."""
        spec = self.model.actions
        return create_state(self.obs_spec, self.horizon, spec.spec.width, seeds, spec.reads)

    def reset_rows(self, state: PolicyState, rows: IntArray, seeds: Sequence[int]) -> PolicyState:
        """Forget everything in `rows` and give them new seeds; the other rows stay bit-equal."""
        if len(seeds) != len(rows):
            raise ConfigError(
                f"{len(rows)} rows are to be reset with {len(seeds)} seeds; give one seed per row"
            )
        return put_rows(state, np.asarray(rows), self.initial_state(seeds))

    def observe(
        self,
        state: PolicyState,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> PolicyState:
        """Push one control period's observation (B, ...) onto the histories, see `state.push_observation`.

        `executed` is not used: a plan depends on observations and on the plan before. In rows that
        are not `new` (B,) the observation replaces the newest one.
        """
        return push_observation(state, self.obs_spec, observation, new)

    @torch.no_grad()
    def plan(
        self, state: PolicyState, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """New plans for `rows` (R,), and the Ta actions (R, Ta, A) from the newest observation on, in the robot's units."""
        if bool((state.seen[rows] == 0).any()):
            raise ConfigError(
                "plan() was asked for a row that has observed nothing: call observe() first"
            )
        device = next(self.model.parameters()).device
        observed = {
            name: torch.as_tensor(window[rows]).to(device) for name, window in state.history.items()
        }
        tokens = self.model.tokens(observed)
        request = PlanRequest(
            denoiser=self.model.denoiser,
            schedule=self.model.schedule,
            context=self.model.network.encode_context(tokens),
            horizon=self.horizon,
            width=self.model.actions.spec.width,
            noise=RowNoise(state.seeds[rows], state.plan.count[rows], device),
            previous=self._previous(state, rows, observed),
            previous_level=torch.as_tensor(state.plan.level[rows]).to(device),
            executed=executed,
            frozen=frozen,
            discrete=torch.as_tensor(self.model.actions.discrete, device=device),
            discrete_size=self.model.actions.discrete_size,
            unconditional=self._unconditional_context(observed),
            anchor=None if self.model.anchors is None else self.model.anchors.chosen(tokens),
        )
        outcome = self.sampler(request)
        check_finite(outcome.plan)
        chunk = self._actions(outcome.plan[:, self._handed_out(outcome)], observed)
        if outcome.level is None:
            level = np.zeros(outcome.plan.shape[:2], np.float32)
        else:
            level = outcome.level.cpu().numpy()
        made = Plan(
            x=outcome.plan.cpu().numpy(),
            level=level,
            count=state.plan.count[rows] + 1,
            observed={name: state.history[name][rows] for name in state.plan.observed},
        )
        return Planned(rows, chunk.cpu().numpy(), made, outcome.nfe.cpu().numpy())

    def _unconditional_context(self, observed: Mapping[str, Tensor]) -> Any:
        """The context without the instruction, where the sampler wants it."""
        wanted = isinstance(self.sampler, NeedsUnconditional) and self.sampler.needs_unconditional
        if wanted:
            return self.model.network.encode_context(self.model.tokens(observed, conditional=False))
        return None

    def _previous(
        self, state: PolicyState, rows: IntArray, observed: Mapping[str, Tensor]
    ) -> Tensor:
        """The rows' plans before, (R, T, A'), relative to what is observed now; NaN where there is none."""
        previous = torch.as_tensor(state.plan.x[rows]).to(next(self.model.parameters()).device)
        has_plan = torch.isfinite(previous).flatten(1).all(1)
        if not self.model.actions.reads or not bool(has_plan.any()):
            return previous
        before = {
            name: torch.as_tensor(values[rows]).to(previous.device)[has_plan]
            for name, values in state.plan.observed.items()
        }
        now = {name: observed[name][has_plan] for name in before}
        plan = self.model.normalizer.denormalize(ACTION, previous[has_plan])
        previous[has_plan] = self.model.normalizer.normalize(
            ACTION, self.model.actions.rebase(plan, before, now)
        ).to(previous.dtype)
        return previous

    def _handed_out(self, outcome: PlanOutcome) -> slice:
        """The steps of a plan that are executed: Ta and the delay, as far as they are clean."""
        first, count = self.horizon.past, self.horizon.executed + self.horizon.delay
        if outcome.level is not None:
            noisy = torch.nonzero(outcome.level[:, first : first + count].amax(0)).flatten()
            if len(noisy):
                count = int(noisy[0])
            else:
                count = count
        return slice(first, first + count)

    def _actions(self, plan: Tensor, observed: Mapping[str, Tensor]) -> Tensor:
        """Normalised steps (R, Ta, A') as the robot's actions (R, Ta, A); what is discrete takes one of its two ends."""
        size = self.model.actions.discrete_size
        snapped = torch.where(plan < 0, -size, size)
        discrete = torch.as_tensor(self.model.actions.discrete, device=plan.device)
        settled = torch.where(discrete, snapped.to(plan.dtype), plan)
        return self.model.decode(settled, observed)

    def adopt(self, state: PolicyState, planned: Planned) -> PolicyState:
        """`state` with the plans of `planned` in its rows; histories stay the newer ones."""
        return adopt_plans(state, planned.rows, planned.plan)


def _finished(model: PolicyModel) -> PolicyModel:
    """The model itself where nobody trains it; else a copy, in evaluation mode and without gradients."""
    trains = any(module.training for module in model.modules())
    if not trains and not any(weight.requires_grad for weight in model.parameters()):
        return model
    return copy.deepcopy(model).eval().requires_grad_(False)


def build_sampler(node: Mapping[str, Any]) -> Sampler:
    """A sampler from its configuration, the solver inside it included."""
    solver = node.get("solver")
    if isinstance(solver, Mapping):
        given = {"solver": build("solver", solver)}
    else:
        given = {}
    return build("inference", {k: v for k, v in node.items() if k not in given}, **given)
