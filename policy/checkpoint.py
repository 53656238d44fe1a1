"""Checkpoints on disk: a folder of safetensors, YAML and JSON; no pickle anywhere.

    model.safetensors   EMA weights and the normaliser's statistics
    config.yaml         what the model is built from
    meta.json           versions, data set hash, steps, trained level regimes, task
    training_state/     weights, optimiser and counters to go on from

A folder is written under another name, flushed, and takes the old one's place by renaming: whatever happens while it is
written (a full disk, a kill), a whole checkpoint is left.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..spec import ActionSpec, CheckpointError, ConfigError, Horizon, ObsSpec
from .model import AS_GIVEN, ModelConfig, PolicyModel
from .normalizer import COMMAND
from .registry import with_defaults

FORMAT = 1
MODEL, CONFIG, META, STATE = "model.safetensors", "config.yaml", "meta.json", "training_state"
STATISTICS_PREFIX = "normalizer."
BROKEN = (
    OSError,
    SafetensorError,
    yaml.YAMLError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
)
"""What the values of a damaged or a stranger's checkpoint may make readers and constructors raise."""


def config_to_plain(config: ModelConfig) -> dict[str, Any]:
    """A model's configuration as plain YAML values."""
    return {
        "encoder": dict(config.encoder),
        "denoiser": dict(config.denoiser),
        "schedule": dict(config.schedule),
        "actions": dict(config.actions),
        "prediction": config.prediction,
        "horizon": asdict(config.horizon),
        "obs_spec": config.obs_spec.to_json(),
        "action_spec": config.action_spec.to_json(),
        "uncertain": config.uncertain,
        "anchors": config.anchors,
    }


def config_from_plain(plain: Mapping[str, Any]) -> ModelConfig:
    """Read back what `config_to_plain` wrote; raises CheckpointError naming what is missing or odd."""
    try:
        return ModelConfig(
            encoder=plain["encoder"],
            denoiser=plain["denoiser"],
            schedule=plain["schedule"],
            actions=plain.get("actions", AS_GIVEN),  # older checkpoints know nothing else
            prediction=plain["prediction"],
            horizon=Horizon(**plain["horizon"]),
            obs_spec=ObsSpec.from_json(plain["obs_spec"]),
            action_spec=ActionSpec.from_json(plain["action_spec"]),
            uncertain=bool(plain.get("uncertain", False)),
            anchors=int(plain.get("anchors", 0)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{CONFIG} of the checkpoint is not complete: {error!r}") from error


def differing_part(one: ModelConfig, other: ModelConfig) -> str | None:
    """The first part in which two configurations differ, as they would stand in a file; None where they are the same.

    What an older file leaves out counts as its constructor's default.
    """

    def plain(config: ModelConfig) -> dict[str, Any]:
        parts = {**config_to_plain(config), "obs_spec": list(config.obs_spec.to_json().items())}  # the order of keys counts
        parts |= {axis: with_defaults(axis, parts[axis]) for axis in ("encoder", "denoiser", "schedule", "actions")}
        return yaml.safe_load(yaml.safe_dump(parts))

    mine, others = plain(one), plain(other)
    return next((part for part in mine if mine[part] != others[part]), None)


def check_target(folder: Path) -> None:
    """Raise ConfigError where a new checkpoint would take the place of something that is not one, a run for instance."""
    if folder.exists() and not (folder / META).is_file():
        raise ConfigError(f"{folder} is there already and is no checkpoint: choose another out=, as out={folder}_new")


def save(
    folder: Path,
    model: PolicyModel,
    meta: Mapping[str, Any],
    state_tensors: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint in place of the one at `folder`; raises CheckpointError when it cannot, the old one is then whole.

    What the model says of its levels' regimes and of its measured start is written too where `meta` does not say it.
    """
    fresh = recover(folder).with_name(folder.name + ".writing")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _write(fresh, model, {**_own_meta(model), **meta}, state_tensors, state)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        kept = "the one before it is untouched" if folder.exists() else "there is none before it"
        raise CheckpointError(
            f"the checkpoint {folder} could not be written ({error}); {kept}: make room, then go on"
        ) from error
    _take_place(fresh, folder)


def _own_meta(model: PolicyModel) -> dict[str, Any]:
    """What meta.json says of a model that the model itself holds."""
    own: dict[str, Any] = {}
    if model.regimes is not None:
        own["regimes"] = list(model.regimes)
    if model.measured_start is not None:
        own["warm_start"] = {"start": model.measured_start}
    return own


def _write(
    folder: Path,
    model: PolicyModel,
    meta: Mapping[str, Any],
    state_tensors: Mapping[str, Tensor] | None,
    state: Mapping[str, Any] | None,
) -> None:
    folder.mkdir(parents=True)
    _save_tensors(model.state_dict(), folder / MODEL)
    _save_text(yaml.safe_dump(config_to_plain(model.config), sort_keys=False), folder / CONFIG)
    _save_text(json.dumps({"format": FORMAT, **meta}, indent=2), folder / META)
    if state_tensors is not None:
        (folder / STATE).mkdir()
        _save_tensors(state_tensors, folder / STATE / "tensors.safetensors")
        _save_text(json.dumps(state or {}), folder / STATE / "state.json")


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    _flush(path)


def _save_text(text: str, path: Path) -> None:
    path.write_text(text)
    _flush(path)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _take_place(fresh: Path, folder: Path) -> None:
    """Rename `fresh` to `folder`; between the two renames the old one is `folder`.before, where `recover` finds it."""
    before = folder.with_name(folder.name + ".before")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    fresh.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def recover(folder: Path) -> Path:
    """The checkpoint at `folder`, put back if a kill came between the two renames."""
    before = folder.with_name(folder.name + ".before")
    if not folder.exists() and before.exists():
        before.rename(folder)
    return folder


def find(path: Path | str) -> Path:
    """The checkpoint folder that `path` means: itself, or the `last` or `best` one of a run.

    `last` comes first: the loss on held-out episodes, which `best` is chosen by, says little about success in closed loop.
    """
    path = Path(path)
    for candidate in (path, path / "checkpoints" / "last", path / "checkpoints" / "best", path / "last", path / "best"):
        if (recover(candidate) / META).is_file():
            return candidate
    raise CheckpointError(
        f"{path} is no checkpoint: a folder with {MODEL}, {CONFIG} and {META}, or a run that holds one, is wanted"
    )


def read_meta(folder: Path) -> dict[str, Any]:
    """The checkpoint's meta.json; raises CheckpointError for one that is broken or of a newer format."""
    try:
        meta = json.loads((folder / META).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / META} cannot be read: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format", 0), int):
        raise CheckpointError(f"{folder / META} is not the meta.json of a checkpoint")
    if meta.get("format", 0) > FORMAT:
        raise CheckpointError(f"{folder} has format {meta['format']}, this hotstart reads up to {FORMAT}: upgrade hotstart")
    return meta


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write meta.json of a checkpoint anew, in one piece."""
    half = folder / f".{META}"
    _save_text(json.dumps({"format": FORMAT, **meta}, indent=2), half)
    half.replace(folder / META)


def load(path: Path | str, device: str = "cpu") -> tuple[PolicyModel, dict[str, Any]]:
    """EMA model (in evaluation mode) and meta of a checkpoint.

    Raises CheckpointError when files are missing or broken, a target is foreign, or weights or statistics are missing or
    do not fit the specification; the message names the key.
    """
    folder = find(path)
    meta = read_meta(folder)
    try:
        plain = yaml.safe_load((folder / CONFIG).read_text())
        model = PolicyModel(config_from_plain(plain))
        _fill(model, load_file(folder / MODEL), folder)
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    model.normalizer.check()
    model.regimes = tuple(meta["regimes"]) if "regimes" in meta else None
    model.measured_start = _measured_start(meta, folder)
    return model.to(device).eval().requires_grad_(False), meta


def _measured_start(meta: Mapping[str, Any], folder: Path) -> float | None:
    """Where warm starts begin at least, as calibration wrote it into meta.json; None where it did not."""
    if "warm_start" not in meta:
        return None
    start = meta["warm_start"].get("start") if isinstance(meta["warm_start"], Mapping) else None
    if not isinstance(start, int | float) or not 0 < start <= 1:
        raise CheckpointError(
            f"{folder / META} says that warm starts begin at {start!r}; a schedule time above 0 and at most 1 is wanted: "
            "calibrate the checkpoint again"
        )
    return float(start)


def _fill(model: PolicyModel, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Copy tensors into the model, refusing anything missing, left over or of another shape."""
    wanted = model.state_dict()
    tensors = {**_commands_of_old(wanted, tensors), **tensors}
    for name, tensor in wanted.items():
        what = "statistics" if name.startswith(STATISTICS_PREFIX) else "weights"
        label = name.removeprefix(STATISTICS_PREFIX).replace("__", ".").replace("/", ".") if what == "statistics" else name
        if name not in tensors:
            raise CheckpointError(f"{folder / MODEL} holds no {what} for {label!r}: the checkpoint cannot be used without them")
        if tensors[name].shape != tensor.shape:
            raise CheckpointError(
                f"{what} of {label!r} have shape {tuple(tensors[name].shape)}; the specification in {CONFIG} says "
                f"{tuple(tensor.shape)}"
            )
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise CheckpointError(f"{folder / MODEL} holds {extra[0]!r}, which the configuration does not know")
    model.load_state_dict(dict(tensors))


def _commands_of_old(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Statistics of the robot's commands for a checkpoint that is older than they are: nothing counts as constant."""
    prefix = f"{STATISTICS_PREFIX}{COMMAND}__"
    missing = [name for name in wanted if name.startswith(prefix) and name not in tensors]
    return {name: torch.full_like(wanted[name], float(name.endswith("half_range"))) for name in missing}


def load_training_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and counters of `training_state/`; raises CheckpointError when there is none."""
    try:
        tensors = load_file(folder / STATE / "tensors.safetensors")
        return tensors, json.loads((folder / STATE / "state.json").read_text())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no training state to go on from: {error}") from error
