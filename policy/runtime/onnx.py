"""ONNX Runtime on a CPU."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .base import Graph, Runtime
from .openvino import check_threads, choose_threads

OPSET = 17


class Onnx(Runtime):
    """A network as ONNX Runtime runs it, in fp32."""

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
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = choose_threads(self.threads)
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = runtime.InferenceSession(
            export(module, inputs), settings, providers=["CPUExecutionProvider"]
        )
        names = [each.name for each in session.get_inputs()]
        places = [int(name.removeprefix("leaf")) for name in names]

        def evaluate(leaves: Sequence[Tensor]) -> Tensor:
            given = {}
            for name, place in zip(names, places, strict=True):
                given[name] = leaves[place].contiguous().numpy()
            return torch.from_numpy(session.run(None, given)[0])

        return evaluate


def export(module: nn.Module, inputs: tuple[Tensor, ...]) -> bytes:
    """The module as an ONNX model, with inputs leaf0, leaf1, ...; raises ConfigError without onnx.

    The exporter by traces is taken: the newer one takes a minute for a network of 60 M weights.
    """
    file = io.BytesIO()
    names = [f"leaf{number}" for number in range(len(inputs))]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                inputs,
                file,  # pyright: ignore[reportArgumentType] a file is taken where dynamo is False
                input_names=names,
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


def import_runtime() -> Any:
    """ONNX Runtime; raises ConfigError where it is not installed."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _explain_missing(error) from error
    return onnxruntime


def _explain_missing(error: ImportError) -> ConfigError:
    return ConfigError(f"runtime=onnx needs the package {error.name}: pip install 'hotstart[onnx]'")
