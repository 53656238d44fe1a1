"""A tiny policy of the analytic task, for every method."""

import pytest
import torch
from hotstart.policy.denoisers.unet import ConditionalUnet
from hotstart.policy.diffusion.schedule import VPCosine
from hotstart.policy.encoders.state import StateEncoder
from hotstart.policy.model import ModelConfig, PolicyModel
from hotstart.policy.training.api import node
from hotstart.spec import Horizon

from .analytic import ACTIONS, OBS


@pytest.fixture(scope="session")
def base():
    torch.manual_seed(0)
    model = PolicyModel(
        ModelConfig(
            encoder=node(StateEncoder, token_width=8),
            denoiser=node(ConditionalUnet, channels=[8, 16], groups=4, level_width=8),
            schedule=node(VPCosine),
            obs_spec=OBS,
            action_spec=ACTIONS,
            horizon=Horizon(observed=2, planned=12, executed=4),
            prediction="x0",
        )
    )
    model.normalizer.load_state_dict(
        {
            name: torch.ones_like(value) if name.endswith("scale") else torch.zeros_like(value)
            for name, value in model.normalizer.state_dict().items()
        }
    )
    model.regimes = ("staircase", "constant")
    return model.eval().requires_grad_(False)
