"""An optimiser's moments as named tensors, so that they fit into a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The moments, PREFIX.NUMBER.NAME -> tensor."""
    tensors: dict[str, Tensor] = {}
    for number, moments in optimizer.state_dict()["state"].items():
        for name, moment in moments.items():
            tensors[f"{prefix}.{number}.{name}"] = torch.as_tensor(moment)
    return tensors


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Load what `pack_optimizer` wrote; the learning rates stay those of the optimiser."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, moment in select_tensors(tensors, f"{prefix}.").items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = moment
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


def select_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    chosen = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            chosen[name.removeprefix(prefix)] = tensor
    return chosen
