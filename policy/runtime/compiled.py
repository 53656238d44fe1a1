"""torch.compile, with or without CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .base import Graph, Runtime


class Compiled(Runtime):
    """One graph per shape by torch.compile; it needs a C++ compiler on a CPU."""

    gradients = True  # PyTorch works out what asks for them

    def __init__(self, cuda_graph: bool = False, backend: str = "inductor") -> None:
        """Build it with these options.

        cuda_graph: whether evaluations are replayed as CUDA graphs (device=cuda)
        backend: compiler behind torch.compile
        """
        self.cuda_graph = cuda_graph
        self.backend = backend

    @property
    def label(self) -> str:
        """Name and number format."""
        if self.cuda_graph:
            return "cuda_graph-fp32"
        return "compiled-fp32"

    def check_device(self, device: torch.device) -> None:
        """Raise ConfigError for CUDA graphs on a CPU."""
        if self.cuda_graph and device.type != "cuda":
            raise ConfigError(f"runtime=cuda_graph runs on a GPU, not on {device}: device=cuda")

    def compile(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
        """The module as one graph of fixed shapes."""
        mode = None
        if self.cuda_graph:
            mode = "reduce-overhead"
        compiled = torch.compile(
            module, fullgraph=True, dynamic=False, backend=self.backend, mode=mode
        )

        def evaluate(leaves: Sequence[Tensor]) -> Tensor:
            return compiled(*leaves).clone()  # a CUDA graph's output is written to again

        evaluate(inputs)
        return evaluate
