"""OpenVINO on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .base import Graph, Runtime
from .engines import (
    describe_openvino,
    has_bf16,
    import_openvino,
    name_input,
    name_output,
    open_core,
)

Precision = Literal["fp32", "bf16"]


class OpenVino(Runtime):
    """A network as OpenVINO compiles it from PyTorch's trace, in fp32 or bf16."""

    engine = "openvino"
    file_type = ".xml"

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
        model = build_model(openvino, module, inputs)
        settings = describe_openvino(self.precision, choose_threads(self.threads))
        request = open_core().compile_model(model, "CPU", settings).create_infer_request()

        def evaluate(leaves: Sequence[Tensor]) -> Tensor:
            arrays = [leaf.contiguous().numpy() for leaf in leaves]
            (found,) = request.infer(arrays, share_inputs=True, share_outputs=True).values()
            return torch.from_numpy(found).clone()  # the next evaluation writes to the same place

        evaluate(inputs)
        return evaluate

    def write(self, module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
        """The module's trace in OpenVINO's format, weights as they are in a file beside it."""
        openvino = import_openvino()
        model = build_model(openvino, module, inputs)
        for place, port in enumerate(model.inputs):
            port.get_tensor().set_names({name_input(place)})
        for place, port in enumerate(model.outputs):
            port.get_tensor().add_names({name_output(place)})
        openvino.save_model(model, path, compress_to_fp16=False)


def build_model(openvino: Any, module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """OpenVINO's model of a module, for inputs of exactly these shapes."""
    model = convert(openvino, trace(module, inputs), inputs)
    for port, leaf in zip(model.inputs, inputs, strict=True):
        port.get_node().set_partial_shape(openvino.PartialShape(list(leaf.shape)))
    model.validate_nodes_and_infer_types()
    return model


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
