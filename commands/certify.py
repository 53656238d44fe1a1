"""`hotstart certify`: how far a runtime's plans lie from PyTorch's, written beside the weights."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..datasets.store import Store
from ..evaluation.results import machine, plain
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.runtime.base import use_runtime
from ..policy.runtime.certificate import (
    Certificate,
    compare_plans,
    find_path,
    find_tolerance,
)
from ..policy.runtime.warm_up import warm_up
from ..spec import ConfigError
from ..system.versions import versions
from .evaluate import find_weights_hash
from .next_steps import keep_arguments, write_command, write_path
from .rollouts import label
from .runtimes import build_runtime


def run(config: Mapping[str, Any]) -> int:
    """Write the certificate and print it; 1 where plans lie beyond the tolerance."""
    made, path = certify(config)
    found = made.differences
    print(
        f"{made.runtime}, {made.inference}: plans differ from PyTorch's by {found.plan_max:.2e} "
        f"at most and {found.plan_mean:.2e} on average (normalised units, n = {found.plans}); "
        f"{found.runtime_ms['p50']:.1f} ms a plan (p99 {found.runtime_ms['p99']:.1f}) where "
        f"PyTorch takes {found.eager_ms['p50']:.1f} (p99 {found.eager_ms['p99']:.1f})"
    )
    print(f"certificate: {path}", flush=True)
    if made.passed:
        return 0
    print(f"beyond the tolerance of {made.tolerance:g}: deploy will refuse this runtime")
    return 1


def certify(config: Mapping[str, Any]) -> tuple[Certificate, Path]:
    """Compare the runtime with PyTorch and write the certificate.

    Raises ConfigError where there is nothing to compare.
    """
    runtime = build_runtime(config)
    if not runtime.compiles:
        raise ConfigError("runtime=eager needs no certificate; choose the runtime to certify")
    tolerance = find_tolerance(runtime.label, config["tolerance"])
    folder = checkpoint.find(config["checkpoint"])
    sampler = build_sampler(config["inference"])
    model, meta = checkpoint.load(folder, config["device"])
    eager = DiffusionPolicy(model, sampler)
    engine = use_runtime(checkpoint.load(folder, config["device"])[0], runtime)
    other = DiffusionPolicy(engine, sampler)
    warm_up(other, [1])
    data = Path(config["data"])
    differences = compare_plans(eager, other, Store.open(data), config["plans"], config["seed"])
    made = Certificate(
        checkpoint=find_weights_hash(meta) or "",
        runtime=runtime.label,
        inference=label(config),
        sampler=plain(config["inference"]),
        tolerance=tolerance,
        differences=differences,
        data=data.name,
        machine=machine(config["device"]),
        versions=versions(),
        made=datetime.date.today().isoformat(),
    )
    return made, made.save(folder)


def check_certificate(config: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the runtime of a deployment has a certificate that fits.

    It must be of these weights and this sampler, and its plans within its tolerance.
    """
    runtime = build_runtime(config)
    if not runtime.compiles:
        return
    folder = checkpoint.find(config["checkpoint"])
    path = find_path(folder, runtime.label, label(config))
    advice = f"make one: {_write_advice(config)}"
    if not path.is_file():
        raise ConfigError(
            f"runtime={runtime.label} has no certificate for {label(config)} here: {advice}"
        )
    found = Certificate.load(path)
    if found.checkpoint != (find_weights_hash(checkpoint.read_meta(folder)) or ""):
        raise ConfigError(f"{path} is the certificate of other weights: {advice}")
    if found.runtime != runtime.label or found.sampler != plain(config["inference"]):
        raise ConfigError(f"{path} is of another runtime or other sampler settings: {advice}")
    if not found.passed:
        raise ConfigError(
            f"by {path} plans of runtime={runtime.label} lie up to "
            f"{found.differences.plan_max:.2g} from PyTorch's, beyond the tolerance of "
            f"{found.tolerance:g}: take runtime=eager, or runtime.precision=fp32"
        )


def _write_advice(config: Mapping[str, Any]) -> str:
    """The command that makes the certificate."""
    kept = []
    for argument in keep_arguments(config["arguments"], ()):
        if argument.lstrip("+").startswith(("inference", "runtime", "solver@inference")):
            kept.append(argument)
    return write_command("certify", write_path(config["checkpoint"]), "data=DATA", *kept)
