"""What the README promises in Python: train on one's own arrays, act in one's own environment,
add one's own encoder.
"""

import subprocess
import sys

import hotstart
import numpy as np
import pytest
import torch
from hotstart.policy.registry import build
from hotstart.spec import ConfigError

TINY_UNET = {"channels": (8, 16), "groups": 4, "level_width": 8}
ENCODER = '''
from torch import nn

class LastOnly(nn.Module):
    """Only the newest observation, as one token."""

    def __init__(self, obs_spec, observed, width: int = 6):
        super().__init__()
        self.tokens, self.token_width = 1, width
        self.layer = nn.Linear(sum(key.shape[0] for key in obs_spec.keys.values()), width)
        self.names = list(obs_spec.keys)

    def forward(self, observation):
        import torch
        return self.layer(torch.cat([observation[n][:, -1:] for n in self.names], -1))
'''


def recordings(count=12, steps=30):
    """Episodes of a rule: the action is three times the state's first number, and minus its
    second.
    """
    rng = np.random.default_rng(0)
    states = [rng.uniform(-1, 1, (steps, 2)).astype(np.float32) for _ in range(count)]
    return [{"state": s, "action": np.stack((3 * s[:, 0], -s[:, 1]), 1)} for s in states]


def train(folder, **parts):
    data = hotstart.Arrays(recordings(), fps=20)
    settings = hotstart.TrainingSettings(steps=4, batch=8, warmup=1)
    parts = {"denoiser": hotstart.node(hotstart.ConditionalUnet, **TINY_UNET), **parts}
    return hotstart.train(data, folder, settings, progress=False, **parts)


def test_every_public_name_is_there_and_others_are_not():
    for name in dir(hotstart):
        assert getattr(hotstart, name) is not None
    with pytest.raises(AttributeError, match=r"hotstart has no 'lod'"):
        hotstart.lod  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, hotstart; print({'torch', 'mujoco', 'zarr', 'hydra'} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )


def test_train_then_act(tmp_path):
    model = train(tmp_path / "run")
    assert isinstance(model, torch.nn.Module)
    count = sum(p.numel() for p in model.parameters())
    assert model.parameter_count == count > 1000
    assert repr(model).startswith(
        f"PolicyModel({count / 1e6:.2f} M parameters: StateEncoder, ConditionalUnet, VPCosine; "
    )
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=2))
    observations = [{"state": np.full(2, 0.1 * t)} for t in range(10)]
    agent.reset(seed=3)
    first = [agent.act(o) for o in observations]
    agent.reset(seed=3)
    again = [agent.act(o) for o in observations]
    agent.reset(seed=4)
    other = [agent.act(o) for o in observations]
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.array(first) - other).max() > 1e-3
    assert first[0].shape == (2,)


def test_the_agent_plans_only_when_its_chunk_is_used_up(tmp_path):
    train(tmp_path / "run")
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=1))
    calls = []
    plan = agent.policy.plan
    agent.policy.plan = lambda *words: calls.append(1) or plan(*words)
    for tick in range(17):
        agent.act({"state": np.zeros(2)})
        assert len(calls) == tick // 8 + 1


@pytest.fixture
def encoder_plugin(plugin_package):
    """An installed package that names an encoder in the entry-point group."""
    plugin_package("last_only", ENCODER, {"hotstart.encoders": ["last_only = last_only:LastOnly"]})


@pytest.mark.usefixtures("encoder_plugin")
def test_an_encoder_of_another_package_is_trained_and_loaded(tmp_path):
    train(tmp_path / "run", encoder={"_target_": "last_only.LastOnly", "width": 5})
    agent = hotstart.load(tmp_path / "run", hotstart.Fresh(steps=1))
    assert type(agent.policy.model.encoder).__name__ == "LastOnly"
    assert np.isfinite(agent.act({"state": np.zeros(2)})).all()


@pytest.mark.usefixtures("encoder_plugin")
def test_an_encoder_of_another_package_is_a_choice_of_the_command_line():
    from hotstart.configs import compose

    assert "last_only" in compose.list_choices("encoder")
    config = compose.compose_config("train", ["encoder=last_only", "encoder.width=7"])
    assert config["encoder"] == {"_target_": "last_only.LastOnly", "width": 7}


def test_foreign_targets_are_refused_before_anything_is_imported():
    with pytest.raises(ConfigError, match=r"'os.system', which is not one of hotstart's"):
        build("encoder", {"_target_": "os.system", "command": "true"})
    with pytest.raises(ConfigError, match=r"denoiser.chanels is unknown; ConditionalUnet takes"):
        build("denoiser", hotstart.node(hotstart.ConditionalUnet, chanels=(8,)))
