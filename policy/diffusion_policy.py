"""A trained model with a sampler: the `Policy` that the control loop and people's own loops run.

The policy object holds weights and settings and hides nothing else: what is remembered between ticks is a PolicyState.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.kinds import read_key
from ..spec import (
    ActionSpec,
    BoolArray,
    ConfigError,
    DataError,
    Executed,
    FloatArray,
    Horizon,
    IntArray,
    Observation,
    ObsKey,
    ObsSpec,
    Planned,
    shorten,
)
from . import checkpoint
from .diffusion.noise import RowNoise
from .model import PolicyModel
from .normalizer import ACTION
from .registry import build
from .samplers.base import (
    Fresh,
    NeedsUnconditional,
    PlanOutcome,
    PlanRequest,
    Requirements,
    Sampler,
    Settling,
    check_finite,
)


@dataclass(frozen=True)
class PolicyState:
    """All that a policy remembers, per row (B); a value that nobody changes in place."""

    history: Mapping[
        str, NDArray[Any]
    ]  # key -> (B, To, ...) newest last; a row's first observation fills its window
    seen: IntArray  # (B,) observations taken in since the row's reset
    seeds: IntArray  # (B,) key of the row's noise
    plans: IntArray  # (B,) plans made since the row's reset: counter of its noise
    plan: FloatArray  # (B, T, A') newest normalised plan, as the network sees actions; NaN where there is none yet
    level: FloatArray  # (B, T) noise that is left in it
    seen_by_plan: Mapping[
        str, NDArray[Any]
    ]  # key -> (B, To, ...) what the plan's numbers are relative to, where they are


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
        rows, horizon = len(seeds), self.horizon
        history = {
            name: np.zeros((rows, horizon.observed, *key.shape), key.dtype)
            for name, key in self.obs_spec.keys.items()
        }
        plan = np.full((rows, horizon.planned, self.model.actions.spec.width), np.nan, np.float32)
        level = np.zeros(plan.shape[:2], np.float32)
        counters = (np.zeros(rows, np.int64), np.array(seeds, np.int64), np.zeros(rows, np.int64))
        base = {name: history[name].copy() for name in self.model.actions.reads}
        return PolicyState(history, *counters, plan, level, base)

    def reset_rows(self, state: PolicyState, rows: IntArray, seeds: Sequence[int]) -> PolicyState:
        """Forget everything in `rows` and give them new seeds; the other rows stay bit-equal."""
        if len(seeds) != len(rows):
            raise ConfigError(
                f"{len(rows)} rows are to be reset with {len(seeds)} seeds; give one seed per row"
            )
        return _put_rows(state, np.asarray(rows), self.initial_state(seeds))

    def observe(
        self,
        state: PolicyState,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> PolicyState:
        """Push one turn's observation (B, ...) onto the histories; in rows that are not `new` (B,) it replaces the newest.

        `executed` is of no use to a diffusion policy: its plan does not depend on past actions.

        Pictures may have channels first, and numbers from 0 to 1 in floats, as in training data (`datasets.kinds`).
        """
        missing = [name for name in self.obs_spec.keys if name not in observation]
        if missing:
            raise ConfigError(
                f"the policy wants {shorten(list(self.obs_spec.keys), 400)}; the observation has no {missing}, "
                f"only {list(observation)}"
            )
        if new is None:
            further = np.ones(len(state.seen), bool)
        else:
            further = new | (state.seen == 0)
        seen = state.seen + further
        read = {
            name: read_observation(name, np.asarray(observation[name]), key)
            for name, key in self.obs_spec.keys.items()
        }
        history = {
            name: _push(name, window, read[name], seen, further)
            for name, window in state.history.items()
        }
        return replace(state, history=history, seen=seen)

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
            noise=RowNoise(state.seeds[rows], state.plans[rows], device),
            previous=self._previous(state, rows, observed),
            previous_level=torch.as_tensor(state.level[rows]).to(device),
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
        after = replace(
            state,
            plan=_put(state.plan, rows, outcome.plan.cpu().numpy()),
            level=_put(
                state.level, rows, 0.0 if outcome.level is None else outcome.level.cpu().numpy()
            ),
            plans=_put(state.plans, rows, state.plans[rows] + 1),
            seen_by_plan={
                name: _put(old, rows, state.history[name][rows])
                for name, old in state.seen_by_plan.items()
            },
        )
        return Planned(rows, chunk.cpu().numpy(), after, outcome.nfe.cpu().numpy())

    def _unconditional_context(self, observed: Mapping[str, Tensor]) -> Any:
        """The context without the instruction, where the sampler wants it."""
        wanted = isinstance(self.sampler, NeedsUnconditional) and self.sampler.needs_unconditional
        if wanted:
            return self.model.network.encode_context(self.model.tokens(observed, words=False))
        return None

    def _previous(
        self, state: PolicyState, rows: IntArray, observed: Mapping[str, Tensor]
    ) -> Tensor:
        """The rows' plans before, (R, T, A'), relative to what is observed now; NaN where there is none."""
        previous = torch.as_tensor(state.plan[rows]).to(next(self.model.parameters()).device)
        has_plan = torch.isfinite(previous).flatten(1).all(1)
        if not self.model.actions.reads or not bool(has_plan.any()):
            return previous
        before = {
            name: torch.as_tensor(values[rows]).to(previous.device)[has_plan]
            for name, values in state.seen_by_plan.items()
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
        rows, made = planned.rows, planned.state
        own = {
            name: _put(getattr(state, name), rows, getattr(made, name)[rows])
            for name in ("plan", "level", "plans")
        }
        base = {
            name: _put(old, rows, made.seen_by_plan[name][rows])
            for name, old in state.seen_by_plan.items()
        }
        return replace(state, **own, seen_by_plan=base)


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


def read_observation(name: str, values: NDArray[Any], key: ObsKey) -> NDArray[Any]:
    """One key's values (..., *shape) in the form that the policy was trained with; ConfigError where they cannot be."""
    try:
        return read_key(name, values, key, scale=255.0 if values.dtype.kind == "f" else 1.0)
    except DataError as error:
        raise ConfigError(f"observation: {error}") from error


def _push(
    name: str, window: NDArray[Any], newest: NDArray[Any], seen: IntArray, further: BoolArray
) -> NDArray[Any]:
    """Put (B, ...) at the end of (B, To, ...), shifted by one in the rows of `further` (B,).

    As long as a row has `seen` one observation, that fills the whole window.
    """
    newest, wanted = np.asarray(newest), (len(window), *window.shape[2:])
    if newest.shape != wanted:
        raise ConfigError(
            f"observation {shorten(name)} has shape {newest.shape}; {wanted} was expected"
        )
    if not np.can_cast(
        newest.dtype, window.dtype, "same_kind"
    ):  # an image in [0, 1] would become all zeros as uint8
        raise ConfigError(
            f"observation {shorten(name)} is {newest.dtype}; the policy was trained with {window.dtype}: convert it"
        )
    newest = newest.astype(window.dtype)
    pushed = np.concatenate((window[:, 1:], newest[:, None]), 1)
    pushed[~further, :-1] = window[~further, :-1]
    pushed[seen == 1] = newest[seen == 1][:, None]
    return pushed


def _put(old: NDArray[Any], rows: IntArray, new: Any) -> NDArray[Any]:
    """A copy of `old` (B, ...) with `new` (R, ...) in its `rows`."""
    out = old.copy()
    out[rows] = new
    return out


def _put_rows(state: PolicyState, rows: IntArray, fresh: PolicyState) -> PolicyState:
    """`state` with `rows` replaced by the rows of `fresh`."""
    own: dict[str, Any] = {
        name: _put(getattr(state, name), rows, getattr(fresh, name))
        for name in ("seen", "seeds", "plans", "plan", "level")
    }
    for group in ("history", "seen_by_plan"):
        news = getattr(fresh, group)
        own[group] = {
            name: _put(old, rows, news[name]) for name, old in getattr(state, group).items()
        }
    return PolicyState(**own)
