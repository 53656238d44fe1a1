"""Training on one's own arrays, without a configuration file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ...datasets.checks.verify import find_faults, shorten_findings
from ...datasets.episodes import Dataset
from ...datasets.opening import open_for_training
from ...spec import Horizon
from ..actions import Representation
from ..denoisers.base import Network
from ..denoisers.unet import ConditionalUnet
from ..diffusion.schedule import Schedule, VPCosine
from ..encoders.base import Encoder
from ..encoders.state import StateEncoder
from ..model import ModelConfig, PolicyModel
from ..registry import node
from .same_run import find_last, load_finished
from .settings import TrainingSettings
from .trainer import Trainer

Config = Mapping[str, Any]
"""The configuration of a part: its class as `_target_`, and options."""


def default_config(
    dataset: Dataset,
    *,
    encoder: Callable[..., Encoder] | Config = StateEncoder,
    denoiser: Callable[..., Network[Any, Any]] | Config = ConditionalUnet,
    schedule: Callable[..., Schedule] | Config = VPCosine,
    actions: Callable[..., Representation] | Config = Representation,
    prediction: Literal["v", "eps", "x0", "edm"] = "v",
    horizon: Horizon | None = None,
) -> ModelConfig:
    """The configuration of a model for the data set; the parts are those of `train`."""
    return ModelConfig(
        encoder=node(encoder),
        denoiser=node(denoiser),
        schedule=node(schedule),
        actions=node(actions),
        prediction=prediction,
        obs_spec=dataset.obs_spec,
        action_spec=dataset.action_spec,
        horizon=horizon or Horizon(),
    )


def train(
    dataset: Dataset | Path | str,
    folder: Path | str,
    settings: TrainingSettings | None = None,
    *,
    encoder: Callable[..., Encoder] | Config = StateEncoder,
    denoiser: Callable[..., Network[Any, Any]] | Config = ConditionalUnet,
    schedule: Callable[..., Schedule] | Config = VPCosine,
    actions: Callable[..., Representation] | Config = Representation,
    prediction: Literal["v", "eps", "x0", "edm"] = "v",
    horizon: Horizon | None = None,
    progress: bool = True,
) -> PolicyModel:
    """Train a policy and return the EMA model; `hotstart evaluate FOLDER task=...` takes the run.

    The data set is looked through first, as `hotstart data verify quick=true` does: what deserves
    a look is a warning. The same call goes on with a run that was stopped, or loads one that is
    finished; more `steps` go on with that.

    A part is given as its class, or with options as `functools.partial(Class, option=value)`, which
    a type checker looks through. Classes of one's own must be registered, see `hotstart.register`.

    Args:
        dataset: `hotstart.Arrays`, a `hotstart.Store`, or the path of a data set
        folder: the run's folder, as "runs/mine"
        settings: how to train; None is `TrainingSettings()`
        encoder: observations to condition tokens (B, K, E)
        denoiser: the network, on plans (B, T, A)
        schedule: noise levels over the schedule time
        actions: form in which the network sees actions
        prediction: what the network predicts
        horizon: steps that the policy observes, plans and executes (To, T, Ta) [ticks]
        progress: whether to show a progress bar

    Raises:
        DataError: where the data set cannot be trained on, before anything is trained
        ConfigError: where data set, parts and settings do not fit each other
        CheckpointError: where another process trains in the folder, or the run in it is another one

    Examples:
        >>> data = hotstart.Arrays(episodes, fps=20)
        >>> unet = functools.partial(hotstart.ConditionalUnet, channels=(64, 128))
        >>> hotstart.train(data, "runs/mine", hotstart.TrainingSettings(steps=5000), denoiser=unet)
    """
    if isinstance(dataset, Path | str):
        dataset = open_for_training(dataset)
    folder = Path(folder)
    settings = settings or TrainingSettings()
    config = default_config(
        dataset,
        encoder=encoder,
        denoiser=denoiser,
        schedule=schedule,
        actions=actions,
        prediction=prediction,
        horizon=horizon,
    )
    finished = load_finished(folder, dataset, config, settings)
    if finished is not None:
        return finished[0]
    if find_last(folder) is None:  # a run that goes on was looked through when it began
        for fault in shorten_findings(find_faults(dataset).warnings):
            warnings.warn(fault, stacklevel=2)
    return Trainer(dataset, config, settings, folder).run(progress=progress)
