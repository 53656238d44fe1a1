"""`hotstart export`: a folder with a policy that runs without torch."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..datasets.store import Store
from ..evaluation.results import machine, plain
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.runtime.certificate import (
    Certificate,
    compare_plans,
    draw_observations,
    find_tolerance,
)
from ..policy.runtime.export import export_policy
from ..policy.runtime.exported import load_policy
from ..policy.runtime.exported_folder import MANIFEST
from ..spec import ConfigError
from ..system.versions import versions
from .evaluate import find_weights_hash
from .rollouts import label
from .runtimes import build_runtime

DRAWN = "drawn"
"""What a certificate says in place of a data set where observations were drawn."""


def run(config: Mapping[str, Any]) -> int:
    """Write the folder and print what it is; 1 where its plans lie beyond the tolerance."""
    out = Path(config["out"])
    made = export(config)
    found = made.differences
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    print(
        f"{out}: {label(config)} for {made.runtime}, {size:.1f} MB; plans differ from PyTorch's by "
        f"{found.plan_max:.2e} at most and {found.plan_mean:.2e} on average (normalised units, "
        f"n = {found.plans}); {found.runtime_ms['p50']:.1f} ms a plan "
        f"(p99 {found.runtime_ms['p99']:.1f}) where PyTorch takes {found.eager_ms['p50']:.1f} "
        f"(p99 {found.eager_ms['p99']:.1f})"
    )
    if made.passed:
        print(f"in Python: hotstart_runtime.load({str(out)!r}).act(observation)", flush=True)
        return 0
    print(
        f"beyond the tolerance of {made.tolerance:g}: do not run it; runtime.precision=fp32 is "
        "nearer",
        flush=True,
    )
    return 1


def export(config: Mapping[str, Any]) -> Certificate:
    """Write the folder with its certificate.

    Raises ConfigError for what cannot be exported, and where `out` is there already.
    """
    out = Path(config["out"])
    _check_target(out, config["overwrite"])
    if config["rows"] < 1:
        raise ConfigError(f"rows is {config['rows']}; at least 1 is wanted")
    runtime = build_runtime(config)
    model, meta = checkpoint.load(config["checkpoint"])
    sampler = build_sampler(config["inference"])
    policy = DiffusionPolicy(model, sampler, config["executed"], config["delay"])
    policy.rate_hz = meta.get("rate_hz")
    about = {
        "checkpoint": find_weights_hash(meta) or "",
        "inference": label(config),
        "sampler": plain(config["inference"]),
        "versions": versions(),
        "made": datetime.date.today().isoformat(),
    }
    half = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        export_policy(policy, runtime, half, config["rows"], about)
        made = compare(policy, half, f"exported-{runtime.label}", about, config)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    if out.exists():
        shutil.rmtree(out)
    half.rename(out)
    return made


def compare(
    policy: DiffusionPolicy,
    folder: Path,
    name: str,
    about: Mapping[str, Any],
    config: Mapping[str, Any],
) -> Certificate:
    """The certificate of an exported folder, written into it."""
    if config["data"]:
        data = Store.open(Path(config["data"]))
        shown = Path(config["data"]).name
    else:
        data = draw_observations(policy, config["plans"], config["seed"])
        shown = DRAWN
    found = compare_plans(policy, load_policy(folder), data, config["plans"], config["seed"])
    made = Certificate(
        checkpoint=about["checkpoint"],
        runtime=name,
        inference=about["inference"],
        sampler=about["sampler"],
        tolerance=find_tolerance(name, config["tolerance"]),
        differences=found,
        data=shown,
        machine=machine("cpu"),
        versions=about["versions"],
        made=about["made"],
    )
    made.save(folder)
    return made


def _check_target(out: Path, overwrite: bool) -> None:
    """Raise ConfigError unless `out` is free, or an exported policy that may be replaced."""
    if not out.exists():
        return
    if not (out / MANIFEST).is_file():
        raise ConfigError(f"out={out} is there already and is no exported policy: name another")
    if not overwrite:
        raise ConfigError(f"out={out} is there already: name another folder, or say overwrite=true")
