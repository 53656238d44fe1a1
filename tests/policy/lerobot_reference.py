"""Run by a Python that has LeRobot: a policy of random weights, saved as LeRobot saves it, and what it answers.

python lerobot_reference.py FOLDER low_dim|image
"""

import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.diffusion import modeling_diffusion
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

folder, kind = Path(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
rng = np.random.default_rng(0)
common = {"down_dims": (32, 64), "horizon": 16, "n_action_steps": 8, "diffusion_step_embed_dim": 32, "device": "cpu"}
inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (2,))}
stats = {
    "observation.state": {"min": [-3.0, 10.0], "max": [5.0, 500.0], "mean": [0.5, 200.0], "std": [2.0, 90.0]},
    "action": {"min": [12.0, -4.0], "max": [511.0, 9.0], "mean": [200.0, 1.0], "std": [100.0, 3.0]},
}
if kind == "low_dim":
    inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (5,))
    stats["observation.environment_state"] = {"min": [-1.0] * 5, "max": [1.0] * 5, "mean": [0.0] * 5, "std": [1.0] * 5}
    extra = {"use_film_scale_modulation": True}
else:
    inputs["observation.image"] = PolicyFeature(FeatureType.VISUAL, (3, 96, 96))
    own = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "min": [0.0] * 3, "max": [1.0] * 3}
    stats["observation.image"] = {name: np.reshape(value, (3, 1, 1)).tolist() for name, value in own.items()}
    extra = {"crop_shape": (85, 84), "use_group_norm": True, "pretrained_backbone_weights": None}
config = DiffusionConfig(
    input_features=inputs, output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))}, **common, **extra
)
policy = modeling_diffusion.DiffusionPolicy(config).eval()
with torch.no_grad():
    for parameter in policy.parameters():  # large enough for the observation and the level to matter
        parameter.add_(0.05 * torch.randn_like(parameter))
tensors = {name: {k: torch.tensor(v) for k, v in own.items()} for name, own in stats.items()}
before, after = make_diffusion_pre_post_processors(config, tensors)
for part in (policy, before, after):
    part.save_pretrained(folder)

rows, steps = 3, 100
draws = torch.randn(steps, rows, 16, 2, generator=torch.Generator().manual_seed(1))
queue = list(draws[1:])
import diffusers.schedulers.scheduling_ddpm as ddpm  # noqa: E402 - patched: the same noise on both sides

ddpm.randn_tensor = lambda *_, **__: queue.pop(0)
observation = {"observation.state": rng.uniform(-3, 5, (rows, 2, 2)).astype(np.float32)}
if kind == "low_dim":
    observation["observation.environment_state"] = rng.uniform(-1, 1, (rows, 2, 5)).astype(np.float32)
else:
    observation["observation.image"] = rng.integers(0, 256, (rows, 2, 96, 96, 3)).astype(np.uint8)
seen = {}
for tick in range(2):
    shown = {name: torch.as_tensor(value[:, tick]) for name, value in observation.items()}
    if kind == "image":
        shown["observation.image"] = shown["observation.image"].permute(0, 3, 1, 2).float() / 255
    batch = before(shown)
    for name in inputs:
        seen.setdefault(name, []).append(batch[name])
batch = {name: torch.stack(values, 1) for name, values in seen.items()}
if kind == "image":
    batch["observation.images"] = torch.stack([batch["observation.image"]], dim=-4)
with torch.no_grad():
    actions = after(policy.diffusion.generate_actions(batch, noise=draws[0]))
np.savez(folder / "answer.npz", actions=actions.numpy(), draws=draws.numpy(), **observation)
