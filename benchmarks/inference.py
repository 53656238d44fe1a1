"""Milliseconds per evaluation of a denoiser by runtime, beside what the processor could do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..evaluation.results import machine
from ..policy.denoisers.base import Network
from ..policy.denoisers.mode import ModeTransformer
from ..policy.denoisers.transformer import DiffusionTransformer
from ..policy.denoisers.unet import ConditionalUnet
from ..policy.runtime.base import EngineNetwork, Runtime
from ..policy.runtime.compiled import Compiled
from ..policy.runtime.onnx import Onnx
from ..policy.runtime.openvino import OpenVino
from ..spec import ConfigError, option, unknown
from ..system import outputs
from ..system.versions import versions
from .cost import Reads

WIDTH = 7
TOKENS, TOKEN_WIDTH = 2, 64
NETWORKS: dict[str, Callable[[], Network[Any, Any]]] = {
    "unet-4M": lambda: ConditionalUnet(WIDTH, TOKENS, TOKEN_WIDTH, (64, 128, 256)),
    "unet-64M": lambda: ConditionalUnet(WIDTH, TOKENS, TOKEN_WIDTH, (256, 512, 1024)),
    "transformer": lambda: DiffusionTransformer(WIDTH, TOKENS, TOKEN_WIDTH, 256, 6, 8),
    "mode": lambda: ModeTransformer(WIDTH, TOKENS, TOKEN_WIDTH),
}
RUNTIMES: dict[str, Callable[[int], Runtime]] = {
    "compiled": lambda threads: Compiled(),
    "openvino-fp32": lambda threads: OpenVino("fp32", threads),
    "openvino-bf16": lambda threads: OpenVino("bf16", threads),
    "onnx": lambda threads: Onnx(threads),
}
EAGER = "eager"


@dataclass
class Options:
    """Random weights; rounds over the runtimes, so that a busy moment hits all of them.

    The roof is max(operations / peak, bytes of weights / bandwidth). Peak is a product of matrices
    of the network's own rows, bandwidth a sum over as many bytes as its weights, in the same run.
    """

    networks: tuple[str, ...] = option(tuple(NETWORKS), f"networks: {', '.join(NETWORKS)}")
    runtimes: tuple[str, ...] = option(
        ("openvino-fp32", "openvino-bf16", "onnx"),
        f"runtimes beside eager: {', '.join(RUNTIMES)}",
    )
    rows: tuple[int, ...] = option((1, 16), "rows per call")
    planned: int = option(16, "action steps of a plan")
    rounds: int = option(40, "evaluations of each, in turns")
    threads: int = option(1, "threads of each")
    out: str = option("", "file for the figures as JSON; empty: none")
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


@dataclass(frozen=True)
class Cell:
    """One network by one runtime."""

    network: str
    rows: int
    runtime: str
    p50_ms: float
    p99_ms: float
    ratio: float
    """Median time of PyTorch over this one's."""
    roof_ms: float
    difference: float
    """Greatest absolute difference to PyTorch's output."""


def run(options: Options) -> None:
    """Print a line for each network, number of rows and runtime."""
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    for chosen, valid in ((options.networks, NETWORKS), (options.runtimes, RUNTIMES)):
        for name in chosen:
            if name not in valid:
                raise ConfigError(unknown("choice", name, list(valid)))
    torch.set_num_threads(options.threads)
    print(
        f"{'network':<14}{'rows':>5}  {'runtime':<15}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>7}"
        f"{'roof ms':>9}{'difference':>12}"
    )
    cells: list[Cell] = []
    for name in options.networks:
        for rows in options.rows:
            found = time_network(options, name, rows)
            for cell in found:
                print(
                    f"{cell.network:<14}{cell.rows:>5}  {cell.runtime:<15}{cell.p50_ms:>9.2f}"
                    f"{cell.p99_ms:>9.2f}{cell.ratio:>7.2f}{cell.roof_ms:>9.2f}"
                    f"{cell.difference:>12.1e}",
                    flush=True,
                )
            cells += found
    if options.out:
        kept = {
            "cells": [asdict(cell) for cell in cells],
            "machine": machine(),
            "versions": versions(),
            "threads": options.threads,
        }
        outputs.write_text(Path(options.out), json.dumps(kept, indent=2) + "\n")


@torch.no_grad()
def time_network(options: Options, name: str, rows: int) -> list[Cell]:
    """All runtimes of one network, in turns; the first turn compiles and is dropped."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    networks: dict[str, Network[Any, Any]] = {EAGER: network}
    for runtime in options.runtimes:
        try:
            networks[runtime] = EngineNetwork(network, RUNTIMES[runtime](options.threads))
        except ConfigError as error:
            print(f"{runtime} is left out: {error}", flush=True)
    x = torch.randn(rows, options.planned, WIDTH)
    level = torch.full((rows, options.planned), 0.5)
    context = network.encode_context(torch.randn(rows, TOKENS, TOKEN_WIDTH))
    prepared = network.modulation(level[:1])
    arguments = (x, level, context, prepared)
    seconds: dict[str, list[float]] = {runtime: [] for runtime in networks}
    made: dict[str, Tensor] = {}
    for turn in range(options.rounds + 1):
        for runtime, each in networks.items():
            began = time.perf_counter()
            made[runtime] = each(*arguments)
            if turn:
                seconds[runtime].append(time.perf_counter() - began)
    with FlopCounterMode(display=False) as counter, Reads(network) as reads:
        network(*arguments)
    cells = []
    for runtime, own in seconds.items():
        halves = runtime.endswith("bf16")
        roof_s = find_roof(counter.get_total_flops(), reads.bytes, rows * options.planned, halves)
        p50, p99 = 1000 * np.percentile(own, (50, 99))
        ratio = float(np.median(seconds[EAGER]) / np.median(own))
        apart = float((made[runtime] - made[EAGER]).abs().max())
        cells.append(Cell(name, rows, runtime, p50, p99, ratio, 1000 * roof_s, apart))
    return cells


def find_roof(operations: float, bytes_read: int, tokens: int, halves: bool) -> float:
    """Least seconds of an evaluation on this processor, in fp32 or in bf16 (`halves`)."""
    dtype = torch.float32
    if halves:
        dtype = torch.bfloat16
        bytes_read //= 2
    left = torch.randn(max(tokens, 64), 1024, dtype=dtype)
    right = torch.randn(1024, 1024, dtype=dtype)
    product_s = time_best(lambda: left @ right)
    peak = 2 * left.numel() * 1024 / product_s
    buffer = torch.ones(max(1, bytes_read // 4))
    read_s = time_best(lambda: buffer.sum())
    return max(operations / peak, read_s)


def time_best(call: Callable[[], object], tries: int = 7) -> float:
    """Seconds of the fastest of several calls."""
    seconds = []
    for _ in range(tries):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
