"""Diffusion Policy's own `.ckpt` files (low-dim, U-Net), read as policies of this package.

The shapes of the weights give the network and the number of observed steps. The caller gives the
lengths of a plan and the prediction; their defaults are those of Diffusion Policy's
configurations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...spec import ActionSpec, CheckpointError, Horizon, ObsKey, ObsSpec, cut, shorten
from ..checkpoint import BROKEN
from ..denoisers.published_unet import PublishedUnet
from ..diffusion.schedule import IndexTable
from ..encoders.published import PublishedEncoder
from ..model import ModelConfig, PolicyModel
from ..normalizer import ACTION
from ..training.api import node
from .lerobot import Range, assemble
from .pickle_reader import read_tensors

RENAMED = (
    (r"\.blocks\.0\.block\.", ".conv1.block."),
    (r"\.blocks\.1\.block\.", ".conv2.block."),
    (r"\.2\.conv\.", ".2."),
)
"""Diffusion Policy's names of weights -> LeRobot's, which `PublishedUnet` has."""
STEP_WEIGHT = "diffusion_step_encoder.1.weight"
CONDITION_WEIGHT = "down_modules.0.0.cond_encoder.1.weight"


def import_ckpt(
    path: Path, name: str = "obs", planned: int = 16, executed: int = 8, prediction: str = "eps"
) -> PolicyModel:
    """The policy in a `.ckpt`, in evaluation mode.

    name: what its one observation, a state (N,), is called here
    planned: steps of a plan, T
    executed: steps of a plan that the robot executes, Ta
    prediction: what its network predicts, one of `diffusion.contract.PREDICTIONS`

    Raises CheckpointError where the file is damaged or holds no low-dim policy with a U-Net.
    """
    tensors = _read_weights(path)
    try:
        return _import(path, tensors, name, Horizon(1, planned, executed), prediction)
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{path} cannot be imported: {cut(str(error))}") from error


def _import(
    path: Path, tensors: Mapping[str, Tensor], name: str, horizon: Horizon, prediction: str
) -> PolicyModel:
    """The policy; the number of observed steps comes from the weights and not from `horizon`."""
    observation = _read_range(tensors, "obs", path)
    action = _read_range(tensors, ACTION, path)
    unet: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key.startswith("model."):
            unet[key.removeprefix("model.")] = tensor
    shapes = _read_shapes(unet, path)
    numbers = len(observation[0])
    condition = unet[CONDITION_WEIGHT].shape[1] - shapes["step_width"]
    if condition % numbers or condition == 0:
        raise CheckpointError(
            f"{path}: {condition} numbers of condition are no whole number of observations "
            f"of {numbers}"
        )
    config = ModelConfig(
        encoder=node(PublishedEncoder),
        denoiser=node(PublishedUnet, **shapes),
        schedule=node(IndexTable),
        obs_spec=ObsSpec({name: ObsKey((numbers,))}),
        action_spec=ActionSpec.plain(len(action[0])),
        horizon=Horizon(condition // numbers, horizon.planned, horizon.executed),
        prediction=prediction,
    )
    return assemble(config, _rename(unet), {name: observation, ACTION: action})


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights by their names, or the plain ones where there are no others.

    Raises CheckpointError where the file holds no weights of a U-Net.
    """
    states = _get_mapping(read_tensors(path), "state_dicts")
    chosen = _get_mapping(states, "ema_model") or _get_mapping(states, "model")
    if f"model.{STEP_WEIGHT}" not in chosen:
        raise CheckpointError(
            f"{path} is no .ckpt of Diffusion Policy with a U-Net: "
            "state_dicts.ema_model.model.* are wanted"
        )
    weights: dict[str, Tensor] = {}
    for name, value in chosen.items():
        if isinstance(value, Tensor):
            weights[name] = value
    return weights


def _get_mapping(content: object, key: str) -> Mapping[str, Any]:
    """The mapping under `key`; an empty one where `content` has none."""
    if isinstance(content, Mapping):
        value = content.get(key)
        if isinstance(value, Mapping):
            return value
    return {}


def _read_range(tensors: Mapping[str, Tensor], key: str, path: Path) -> Range:
    """(centre, scale), each (n,), from a normaliser that takes x to scale x + offset.

    For an action that never changes, this normaliser has scale 1 and puts the constant at 0. Its
    `input_stats` tell which actions these are; here they get the scale 0, which means constant.
    Raises CheckpointError for missing or impossible statistics.
    """
    prefix = f"normalizer.params_dict.{key}"
    scale = _read_numbers(tensors, f"{prefix}.scale", path)
    offset = _read_numbers(tensors, f"{prefix}.offset", path)
    if scale.shape != offset.shape or bool((scale <= 0).any()):
        raise CheckpointError(
            f"{path}: the scale of {key} is {shorten(scale)}; "
            "numbers above 0 are wanted, as many as offsets"
        )
    centre = -offset / scale
    half = 1 / scale
    lowest, highest = f"{prefix}.input_stats.min", f"{prefix}.input_stats.max"
    if key != ACTION or lowest not in tensors or highest not in tensors:
        return centre, half
    low = _read_numbers(tensors, lowest, path)
    high = _read_numbers(tensors, highest, path)
    if low.shape != scale.shape or high.shape != scale.shape or bool((high < low).any()):
        raise CheckpointError(
            f"{path}: input_stats of {key} are {shorten(low)} to {shorten(high)}; "
            "each min is at most its max"
        )
    constant = low == high
    return np.where(constant, low, centre), np.where(constant, 0.0, half)


def _read_numbers(tensors: Mapping[str, Tensor], name: str, path: Path) -> np.ndarray:
    """Statistics (n,) as float64; raises CheckpointError unless they are finite numbers."""
    if name not in tensors:
        raise CheckpointError(
            f"{path} holds no statistics {shorten(name)}: only low-dim policies can be imported"
        )
    tensor = tensors[name]
    if not tensor.is_floating_point() or tensor.ndim != 1 or not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{path}: the statistics {shorten(name)} are {tensor.dtype} {tuple(tensor.shape)}; "
            "finite numbers are wanted"
        )
    return tensor.double().numpy()


def _read_shapes(unet: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The options of `PublishedUnet`, from the shapes of its weights.

    Raises CheckpointError where the weights are those of another network.
    """
    try:
        channels: list[int] = []
        for stage in range(_count_stages(unet)):
            channels.append(unet[f"down_modules.{stage}.0.blocks.0.block.0.weight"].shape[0])
        return {
            "channels": channels,
            "kernel": unet["down_modules.0.0.blocks.0.block.0.weight"].shape[2],
            "step_width": unet[STEP_WEIGHT].shape[1],
            "scaled": unet[CONDITION_WEIGHT].shape[0] == 2 * channels[0],
        }
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} holds another network than Diffusion Policy's U-Net: {cut(str(error))}"
        ) from None


def _count_stages(unet: Mapping[str, Tensor]) -> int:
    """One more than the largest number of a stage on the way down."""
    stages = 0
    for name in unet:
        found = re.match(r"down_modules\.(\d{1,2})\.", name)
        if found:
            stages = max(stages, 1 + int(found[1]))
    return stages


def _rename(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's weights by LeRobot's names."""
    weights: dict[str, Tensor] = {}
    for name, tensor in unet.items():
        for pattern, other in RENAMED:
            name = re.sub(pattern, other, name)
        weights[f"diffusion.unet.{name}"] = tensor
    return weights
