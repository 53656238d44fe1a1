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

from ..spec import ActionDim, ActionSpec, CheckpointError, Horizon, ObsKey, ObsSpec
from .api import node
from .denoisers.published_unet import PublishedUnet
from .diffusion.schedule import IndexTable
from .encoders.published import PublishedEncoder
from .foreign_pickle import read_tensors
from .lerobot import fill
from .model import ModelConfig, PolicyModel
from .normalizer import ACTION

RENAMED = ((r"\.blocks\.0\.block\.", ".conv1.block."), (r"\.blocks\.1\.block\.", ".conv2.block."), (r"\.2\.conv\.", ".2."))
"""Its names of weights -> LeRobot's, which `PublishedUnet` has."""


def import_ckpt(path: Path, name: str = "obs", planned: int = 16, executed: int = 8, prediction: str = "eps") -> PolicyModel:
    """The policy in a `.ckpt`; `name` is what its one observation is called here.

    Raises CheckpointError where the file holds no low-dim U-Net policy.
    """
    tensors = _policy_tensors(path)
    observation, action = (_range(tensors, key, path) for key in ("obs", "action"))
    unet = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    shapes = _shapes(unet, path)
    width, numbers = len(action[0]), len(observation[0])
    condition = unet["down_modules.0.0.cond_encoder.1.weight"].shape[1] - shapes["step_width"]
    if condition % numbers or condition == 0:
        raise CheckpointError(f"{path}: {condition} numbers of condition are no whole number of observations of {numbers}")
    config = ModelConfig(
        encoder=node(PublishedEncoder),
        denoiser=node(PublishedUnet, **shapes),
        schedule=node(IndexTable),
        obs_spec=ObsSpec({name: ObsKey((numbers,))}),
        action_spec=ActionSpec(tuple(ActionDim(f"action_{i}") for i in range(width))),
        horizon=Horizon(condition // numbers, planned, executed),
        prediction=prediction,
    )
    model = PolicyModel(config)
    renamed = {f"diffusion.unet.{_renamed(k)}": v for k, v in unet.items()}
    fill(model, renamed, {name: observation, ACTION: action})
    model.regimes = ("constant",)
    return model.eval().requires_grad_(False)


def _policy_tensors(path: Path) -> dict[str, Tensor]:
    """The averaged weights, or the plain ones where there are no others."""
    content = read_tensors(path)
    states = content.get("state_dicts") if isinstance(content, Mapping) else None
    chosen = (states.get("ema_model") or states.get("model")) if isinstance(states, Mapping) else None
    if not isinstance(chosen, Mapping) or "model.diffusion_step_encoder.1.weight" not in chosen:
        raise CheckpointError(f"{path} is no .ckpt of Diffusion Policy with a U-Net: state_dicts.ema_model.model.* are wanted")
    return {name: tensor for name, tensor in chosen.items() if isinstance(tensor, Tensor)}


def _range(tensors: Mapping[str, Tensor], key: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(centre, half range) of its normaliser, which takes x to scale x + offset."""
    try:
        scale, offset = (tensors[f"normalizer.params_dict.{key}.{part}"].double().numpy() for part in ("scale", "offset"))
    except KeyError as error:
        raise CheckpointError(f"{path} holds no statistics {error.args[0]!r}: only low-dim policies can be imported") from None
    return -offset / scale, 1 / scale


def _shapes(unet: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """What the U-Net is built from, read off its weights."""
    try:
        stages = 1 + max(int(found[1]) for k in unet if (found := re.match(r"down_modules\.(\d+)\.", k)))
        firsts = [unet[f"down_modules.{i}.0.blocks.0.block.0.weight"] for i in range(stages)]
        film = unet["down_modules.0.0.cond_encoder.1.weight"]
        step_width = unet["diffusion_step_encoder.1.weight"].shape[1]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} holds another network than Diffusion Policy's U-Net: {error}") from None
    channels = [weight.shape[0] for weight in firsts]
    scaled = film.shape[0] == 2 * channels[0]
    return {"channels": channels, "kernel": firsts[0].shape[2], "step_width": step_width, "scaled": scaled}


def _renamed(name: str) -> str:
    for pattern, other in RENAMED:
        name = re.sub(pattern, other, name)
    return name
