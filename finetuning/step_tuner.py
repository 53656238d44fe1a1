"""What methods that train denoising steps share: the network of those steps, and its update."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..policy.denoisers.base import Network
from ..policy.denoisers.split import SplitNetwork
from ..policy.diffusion.solvers import DDIM
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.streaming import Streaming
from ..policy.samplers.warm_start import WarmStart
from .chains import StepModel, Transitions, split_model, trained_level
from .ppo import Losses, ScoredSteps, evaluate_steps, update_policy
from .rollouts import Rollout
from .settings import StepSettings
from .tuner import Setup, Tuner

S = TypeVar("S", bound=StepSettings)
"""Settings of a method that trains denoising steps."""


class StepTuner(Tuner[S]):
    """A base policy, and a copy of its network that is tuned in the last denoising steps."""

    def __init__(self, settings: S, setup: Setup) -> None:
        """Tune `setup.base` for the sampler that it is to be deployed with.

        Raises ConfigError for a sampler that cannot be tuned, and where model and source differ.
        """
        super().__init__(settings, setup)
        self.below = trained_level(setup.base, setup.sampler, settings.trained_steps)
        self.model = split_model(setup.base, self.below)
        network = self.model.network
        assert isinstance(network, SplitNetwork)
        self.network = network
        self.network.tuned.requires_grad_(settings.trained_steps > 0)
        self.optimizer = torch.optim.AdamW(
            self.network.tuned.parameters(), settings.rate, weight_decay=0.0
        )

    def parts(self) -> dict[str, nn.Module]:
        """None beside the model."""
        return {}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """That of the tuned network."""
        return {"optimizer": self.optimizer}

    def score_steps(self, rollout: Rollout, noisy: Sampler, usable: Tensor) -> ScoredSteps | None:
        """The steps of the `usable` (P,) plans, and their probabilities before the update."""
        if rollout.steps is None or not bool(usable[rollout.steps.chunk].any()):
            return None
        steps = rollout.steps.take(torch.nonzero(usable[rollout.steps.chunk]).flatten())
        log_prob, mean = self._evaluate(self.network.tuned, noisy, steps, rollout)
        base_log_prob, base_mean = self._evaluate(self.network.base, noisy, steps, rollout)
        return ScoredSteps(steps, log_prob, mean, base_log_prob, base_mean)

    def update_tuned(
        self,
        compute: Callable[[StepModel, Tensor], Losses],
        noisy: Sampler,
        samples: int,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """Train the tuned network on `samples`; `compute` gives the losses of some of them."""
        model = self.make_step_model(self.network.tuned, noisy)
        model.network.train()
        numbers = update_policy(
            lambda index: compute(model, index),
            model.network,
            self.optimizer,
            torch.arange(samples),
            self.settings,
            generator,
            self.settings.share,
        )
        model.network.eval()
        self.network.note_written()
        return numbers

    def make_step_model(self, network: Network, noisy: Sampler) -> StepModel:
        """A network with the solver and the clip that the exploring sampler has."""
        assert isinstance(noisy, Fresh | WarmStart | Streaming)
        assert isinstance(noisy.solver, DDIM)
        return StepModel(self.model, network, noisy.solver, noisy.clip)

    def _evaluate(
        self, network: Network, noisy: Sampler, steps: Transitions, rollout: Rollout
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and means of the rollout's steps under a network."""
        model = self.make_step_model(network, noisy)
        return evaluate_steps(model, steps, rollout.tokens, self.settings.batch)
