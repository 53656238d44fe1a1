"""PyTorch, operator by operator: what every other runtime is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Graph, Runtime


class Eager(Runtime):
    """The network as it is; `precision=bf16` is for it."""

    compiles = False
    gradients = True

    @property
    def label(self) -> str:
        """Its name."""
        return "eager"

    def check_device(self, device: torch.device) -> None:
        """Any device will do."""

    def compile(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
        """The module itself."""
        return lambda leaves: module(*leaves)
