"""`hotstart checkpoint`: import other people's policies.

Give a policy what warm starts and anchored starts need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..configs.schema import Anchors, Calibrate, Import
from ..datasets.store import Store
from ..envs import registry
from ..policy import checkpoint
from ..policy.fitting.anchors import fit_anchors
from ..policy.fitting.calibration import STARTS, calibrate
from ..policy.foreign.diffusion_policy import import_ckpt
from ..policy.foreign.lerobot import import_policy, read_origin
from ..policy.model import PolicyModel
from ..spec import ConfigError, shorten, unknown
from ..system.versions import versions
from .next_steps import evaluate_run


def calibrate_start(options: Calibrate) -> int:
    """Write the start that warm starts take beside the weights; print what was measured."""
    folder = checkpoint.find(options.run)
    model, meta = checkpoint.load(folder)
    found = calibrate(
        model, Store.open(options.data), options.steps, options.windows, options.samples
    )
    print(
        f"samples spread by {found.spread:.3f} within a mode and drift by {found.drift:.3f} a call "
        "(normalised units)"
    )
    for start, gain in zip(STARTS, found.gains, strict=True):
        mark = ""
        if start == found.start:
            mark = "   <- taken"
        print(f"  start {start:.2f}: {gain:.2f} of the drift is left{mark}")
    checkpoint.write_meta(
        folder, {**meta, "warm_start": {**found.to_json(), "steps": options.steps}}
    )
    print(
        f"{folder}: inference=rti begins at {found.start} where no start is given, and higher "
        "where a gripper asks for it"
    )
    return 0


def add_anchors(options: Anchors) -> int:
    """Write a copy of a checkpoint with anchors, and print how well they are chosen."""
    checkpoint.check_target(options.out, options.overwrite)
    model, meta = checkpoint.load(options.run)
    found = fit_anchors(model, Store.open(options.data), options.count, options.steps)
    checkpoint.save(options.out, model, {**meta, "anchors": asdict(found)})
    print(
        f"{options.out}: {options.count} anchors; on held-out episodes a plan lies "
        f"{found.distance:.3f} normalised units from its nearest one and {found.chosen:.3f} from "
        f"the one chosen, which is the nearest for {found.first:.0%}"
    )
    return 0


UNSCALED = (
    "note: {name} was not normalised when the policy was trained. LeRobot 0.6.1 leaves environment "
    "states as they are unless --policy.normalization_mapping names ENV; on Push-T the same "
    "training scored 0.40 without it and 0.92 with it. See docs/data.md"
)


def import_checkpoint(
    source: Path | str,
    out: Path | str,
    *,
    fps: float | None = None,
    task: str | None = None,
    names: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Take over a policy that was trained elsewhere, as `hotstart checkpoint import` does.

    Args:
        source: a folder that LeRobot's save_pretrained wrote, or a low-dim .ckpt of Diffusion
            Policy, of which only tensors are read
        out: folder of the checkpoint to write; it is returned
        fps: control rate that it was trained at [Hz]; None: what the folder says
        task: environment that `evaluate` takes unless told otherwise; None: what the folder says
        names: what its observations are called here, as {"observation.state": "agent_pos"}
        overwrite: whether a checkpoint at `out` may be replaced

    Raises:
        CheckpointError: for a policy that cannot be read, or would run differently here
        ConfigError: where neither the folder nor the arguments say rate and task, and where `out`
            is there already

    Example:
        run = hotstart.import_checkpoint("pretrained_model", "runs/imported", fps=10, task="pusht")
        agent = hotstart.load(run, hotstart.WarmStart(steps=2))
    """
    pairs = tuple(f"{theirs}:{ours}" for theirs, ours in (names or {}).items())
    _take_over(Import(Path(source), Path(out), fps, task, pairs, overwrite=overwrite))
    return Path(out)


def run_import(options: Import) -> int:
    """Write a checkpoint of a policy that was trained elsewhere, and say what it is."""
    model = _take_over(options)
    horizon = model.config.horizon
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{options.out}: {parameters:,} parameters, "
        f"To {horizon.observed}, T {horizon.planned}, Ta {horizon.executed}, "
        f"observes {', '.join(model.config.obs_spec.keys)}"
    )
    for name in model.normalizer.list_unscaled():
        print(UNSCALED.format(name=name), file=sys.stderr)
    print(f"next: {evaluate_run(options.out, 'inference=rti')}")
    return 0


def _take_over(options: Import) -> PolicyModel:
    """Write a checkpoint of a policy that was trained elsewhere; returns the model."""
    checkpoint.check_target(options.out, options.overwrite)
    names = _read_names(options.names)
    fps, task = _find_origin(options)
    if options.source.suffix == ".ckpt":
        model = import_ckpt(
            options.source, names.get("obs", "obs"), options.planned, options.executed
        )
    else:
        model = import_policy(options.source, names)
    meta = {
        "versions": versions(),
        "rate_hz": fps,
        "step": None,
        "source": options.source.name,
        "task": {
            "name": task,
            "env": task,
            "options": {},
            "max_steps": 0,
            "obs_keys": list(model.config.obs_spec.keys),
        },
    }
    checkpoint.save(options.out, model, meta)
    return model


def _find_origin(options: Import) -> tuple[float, str]:
    """The rate [Hz] and the environment's name, as the user or the folder says.

    Raises ConfigError where neither says.
    """
    fps, task = options.fps, options.task
    if options.source.suffix != ".ckpt":
        said = read_origin(options.source)
        if fps is None:
            fps = said[0]
        if task is None and said[1] in registry.names():
            task = said[1]
    missing = []
    if fps is None:
        missing.append("fps=RATE_HZ")
    if task is None:
        missing.append("task=NAME")
    if fps is None or task is None:
        raise ConfigError(
            f"{options.source} does not say at which rate and for which task it was trained: "
            f"give {' and '.join(missing)}; "
            f"environments are {', '.join(registry.names())}"
        )
    if task not in registry.names():
        raise ConfigError(unknown("environment task=", task, registry.names()))
    if not 0 < fps <= checkpoint.FASTEST_HZ:
        raise ConfigError(f"fps is {fps}; it must be above 0 and at most {checkpoint.FASTEST_HZ}")
    return fps, task


def _read_names(pairs: Sequence[str]) -> dict[str, str]:
    """Names of their observations -> ours."""
    found = {}
    for pair in pairs:
        parts = pair.split(":")
        if len(parts) != 2 or not all(parts):
            raise ConfigError(
                f"names holds {shorten(pair)}; write theirs:ours, as observation.state:agent_pos"
            )
        found[parts[0]] = parts[1]
    return found


ACTIONS: dict[str, Callable[[Any], int]] = {
    "import": run_import,
    "calibrate": calibrate_start,
    "anchors": add_anchors,
}
