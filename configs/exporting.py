"""The options of `hotstart export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..spec import REQUIRED, option


@dataclass
class Export:
    """Write a policy that runs without torch, on numpy and one inference engine.

    The folder holds graphs, the sampler's numbers and a certificate: how far its plans lie from
    PyTorch's. In Python: `hotstart_runtime.load(OUT)`, of the distribution hotstart-runtime.

      hotstart export runs/push out=push_exported inference=rti
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    out: str = option(REQUIRED, "folder to write")
    inference: Any = option("???", "sampler: how a plan is initialised and updated")
    runtime: Any = option("???", "engine that the graphs are for: openvino or onnx")
    data: str = option(
        "", "a store with observations to compare plans on; empty: drawn within their ranges"
    )
    plans: int = option(30, "plans to compare with PyTorch's")
    tolerance: float | None = option(
        None,
        "greatest difference of plans that is passed; none: 0.001 in fp32, 0.1 in other formats",
        "normalised units",
    )
    rows: int = option(1, "rows of every graph: robots that are planned for in one call")
    executed: int | None = option(
        None, "actions of each chunk to hand out instead of the checkpoint's own Ta", "ticks"
    )
    delay: int = option(0, "further actions to hand out, for a robot that plans ahead", "ticks")
    seed: int = option(0, "seed of the noise, and of the observations that are drawn")
    overwrite: bool = option(False, "whether an exported policy at out may be replaced")
