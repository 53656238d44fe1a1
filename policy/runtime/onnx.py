"""ONNX Runtime on a CPU."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .base import Graph, Runtime
from .engines import name_input, name_output, start_session
from .openvino import check_threads, choose_threads

OPSET = 17


class Onnx(Runtime):
    """A network as ONNX Runtime runs it, in fp32."""

    engine = "onnx"
    file_type = ".onnx"

    def __init__(self, threads: int = 0) -> None:
        """Build it with these options.

        threads: threads of an evaluation; 0: as many as PyTorch uses
        """
        check_threads(threads)
        self.threads = threads

    @property
    def label(self) -> str:
        """Name and number format."""
        return "onnx-fp32"

    def compile(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Graph:
        """The module's trace as ONNX, in a session of its own."""
        runtime = import_runtime()
        graph = start_session(runtime, export(module, inputs), choose_threads(self.threads))

        def evaluate(leaves: Sequence[Tensor]) -> Tensor:
            (found,) = graph([leaf.numpy() for leaf in leaves])
            return torch.from_numpy(found)

        return evaluate

    def write(self, module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
        """The module's trace in ONNX's format."""
        path.write_bytes(export(module, inputs))


def export(module: nn.Module, inputs: tuple[Tensor, ...]) -> bytes:
    """The module as an ONNX model, its ports named by place; raises ConfigError without onnx.

    The exporter by traces is taken: the newer one takes a minute for a network of 60 M weights.
    """
    file = io.BytesIO()
    names = [name_input(place) for place in range(len(inputs))]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                file,  # pyright: ignore[reportArgumentType] a file is taken where dynamo is False
                input_names=names,
                output_names=_name_outputs(module, inputs),
                opset_version=OPSET,
                dynamo=False,
            )
    except ModuleNotFoundError as error:
        raise _explain_missing(error) from error
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise ConfigError(
            f"this network cannot be written as ONNX by PyTorch {torch.__version__}: take "
            "runtime=openvino"
        ) from error
    return file.getvalue()


def _name_outputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[str]:
    """The names of all that a module returns."""
    found = module(*inputs)
    if isinstance(found, Tensor):
        return [name_output(0)]
    return [name_output(place) for place in range(len(found))]


def import_runtime() -> Any:
    """ONNX Runtime; raises ConfigError where it is not installed."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _explain_missing(error) from error
    return onnxruntime


def _explain_missing(error: ImportError) -> ConfigError:
    return ConfigError(f"runtime=onnx needs the package {error.name}: pip install 'hotstart[onnx]'")
