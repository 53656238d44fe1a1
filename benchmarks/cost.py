"""What a chunk costs, of checkpoints side by side.

Parameters, multiplications, bytes of weights read, and milliseconds.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import PRECISIONS, PolicyModel
from ..policy.samplers.fresh import Fresh
from ..spec import REQUIRED, ConfigError, option
from .call_time import two_calls


@dataclass
class Options:
    """Time fresh plans by DDIM for one row on made-up observations.

    Every precision that a checkpoint runs in is timed, in turns.
    """

    checkpoints: tuple[str, ...] = option(
        REQUIRED, "checkpoints or runs, as a,b,c", positional=True
    )
    steps: int = option(10, "evaluations per chunk")
    calls: int = option(20, "calls of each")
    threads: int = option(1, "threads; 0 leaves torch's own choice")


@dataclass(frozen=True)
class Cost:
    """What a denoiser costs; a MAC is one multiplication with its addition."""

    weights: int
    active: int
    """Weights that work on one token."""
    evaluation_macs: float
    evaluation_bytes: int
    """Bytes of weights that one evaluation reads."""
    chunk_macs: float
    """Of a whole chunk, the encoder included."""


def run(options: Options) -> None:
    """Print a line for every checkpoint and precision."""
    if options.threads:
        torch.set_num_threads(options.threads)
    policies: dict[tuple[str, str], DiffusionPolicy] = {}
    for path, precision in itertools.product(options.checkpoints, PRECISIONS):
        model = _load_with_precision(path, precision)
        if model is not None:
            policies[path, precision] = DiffusionPolicy(model, Fresh(options.steps))
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(options.calls + 1):
        for key, policy in policies.items():
            warm = two_calls(policy, 1, turn)[1]
            if turn:
                seconds[key].append(warm[0])
    names = [Path(path).name for path in options.checkpoints]
    width = len(max(names, key=len)) + 2
    columns = ("M weights", "M active", "M MAC/eval", "MB/eval", "M MAC/chunk", "p50 ms", "p95 ms")
    head = "".join(f"{name:>12}" for name in columns)
    print(f"{'':<{width}}{'':<6}{head}")
    for (path, form), policy in policies.items():
        cost = cost_of(policy)
        times = np.percentile(seconds[path, form], (50, 95)) * 1e3
        millions = (
            cost.weights / 1e6,
            cost.active / 1e6,
            cost.evaluation_macs / 1e6,
            cost.evaluation_bytes / 1e6,
            cost.chunk_macs / 1e6,
        )
        cells = "".join(f"{number:>12.2f}" for number in (*millions, *times))
        print(f"{Path(path).name:<{width}}{form:<6}{cells}")


def _load_with_precision(path: str, precision: str) -> PolicyModel | None:
    """The model; None where it cannot run in this precision."""
    model, _ = checkpoint.load(path)
    try:
        return model.set_precision(precision)
    except ConfigError:
        return None


@torch.no_grad()
def cost_of(policy: DiffusionPolicy) -> Cost:
    """Counted where operators are dispatched, so that nothing that runs is left out, whatever
    module holds it; but a CPU's fused attention is unknown to the counter (2 T (K + T) E of a
    layer)."""
    network = policy.model.network
    asked: list[tuple[Any, ...]] = []
    handle = network.register_forward_pre_hook(lambda _, args: asked.append(args))
    two_calls(policy, 1, 0)  # the tables of levels are there from now on
    handle.remove()
    with FlopCounterMode(display=False) as chunk:
        two_calls(policy, 1, 0)
    with FlopCounterMode(display=False) as evaluation, Reads(network) as reads:
        network(*asked[-1])
    macs = evaluation.get_total_flops() / 2, chunk.get_total_flops() / 4  # two calls
    return Cost(
        sum(p.numel() for p in network.parameters()),
        network.active_count,
        macs[0],
        reads.bytes,
        macs[1],
    )


class Reads(TorchDispatchMode):
    """Counts the bytes of a network's weights that operators read; making a view reads nothing, and
    what is read twice counts once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._storages = {p.untyped_storage().data_ptr() for p in network.parameters()}
        self._seen: dict[tuple[int, int], int] = {}

    @property
    def bytes(self) -> int:
        """Bytes read so far."""
        return sum(self._seen.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the weights among what an operator is given."""
        if not func.is_view:
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() in self._storages:
                    self._seen[leaf.data_ptr(), leaf.numel()] = leaf.nbytes
        return func(*args, **(kwargs or {}))
