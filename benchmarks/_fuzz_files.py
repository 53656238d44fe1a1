"""A good file or folder of every kind that hotstart reads, for `hotstart bench fuzz` to break."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..policy import checkpoint
from ..policy.denoisers.published_unet import PublishedUnet
from ..policy.denoisers.unet import ConditionalUnet
from ..policy.diffusion.schedule import VPCosine
from ..policy.encoders.state import StateEncoder
from ..policy.model import ModelConfig, PolicyModel
from ..policy.normalizer import ACTION, Normalizer
from ..policy.training.api import node
from ..spec import ActionSpec, Horizon, ObsKey, ObsSpec
from . import _fuzz_data

MARKING = "marking_module"
"""A module on the workers' path that leaves a mark when it is imported.

A file that gets it imported has run something.
"""
LEROBOT_CONFIG: dict[str, Any] = {
    "type": "diffusion",
    "input_features": {"observation.state": {"type": "STATE", "shape": [2]}},
    "output_features": {"action": {"type": "ACTION", "shape": [2]}},
    "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"},
    "n_obs_steps": 2,
    "horizon": 8,
    "n_action_steps": 4,
    "down_dims": [8, 16],
    "kernel_size": 3,
    "n_groups": 4,
    "diffusion_step_embed_dim": 8,
    "use_film_scale_modulation": True,
    "num_train_timesteps": 20,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "epsilon",
    "vision_backbone": "resnet18",
    "spatial_softmax_num_keypoints": 4,
    "use_group_norm": True,
    "use_separate_rgb_encoder_per_camera": False,
    "crop_shape": None,
    "clip_sample": True,
    "clip_sample_range": 1.0,
}
INTERVAL = {"low": 0.1, "high": 0.9}
RESULT: dict[str, Any] = {
    "success": {"rate": 0.5, **INTERVAL},
    "score": {"mean": 0.5, **INTERVAL},
    "nfe": {"cold": 10.0, "warm": 2.0, "per_action": 0.25},
    "inference_ms": {"p50": 10.0, "p95": 12.0, "per_second_of_motion": 12.0, "rows": 1.0},
    "smoothness": {"jerk_rms": 1.0, "max_step": 0.1},
    "per_episode": [
        {"seed": seed, "success": seed == 1, "score": 0.1 * seed, "steps": 100} for seed in range(3)
    ],
    "versions": {"torch": "2"},
    "sampler_settings": {"start": 0.3, "solver": {"eta": 0.0}},
    "task_options": {"goal": [256, 256, 0.8]},
    "format": 2,
    "task": "pusht",
    "checkpoint": "runs/x",
    "inference": "rti-2",
    "executed": 8,
    "episodes": 3,
    "seed": 0,
    "latency_s": 0.0,
    "late_actions": 0,
    "starved_ticks": 0.0,
    "planner": "sync",
    "reaction_s": 0.4,
    "wall_seconds": 3.0,
    "machine": {"cpu": "x", "cores": 2, "device": "cpu"},
    "checkpoint_step": 100,
}
"""A result as `hotstart evaluate` writes one."""


def copy_good(kind: str, folder: Path) -> Path:
    """A fresh copy to be broken."""
    good = folder / "good" / kind
    if not good.exists():
        good = next((folder / "good").glob(f"{kind}.*"))
    shutil.copy(folder / "good" / "result.json", folder / "good.json")
    target = folder / f"broken_{good.name}"
    if target.is_dir():
        shutil.rmtree(target)
    if good.is_dir():
        return Path(shutil.copytree(good, target))
    return Path(shutil.copy(good, target))


def write_marking(folder: Path) -> None:
    mark = f"from pathlib import Path\nMARK = Path({str(folder / 'mark')!r})\nMARK.touch()\n"
    (folder / f"{MARKING}.py").write_text(f"{mark}def run(*_, **__):\n    MARK.touch()\n")


def write_good(folder: Path, kinds: Collection[str] = tuple(_fuzz_data.VALID)) -> None:
    """One good file or folder of every kind, of data sets only of these kinds."""
    torch.manual_seed(0)
    folder.mkdir()
    _write_native(folder / "native")
    _write_lerobot(folder / "lerobot")
    _write_ckpt(folder / "ckpt.ckpt")
    (folder / "result.json").write_text(json.dumps(RESULT, indent=1))
    profile = {
        "seconds": {
            "rti-2": {"cold": [0.1, 0.2], "warm": [0.05]},
            "ddim-10": {"cold": [0.3], "warm": [0.3]},
        }
    }
    (folder / "profile.json").write_text(json.dumps(profile))
    for kind, (name, make) in _fuzz_data.VALID.items():
        if kind in kinds:
            make(folder / name)


def _write_native(folder: Path) -> None:
    spec = ObsSpec({"state": ObsKey((2,))})
    config = ModelConfig(
        encoder=node(StateEncoder, token_width=8),
        denoiser=node(ConditionalUnet, channels=[8, 8], groups=2, level_width=8),
        schedule=node(VPCosine),
        obs_spec=spec,
        action_spec=ActionSpec.plain(2),
        horizon=Horizon(2, 12, 4),
    )
    ranges = {name: (np.zeros(2), np.ones(2)) for name in ("state", ACTION)}
    model = PolicyModel(config, Normalizer.from_ranges(ranges, {"state": (2,), ACTION: (2,)}))
    options = {"control": "absolute", "cameras": {"agentview": 84}}
    task = {
        "name": "lift",
        "env": "lift",
        "options": options,
        "max_steps": 100,
        "obs_keys": ["state"],
    }
    meta = {
        "rate_hz": 10.0,
        "regimes": ["constant"],
        "action_scale": [1.0, 1.0],
        "warm_start": {"start": 0.3},
    }
    state = {"step": 3, "seconds": 1.5, "best": None}
    checkpoint.save(
        folder, model, {**meta, "task": task, "step": 3}, {"model.x": torch.zeros(3)}, state
    )


def _write_lerobot(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LEROBOT_CONFIG))
    (folder / "train_config.json").write_text(json.dumps({"env": {"type": "pusht", "fps": 10}}))
    unet = PublishedUnet(2, 2, 2, (8, 16), 3, 4, 8, True, 20)
    tensors: dict[str, Tensor] = {}
    for name, value in unet.state_dict().items():
        tensors[f"diffusion.unet.{name}"] = value.contiguous()
    save_file(tensors, folder / "model.safetensors")
    ends = {
        "min": torch.tensor([0.0, -1.0]),
        "max": torch.ones(2),
        "mean": torch.zeros(2),
        "std": torch.ones(2),
    }
    statistics: dict[str, Tensor] = {}
    for kind, value in ends.items():
        statistics[f"observation.state.{kind}"] = value
        statistics[f"action.{kind}"] = value.clone()
    save_file(statistics, folder / "policy_preprocessor_step_3_normalizer_processor.safetensors")


def _write_ckpt(path: Path) -> None:
    unet = PublishedUnet(2, 2, 5, (8, 16), 3, 8, 8, True)
    named: dict[str, Any] = {}
    for name, tensor in unet.state_dict().items():
        other = name.replace(".conv1.block.", ".blocks.0.block.").replace(
            ".conv2.block.", ".blocks.1.block."
        )
        named["model." + re.sub(r"^((?:down|up)_modules\.\d+\.2)\.", r"\1.conv.", other)] = tensor
    for key, width in (("obs", 5), ("action", 2)):
        named[f"normalizer.params_dict.{key}.scale"] = torch.ones(width)
        named[f"normalizer.params_dict.{key}.offset"] = torch.zeros(width)
    torch.save(
        {"state_dicts": {"ema_model": named}, "cfg": OSError("x"), "pickles": {"epoch": b"..."}},
        path,
    )
