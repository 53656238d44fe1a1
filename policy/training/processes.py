"""Several processes that train one model: whose rows are whose, and draws for all rows.

Every process draws for the whole batch and keeps its own rows. So windows, levels, noise, crops
and colours do not depend on the number of processes, and DistributedDataParallel's mean of the
gradients is the gradient of the whole batch. A process may take its rows in parts, one after the
other; each part draws in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from ...spec import ConfigError


@dataclass(frozen=True)
class Share:
    """One process's part of a batch: neighbouring rows, as many as every other process has."""

    rank: int = 0
    world: int = 1

    def check(self, batch: int, parts: int = 1) -> None:
        """Raise ConfigError where `batch` rows cannot be shared evenly, each share in `parts`."""
        shares = self.world * parts
        if batch % shares == 0:
            return
        sharers = f"{self.world} processes"
        if parts > 1:
            sharers = f"{sharers} of {parts} parts (training.accumulate) each"
        raise ConfigError(
            f"training.batch is {batch}, which {sharers} cannot share evenly: "
            f"give training.batch={-(-batch // shares) * shares}"
        )

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks for all."""
        return self.rank == 0

    def take_part(self, part: int, parts: int) -> Share:
        """The share of one of `parts` equal parts of these rows."""
        return Share(self.rank * parts + part, self.world * parts)

    def cut(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This process's rows of a tensor whose axis `dim` holds the rows of the whole batch."""
        rows = whole.shape[dim] // self.world
        return whole.narrow(dim, self.rank * rows, rows)


@contextmanager
def join_processes() -> Iterator[Share]:
    """The group of processes that `torchrun` has started, left at the end.

    Yields this process's share; all of the batch for a program that was started by itself.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "LOCAL_RANK" not in os.environ:
        yield Share()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    try:
        yield current_share()
    finally:
        distributed.destroy_process_group()


def find_greatest(value: int) -> int:
    """The greatest of the numbers that all processes give."""
    if current_share().world == 1:
        return value
    shared = torch.tensor(value)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return int(shared)


def find_mean(value: float) -> float:
    """The mean of the numbers that all processes give."""
    world = current_share().world
    if world == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(shared)
    return float(shared) / world


_PART: ContextVar[tuple[int, int]] = ContextVar("part", default=(0, 1))
"""Which part of its rows this process works on, and of how many."""


@contextmanager
def work_on_part(part: int, parts: int) -> Iterator[None]:
    """Within it `current_share` is one of `parts` equal parts of this process's rows."""
    token = _PART.set((part, parts))
    try:
        yield
    finally:
        _PART.reset(token)


def current_share() -> Share:
    """The share of this process in torch's default group; all of the batch where there is none."""
    share = Share()
    if distributed.is_available() and distributed.is_initialized():
        share = Share(distributed.get_rank(), distributed.get_world_size())
    return share.take_part(*_PART.get())


def draw_rows(draw: Callable[[int], Tensor], rows: int, dim: int = 0) -> Tensor:
    """Random numbers for this process's `rows`.

    `draw(n)` is called for all n rows of the batch; axis `dim` of what it returns holds the rows.
    """
    share = current_share()
    return share.cut(draw(rows * share.world), dim)


def synchronize(model: nn.Module) -> nn.Module:
    """`model` in one process; in several its DistributedDataParallel, which averages gradients.

    The wrapper must be called, not a part of the model, or nothing is averaged. Every parameter
    takes part in every step (experts without tokens get zeros), so that torch need not search for
    unused ones.
    """
    if current_share().world == 1:
        return model
    return nn.parallel.DistributedDataParallel(model)
