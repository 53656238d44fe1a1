"""A task whose best action is known, whatever the state, and what a policy plans in it."""

import copy
from dataclasses import replace

import numpy as np
import torch
from hotstart.policy import checkpoint
from hotstart.policy.denoisers.mlp import DiffusionMLP
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.model import PolicyModel
from hotstart.policy.training.api import node
from hotstart.spec import ActionSpec, ObsKey, ObsSpec, Turn

OBS = ObsSpec({"state": ObsKey((2,))})
ACTIONS = ActionSpec.plain(2)
BEST = np.array([0.4, -0.3])


class TargetSource:
    """Reward of a chunk: minus the mean squared distance of its actions from `BEST`.

    Episodes last `length` chunks and are truncated; a row that is over stands still. A chunk nearer
    than `tolerance` is a success.
    """

    real = True
    rate_hz = 10.0

    def __init__(self, rows=16, length=2, tolerance=0.02):
        self.rows, self.length, self.tolerance = rows, length, tolerance
        self.obs_spec, self.action_spec = OBS, ACTIONS
        self.state = np.zeros((rows, 2), np.float32)
        self.count = np.zeros(rows, int)

    def begin(self, rows, seeds):
        for row, seed in zip(rows, seeds, strict=True):
            self.state[row] = np.random.default_rng(seed).uniform(-1, 1, 2)
            self.count[row] = 0
        return {"state": self.state.copy()}

    def step(self, actions):
        error = np.square(actions - BEST).mean((1, 2))
        runs = self.count < self.length
        self.count += runs
        nothing = np.zeros(self.rows, bool)
        over = self.count >= self.length
        return Turn(
            frames=[{"state": self.state.copy()}] * actions.shape[1],
            reward=np.where(runs, -error, 0.0),
            terminated=nothing,
            truncated=over,
            success=runs & (error < self.tolerance),
            steps=np.where(runs, actions.shape[1], 0),
            elapsed=self.count / self.length,
        )

    def close(self):
        pass


def plans_of(model, sampler, count=3):
    """Actions (3, count, Ta, A) of three plans, one after the other."""
    policy = DiffusionPolicy(model, sampler)
    rows = np.arange(count)
    seen = {"state": np.linspace(-1, 1, 2 * count, dtype=np.float32).reshape(count, 2)}
    state = policy.observe(policy.initial_state(rows.tolist()), seen)
    found = []
    for _ in range(3):
        planned = policy.plan(state, rows, np.full(count, policy.horizon.executed))
        state = policy.observe(policy.adopt(state, planned), seen)
        found.append(planned.actions)
    return np.stack(found)


def silence(model):
    """A copy whose network says 0 whatever it is given."""
    silent = copy.deepcopy(model)
    last = list(silent.network.modules())[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return silent


def load_both(folder):
    """Model and meta of the run in `part`, which was stopped: its weights must be those of the run
    in `whole`.
    """
    whole, _ = checkpoint.load(folder / "whole")
    part, meta = checkpoint.load(folder / "part")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, part.state_dict()[name]), name
    return part, meta


def make_base_that_says_nothing(base):
    """A small MLP in place of the base's network, whose estimate of every plan is 0."""
    steps = base.config.horizon.planned
    denoiser = node(DiffusionMLP, steps=steps, hidden=16, layers=1, level_width=4)
    model = PolicyModel(replace(base.config, denoiser=denoiser), copy.deepcopy(base.normalizer))
    model.regimes = base.regimes
    return silence(model).eval().requires_grad_(False)
