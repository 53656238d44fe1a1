"""Writes an exported policy: the checkpoint's graphs for an engine, and its sampler as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...rows import Array
from ...spec import ConfigError
from ..denoisers.split import SplitNetwork
from ..diffusion_policy import DiffusionPolicy
from ..model import PolicyModel
from .base import Runtime, Traced
from .exported_contents import Contents
from .exported_folder import write_folder
from .leaves import split_leaves
from .program import LevelRows, Program
from .recording import record_parts

MOST_GRAPHS = 16
"""The most graphs of the network that a folder may hold: each has its weights."""


class TracedEncoder(nn.Module):
    """Histories in the order of the specification -> the leaves of the network's context."""

    def __init__(self, model: PolicyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *histories: Tensor) -> tuple[Tensor, ...]:
        """(R, To, ...) each -> (R, ...) each."""
        names = self.model.config.obs_spec.keys
        context = self.model.encode(dict(zip(names, histories, strict=True)))
        leaves: list[Tensor] = []
        split_leaves(context, leaves)
        return tuple(leaves)


class TracedDecoder(nn.Module):
    """Normalised plans, and what relative actions refer to -> actions in the robot's units."""

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.model = policy.model
        self.policy = policy

    def forward(self, plan: Tensor, *observed: Tensor) -> Tensor:
        """(R, T, A') and (R, To, ...) of each key that is read -> (R, T, A)."""
        reads = self.model.actions.reads
        return self.policy.decode_plan(plan, dict(zip(reads, observed, strict=True)))


class TracedRebase(nn.Module):
    """Plans relative to one observation -> the same, relative to another."""

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.model = policy.model
        self.policy = policy

    def forward(self, plan: Tensor, *observed: Tensor) -> Tensor:
        """(R, T, A') and (R, To, ...) of each key, before and then now -> (R, T, A')."""
        reads = self.model.actions.reads
        before = dict(zip(reads, observed[: len(reads)], strict=True))
        now = dict(zip(reads, observed[len(reads) :], strict=True))
        return self.policy.rebase_plan(plan, before, now)


def check_model(model: PolicyModel) -> None:
    """Raise ConfigError for what no exported policy holds yet, and say what would work."""
    found = []
    if isinstance(model.network, SplitNetwork):
        found.append("a network that is split by noise level")
    if model.filter is not None:
        found.append("a latent filter")
    if model.noise_policy is not None:
        found.append("a policy over the starting noise")
    if model.residual is not None:
        found.append("a residual")
    if any(key.kind == "language" for key in model.config.obs_spec.keys.values()):
        found.append("an instruction, which is read word by word")
    if found:
        raise ConfigError(
            f"this checkpoint has {' and '.join(found)}, which cannot be exported yet: hotstart "
            "serve runs it, with a client that needs no torch"
        )


def export_policy(
    policy: DiffusionPolicy,
    runtime: Runtime,
    path: Path,
    rows: int = 1,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the policy into an empty folder; `about` is put into the manifest as it is.

    Graphs have `rows` rows. Raises ConfigError for a model, a sampler or a runtime that cannot be
    exported.
    """
    check_model(policy.model)
    runtime.check_device(next(policy.model.parameters()).device)
    recorded = record_parts(policy.model, policy.sampler, policy.horizon)
    observed = _make_observations(policy, rows)
    suffix = runtime.file_type
    encoder = TracedEncoder(policy.model).eval()
    runtime.write(encoder, tuple(observed.values()), path / f"encode{suffix}")
    with torch.no_grad():
        context = policy.model.encode(observed)
    plan = torch.zeros(rows, policy.horizon.planned, policy.model.actions.spec.width)
    reads = policy.model.actions.reads
    read = [observed[name] for name in reads]
    runtime.write(TracedDecoder(policy).eval(), (plan, *read), path / f"decode{suffix}")
    rebase = None
    if reads:
        rebase = f"rebase{suffix}"
        runtime.write(TracedRebase(policy).eval(), (plan, *read, *read), path / rebase)
    levels, names = _write_network(policy.model, runtime, path, plan, context, recorded.levels)
    contents = Contents(
        obs_spec=policy.obs_spec,
        action_spec=policy.action_spec,
        horizon=policy.horizon,
        rate_hz=policy.rate_hz,
        engine=runtime.engine,
        precision=runtime.label.rpartition("-")[2],
        threads=runtime.threads,
        rows=rows,
        width=plan.shape[2],
        encode=f"encode{suffix}",
        denoise=tuple(names),
        decode=f"decode{suffix}",
        rebase=rebase,
        reads=reads,
        program=Program(recorded.first, recorded.later, levels),
    )
    plain, numbers = contents.to_plain()
    write_folder(path, {**(about or {}), **plain}, numbers)


def _make_observations(policy: DiffusionPolicy, rows: int) -> dict[str, Tensor]:
    """Observations of zeros, (R, To, ...) each, in the order of the specification."""
    state = policy.initial_state(range(rows))
    return {name: torch.as_tensor(state.history[name]) for name in policy.obs_spec.keys}


def _write_network(
    model: PolicyModel,
    runtime: Runtime,
    path: Path,
    plan: Tensor,
    context: Any,
    level_rows: Sequence[Array],
) -> tuple[LevelRows, list[str]]:
    """Write the network's graphs, and return what they take for each row of levels.

    A network whose way depends on the level, as MoDE's routes do, has a graph for each way.
    """
    rows = torch.as_tensor(np.stack(level_rows))
    with torch.no_grad():
        table = model.network.prepare(rows, plan.shape[1])
    made: dict[Any, int] = {}
    names: list[str] = []
    graphs: list[int] = []
    prepared: list[tuple[Array, ...]] = []
    for step in range(len(rows)):
        leaves: list[Tensor] = []
        by_row = split_leaves((plan, None, context), leaves)
        count = len(leaves)
        structure = (*by_row, split_leaves(table.at(step), leaves))
        key = (structure, tuple(leaf.shape for leaf in leaves))
        if key not in made:
            made[key] = len(names)
            names.append(f"denoise{len(names)}{runtime.file_type}")
            _check_graphs(len(names))
            module = Traced(model.network, structure).eval()
            inputs = tuple(leaf.contiguous() for leaf in leaves)
            runtime.write(module, inputs, path / names[-1])
        graphs.append(made[key])
        prepared.append(tuple(leaf.numpy() for leaf in leaves[count:]))
    scales = model.denoiser.preconditioner.coefficients(rows)
    stacked = torch.stack([each.squeeze(-1) for each in scales], 1).numpy()  # (U, 3, T)
    return LevelRows(stacked, np.array(graphs), tuple(prepared)), names


def _check_graphs(count: int) -> None:
    """Raise ConfigError where the network takes too many ways."""
    if count > MOST_GRAPHS:
        raise ConfigError(
            f"the network takes more than {MOST_GRAPHS} ways through its experts along these "
            "levels, and each needs a graph of its own: take fewer inference.steps, or "
            "inference.ramp=false"
        )
