"""Diffusion Policy's own `.ckpt` files (low-dim, U-Net) as checkpoints of ours.

Shapes say nearly everything; the rest (T, Ta, what is predicted) is given, by default as its configurations have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...spec import ActionDim, ActionSpec, CheckpointError, Horizon, ObsKey, ObsSpec, cut, shorten
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
"""Its names of weights -> LeRobot's, which `PublishedUnet` has."""


def import_ckpt(
    path: Path, name: str = "obs", planned: int = 16, executed: int = 8, prediction: str = "eps"
) -> PolicyModel:
    """The policy in a `.ckpt`; `name` is what its one observation is called here.

    Raises CheckpointError where the file holds no low-dim U-Net policy, or a damaged one.
    """
    tensors = _policy_tensors(path)
    try:
        return _import(path, tensors, name, Horizon(1, planned, executed), prediction)
    except CheckpointError:
        raise
    except BROKEN as error:
        raise CheckpointError(f"{path} cannot be imported: {cut(str(error))}") from error


def _import(
    path: Path, tensors: Mapping[str, Tensor], name: str, horizon: Horizon, prediction: str
) -> PolicyModel:
    """The policy; `horizon` is its own but for the number of observed steps, which the weights tell."""
    observation, action = (_range(tensors, key, path) for key in ("obs", "action"))
    unet = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    shapes = _shapes(unet, path)
    width, numbers = len(action[0]), len(observation[0])
    condition = unet["down_modules.0.0.cond_encoder.1.weight"].shape[1] - shapes["step_width"]
    if condition % numbers or condition == 0:
        raise CheckpointError(
            f"{path}: {condition} numbers of condition are no whole number of observations of {numbers}"
        )
    config = ModelConfig(
        encoder=node(PublishedEncoder),
        denoiser=node(PublishedUnet, **shapes),
        schedule=node(IndexTable),
        obs_spec=ObsSpec({name: ObsKey((numbers,))}),
        action_spec=ActionSpec(tuple(ActionDim(f"action_{i}") for i in range(width))),
        horizon=Horizon(condition // numbers, horizon.planned, horizon.executed),
        prediction=prediction,
    )
    renamed = {f"diffusion.unet.{_renamed(k)}": v for k, v in unet.items()}
    return assemble(config, renamed, {name: observation, ACTION: action})


def _policy_tensors(path: Path) -> dict[str, Tensor]:
    """The averaged weights, or the plain ones where there are no others."""
    content = read_tensors(path)
    if isinstance(content, Mapping):
        found = content.get("state_dicts")
    else:
        found = None
    if isinstance(found, Mapping):
        states = found
    else:
        states = {}
    averaged = states.get("ema_model")
    if isinstance(averaged, Mapping) and averaged:
        chosen = averaged
    else:
        chosen = states.get("model")
    if not isinstance(chosen, Mapping) or "model.diffusion_step_encoder.1.weight" not in chosen:
        raise CheckpointError(
            f"{path} is no .ckpt of Diffusion Policy with a U-Net: state_dicts.ema_model.model.* are wanted"
        )
    return {name: tensor for name, tensor in chosen.items() if isinstance(tensor, Tensor)}


def _range(tensors: Mapping[str, Tensor], key: str, path: Path) -> Range:
    """(centre, scale) of its normaliser, which takes x to scale x + offset; scale 0 is a constant action.

    For a number that never changes its normaliser has scale 1 and puts the constant at 0; `input_stats` says which they are.
    """
    scale, offset = (
        _read_numbers(tensors, f"normalizer.params_dict.{key}.{part}", path)
        for part in ("scale", "offset")
    )
    if scale.shape != offset.shape or bool((scale <= 0).any()):
        raise CheckpointError(
            f"{path}: the scale of {key} is {shorten(scale)}; numbers above 0 are wanted, as many as offsets"
        )
    centre, half = -offset / scale, 1 / scale
    ends = [f"normalizer.params_dict.{key}.input_stats.{part}" for part in ("min", "max")]
    if key != ACTION or not all(name in tensors for name in ends):
        return centre, half
    low, high = (_read_numbers(tensors, name, path) for name in ends)
    if low.shape != scale.shape or high.shape != scale.shape or bool((high < low).any()):
        raise CheckpointError(
            f"{path}: input_stats of {key} are {shorten(low)} to {shorten(high)}; each min is at most its max"
        )
    return np.where(low == high, low, centre), np.where(low == high, 0.0, half)


def _read_numbers(tensors: Mapping[str, Tensor], name: str, path: Path) -> np.ndarray:
    """Finite numbers (n,) of the file."""
    if name not in tensors:
        raise CheckpointError(
            f"{path} holds no statistics {shorten(name)}: only low-dim policies can be imported"
        )
    tensor = tensors[name]
    if not tensor.is_floating_point() or tensor.ndim != 1 or not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{path}: the statistics {shorten(name)} are {tensor.dtype} {tuple(tensor.shape)}; finite numbers are wanted"
        )
    return tensor.double().numpy()


def _shapes(unet: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """What the U-Net is built from, read off its weights."""
    try:
        stages = 1 + max(
            int(found[1]) for k in unet if (found := re.match(r"down_modules\.(\d{1,2})\.", k))
        )
        firsts = [unet[f"down_modules.{i}.0.blocks.0.block.0.weight"] for i in range(stages)]
        film = unet["down_modules.0.0.cond_encoder.1.weight"]
        step_width = unet["diffusion_step_encoder.1.weight"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} holds another network than Diffusion Policy's U-Net: {cut(str(error))}"
        ) from None
    channels = [weight.shape[0] for weight in firsts]
    scaled = film.shape[0] == 2 * channels[0]
    return {
        "channels": channels,
        "kernel": firsts[0].shape[2],
        "step_width": step_width,
        "scaled": scaled,
    }


def _renamed(name: str) -> str:
    for pattern, other in RENAMED:
        name = re.sub(pattern, other, name)
    return name
