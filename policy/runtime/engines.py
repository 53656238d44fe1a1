"""Graphs of an exported policy, opened by the engine that they were written for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...rows import Array
from ...spec import CheckpointError, ConfigError, cut

Shape = tuple[int, ...]
Graph = Callable[[Sequence[Array]], list[Array]]
"""Inputs in order -> outputs in order; the caller owns them."""
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""Number format -> what OpenVINO calls it."""


def import_openvino() -> Any:
    """OpenVINO; raises ConfigError where it is not installed."""
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "runtime=openvino needs the package openvino: pip install 'hotstart[openvino]'"
        ) from error
    return openvino


@cache
def open_core() -> Any:
    """The process's OpenVINO, kept until its end; raises ConfigError where it is not installed.

    In OpenVINO 2026.4 each core gives the thread a stack for signal handlers, and the one before
    it back when it goes. Of two cores the older may have gone by then: its stack is unmapped, and
    the next signal, as SIGTERM, crashes the process.
    """
    return import_openvino().Core()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor; raises ConfigError without OpenVINO."""
    return "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def describe_openvino(precision: str, threads: int) -> dict[str, Any]:
    """OpenVINO's settings for the least latency; `threads` 0 leaves them to OpenVINO."""
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # OpenVINO 2026.4 fails, or crashes, on fused elementwise kernels with Mish in them
        "SNIPPETS_MODE": "DISABLE",
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def name_input(place: int) -> str:
    """The name of an input by its place."""
    return f"leaf{place}"


def name_output(place: int) -> str:
    """The name of an output by its place."""
    return f"out{place}"


def open_graph(engine: str, path: Path, precision: str, threads: int) -> Graph:
    """A graph from its file.

    Raises ConfigError where the engine is not installed, CheckpointError for a file that it cannot
    read.
    """
    engines = {"openvino": open_openvino, "onnx": open_onnx}
    if engine not in engines:
        raise CheckpointError(f"{path} is for an engine that this version does not know")
    try:
        return engines[engine](path, precision, threads)
    except ImportError as error:
        raise ConfigError(
            f"the policy was exported for {engine}: pip install {error.name}"
        ) from error
    except ConfigError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be opened: {cut(str(error))}") from error


def open_openvino(path: Path, precision: str, threads: int) -> Graph:
    """A graph of OpenVINO's own format; raises ConfigError for numbers the processor lacks."""
    if precision == "bf16" and not has_bf16():
        raise ConfigError(
            "the policy was exported in bf16, which wants a processor with AVX-512 or AMX: export "
            "it with runtime.precision=fp32"
        )
    core = open_core()
    settings = describe_openvino(precision, threads)
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    order = _order(compiled.inputs, name_input)
    results = _order(compiled.outputs, name_output)
    request = compiled.create_infer_request()

    def evaluate(inputs: Sequence[Array]) -> list[Array]:
        given = [np.ascontiguousarray(inputs[place]) for place in order]
        found = list(request.infer(given, share_inputs=True, share_outputs=True).values())
        outputs: list[Array] = [found[0]] * len(results)
        for place, output in zip(results, found, strict=True):
            outputs[place] = output.copy()  # the next evaluation writes to the same place
        return outputs

    return evaluate


def _order(ports: Sequence[Any], name: Callable[[int], str]) -> list[int]:
    """The place of each port, by its name."""
    places = {name(place): place for place in range(len(ports))}
    found = []
    for port in ports:
        mine = [places[each] for each in port.get_names() if each in places]
        found.append(mine[0])
    if sorted(found) != list(range(len(ports))):
        raise ValueError("its inputs or outputs have other names than they were written with")
    return found


def open_onnx(path: Path, precision: str, threads: int) -> Graph:
    """A graph in ONNX's format; raises ValueError for another number format than fp32."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    if precision != "fp32":
        raise ValueError(f"ONNX Runtime runs it in fp32, not in {precision}")
    return start_session(onnxruntime, path, threads)


def start_session(onnxruntime: Any, model: Path | bytes, threads: int) -> Graph:
    """A session of ONNX Runtime as a graph; `threads` 0 leaves them to it."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    places = [int(name.removeprefix("leaf")) for name in names]  # those not read are not there
    outputs = [name_output(place) for place in range(len(session.get_outputs()))]

    def evaluate(inputs: Sequence[Array]) -> list[Array]:
        given = {}
        for name, place in zip(names, places, strict=True):
            given[name] = np.ascontiguousarray(inputs[place])
        return list(session.run(outputs, given))

    return evaluate
