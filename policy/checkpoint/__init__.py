"""Checkpoints on disk: a folder of safetensors, YAML and JSON; no pickle anywhere.

    model.safetensors   EMA weights and the normaliser's statistics
    config.yaml         what the model is built from
    meta.json           format, versions, data set hash, steps, trained level regimes, task,
                        SHA-256 of the files of tensors
    training_state/     weights, optimiser and counters to resume from

A save writes the folder under another name, flushes it, and renames it into the old one's place. A
full disk or a kill at any moment leaves a whole checkpoint.
"""

from .config import config_from_plain, config_to_plain, find_difference
from .files import (
    BROKEN,
    CONFIG,
    FASTEST_HZ,
    FORMAT,
    HASHES,
    META,
    MODEL,
    STATE,
    STATE_COUNTERS,
    STATE_TENSORS,
    find,
    read_meta,
    recover,
)
from .reader import load, load_training_state
from .writer import check_target, save, write_meta

__all__ = [
    "BROKEN",
    "CONFIG",
    "FASTEST_HZ",
    "FORMAT",
    "HASHES",
    "META",
    "MODEL",
    "STATE",
    "STATE_COUNTERS",
    "STATE_TENSORS",
    "check_target",
    "config_from_plain",
    "config_to_plain",
    "find",
    "find_difference",
    "load",
    "load_training_state",
    "read_meta",
    "recover",
    "save",
    "write_meta",
]
