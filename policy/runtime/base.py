"""What a runtime is, and the network that asks one: the same contract, evaluated by an engine.

A graph is made for fixed numbers of rows R and steps T. Plans of fewer rows are padded to it, and
plans of more are cut into several calls. Graphs are made when they are first needed, until `seal`:
from then on nothing is compiled, so that a control loop never waits for a compiler.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from ..denoisers.base import Network
from ..denoisers.split import SplitNetwork
from ..diffusion.contract import Denoiser
from ..model import PolicyModel
from .leaves import join_leaves, split_leaves

Graph = Callable[[Sequence[Tensor]], Tensor]
"""Inputs in the order of the leaves -> (R, T, A)."""


class Runtime(ABC):
    """What evaluates a network."""

    compiles = True
    """Whether it makes graphs; PyTorch alone does not."""
    gradients = False
    """Whether guidance may differentiate through the network."""
    engine = ""
    """What opens the graphs that it writes, see `engines`; empty: it writes none."""
    file_type = ""
    """How the names of these files end."""
    threads = 0
    """Threads of an evaluation; 0: as many as PyTorch uses."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name and number format, as `openvino-bf16`."""

    @abstractmethod
    def compile(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
        """The graph of a module for inputs of these shapes.

        Raises ConfigError where the engine is not installed.
        """

    def write(self, module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
        """Write the graph of a module for inputs of these shapes, for an exported policy.

        Raises ConfigError for a runtime that writes none, and where the engine is not installed.
        """
        raise ConfigError(
            f"runtime={self.label} writes no graphs: take runtime=openvino or runtime=onnx"
        )

    def check_device(self, device: torch.device) -> None:
        """Raise ConfigError for a device that it does not run on."""
        if device.type != "cpu":
            raise ConfigError(f"runtime={self.label} runs on a CPU, not on {device}: device=cpu")


class Traced(nn.Module):
    """A network's evaluation, from leaves to its output; what an engine compiles."""

    def __init__(self, network: Network, structure: Any) -> None:
        super().__init__()
        self.network = network
        self.structure = structure

    def forward(self, *leaves: Tensor) -> Tensor:
        """F of the leaves, (R, T, A)."""
        arguments = join_leaves(self.structure, leaves)
        x, level = arguments[:2]
        if level is None:
            level = x.new_ones(x.shape[:2])  # the network reads `prepared` in its place
        return self.network(x, level, *arguments[2:])


class EngineNetwork(Network[Any, Any]):
    """A network that a runtime evaluates; contexts and level tables are the network's own.

    Of both graphs one takes prepared levels and the other levels (R, T). `eager_calls` counts the
    evaluations that found no graph after `seal`; PyTorch worked those out, and a warning said so.
    """

    def __init__(self, network: Network, runtime: Runtime) -> None:
        """Raises ConfigError for a network under training, and for one that no graph can hold."""
        super().__init__()
        if isinstance(network, SplitNetwork):
            raise ConfigError(
                "a split network chooses by the level between two networks, which no graph holds "
                "yet: take runtime=eager"
            )
        if network.training:
            raise ConfigError("a runtime wants a finished network: call eval() first")
        weight = next(network.parameters())
        if weight.dtype != torch.float32:
            raise ConfigError(
                "precision=bf16 is for runtime=eager; an engine is told by runtime.precision"
            )
        runtime.check_device(weight.device)
        self.network = network
        self.runtime = runtime
        self.width = network.width
        self.sealed = False
        self.eager_calls = 0
        self._graphs: dict[Any, dict[int, Graph]] = {}
        self._made_for = network.weights_version
        self.eval()

    @property
    def weights_version(self) -> tuple[int, int]:
        """The network's own."""
        return self.network.weights_version

    @property
    def active_count(self) -> int:
        """The network's own."""
        return self.network.active_count

    def check_steps(self, steps: int) -> None:
        """The network's own."""
        self.network.check_steps(steps)

    def encode_context(self, tokens: Tensor) -> Any:
        """The network's own, once per plan.

        Raises ConfigError where the weights have changed since the graphs were made.
        """
        if self.weights_version != self._made_for:
            raise ConfigError(
                f"the weights have changed since runtime={self.runtime.label} compiled them: call "
                "forget() on the network, then warm it up again"
            )
        return self.network.encode_context(tokens)

    def modulation(self, level: Tensor) -> Any:
        """The network's own, for the levels (1, T) of a table."""
        return self.network.modulation(level)

    def forward(self, x: Tensor, level: Tensor, context: Any, prepared: Any = None) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A).

        Raises ConfigError where gradients are enabled and the engine has none.
        """
        if torch.is_grad_enabled():
            if self.runtime.gradients:
                return self.network(x, level, context, prepared)
            raise ConfigError(
                f"runtime={self.runtime.label} has no gradients, which this guidance asks for: "
                "take inference.mode=identity or inference.mode=trained with inference=rtc, or "
                "runtime=eager"
            )
        if prepared is not None:
            found = self._evaluate(x, None, context, prepared)
            if found is not None:
                return found
        found = self._evaluate(x, level, context, None)
        if found is not None:
            return found
        return self._evaluate_eagerly(x, level, context, prepared)

    def _evaluate(
        self, x: Tensor, level: Tensor | None, context: Any, prepared: Any
    ) -> Tensor | None:
        """The engine's output, (R, T, A); None where no graph was made before `seal`."""
        leaves: list[Tensor] = []
        by_row = split_leaves((x, level, context), leaves)
        count = len(leaves)  # these have a row each; the prepared levels are shared by all
        structure = (*by_row, split_leaves(prepared, leaves))
        own, shared = leaves[:count], leaves[count:]
        shapes = [each.shape[1:] for each in own] + [each.shape for each in shared]
        graphs = self._graphs.setdefault((structure, tuple(shapes)), {})
        rows = choose_rows(len(x), list(graphs), self.sealed)
        if rows is None:
            return None
        if rows not in graphs:
            example = [_pad(each, rows) for each in own] + shared
            inputs = tuple(each.contiguous() for each in example)
            graphs[rows] = self.runtime.compile(Traced(self.network, structure).eval(), inputs)
        parts = []
        for first in range(0, len(x), rows):
            taken = [_pad(each[first : first + rows], rows) for each in own]
            parts.append(graphs[rows]((*taken, *shared)))
        return torch.cat(parts)[: len(x)]

    def _evaluate_eagerly(self, x: Tensor, level: Tensor, context: Any, prepared: Any) -> Tensor:
        """PyTorch's output, counted: the loop goes on, more slowly than it was measured."""
        self.eager_calls += 1
        if self.eager_calls == 1:
            warnings.warn(
                f"runtime={self.runtime.label} was not warmed up for plans of this kind, and "
                "nothing is compiled inside a control loop: PyTorch evaluates them",
                stacklevel=2,
            )
        return self.network(x, level, context, prepared)

    def seal(self) -> None:
        """Compile nothing from now on."""
        self.sealed = True

    def forget(self) -> None:
        """Drop all graphs; the next ones are of the weights as they are now."""
        self._graphs = {}
        self._made_for = self.network.weights_version
        self.sealed = False


def choose_rows(rows: int, made: Sequence[int], sealed: bool) -> int | None:
    """The number of rows of the graph for plans of `rows`; one not among `made` is to be made.

    Padding costs at most as much again as the plans, unless nothing may be compiled any more.
    Then more rows than any graph has are cut into several calls; None where there is no graph.
    """
    enough = [count for count in made if count >= rows]
    if enough and (sealed or min(enough) < 2 * rows):
        return min(enough)
    if not sealed:
        return rows
    return max(made, default=None)


def _pad(value: Tensor, rows: int) -> Tensor:
    """Rows (R, ...) up to `rows`: the last one is repeated."""
    missing = rows - len(value)
    if missing == 0:
        return value
    return torch.cat((value, value[-1:].expand(missing, *value.shape[1:])))


def find_engine(model: PolicyModel) -> EngineNetwork | None:
    """The engine behind a model; None where PyTorch evaluates it."""
    if isinstance(model.network, EngineNetwork):
        return model.network
    return None


def use_runtime(model: PolicyModel, runtime: Runtime) -> PolicyModel:
    """The same model, whose network the runtime evaluates from now on.

    Raises ConfigError for a network that the runtime cannot take.
    """
    engine = find_engine(model)
    network = model.network
    if engine is not None:
        network = engine.network
    if runtime.compiles:
        network = EngineNetwork(network, runtime)
    model.network = network
    model.denoiser = Denoiser(network, model.denoiser.preconditioner)
    return model
