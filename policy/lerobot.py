"""LeRobot's DiffusionPolicy folders (config.json and safetensors) as checkpoints of ours: nothing is trained, nothing is lost.

Its network was trained with one noise level for a whole plan, so it can be sampled fresh, warm-started and guided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..spec import ActionDim, ActionSpec, CheckpointError, Horizon, ObsKey, ObsSpec
from .api import node
from .denoisers.published_unet import PublishedUnet
from .diffusion.schedule import IndexTable
from .encoders.published import PublishedEncoder
from .model import ModelConfig, PolicyModel
from .normalizer import ACTION, Normalizer

STATE_KEY, ENVIRONMENT_KEY, ACTION_KEY = "observation.state", "observation.environment_state", "action"
WANTED = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 1.0}
"""What a configuration must say; anything else would be sampled differently here."""
PREDICTIONS = {"epsilon": "eps", "sample": "x0"}
Stats = Mapping[str, Mapping[str, np.ndarray]]


def import_policy(folder: Path, names: Mapping[str, str] | None = None) -> PolicyModel:
    """The policy in `folder`; `names` says what its observations are called here (default: the last part of their names).

    Raises CheckpointError where the folder holds no DiffusionPolicy, or one that cannot be run the same way.
    """
    config = _read_config(folder)
    tensors = _read_tensors(folder / "model.safetensors")
    statistics = _statistics(folder, tensors)
    features = _inputs(config)
    called = {feature: (names or {}).get(feature, feature.rsplit(".", 1)[-1]) for feature in features}
    model_config = ModelConfig(
        encoder=_encoder(config, features, statistics),
        denoiser=node(
            PublishedUnet,
            channels=list(config["down_dims"]),
            kernel=config["kernel_size"],
            groups=config["n_groups"],
            step_width=config["diffusion_step_embed_dim"],
            scaled=config["use_film_scale_modulation"],
            indices=config["num_train_timesteps"],
        ),
        schedule=node(IndexTable, indices=config["num_train_timesteps"]),
        obs_spec=ObsSpec({called[name]: _key(feature) for name, feature in features.items()}),
        action_spec=_action_spec(config),
        horizon=Horizon(config["n_obs_steps"], config["horizon"], config["n_action_steps"]),
        prediction=PREDICTIONS[config["prediction_type"]],
    )
    states = [name for name, feature in features.items() if feature["type"] != "VISUAL"]
    ranges = {called[name]: _range(config, features[name], name, statistics) for name in states}
    ranges[ACTION] = _range(config, config["output_features"][ACTION_KEY], ACTION_KEY, statistics)
    model = PolicyModel(model_config)
    fill(model, tensors, ranges)
    model.regimes = ("constant",)
    return model.eval().requires_grad_(False)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}); a folder that LeRobot's save_pretrained wrote is wanted"
        ) from error
    if config.get("type") != "diffusion":
        raise CheckpointError(f"{path} is of a {config.get('type')!r} policy; only LeRobot's diffusion can be imported")
    odd = [key for key, value in WANTED.items() if config.get(key, value) != value]
    if odd:
        raise CheckpointError(f"{path} says {odd[0]}={config[odd[0]]!r}; only {WANTED[odd[0]]!r} can be run the same way here")
    if config.get("prediction_type") not in PREDICTIONS:
        raise CheckpointError(
            f"{path} says prediction_type={config.get('prediction_type')!r}; {', '.join(PREDICTIONS)} are known"
        )
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _inputs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The policy's inputs in the order that its network joins them: state, cameras, environment."""
    given = config["input_features"]
    cameras = [name for name, feature in given.items() if feature["type"] == "VISUAL"]
    known = [STATE_KEY, *cameras, *([ENVIRONMENT_KEY] if ENVIRONMENT_KEY in given else [])]
    other = sorted(set(given) - set(known))
    if other or STATE_KEY not in given:
        raise CheckpointError(f"its inputs are {sorted(given)}; {STATE_KEY}, cameras and {ENVIRONMENT_KEY} are known")
    return {name: given[name] for name in known}


def _key(feature: Mapping[str, Any]) -> ObsKey:
    shape = tuple(feature["shape"])
    return ObsKey((*shape[1:], shape[0]), "uint8", "image") if feature["type"] == "VISUAL" else ObsKey(shape)


def _action_spec(config: Mapping[str, Any]) -> ActionSpec:
    (width,) = config["output_features"][ACTION_KEY]["shape"]
    return ActionSpec(tuple(ActionDim(f"action_{i}") for i in range(width)))


def _encoder(config: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], statistics: Stats) -> dict[str, Any]:
    cameras = [name for name, feature in features.items() if feature["type"] == "VISUAL"]
    centres, scales = [], []
    for name in cameras:
        centre, scale = _range(config, features[name], name, statistics)
        centres += [float(v) for v in np.ravel(centre)]
        scales += [float(v) for v in np.ravel(scale)]
    return node(
        PublishedEncoder,
        backbone=config["vision_backbone"],
        keypoints=config["spatial_softmax_num_keypoints"],
        grouped=config["use_group_norm"],
        separate=config["use_separate_rgb_encoder_per_camera"],
        crop=list(config.get("crop_shape") or ()),
        resize=list(config.get("resize_shape") or ()),
        image_mean=centres,
        image_std=scales,
    )


def _statistics(folder: Path, tensors: Mapping[str, Tensor]) -> Stats:
    """Statistics of every feature: from the processors' files, or, in older folders, from buffers beside the weights."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(folder.glob("*normalizer*.safetensors")):
        for name, tensor in _read_tensors(path).items():
            feature, _, kind = name.rpartition(".")
            found.setdefault(feature, {})[kind] = tensor.double().numpy()
    for name, tensor in tensors.items():
        if ".buffer_" in name:
            feature, _, kind = name.split(".buffer_", 1)[1].rpartition(".")
            found.setdefault(feature, {})[kind] = tensor.double().numpy()
    return found


def _range(
    config: Mapping[str, Any], feature: Mapping[str, Any], name: str, statistics: Stats
) -> tuple[np.ndarray, np.ndarray]:
    """(centre, scale) of a feature: what is taken off and divided by."""
    mode = config["normalization_mapping"].get(feature["type"], "IDENTITY")
    shape = tuple(feature["shape"]) if feature["type"] != "VISUAL" else (feature["shape"][0],)
    if mode == "IDENTITY":
        return np.zeros(shape), np.ones(shape)
    kinds = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max")}.get(mode)
    if kinds is None:
        raise CheckpointError(f"{name} is normalised by {mode}; MEAN_STD, MIN_MAX and IDENTITY are known")
    own = statistics.get(name) or statistics.get(name.replace(".", "_")) or {}
    missing = [kind for kind in kinds if kind not in own]
    if missing:
        raise CheckpointError(f"there are no statistics of {name} ({missing[0]}): the policy cannot be run without them")
    first, second = (own[kind].reshape(shape) for kind in kinds)
    if mode == "MEAN_STD":
        return first, second + 1e-8
    half = (second - first) / 2
    constant = half == 0
    return np.where(constant, first + 1, (first + second) / 2), np.where(constant, 1.0, half)


def fill(model: PolicyModel, tensors: Mapping[str, Tensor], ranges: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Weights by their names, statistics from the ranges."""
    bounds = {name: {"min": centre - scale, "max": centre + scale} for name, (centre, scale) in ranges.items()}
    normalizer = Normalizer.fit(bounds, model.normalizer.shapes)
    wanted, given = model.state_dict(), {f"normalizer.{k}": v for k, v in normalizer.state_dict().items()}
    for name, tensor in tensors.items():
        if name.startswith("diffusion.unet."):
            given["network." + name.removeprefix("diffusion.unet.")] = tensor
        elif name.startswith("diffusion.rgb_encoder.") and not name.endswith("pool.pos_grid"):
            rest = name.removeprefix("diffusion.rgb_encoder.")
            given[f"encoder.rgb_encoder.{rest if rest[0].isdigit() else f'0.{rest}'}"] = tensor
    missing, extra = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"holds {extra[0]}, which is not known"
        raise CheckpointError(f"the folder's weights do not fit its configuration: it {what}")
    odd = [name for name, tensor in given.items() if tensor.shape != wanted[name].shape]
    if odd:
        shapes = f"{tuple(given[odd[0]].shape)}; {tuple(wanted[odd[0]].shape)}"
        raise CheckpointError(f"the folder's {odd[0]} has shape {shapes} was expected from its configuration")
    model.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in given.items()})
