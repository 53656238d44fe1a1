"""Writing checkpoints: each is written beside the old one, flushed, and renamed into its place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...spec import CheckpointError, ConfigError
from ...system import outputs
from ..model import PolicyModel
from .config import config_to_plain
from .files import (
    CONFIG,
    FORMAT,
    HASHES,
    META,
    MODEL,
    STATE,
    STATE_COUNTERS,
    STATE_TENSORS,
    hash_file,
    name_before,
    recover,
)


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise ConfigError where a new checkpoint would replace something else, a run for instance.

    Another checkpoint is replaced where it may be overwritten.
    """
    if folder.exists() and not (folder / META).is_file():
        raise ConfigError(
            f"{folder} is there already and is no checkpoint: choose another out=, "
            f"as out={outputs.free_name(folder)}"
        )
    outputs.check_free(folder, overwrite, folder)


def save(
    folder: Path,
    model: PolicyModel,
    meta: Mapping[str, Any],
    state_tensors: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint in place of the one at `folder`.

    Raises CheckpointError when it cannot; the old one is then whole. The model's level regimes and
    its measured start are written too where `meta` does not hold them.
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
    replace_folder(fresh, folder)


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write meta.json of a checkpoint anew, in one piece; its other files keep their format."""
    half = folder / f".{META}"
    save_text(json.dumps({"format": FORMAT, **meta}, indent=2), half)
    half.replace(folder / META)


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
    save_tensors(model.state_dict(), folder / MODEL)
    save_text(yaml.safe_dump(config_to_plain(model.config), sort_keys=False), folder / CONFIG)
    hashes = {MODEL: hash_file(folder / MODEL)}
    if state_tensors is not None:
        (folder / STATE).mkdir()
        save_tensors(state_tensors, folder / STATE_TENSORS)
        save_text(json.dumps(state or {}), folder / STATE_COUNTERS)
        hashes[STATE_TENSORS] = hash_file(folder / STATE_TENSORS)
        hashes[STATE_COUNTERS] = hash_file(folder / STATE_COUNTERS)
    whole = {**meta, "format": FORMAT, HASHES: hashes}  # `meta` may be that of an old checkpoint
    save_text(json.dumps(whole, indent=2), folder / META)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a safetensors file, flushed to the disk."""
    plain = {}
    for name, tensor in tensors.items():
        plain[name] = tensor.detach().cpu().contiguous()
    save_file(plain, path)
    _flush(path)


def save_text(text: str, path: Path) -> None:
    """Write a text file, flushed to the disk."""
    path.write_text(text)
    _flush(path)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def replace_folder(fresh: Path, folder: Path) -> None:
    """Rename `fresh` to `folder`; between the two renames the old one is where `recover` looks."""
    before = name_before(folder)
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    fresh.rename(folder)
    shutil.rmtree(before, ignore_errors=True)
