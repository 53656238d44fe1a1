# pyright: reportMissingImports=false, reportPrivateImportUsage=false
"""Writes a policy of random weights as LeRobot saves it, and what it answers.

Run by its path, by a Python that has LeRobot:

    python _lerobot_peer.py FOLDER low_dim|image CALLS CHANNEL CHANNEL ...

Writes the policy's folder, and in it answer.npz: three rows' observations, the noise of 100 DDPM
steps, the actions, and the seconds of CALLS chunks of one row by LeRobot's defaults.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers import scheduling_ddpm
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.diffusion import modeling_diffusion
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

ROWS = 3
OBSERVED = 2
HORIZON = 16
STEPS = 100
STATE = "observation.state"
ENVIRONMENT = "observation.environment_state"
IMAGE = "observation.image"


EXTRA: dict[str, dict[str, Any]] = {
    "low_dim": {},
    "image": {
        "crop_shape": (85, 84),
        "use_group_norm": True,
        "pretrained_backbone_weights": None,
    },
}
"""What the configuration has beside the common part."""


def describe_inputs(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The policy's inputs and their statistics."""
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (2,))}
    statistics: dict[str, Any] = {
        STATE: {"min": [-3.0, 10.0], "max": [5.0, 500.0], "mean": [0.5, 200.0], "std": [2.0, 90.0]},
        "action": {
            "min": [12.0, -4.0],
            "max": [511.0, 9.0],
            "mean": [200.0, 1.0],
            "std": [100.0, 3.0],
        },
    }
    if kind == "low_dim":
        inputs[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (5,))
        statistics[ENVIRONMENT] = {
            "min": [-1.0] * 5,
            "max": [1.0] * 5,
            "mean": [0.0] * 5,
            "std": [1.0] * 5,
        }
        return inputs, statistics
    inputs[IMAGE] = PolicyFeature(FeatureType.VISUAL, (3, 96, 96))
    own = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "min": [0.0] * 3, "max": [1.0] * 3}
    statistics[IMAGE] = {}
    for name, value in own.items():
        statistics[IMAGE][name] = np.reshape(value, (3, 1, 1)).tolist()
    return inputs, statistics


def build(kind: str, channels: tuple[int, ...]) -> tuple[Any, tuple[Any, Any]]:
    """The policy and its two processors.

    Its weights are large enough for observation and level to matter.
    """
    inputs, statistics = describe_inputs(kind)
    torch.manual_seed(0)
    config = DiffusionConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        down_dims=channels,
        horizon=HORIZON,
        n_action_steps=8,
        diffusion_step_embed_dim=32,
        device="cpu",
        **EXTRA[kind],
    )
    policy = modeling_diffusion.DiffusionPolicy(config).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    tensors: dict[str, dict[str, Any]] = {}
    for name, own in statistics.items():
        tensors[name] = {}
        for measure, value in own.items():
            tensors[name][measure] = torch.tensor(value)
    return policy, make_diffusion_pre_post_processors(config, tensors)


def draw_observations(kind: str) -> dict[str, Any]:
    """Key -> (rows, observed steps, ...)."""
    rng = np.random.default_rng(0)
    found = {STATE: rng.uniform(-3, 5, (ROWS, OBSERVED, 2)).astype(np.float32)}
    if kind == "low_dim":
        return {**found, ENVIRONMENT: rng.uniform(-1, 1, (ROWS, OBSERVED, 5)).astype(np.float32)}
    return {**found, IMAGE: rng.integers(0, 256, (ROWS, OBSERVED, 96, 96, 3)).astype(np.uint8)}


def preprocess(observation: dict[str, Any], before: Any) -> dict[str, Any]:
    """The batch that LeRobot's network reads."""
    seen: dict[str, list[Any]] = {}
    for tick in range(OBSERVED):
        shown = {name: torch.as_tensor(value[:, tick]) for name, value in observation.items()}
        if IMAGE in shown:
            shown[IMAGE] = shown[IMAGE].permute(0, 3, 1, 2).float() / 255
        for name, value in before(shown).items():
            if name in observation:
                seen.setdefault(name, []).append(value)
    batch = {name: torch.stack(values, 1) for name, values in seen.items()}
    if IMAGE in batch:
        batch["observation.images"] = torch.stack([batch[IMAGE]], dim=-4)
    return batch


def main() -> None:
    """See the module's text."""
    folder = Path(sys.argv[1])
    kind = sys.argv[2]
    calls = int(sys.argv[3])
    channels = tuple(map(int, sys.argv[4:]))
    policy, processors = build(kind, channels)
    before, after = processors
    for part in (policy, before, after):
        part.save_pretrained(folder)
    observation = draw_observations(kind)
    batch = preprocess(observation, before)
    one = {name: value[:1] for name, value in batch.items()}
    seconds = []
    with torch.no_grad():
        for _ in range(calls + 1):  # the first one warms up
            began = time.perf_counter()
            policy.diffusion.generate_actions(one)
            seconds.append(time.perf_counter() - began)
        draws = torch.randn(STEPS, ROWS, HORIZON, 2, generator=torch.Generator().manual_seed(1))
        queue = list(draws[1:])
        scheduling_ddpm.randn_tensor = lambda *_, **__: queue.pop(0)  # the same noise on both sides
        actions = after(policy.diffusion.generate_actions(batch, noise=draws[0]))
    answer = {
        "actions": actions.numpy(),
        "draws": draws.numpy(),
        "seconds": np.array(seconds[1:]),
        **observation,
    }
    np.savez(folder / "answer.npz", **answer)


main()
