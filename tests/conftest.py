"""A tiny data set and tiny models, for tests that need the real parts at a size that runs in seconds.

torch is imported where it is needed, so that tests without it start quickly.
"""

from typing import Any

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.spec import Horizon

HORIZON = Horizon(observed=2, planned=12, executed=4)
DENOISERS: dict[str, dict[str, Any]] = {
    "unet": {
        "_target_": "hotstart.policy.denoisers.unet.ConditionalUnet",
        "channels": [16, 32],
        "groups": 4,
        "level_width": 16,
    },
    "transformer": {
        "_target_": "hotstart.policy.denoisers.transformer.DiffusionTransformer",
        "embed": 32,
        "layers": 2,
        "heads": 2,
        "level_width": 16,
    },
}


def make_dataset(seed: int = 0, episodes: int = 8, steps: int = 14) -> Arrays:
    """Episodes in which a state (2,) stands still and the right action is `right_action` of it, at every step."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-3, 3, (episodes, 1, 2)).astype(np.float32).repeat(steps, 1)
    return Arrays([{"state": state, "action": right_action(state)} for state in states], fps=10.0)


def right_action(state: np.ndarray) -> np.ndarray:
    """(..., 2) -> (..., 2), in units far from [-1, 1]."""
    return np.stack((200 + 30 * state[..., 0], -0.1 * state[..., 1]), -1).astype(np.float32)


def make_config(kind: str = "unet", dataset: Any = None, horizon: Horizon = HORIZON, **changes: Any) -> Any:
    """The configuration of a tiny model; `changes` replace its fields."""
    from hotstart.policy.model import ModelConfig

    dataset = dataset or make_dataset()
    fields = {
        "encoder": {"_target_": "hotstart.policy.encoders.state.StateEncoder", "token_width": 16},
        "denoiser": DENOISERS[kind],
        "schedule": {"_target_": "hotstart.policy.diffusion.schedule.VPCosine"},
        "obs_spec": dataset.obs_spec,
        "action_spec": dataset.action_spec,
        "horizon": horizon,
    }
    return ModelConfig(**{**fields, **changes})


def make_model(kind: str = "unet", seed: int = 0, dataset: Any = None, **changes: Any) -> Any:
    """A tiny untrained model with the data set's statistics, in evaluation mode."""
    import torch
    from hotstart.datasets.statistics import dataset_statistics
    from hotstart.policy.model import PolicyModel
    from hotstart.policy.normalizer import Normalizer, expected_shapes

    dataset = dataset or make_dataset()
    config = make_config(kind, dataset, **changes)
    normalizer = Normalizer.fit(dataset_statistics(dataset), expected_shapes(config.obs_spec, config.action_spec))
    torch.manual_seed(seed)
    return PolicyModel(config, normalizer).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_dataset() -> Arrays:
    """The same few episodes for everybody."""
    return make_dataset()


@pytest.fixture
def tiny_config() -> Any:
    """`make_config`."""
    return make_config


@pytest.fixture
def tiny_model() -> Any:
    """`make_model`."""
    return make_model
