"""Reading checkpoints: files are checked before memory is spent on them, old names converted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...spec import CheckpointError, cut, shorten
from ...system.untrusted import read_json, read_yaml
from ..model import PolicyModel
from ..normalizer import COMMAND
from . import old_format
from .config import config_from_plain
from .files import (
    BROKEN,
    CONFIG,
    META,
    MODEL,
    STATE_COUNTERS,
    STATE_TENSORS,
    check_hash,
    check_kinds,
    find,
    is_old,
    read_meta,
)
from .outline import Shapes, build_outline, check_values, read_shapes, read_tensors

STATISTICS_PREFIX = "normalizer."
COMMAND_PREFIX = f"{STATISTICS_PREFIX}{COMMAND}__"
"""Statistics that early checkpoints lack."""
COUNTER_KINDS = {"step": int, "seconds": float, "best": float | None, "threads": int}
REPLACED = 3
"""How often a reader starts again because the checkpoint was replaced."""


def load(path: Path | str, device: str = "cpu") -> tuple[PolicyModel, dict[str, Any]]:
    """EMA model (in evaluation mode) and meta of a checkpoint.

    Raises CheckpointError when files are missing, broken or changed, when a target is foreign, and
    when weights or statistics are missing, not finite or do not fit the specification. The message
    names the key. Memory is taken only for what the file holds. A checkpoint that is replaced
    meanwhile is read anew.
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


def load_training_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and counters of `training_state/`.

    Raises CheckpointError when there is none, or it is damaged.
    """
    try:
        meta = read_meta(folder)
        counters = read_json(folder / STATE_COUNTERS, CheckpointError)
        check_kinds(counters, COUNTER_KINDS, STATE_COUNTERS)
        tensors = read_tensors(folder / STATE_TENSORS)
        check_hash(folder, meta, STATE_TENSORS)
        check_hash(folder, meta, STATE_COUNTERS)
        if is_old(meta):
            tensors = old_format.convert_tensors(tensors)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(
            f"{folder} holds no training state to go on from: {cut(str(error))}"
        ) from error
    return tensors, counters


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when a checkpoint is replaced: inode and time [ns] of its meta.json."""
    try:
        found = (folder / META).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _load(folder: Path, device: str) -> tuple[PolicyModel, dict[str, Any]]:
    meta = read_meta(folder)
    try:
        model = _read_model(folder, meta)
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{folder} cannot be loaded: {cut(str(error))}") from error
    model.normalizer.check()
    _check_width(meta, model)
    if "regimes" in meta:
        model.regimes = tuple(meta["regimes"])
    model.measured_start = _read_measured_start(meta, folder)
    return model.to(device).eval().requires_grad_(False), meta


def _read_model(folder: Path, meta: Mapping[str, Any]) -> PolicyModel:
    """The model with its weights, once the header of their file fits the configuration."""
    plain = read_yaml(folder / CONFIG, CheckpointError)
    shapes = read_shapes(folder / MODEL)
    if is_old(meta):
        plain = old_format.convert_config(plain)
        shapes = old_format.convert_tensors(shapes)
    config = config_from_plain(plain)
    check_hash(folder, meta, MODEL)
    _check_fit(build_outline(config, shapes), shapes, folder)
    model = PolicyModel(config)
    tensors = read_tensors(folder / MODEL)
    if is_old(meta):
        tensors = old_format.convert_tensors(tensors)
    _add_commands(tensors, model.state_dict())
    check_values(_pick_weights(tensors), model.state_dict(), str(folder / MODEL))
    model.load_state_dict(tensors)
    return model


def _add_commands(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Statistics of the robot's commands where an early checkpoint has none: none is constant."""
    for name, tensor in wanted.items():
        if name.startswith(COMMAND_PREFIX) and name not in tensors:
            tensors[name] = torch.full_like(tensor, float(name.endswith("scale")))


def _pick_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights; the normaliser itself checks its statistics, and names their key."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(STATISTICS_PREFIX):
            found[name] = tensor
    return found


def _read_measured_start(meta: Mapping[str, Any], folder: Path) -> float | None:
    """Least start of warm starts that calibration measured, a schedule time; None without one."""
    if "warm_start" not in meta:
        return None
    start = meta["warm_start"].get("start")
    if not isinstance(start, int | float) or not 0 < start <= 1:
        raise CheckpointError(
            f"{folder / META} says that warm starts begin at {shorten(start)}; a schedule time "
            "above 0 and at most 1 is wanted: calibrate the checkpoint again"
        )
    return float(start)


def _check_width(meta: Mapping[str, Any], model: PolicyModel) -> None:
    scale = meta.get("action_scale")
    if scale is not None and len(scale) != model.config.action_spec.width:
        raise CheckpointError(
            f"{META} holds {len(scale)} normalised units of actions "
            f"{model.config.action_spec.width} wide"
        )


def _check_fit(model: PolicyModel, shapes: Shapes, folder: Path) -> None:
    """Refuse a file that lacks some of the model's tensors, holds others, or other shapes."""
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name in shapes:
            _check_shape(name, shapes[name], tuple(tensor.shape))
        elif not name.startswith(COMMAND_PREFIX):
            raise CheckpointError(
                f"{folder / MODEL} holds no {_kind(name)} for {_label(name)}: "
                "the checkpoint cannot be used without them"
            )
    extra = sorted(set(shapes) - set(wanted))
    if extra:
        raise CheckpointError(
            f"{folder / MODEL} holds {shorten(extra[0])}, which the configuration does not know"
        )


def _check_shape(name: str, have: tuple[int, ...], want: tuple[int, ...]) -> None:
    if have != want:
        raise CheckpointError(
            f"{_kind(name)} of {_label(name)} have shape {shorten(have)}; "
            f"the specification in {CONFIG} says {want}"
        )


def _kind(name: str) -> str:
    if name.startswith(STATISTICS_PREFIX):
        return "statistics"
    return "weights"


def _label(name: str) -> str:
    """A tensor's name for a message; of statistics the key and its part."""
    if name.startswith(STATISTICS_PREFIX):
        key = name.removeprefix(STATISTICS_PREFIX)
        name = key.replace("__", ".").replace("/", ".")
    return shorten(name)
