"""Own encoder: a torch module in your file that reads the observation.

    python examples/own_encoder.py [TRAINING_STEPS]

The right action is a wave of the position with 8 periods, which a network learns slowly from the
position itself. `Waves` shows it sines and cosines. The script prints the mean error of the actions
with hotstart's state encoder and with `Waves`. It takes two minutes on two cores.

`hotstart.register` is for this program. A package makes its encoder known to every program, the
command line included (`encoder=waves`), with two lines of its pyproject.toml:

    [project.entry-points."hotstart.encoders"]
    waves = "my_package.encoders:Waves"
"""

import sys
from collections.abc import Mapping
from functools import partial

import hotstart
import numpy as np
import torch


@hotstart.register("encoder")
class Waves(torch.nn.Module):
    """One token for each observed step: waves of every number of the state, then two layers."""

    def __init__(self, obs_spec: hotstart.ObsSpec, observed: int, octaves: int = 5) -> None:
        super().__init__()
        self.tokens, self.token_width = observed, 64
        self.names, self.octaves = list(obs_spec.keys), octaves
        numbers = sum(key.shape[0] for key in obs_spec.keys.values())
        self.hidden = torch.nn.Linear(2 * octaves * numbers, 256)
        self.out = torch.nn.Linear(256, self.token_width)

    def forward(self, observation: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Observation, key -> (B, observed, n) in [-1, 1], to tokens (B, observed, token_width)."""
        numbers = torch.cat([observation[name] for name in self.names], -1)
        angles = torch.pi * numbers.unsqueeze(-1) * 2 ** torch.arange(self.octaves)
        waves = torch.cat((angles.sin(), angles.cos()), -1)
        return self.out(torch.relu(self.hidden(waves.flatten(2))))


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
positions = np.random.default_rng(0).uniform(-1, 1, (500, 1, 1)) + np.linspace(0, 1e-3, 24)[:, None]
episodes = [{"position": each, "action": np.sin(8 * np.pi * each)} for each in positions]
data = hotstart.Arrays(episodes, fps=10)
network = partial(hotstart.ConditionalUnet, channels=(32, 64))
for encoder in (hotstart.StateEncoder, Waves):
    run = f"runs/own_encoder/{encoder.__name__}"
    settings = hotstart.TrainingSettings(steps=steps, batch=64)
    hotstart.train(data, run, settings, encoder=encoder, denoiser=network)
    agent = hotstart.load(run, hotstart.Fresh(steps=4, start_noise=0))
    errors = []
    for position in np.linspace(-1, 1, 200):
        agent.reset()
        errors.append(abs(agent.act({"position": [position]}) - np.sin(8 * np.pi * position)))
    print(f"{encoder.__name__}: mean error {np.mean(errors):.2f}")
