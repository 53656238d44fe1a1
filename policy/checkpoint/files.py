"""The files of a checkpoint: their names and places, their hashes, and what meta.json may say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from ...spec import CheckpointError, shorten
from ...system.plugins import fits, words_of
from ...system.untrusted import read_json
from . import old_format

FORMAT = 2
"""What is written; files of format 1 are converted as they are read, see `old_format`."""
MODEL = "model.safetensors"
CONFIG = "config.yaml"
META = "meta.json"
STATE = "training_state"
STATE_TENSORS = f"{STATE}/tensors.safetensors"
STATE_COUNTERS = f"{STATE}/state.json"
HASHES = "sha256"
"""Key of meta.json: file -> SHA-256 of its bytes. Early checkpoints have none."""
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
"""What readers and constructors may raise for the values of a damaged or a foreign checkpoint."""
META_KINDS = {
    "format": int,
    "regimes": list,
    "rate_hz": float,
    "step": int | None,
    "action_scale": list,
    "warm_start": dict,
    "dataset_hash": str,
    "numbers_hash": str,
    "training": dict,
    "versions": dict,
    "validation_loss": float | None,
    HASHES: dict,
}
"""Types of the values of meta.json; other keys may stand beside them."""
FASTEST_HZ = 100_000.0


def find(path: Path | str) -> Path:
    """The checkpoint folder that `path` means: itself, or the `last` or `best` one of a run.

    `last` comes first: the loss on held-out episodes, which chooses `best`, says little about
    success in closed loop. While a save lies between its two renames, or where a kill stopped it
    there, the folder is the one that was about to be replaced. Nothing on disk is changed.
    Raises CheckpointError where there is none.
    """
    path = Path(path)
    for inside in ("", "checkpoints/last", "checkpoints/best", "last", "best"):
        folder = path / inside
        if _is_file(folder / META):
            return folder
        if folder.name and _is_file(name_before(folder) / META):
            return name_before(folder)
    raise CheckpointError(
        f"{path} is no checkpoint: a folder with {MODEL}, {CONFIG} and {META}, or a run that holds "
        "one, is wanted"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def name_before(folder: Path) -> Path:
    """Where the old checkpoint lies between the two renames of a save."""
    return folder.with_name(folder.name + ".before")


def recover(folder: Path) -> Path:
    """The checkpoint at `folder`, put back if a kill came between the two renames of a save.

    For those who write there; readers use `find`.
    """
    before = name_before(folder)
    if not folder.exists() and before.exists():
        before.rename(folder)
    return folder


def read_meta(folder: Path) -> dict[str, Any]:
    """The checkpoint's meta.json by the names of today; `format` stays that of the folder's files.

    Raises CheckpointError for a file that is broken, odd or of a newer format.
    """
    meta = read_json(folder / META, CheckpointError)
    if not isinstance(meta, dict):
        raise CheckpointError(f"{folder / META} is not the meta.json of a checkpoint")
    check_kinds(meta, {"format": int}, META)
    if meta.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"{folder} has format {meta['format']}, this hotstart reads up to {FORMAT}: "
            "upgrade hotstart"
        )
    if is_old(meta):
        meta = old_format.convert_meta(meta)
    check_kinds(meta, META_KINDS, META)
    _check_meta(meta, folder / META)
    return meta


def is_old(meta: Mapping[str, Any]) -> bool:
    """Whether the files of a checkpoint have the names of an earlier format."""
    return meta.get("format", 0) < FORMAT


def check_kinds(found: object, kinds: Mapping[str, Any], where: str) -> None:
    """Raise CheckpointError where a value has another type than its key's; keys may be missing."""
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{where} of the checkpoint holds {shorten(found)}; keys with values are wanted"
        )
    for key, kind in kinds.items():
        if key in found and not fits(found[key], kind):
            raise CheckpointError(
                f"{where} of the checkpoint says {key} is {shorten(found[key])}; "
                f"it must be {words_of(kind)}"
            )


def _check_meta(meta: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError for values that no training could have left."""
    if not 0 < meta.get("rate_hz", 1.0) <= FASTEST_HZ:
        raise CheckpointError(
            f"{path}: rate_hz is {meta['rate_hz']}; it must be above 0 and at most {FASTEST_HZ}"
        )
    if not fits(meta.get("regimes", []), list[str]):
        raise CheckpointError(f"{path}: regimes is {shorten(meta['regimes'])}; names are wanted")
    scale = meta.get("action_scale", [])
    if not fits(scale, list[float]) or not all(0 <= value < math.inf for value in scale):
        raise CheckpointError(
            f"{path}: action_scale is {shorten(scale)}; finite numbers of at least 0 are wanted"
        )


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(folder: Path, meta: Mapping[str, Any], name: str) -> None:
    """Raise CheckpointError where a file has another hash than meta.json says."""
    wanted = meta.get(HASHES, {}).get(name)
    if wanted is not None and hash_file(folder / name) != wanted:
        raise CheckpointError(
            f"{folder / name} is not as it was written: its SHA-256 is another than {META} says. "
            "It was damaged or changed; take a copy, or another checkpoint"
        )
