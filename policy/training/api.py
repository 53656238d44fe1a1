"""Training on one's own arrays, without a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...datasets.episodes import Dataset
from ...spec import Horizon
from ..denoisers.unet import ConditionalUnet
from ..diffusion.schedule import VPCosine
from ..encoders.state import StateEncoder
from ..model import AS_GIVEN, ModelConfig, PolicyModel
from .settings import TrainingSettings
from .trainer import Trainer


def node(factory: type, **options: Any) -> dict[str, Any]:
    """The configuration of a part: its class and the options that differ from the class's own."""
    return {"_target_": f"{factory.__module__}.{factory.__qualname__}", **options}


def default_config(
    dataset: Dataset,
    *,
    denoiser: Mapping[str, Any] | None = None,
    encoder: Mapping[str, Any] | None = None,
    actions: Mapping[str, Any] | None = None,
    horizon: Horizon | None = None,
) -> ModelConfig:
    """The configuration of a model for the data set.

    State encoder, U-Net, cosine schedule, v-prediction, unless something else is given.
    """
    return ModelConfig(
        encoder=encoder or node(StateEncoder),
        denoiser=denoiser or node(ConditionalUnet),
        schedule=node(VPCosine),
        actions=actions or AS_GIVEN,
        obs_spec=dataset.obs_spec,
        action_spec=dataset.action_spec,
        horizon=horizon or Horizon(),
    )


def train(
    dataset: Dataset,
    folder: Path | str,
    settings: TrainingSettings | None = None,
    *,
    progress: bool = True,
    **parts: Any,
) -> PolicyModel:
    """Train a policy on a data set (`Arrays` or a `Store`) and return the EMA model.

    The run lives in `folder`. The same call goes on with a run that was stopped, and more `steps`
    go on with one that is done. `parts` as in `default_config`.
    """
    config = default_config(dataset, **parts)
    return Trainer(dataset, config, settings or TrainingSettings(), Path(folder)).run(
        progress=progress
    )
