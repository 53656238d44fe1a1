"""`hotstart train`: a policy from a store."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure

from ..checks import rates_differ
from ..configs.compose import fill
from ..datasets.checks.verify import find_faults, shorten_findings
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.remote import show_path
from ..datasets.formats.shards import ShardData
from ..datasets.locks import hold
from ..datasets.mixture import Mixture
from ..datasets.opening import Opened, open_mixture
from ..datasets.store import Store
from ..policy.denoisers.base import Network
from ..policy.denoisers.mode import ModeTransformer
from ..policy.filters.latent import LatentFilter
from ..policy.model import ModelConfig
from ..policy.training.metrics import read_metrics
from ..policy.training.processes import find_greatest, join_processes
from ..policy.training.same_run import find_last, load_finished
from ..policy.training.settings import TrainingSettings
from ..policy.training.trainer import Trainer
from ..spec import CheckpointError, ConfigError, DataError, Horizon, HotstartError, ObsSpec, shorten
from ..system.old_names import convert_task_options
from ..world_model import files
from ..world_model.latent import LatentModel
from ..world_model.latents import write_latents
from .curves import expert_use, learning_curve
from .drawing import to_png
from .next_steps import evaluate_run, go_on_training, train_another

LATENTS = "latents.zarr"
"""In a run's folder: its data as a filter sees them."""


def run(config: Mapping[str, Any]) -> int:
    """Train as the configuration says, or go on where the run of that name stopped.

    Of several processes, as torchrun starts them, the first one writes and prints.
    """
    folder = Path(config["runs"]) / config["name"]
    with join_processes() as share:
        if share.leads:
            return lead(config, folder)
        return follow(config, folder)


def follow(config: Mapping[str, Any], folder: Path) -> int:
    """Train in a further process, once the first one has found something to train."""
    if find_greatest(0):
        store, latent = open_data(config, folder)
        build(config, store, folder, latent).run()
    return 0


def lead(config: Mapping[str, Any], folder: Path) -> int:
    """Train, and say what comes of it."""
    store, latent = open_data(config, folder)
    settings = fill(TrainingSettings, config["training"])
    finished = load_finished(folder, store, model_config(config, store, latent), settings)
    if finished is not None:
        find_greatest(0)  # further processes have nothing to do
        print_finished(config, folder, finished[1])
        print_next(folder, settings.choose_device(), rate_warning(config["task"], store.fps))
        return 0
    if find_last(folder) is None:  # a run that goes on was looked through when it began
        report = find_faults(store)
        for fault in shorten_findings(report.warnings):
            print(f"Warning: {fault}")
        if report.sampled:
            print(f"looked for faults in {report.sampled}; `hotstart data verify` looks at all")
    with hold(folder, CheckpointError, shared=True):
        find_greatest(1)  # further processes build theirs too
        trainer = build(config, store, folder, latent)
        print(
            f"{folder}: {trainer.model.parameter_count / 1e6:.2f} M parameters, "
            f"{trainer.batches.count} windows of {show_path(store.path)}, "
            f"{trainer.settings.steps} steps on {trainer.device}"
        )
        warning = rate_warning(config["task"], store.fps)
        if warning:
            print(warning)
        trainer.run()
    shown = {"Loss": learning_curve(read_metrics(trainer.folder))}
    shown |= figures(trainer.ema.model.network, trainer.folder)
    for heading, figure in shown.items():
        path = trainer.folder / f"{heading.lower()}.png"
        path.write_bytes(to_png(figure))
        print(f"{heading.lower()}: {path}")
    print(f"done in {trainer.seconds / 60:.1f} minutes")
    print_next(folder, trainer.device, warning)
    return 0


def print_next(folder: Path, device: str, warning: str) -> None:
    """The evaluation to run next, where the network was trained and at the data's rate."""
    words: list[str] = []
    if device != "cpu":
        words.append(f"device={device}")
    if warning:
        words.append("rate=any")
    print(f"next: {evaluate_run(folder, *words)}")


def print_finished(config: Mapping[str, Any], folder: Path, step: int) -> None:
    """Say that nothing is left to train, where the checkpoint lies, and how to go on."""
    print(f"{folder} is finished, step {step} of {config['training']['steps']}: nothing to train")
    print(f"checkpoint: {folder / 'checkpoints' / 'last'}")
    print(f"to train longer: {go_on_training(config)}")
    print(f"to begin another run: {train_another(config, folder)}")


def rate_warning(task: Mapping[str, Any], fps: float) -> str:
    """What to tell whoever trains on data of another control rate than the task's.

    Empty where the rates fit, or where the task's simulator is not installed.
    """
    try:
        from ..envs.registry import make, options_of  # training needs no simulator

        env = make(task["env"], **options_of(task))
    except (HotstartError, ImportError):
        return ""
    env.close()
    if not rates_differ(fps, env.rate_hz):
        return ""
    return (
        f"Warning: the data run at {fps:g} steps a second, {task['name']} at {env.rate_hz:g}: "
        "an evaluation will refuse that; train for a task of the data's rate, "
        "or convert the data again with the fps that they have"
    )


def figures(network: Network, folder: Path) -> dict[str, Figure]:
    """What a run's network has to show of itself, by heading.

    Of MoDE: which experts work, over noise levels and training.
    """
    if not isinstance(network, ModeTransformer):
        return {}
    levels = torch.linspace(0.005, 0.995, 200)
    use = network.expert_use(levels.to(network.position.device))
    return {"Experts": expert_use(use.numpy(), levels.numpy(), read_metrics(folder))}


def open_data(config: Mapping[str, Any], folder: Path) -> tuple[Opened, LatentFilter | None]:
    """The data to learn from, and the filter that the policy sees through, if there is one.

    Then the data is a store of the run's own, `latents.zarr`: the data as the filter sees them.
    Raises ConfigError for a world model without a filter, or data in another format with one.
    """
    read = fill(ReadOptions, config["read"])
    store = open_mixture(config["data"], config["mixture"], read)
    if not config["filter"]:
        return store, None
    if not isinstance(store, Store):
        raise ConfigError(f"a filter needs a store: hotstart data convert {store.path} TARGET")
    model = files.load(config["filter"]).model
    if not isinstance(model, LatentModel):
        raise ConfigError(
            f"{config['filter']} has no filter: train it with kind=latent, or leave filter= out"
        )
    check_options(config["task"]["options"], store)
    place = folder / LATENTS
    if place.exists() and len(Store.open(place)) == len(store):
        return Store.open(place), model.filter
    shutil.rmtree(place, ignore_errors=True)  # a kill left a part of it
    return write_latents(model, store, place), model.filter


def build(
    config: Mapping[str, Any], store: Opened, folder: Path, latent: LatentFilter | None = None
) -> Trainer:
    """The trainer of a composed configuration; `latent` is a filter to look through.

    The resolved configuration is written beside the checkpoints.
    """
    settings = fill(TrainingSettings, config["training"])
    chosen = model_config(config, store, latent)
    trainer = Trainer(store, chosen, settings, folder, {"task": config["task"]})
    if latent is not None:
        for model in (trainer.model, trainer.ema.model):
            assert model.filter is not None
            model.filter.load_state_dict(latent.state_dict())
    if trainer.share.leads:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return trainer


def model_config(
    config: Mapping[str, Any], store: Opened, latent: LatentFilter | None = None
) -> ModelConfig:
    """What the model is built from: the configuration's parts and the data's specifications."""
    check_options(config["task"]["options"], store)
    wanted = config["task"]["obs_keys"]
    chosen: dict[str, Any] = {}
    if latent is not None:
        wanted = []
        chosen = latent.to_json()
    wanted = wanted or list(store.obs_spec.keys)
    keys = {}
    for name in wanted:
        if name not in store.obs_spec.keys:
            raise DataError(
                f"{store.path} has no observation {shorten(name)}; "
                f"it has {shorten(list(store.obs_spec.keys), 400)}: set task.obs_keys"
            )
        keys[name] = store.obs_spec.keys[name]
    return ModelConfig(
        encoder=config["encoder"],
        denoiser=config["denoiser"],
        schedule=config["schedule"],
        actions=config["actions"],
        prediction=config["prediction"],
        horizon=fill(Horizon, config["horizon"]),
        obs_spec=ObsSpec(keys),
        action_spec=store.action_spec,
        filter=chosen,
    )


LOOKS = ("render_size", "cameras", "max_steps")
"""Options of an environment that do not change what its actions and states mean."""


def check_options(options: Mapping[str, Any], store: Opened) -> None:
    """Raise DataError where the data was collected with other options than the task has.

    Another arm or another control is one. Options of an earlier version count by today's names.
    """
    if isinstance(store, Mixture):
        for source in store.sources:
            if isinstance(source, Store | ShardData):
                check_options(options, source)
        return
    collected = None
    if isinstance(store, Store | ShardData):
        collected = convert_task_options(store.attrs.get("options"))
    if collected is None:  # not collected here: nobody knows
        return
    for name in sorted({*collected, *options} - set(LOOKS)):
        have = collected.get(name)
        want = options.get(name)
        if have == want:
            continue
        mend = f"the task's own {name}"
        if have is not None:
            mend = f"task.options.{name}={have}"
        raise DataError(
            f"{show_path(store.path)} was collected with {name} {have or 'as it is'}, "
            f"the task says {want}: train with {mend}"
        )
