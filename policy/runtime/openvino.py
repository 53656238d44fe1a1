"""OpenVINO on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .base import Graph, Runtime

Precision = Literal["fp32", "bf16"]
HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVino(Runtime):
    """A network as OpenVINO compiles it from PyTorch's trace, in fp32 or bf16."""

    def __init__(self, precision: Precision = "fp32", threads: int = 0) -> None:
        """Build it with these options.

        precision: numbers that layers compute in
        threads: threads of an evaluation; 0: as many as PyTorch uses
        """
        if precision not in get_args(Precision):
            raise ConfigError(
                f"runtime.precision is {precision}; choose one of {', '.join(get_args(Precision))}"
            )
        check_threads(threads)
        self.precision = precision
        self.threads = threads

    @property
    def label(self) -> str:
        """Name and number format."""
        return f"openvino-{self.precision}"

    def check_device(self, device: torch.device) -> None:
        """Raise ConfigError for a GPU, and for a processor without the numbers asked for.

        OpenVINO itself would compute in fp32 there, in silence.
        """
        super().check_device(device)
        if self.precision == "bf16" and not has_bf16():
            raise ConfigError(
                "runtime.precision=bf16 wants a processor with AVX-512 or AMX, which this one has "
                "not: take runtime.precision=fp32"
            )

    def compile(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
        """The module's trace, compiled for least latency; inputs are read where they lie."""
        openvino = import_openvino()
        model = convert(openvino, trace(module, inputs), inputs)
        for port, leaf in zip(model.inputs, inputs, strict=True):
            port.get_node().set_partial_shape(openvino.PartialShape(list(leaf.shape)))
        model.validate_nodes_and_infer_types()
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": choose_threads(self.threads),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # OpenVINO 2026.4 fails, or crashes, on fused elementwise kernels with Mish in them
            "SNIPPETS_MODE": "DISABLE",
        }
        request = open_core().compile_model(model, "CPU", settings).create_infer_request()

        def evaluate(leaves: Sequence[Tensor]) -> Tensor:
            arrays = [leaf.contiguous().numpy() for leaf in leaves]
            (found,) = request.infer(arrays, share_inputs=True, share_outputs=True).values()
            return torch.from_numpy(found).clone()  # the next evaluation writes to the same place

        evaluate(inputs)
        return evaluate


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor; raises ConfigError without OpenVINO."""
    return "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def open_core() -> Any:
    """The process's OpenVINO, kept until its end; raises ConfigError where it is not installed.

    In OpenVINO 2026.4 each core gives the thread a stack for signal handlers, and the one before
    it back when it goes. Of two cores the older may have gone by then: its stack is unmapped, and
    the next signal, as SIGTERM, crashes the process.
    """
    return import_openvino().Core()


def convert(openvino: Any, traced: Any, inputs: tuple[Tensor, ...]) -> Any:
    """A trace as OpenVINO's model, by its frontend.

    `openvino.convert_model` does the same and reports its use to a server on the internet.
    """
    from openvino.frontend.pytorch.ts_decoder import (  # pyright: ignore[reportMissingImports]
        TorchScriptPythonDecoder,
    )

    frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=inputs)
    return frontend.convert(frontend.load(decoder))


def import_openvino() -> Any:
    """OpenVINO; raises ConfigError where it is not installed."""
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "runtime=openvino needs the package openvino: pip install 'hotstart[openvino]'"
        ) from error
    return openvino


def trace(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """The module's operators for inputs of these shapes."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of branches on shapes, which a graph fixes on purpose
        return torch.jit.trace(module, inputs, check_trace=False)


def check_threads(threads: int) -> None:
    """Raise ConfigError for a negative number."""
    if threads < 0:
        raise ConfigError(f"runtime.threads is {threads}; give 1 or more, or 0 for PyTorch's own")


def choose_threads(threads: int) -> int:
    """As many threads as asked for, or as PyTorch uses."""
    return threads or torch.get_num_threads()
