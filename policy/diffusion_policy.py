"""A trained model with a sampler: the `Policy` that the control loop and people's own loops run.

The policy object holds weights and settings only: all that it remembers between control periods is
in a PolicyState.
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
from .filters.latent import LATENT
from .filters.memory import begin_memory, follow
from .model import PolicyModel
from .normalizer import ACTION
from .registry import build
from .samplers.base import PlanOutcome, PlanRequest, PreviousPlan, Sampler, check_finite
from .samplers.conditioning import condition
from .samplers.fresh import Fresh
from .samplers.loop import Transition
from .state import (
    Plan,
    PolicyState,
    adopt_plans,
    create_state,
    push_observation,
    read_observations,
    restart_rows,
)


class DiffusionPolicy:
    """Observations in, action chunks out, by a diffusion model; see `hotstart.spec.Policy`."""

    rate_hz: float | None = None
    """Control rate of the training data [Hz]; None for a model that comes from no checkpoint."""

    def __init__(
        self,
        model: PolicyModel,
        sampler: Sampler | None = None,
        executed: int | None = None,
        delay: int = 0,
    ) -> None:
        """`sampler` None is DDIM in 10 steps; what a sampler leaves open is set in a copy of it.

        `executed` replaces the Ta that the model was trained with. `delay` more steps are handed
        out after them, because the first steps of a chunk go by while it is made. Of a model under
        training the policy holds a copy, with the weights of now. Raises ConfigError where the
        model cannot be used with this sampler, or its plans are too short.
        """
        self.model = _copy_unless_finished(model)
        horizon = model.config.horizon
        if executed is None:
            executed = horizon.executed
        self.horizon: Horizon = replace(horizon, executed=executed, delay=delay)
        self.obs_spec: ObsSpec = model.observed_spec
        self.action_spec: ActionSpec = model.config.action_spec
        if sampler is None:
            sampler = Fresh()
        self.sampler: Sampler = sampler.adapt_to(model.capabilities, self.horizon)

    @classmethod
    def load(
        cls,
        path: Path | str,
        inference: Mapping[str, Any] | Sampler | None = None,
        device: str = "cpu",
    ) -> DiffusionPolicy:
        """A policy from a checkpoint or a run (`path`) on a torch device.

        `inference` is a sampler or the configuration of one; None is DDIM in 10 steps. Raises
        CheckpointError where the checkpoint cannot be read, ConfigError as `DiffusionPolicy()`.
        """
        model, meta = checkpoint.load(path, device)
        if isinstance(inference, Mapping):
            inference = build_sampler(inference)
        policy = cls(model, inference)
        policy.rate_hz = meta.get("rate_hz")
        return policy

    def initial_state(self, seeds: Sequence[int]) -> PolicyState:
        """A state with one row per seed, nothing observed and nothing planned."""
        actions = self.model.actions
        width = actions.spec.width
        memory = {}
        if self.model.filter is not None:
            memory = begin_memory(self.model.filter, len(seeds))
        return create_state(self._pushed_spec, self.horizon, width, seeds, actions.reads, memory)

    def reset_rows(self, state: PolicyState, rows: IntArray, seeds: Sequence[int]) -> PolicyState:
        """Forget everything in `rows` (R,) and give them new seeds; the other rows stay bit-equal.

        Raises ConfigError unless there is one seed per row.
        """
        return restart_rows(state, rows, seeds, self.initial_state)

    def observe(
        self,
        state: PolicyState,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> PolicyState:
        """Push an observation (B, ...) onto the histories, see `state.push_observation`.

        In rows that are not `new` (B,) it replaces the newest one. A filter follows it and what was
        `executed`, and what it says is pushed; an observation that holds `latent` already, as that
        of a world model does, needs no filter. Without a filter `executed` is not used.
        Raises ConfigError where a filter is not told what was executed.
        """
        if self.model.filter is not None and LATENT not in observation:
            state, observation = self._filter(state, observation, executed, new)
        return push_observation(state, self._pushed_spec, observation, new)

    @property
    def _pushed_spec(self) -> ObsSpec:
        """What histories hold: what is observed, or what the filter says in its place."""
        if self.model.filter is None:
            return self.obs_spec
        return self.model.config.obs_spec

    def _filter(
        self,
        state: PolicyState,
        observation: Observation,
        executed: Executed | None,
        new: BoolArray | None,
    ) -> tuple[PolicyState, Observation]:
        """The state with the filter's new memory, and the observation with what the filter says."""
        assert self.model.filter is not None
        if new is None:
            new = np.ones(len(state.seen), bool)
        read = read_observations(observation, self.obs_spec)
        memory, latent = follow(
            self.model.filter, state.memory, read, executed, new, state.seen > 0
        )
        return replace(state, memory=memory), {**observation, LATENT: latent}

    @torch.no_grad()
    def plan(
        self,
        state: PolicyState,
        rows: IntArray,
        executed: IntArray,
        frozen: IntArray | None = None,
        trace: list[Transition] | None = None,
    ) -> Planned:
        """New plans for `rows` (R,), and their Ta actions (R, Ta, A) in the robot's units.

        The first action belongs to the newest observation; `executed` and `frozen` (R,): see
        `spec.PlanQuery`. `trace` gets the transitions of every sampling loop, see `PlanRequest`.
        Raises ConfigError for a row that has observed nothing, and for a plan
        that is not finite.
        """
        if bool((state.seen[rows] == 0).any()):
            raise ConfigError(
                "plan() was asked for a row that has observed nothing: call observe() first"
            )
        device = next(self.model.parameters()).device
        observed: dict[str, Tensor] = {}
        for name, window in state.history.items():
            observed[name] = torch.as_tensor(window[rows]).to(device)
        if frozen is None:
            frozen = np.zeros_like(executed)
        previous = PreviousPlan(
            plan=self._rebase_plans(state, rows, observed),
            level=torch.as_tensor(state.plan.level[rows]).to(device),
            executed=torch.as_tensor(executed).to(device),
            frozen=torch.as_tensor(frozen).to(device),
        )
        noise = RowNoise(state.seeds[rows], state.plan.count[rows], device)
        conditioned = condition(self.model, observed, self.horizon)
        outcome = self.sampler(PlanRequest(conditioned, noise, previous, trace))
        check_finite(outcome.plan)
        corrected = self.correct_plan(rows, outcome.plan, conditioned.tokens)
        chunk = self.decode_plan(corrected[:, self._executable_steps(outcome)], observed)
        made = self._remember(state, rows, outcome)
        return Planned(rows, chunk.cpu().numpy(), made, outcome.nfe.cpu().numpy())

    def correct_plan(self, rows: IntArray, plan: Tensor, tokens: Tensor) -> Tensor:
        """The normalised plan (R, T, A') to execute in `rows`, by condition tokens (R, K, E).

        A residual corrects it; the plan that the state carries on stays as it was.
        """
        if self.model.residual is None:
            return plan
        residual = self.model.residual
        return residual.add(plan, residual(tokens, plan[:, residual.chunk]))

    def _remember(self, state: PolicyState, rows: IntArray, outcome: PlanOutcome) -> Plan:
        """What the next plan of `rows` (R,) continues from."""
        x = outcome.plan.cpu().numpy()
        level = np.zeros(x.shape[:2], np.float32)
        if outcome.level is not None:
            level = outcome.level.cpu().numpy()
        observed = {name: state.history[name][rows] for name in state.plan.observed}
        return Plan(x, level, state.plan.count[rows] + 1, observed)

    def adopt(self, state: PolicyState, planned: Planned) -> PolicyState:
        """The `state` with the plans of `planned` in its rows; histories and memory stay."""
        return adopt_plans(state, planned.rows, planned.plan)

    def _rebase_plans(
        self, state: PolicyState, rows: IntArray, observed: Mapping[str, Tensor]
    ) -> Tensor:
        """The plans before (R, T, A'), relative to what is observed now; NaN in rows with none."""
        previous = torch.as_tensor(state.plan.x[rows]).to(next(self.model.parameters()).device)
        has_plan = torch.isfinite(previous).flatten(1).all(1)
        if not self.model.actions.reads or not bool(has_plan.any()):
            return previous
        before = {}
        now = {}
        for name, values in state.plan.observed.items():
            before[name] = torch.as_tensor(values[rows]).to(previous.device)[has_plan]
            now[name] = observed[name][has_plan]
        rebased = self.rebase_plan(previous[has_plan], before, now)
        previous[has_plan] = rebased.to(previous.dtype)
        return previous

    def rebase_plan(
        self, plan: Tensor, before: Mapping[str, Tensor], now: Mapping[str, Tensor]
    ) -> Tensor:
        """A normalised plan (R, T, A') made at the observation `before`, relative to `now`."""
        asked = self.model.normalizer.denormalize(ACTION, plan)
        rebased = self.model.actions.rebase(asked, before, now)
        return self.model.normalizer.normalize(ACTION, rebased)

    def _executable_steps(self, outcome: PlanOutcome) -> slice:
        """The steps to hand out: Ta and the delay, up to the first one that is noisy in any row."""
        first = self.horizon.past
        count = self.horizon.executed + self.horizon.delay
        if outcome.level is not None:
            noisy = torch.nonzero(outcome.level[:, first : first + count].amax(0)).flatten()
            if len(noisy):
                count = int(noisy[0])
        return slice(first, first + count)

    def decode_plan(self, plan: Tensor, observed: Mapping[str, Tensor]) -> Tensor:
        """Normalised steps (R, Ta, A') as actions (R, Ta, A) in the robot's units.

        A discrete number takes the one of its two values that lies on its side of 0.
        """
        size = self.model.actions.discrete_size
        snapped = torch.where(plan < 0, -size, size).to(plan.dtype)
        discrete = torch.as_tensor(self.model.actions.discrete, device=plan.device)
        return self.model.decode(torch.where(discrete, snapped, plan), observed)


def _copy_unless_finished(model: PolicyModel) -> PolicyModel:
    """The model itself, or of one under training a copy in evaluation mode, without gradients."""
    trains = any(module.training for module in model.modules())
    if not trains and not any(weight.requires_grad for weight in model.parameters()):
        return model
    return copy.deepcopy(model).eval().requires_grad_(False)


def build_sampler(node: Mapping[str, Any]) -> Sampler:
    """A sampler from its configuration, its solver included.

    Raises ConfigError for a target or an option that is not known.
    """
    options = dict(node)
    if isinstance(options.get("solver"), Mapping):
        solver = build("solver", options.pop("solver"))
        return build("inference", options, solver=solver)
    return build("inference", options)
