"""Checkpoints on disk: a folder of safetensors, YAML and JSON; no pickle anywhere.

    model.safetensors   EMA weights and the normaliser's statistics
    config.yaml         what the model is built from
    meta.json           versions, data set hash, steps, trained level regimes, task, SHA-256 of the files of tensors
    training_state/     weights, optimiser and counters to go on from

A folder is written under another name, flushed, and takes the old one's place by renaming: whatever happens while it is
written (a full disk, a kill), a whole checkpoint is left.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..spec import ActionSpec, CheckpointError, ConfigError, Horizon, ObsSpec, cut, shorten
from ..system.plugins import fits, words_of
from ..system.untrusted import read_json, read_yaml
from .model import AS_GIVEN, ModelConfig, PolicyModel
from .normalizer import COMMAND
from .outline import Shapes, build_outline, check_values, read_shapes, read_tensors
from .registry import with_defaults

FORMAT = 1
MODEL, CONFIG, META, STATE = "model.safetensors", "config.yaml", "meta.json", "training_state"
STATE_TENSORS, STATE_COUNTERS = f"{STATE}/tensors.safetensors", f"{STATE}/state.json"
HASHES = "sha256"
"""Key of meta.json: file -> SHA-256 of its bytes. Checkpoints from before it was written have none."""
STATISTICS_PREFIX = "normalizer."
COMMAND_PREFIX = f"{STATISTICS_PREFIX}{COMMAND}__"
"""Statistics that checkpoints from before they were written lack."""
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
    AssertionError,
    MemoryError,
)
"""What the values of a damaged or a stranger's checkpoint may make readers and constructors raise."""


CONFIG_KINDS = {
    **dict.fromkeys(("encoder", "denoiser", "schedule", "actions", "horizon", "obs_spec"), dict),
    "action_spec": list,
    "prediction": str,
    "learned_weighting": bool,
    "anchors": int,
}
META_KINDS = {
    "format": int,
    "regimes": list,
    "rate_hz": float,
    "step": int | None,
    "action_scale": list,
    "warm_start": dict,
    "dataset_hash": str,
    "training": dict,
    "versions": dict,
    "validation_loss": float | None,
    HASHES: dict,
}
COUNTER_KINDS = {"step": int, "seconds": float, "best": float | None, "threads": int}
"""Types of what a checkpoint's files say; other keys may stand beside them."""
FASTEST_HZ = 100_000.0


def _check_kinds(found: object, kinds: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError where a value has another type than its key's; keys may be missing."""
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{where} of the checkpoint holds {shorten(found)}; keys with values are wanted"
        )
    for key, kind in kinds.items():
        if key in found and not fits(found[key], kind):
            raise CheckpointError(
                f"{where} of the checkpoint says {key} is {shorten(found[key])}; it must be {words_of(kind)}"
            )


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
        "learned_weighting": config.learned_weighting,
        "anchors": config.anchors,
    }


def config_from_plain(plain: Mapping[str, Any]) -> ModelConfig:
    """Read back what `config_to_plain` wrote; raises CheckpointError naming what is missing or odd."""
    _check_kinds(plain, CONFIG_KINDS, CONFIG)
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
            learned_weighting=plain.get("learned_weighting", False),
            anchors=plain.get("anchors", 0),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{CONFIG} of the checkpoint is not complete: {shorten(error)}"
        ) from error


def differing_part(one: ModelConfig, other: ModelConfig) -> str | None:
    """The first part in which two configurations differ, as they would stand in a file; None where they are the same.

    What an older file leaves out counts as its constructor's default.
    """

    def plain(config: ModelConfig) -> dict[str, Any]:
        parts = {
            **config_to_plain(config),
            "obs_spec": list(config.obs_spec.to_json().items()),
        }  # the order of keys counts
        parts |= {
            axis: with_defaults(axis, parts[axis])
            for axis in ("encoder", "denoiser", "schedule", "actions")
        }
        return yaml.safe_load(yaml.safe_dump(parts))

    mine, others = plain(one), plain(other)
    return next((part for part in mine if mine[part] != others[part]), None)


def check_target(folder: Path) -> None:
    """Raise ConfigError where a new checkpoint would take the place of something that is not one, a run for instance."""
    if folder.exists() and not (folder / META).is_file():
        raise ConfigError(
            f"{folder} is there already and is no checkpoint: choose another out=, as out={folder}_new"
        )


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
        if folder.exists():
            kept = "the one before it is untouched"
        else:
            kept = "there is none before it"
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
    hashed = [MODEL]
    if state_tensors is not None:
        (folder / STATE).mkdir()
        _save_tensors(state_tensors, folder / STATE_TENSORS)
        _save_text(json.dumps(state or {}), folder / STATE_COUNTERS)
        hashed += [STATE_TENSORS, STATE_COUNTERS]
    hashes = {name: _hash(folder / name) for name in hashed}
    _save_text(json.dumps({"format": FORMAT, **meta, HASHES: hashes}, indent=2), folder / META)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_hash(folder: Path, meta: Mapping[str, Any], name: str) -> None:
    """Raise CheckpointError where a file is not the one that the checkpoint was written with."""
    wanted = meta.get(HASHES, {}).get(name)
    if wanted is not None and _hash(folder / name) != wanted:
        raise CheckpointError(
            f"{folder / name} is not as it was written: its SHA-256 is another than {META} says. It was damaged or changed; "
            "take a copy, or another checkpoint"
        )


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
    """The checkpoint at `folder`, put back if a kill came between the two renames. For who writes there: readers `find`."""
    before = folder.with_name(folder.name + ".before")
    if not folder.exists() and before.exists():
        before.rename(folder)
    return folder


def find(path: Path | str) -> Path:
    """The checkpoint folder that `path` means: itself, or the `last` or `best` one of a run. Nothing on disk is changed.

    `last` comes first: the loss on held-out episodes, which `best` is chosen by, says little about success in closed loop.
    Where a kill (or this very moment) lies between the two renames of a save, it is the folder that is about to be replaced.
    """
    path = Path(path)
    for candidate in (
        path,
        path / "checkpoints" / "last",
        path / "checkpoints" / "best",
        path / "last",
        path / "best",
    ):
        if candidate.name:
            before = candidate.with_name(candidate.name + ".before")
        else:
            before = candidate
        for folder in (candidate, before):
            if _is_file(folder / META):
                return folder
    raise CheckpointError(
        f"{path} is no checkpoint: a folder with {MODEL}, {CONFIG} and {META}, or a run that holds one, is wanted"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def read_meta(folder: Path) -> dict[str, Any]:
    """The checkpoint's meta.json; raises CheckpointError for one that is broken, odd or of a newer format."""
    meta = read_json(folder / META, CheckpointError)
    if not isinstance(meta, dict):
        raise CheckpointError(f"{folder / META} is not the meta.json of a checkpoint")
    _check_kinds(meta, META_KINDS, META)
    if meta.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"{folder} has format {meta['format']}, this hotstart reads up to {FORMAT}: upgrade hotstart"
        )
    _check_meta(meta, folder / META)
    return meta


def _check_meta(meta: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError for values that no training could have left."""
    if not 0 < meta.get("rate_hz", 1.0) <= FASTEST_HZ:
        raise CheckpointError(
            f"{path}: rate_hz is {meta['rate_hz']}; it must be above 0 and at most {FASTEST_HZ}"
        )
    if not fits(meta.get("regimes", []), list[str]):
        raise CheckpointError(f"{path}: regimes is {shorten(meta['regimes'])}; names are wanted")
    ranges = meta.get("action_scale", [])
    if not fits(ranges, list[float]) or any(not 0 <= value < math.inf for value in ranges):
        raise CheckpointError(
            f"{path}: action_scale is {shorten(ranges)}; finite numbers of at least 0 are wanted"
        )


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write meta.json of a checkpoint anew, in one piece."""
    half = folder / f".{META}"
    _save_text(json.dumps({"format": FORMAT, **meta}, indent=2), half)
    half.replace(folder / META)


def load(path: Path | str, device: str = "cpu") -> tuple[PolicyModel, dict[str, Any]]:
    """EMA model (in evaluation mode) and meta of a checkpoint.

    Raises CheckpointError when files are missing, broken or changed, a target is foreign, or weights or statistics are
    missing, not finite or do not fit the specification; the message names the key. Memory is taken only for what the file
    holds. A checkpoint that is replaced meanwhile is read anew.
    """
    for _ in range(REPLACED):
        folder = find(path)
        stamp = _stamp(folder)
        try:
            return _load(folder, device)
        except CheckpointError:
            if _stamp(folder) == stamp:
                raise
    return _load(find(path), device)


REPLACED = 3
"""How often a reader begins again because the checkpoint was replaced."""


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        found = (folder / META).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _load(folder: Path, device: str) -> tuple[PolicyModel, dict[str, Any]]:
    meta = read_meta(folder)
    try:
        config = config_from_plain(read_yaml(folder / CONFIG, CheckpointError))
        shapes = read_shapes(folder / MODEL)
        _check_hash(folder, meta, MODEL)
        _check_fit(build_outline(config, shapes), shapes, folder)
        model = PolicyModel(config)
        tensors = read_tensors(folder / MODEL)
        check_values(_without_statistics(tensors), model.state_dict(), str(folder / MODEL))
        model.load_state_dict({**_commands_of_old(model.state_dict(), tensors), **tensors})
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{folder} cannot be loaded: {cut(str(error))}") from error
    model.normalizer.check()
    _check_width(meta, model)
    if "regimes" in meta:
        model.regimes = tuple(meta["regimes"])
    else:
        model.regimes = None
    model.measured_start = _measured_start(meta, folder)
    return model.to(device).eval().requires_grad_(False), meta


def _measured_start(meta: Mapping[str, Any], folder: Path) -> float | None:
    """Where warm starts begin at least, as calibration wrote it into meta.json; None where it did not."""
    if "warm_start" not in meta:
        return None
    if isinstance(meta["warm_start"], Mapping):
        start = meta["warm_start"].get("start")
    else:
        start = None
    if not isinstance(start, int | float) or not 0 < start <= 1:
        raise CheckpointError(
            f"{folder / META} says that warm starts begin at {shorten(start)}; a schedule time above 0 and at most 1 is "
            "wanted: calibrate the checkpoint again"
        )
    return float(start)


def _without_statistics(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights: statistics are judged by the normaliser, which names their key."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(STATISTICS_PREFIX):
            found[name] = tensor
    return found


def _check_width(meta: Mapping[str, Any], model: PolicyModel) -> None:
    ranges = meta.get("action_scale")
    if ranges is not None and len(ranges) != model.config.action_spec.width:
        raise CheckpointError(
            f"{META} holds {len(ranges)} normalised units of actions {model.config.action_spec.width} wide"
        )


def _check_fit(model: PolicyModel, shapes: Shapes, folder: Path) -> None:
    """Refuse a file of tensors that lacks some of the model's, holds others, or has them in another shape."""
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in shapes and name.startswith(COMMAND_PREFIX):
            continue
        if name.startswith(STATISTICS_PREFIX):
            what = "statistics"
        else:
            what = "weights"
        if what == "statistics":
            label = name.removeprefix(STATISTICS_PREFIX).replace("__", ".").replace("/", ".")
        else:
            label = name
        if name not in shapes:
            raise CheckpointError(
                f"{folder / MODEL} holds no {what} for {shorten(label)}: the checkpoint cannot be used without them"
            )
        if shapes[name] != tuple(tensor.shape):
            raise CheckpointError(
                f"{what} of {shorten(label)} have shape {shorten(shapes[name])}; the specification in {CONFIG} says "
                f"{tuple(tensor.shape)}"
            )
    extra = sorted(set(shapes) - set(wanted))
    if extra:
        raise CheckpointError(
            f"{folder / MODEL} holds {shorten(extra[0])}, which the configuration does not know"
        )


def _commands_of_old(
    wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Statistics of the robot's commands for a checkpoint that is older than they are: nothing counts as constant."""
    missing = [name for name in wanted if name.startswith(COMMAND_PREFIX) and name not in tensors]
    return {name: torch.full_like(wanted[name], float(name.endswith("scale"))) for name in missing}


def load_training_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and counters of `training_state/`; raises CheckpointError when there is none, or it is damaged."""
    try:
        meta = read_meta(folder)
        counters = read_json(folder / STATE_COUNTERS, CheckpointError)
        _check_kinds(counters, COUNTER_KINDS, STATE_COUNTERS)
        tensors = read_tensors(folder / STATE_TENSORS)
        for name in (STATE_TENSORS, STATE_COUNTERS):
            _check_hash(folder, meta, name)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(
            f"{folder} holds no training state to go on from: {cut(str(error))}"
        ) from error
    return tensors, counters
