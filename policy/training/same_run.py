"""Whether the run in a folder is the one that is asked for, and whether it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...datasets.episodes import Dataset, content_hash
from ...datasets.mixture import Mixture
from ...spec import CheckpointError
from .. import checkpoint
from ..model import ModelConfig, PolicyModel
from .settings import TrainingSettings


def find_last(folder: Path) -> Path | None:
    """The checkpoint that the run in `folder` goes on from; None for a run that has none yet."""
    try:
        return checkpoint.find(folder / "checkpoints" / "last")
    except CheckpointError:
        return None


def load_finished(
    folder: Path, dataset: Dataset, config: ModelConfig, settings: TrainingSettings
) -> tuple[PolicyModel, int] | None:
    """The EMA model of a run that has made all its steps, and how many; None for any other run.

    No picture is decoded: the data are told apart by their other numbers. Raises CheckpointError
    where the finished run is of other data, another model or other settings.
    """
    last = find_last(folder)
    if last is None:
        return None
    step = checkpoint.read_meta(last).get("step")
    if step is None or step < settings.steps:
        return None
    model, meta = checkpoint.load(last, settings.choose_device())
    if "numbers_hash" in meta:
        same_data = meta["numbers_hash"] == hash_numbers(dataset)
    else:  # an older run
        same_data = meta.get("dataset_hash") == dataset.content_hash()
    check_same_run(last, meta, model.config, same_data, config, settings)
    return model, step


def hash_numbers(dataset: Dataset) -> str:
    """Hex digest of everything but pictures, and of a mixture's shares where it has any."""
    found = content_hash(dataset, images=False)
    if isinstance(dataset, Mixture) and dataset.shares is not None:
        return sha256(f"{found} {dataset.describe_shares()}".encode()).hexdigest()
    return found


def check_same_run(
    last: Path,
    meta: Mapping[str, Any],
    saved: ModelConfig,
    same_data: bool,
    config: ModelConfig,
    settings: TrainingSettings,
) -> None:
    """Raise CheckpointError for a checkpoint of other data, another model or other settings.

    `meta` and `saved` are what the checkpoint `last` holds, `config` and `settings` are asked for.
    """
    folder = last.parent.parent
    mend = f"choose another run name, or delete {folder} to begin anew"
    if not same_data:
        raise CheckpointError(f"{last} was trained on other data: {mend}")
    # Learned weighting is a setting of the training: where it differs, that is said below.
    part = checkpoint.find_difference(
        config, replace(saved, learned_weighting=config.learned_weighting)
    )
    if part:
        raise CheckpointError(f"{last} was trained with another {part}: {mend}")
    other = settings.find_difference(meta["training"])
    if other == "steps":
        steps = meta["training"]["steps"]
        raise CheckpointError(
            f"{last} was trained with training.steps={steps}: give as many or more, or {mend}"
        )
    if other:
        raise CheckpointError(f"{last} was trained with another training.{other}: {mend}")
