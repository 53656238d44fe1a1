"""A task whose best action is known, whatever the state."""

import numpy as np
from hotstart.finetuning.sources import Turn
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.spec import ActionSpec, ObsKey, ObsSpec

OBS = ObsSpec({"state": ObsKey((2,))})
ACTIONS = ActionSpec.plain(2)
BEST = np.array([0.4, -0.3])


class TargetSource:
    """Reward of a chunk: minus the mean squared distance of its actions from `BEST`.

    Episodes last `length` chunks and are truncated.
    """

    real = True
    rate_hz = 10.0

    def __init__(self, rows=16, length=2):
        self.rows, self.length = rows, length
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
        self.count += 1
        nothing = np.zeros(self.rows, bool)
        over = self.count >= self.length
        return Turn(
            frames=[{"state": self.state.copy()}] * actions.shape[1],
            reward=-error,
            terminated=nothing,
            truncated=over,
            success=error < 0.02,
            steps=np.full(self.rows, actions.shape[1]),
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
