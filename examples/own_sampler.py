"""Own sampler: a class in your file that runs on any checkpoint.

    python examples/own_sampler.py [TRAINING_STEPS]

`Smoothest` draws several fresh plans and takes the one whose actions change least. A sampler gets a
`PlanRequest` for R rows (robots side by side). It returns plans (R, T, A): T actions of A numbers
each, normalised, and the denoiser evaluations of each row. The script trains on noisy arcs to the
left and to the right. For DDIM and for `Smoothest` it prints the evaluations of a plan and how much
its actions change from one to the next. It takes a minute on two cores.
"""

import sys
from functools import partial

import hotstart
import numpy as np
import torch


class Smoothest(hotstart.Sampler):
    """Of several fresh plans for each row, the one whose actions change least."""

    def __init__(self, plans: int = 8, steps: int = 4) -> None:
        self.plans = plans
        self.steps = steps
        self.fresh = hotstart.Fresh(steps)

    def __call__(self, request: hotstart.PlanRequest) -> hotstart.PlanOutcome:
        """Every row is repeated with noise of its own; the best of its plans is kept."""
        drawn = self.fresh(request.branches(self.plans))
        plans = drawn.plan.unflatten(0, (request.rows, self.plans))  # (R, plans, T, A)
        changes = plans.diff(dim=2).square().mean((2, 3))
        best = plans[torch.arange(request.rows), changes.argmin(1)]
        nfe = drawn.nfe.unflatten(0, (request.rows, self.plans)).sum(1)
        return hotstart.PlanOutcome(best, nfe)


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
rng = np.random.default_rng(0)
episodes = []
for number in range(200):
    angles = np.linspace(0, np.pi, 30)
    arc = np.stack((np.cos(angles) * (-1) ** number, np.sin(angles)), 1)
    velocity = arc + rng.normal(0, 0.1, arc.shape)
    episodes.append({"position": np.cumsum(velocity, 0) - velocity, "action": velocity})
data = hotstart.Arrays(episodes, fps=10)
network = partial(hotstart.ConditionalUnet, channels=(32, 64))
settings = hotstart.TrainingSettings(steps=steps, batch=64)
hotstart.train(data, "runs/own_sampler", settings, denoiser=network)
for sampler in (hotstart.Fresh(steps=4), Smoothest(plans=8, steps=4)):
    policy = hotstart.load("runs/own_sampler", sampler).policy
    state = policy.initial_state(range(100))
    state = policy.observe(state, {"position": np.zeros((100, 2))})
    planned = policy.plan(state, np.arange(100), np.zeros(100, int))
    change = np.abs(np.diff(planned.actions, axis=1)).mean()
    name = type(sampler).__name__
    print(f"{name}: {planned.nfe.mean():.0f} evaluations, change per step {change:.3f}")
