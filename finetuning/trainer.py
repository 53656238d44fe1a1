"""Fine-tuning with PPO over denoising steps: rollouts, updates, checkpoints, and going on.

Every iteration begins new episodes and draws from the seed and its own number. So a run that was
stopped goes on as if it had never stopped, bit for bit on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datasets.locks import hold
from ..policy import checkpoint
from ..policy.denoisers.base import Network
from ..policy.denoisers.split import SplitNetwork
from ..policy.diffusion.solvers import DDIM
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import PolicyModel
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.streaming import Streaming
from ..policy.samplers.warm_start import WarmStart
from ..policy.training.metrics import MetricsLog
from ..policy.training.optimizer_state import load_optimizer, pack_optimizer, select_tensors
from ..seeds import Purpose, numpy_generator, torch_seed
from ..spec import CheckpointError, IntArray, shorten
from ..system.interrupts import Interrupted, stop_flag
from ..system.versions import versions
from .advantages import estimate_advantages
from .chains import StepModel, Transitions, explore, split_model, trained_level
from .critic import Critic, describe_rows
from .ledger import Ledger
from .ppo import Experience, ScoredSteps, evaluate_steps, update_critic, update_policy
from .rollouts import Collector, Rollout
from .settings import PPOSettings
from .sources import RolloutSource

FIRST_SEED = 10**6
"""Episodes of fine-tuning have seeds from here on: those below are for evaluation and for data."""
LAST_SEED = 2**31 - 1


class FineTuner:
    """A base policy, the copy that is tuned, its critic, and a source of rollouts."""

    def __init__(
        self,
        base: PolicyModel,
        sampler: Sampler,
        source: RolloutSource,
        settings: PPOSettings,
        folder: Path,
        meta: Mapping[str, Any] | None = None,
        executed: int | None = None,
    ) -> None:
        """Tune `base` for the `sampler` that it is to be deployed with.

        meta: of the base's checkpoint; its ledger goes on
        executed: Ta, where it is not the checkpoint's own

        Raises ConfigError for a sampler that cannot be tuned, and where model and source differ.
        """
        self.settings, self.source = settings, source
        self.folder = Path(folder)
        self.meta = dict(meta or {})
        self.ledger = Ledger.from_json(self.meta.get("ledger", {}))
        self.sampler, self.executed = sampler, executed
        self.below = trained_level(base, sampler, settings.trained_steps)
        self.model = split_model(base, self.below)
        network = self.model.network
        assert isinstance(network, SplitNetwork)
        self.network = network
        self.network.tuned.requires_grad_(settings.trained_steps > 0)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        self.critic = Critic(self._count_features(), settings.critic_hidden)
        self.optimizer = torch.optim.AdamW(
            self.network.tuned.parameters(), settings.rate, weight_decay=0.0
        )
        self.critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), settings.critic_rate, weight_decay=0.0
        )
        self.iteration = 0
        self.seconds = 0.0

    def run(self, progress: bool = True) -> PolicyModel:
        """Tune to `settings.iterations`, saving to and going on from `folder`/checkpoints/last.

        SIGINT, SIGTERM and SIGHUP save first, then stop the run with `Interrupted`. Raises
        CheckpointError where another process writes there, or what is there is another run.
        """
        with hold(self.folder, CheckpointError, shared=True):
            self._resume()
            bar = tqdm(
                total=self.settings.iterations,
                initial=self.iteration,
                desc="fine-tuning",
                unit="iteration",
                disable=not progress,
            )
            with stop_flag() as asked, MetricsLog(self.folder, self.iteration) as log, bar:
                while self.iteration < self.settings.iterations:
                    numbers = self.advance()
                    log.write(self.iteration, numbers)
                    bar.set_postfix(success=f"{numbers['success']:.3f}", refresh=False)
                    bar.update()
                    if self._is_due() or asked():
                        self.save()
                    if asked():
                        raise Interrupted(self._say_stopped(), asked())
        return self.model

    def advance(self) -> dict[str, float]:
        """One rollout and one update; returns numbers to log."""
        began = time.monotonic()
        noisy = explore(self.sampler, self.settings.min_std)
        policy = DiffusionPolicy(self.model, noisy, self.executed)
        collector = Collector(policy, self.source, self.critic, self.below)
        rollout = collector.collect(self.settings.chunks, self._draw_seeds())
        if self.source.real:
            self.ledger = self.ledger.add("training", int(rollout.periods.sum()))
        numbers = self._learn(rollout, noisy)
        self.iteration += 1
        self.seconds += time.monotonic() - began
        episodes, successes = rollout.count_episodes()
        return {
            "success": successes / max(1, episodes),
            "episodes": float(episodes),
            "reward": float(rollout.reward.sum() / max(1, episodes)),
            "training_steps": float(self.ledger.training),
            "seconds": self.seconds,
            **numbers,
        }

    def _learn(self, rollout: Rollout, noisy: Sampler) -> dict[str, float]:
        """Update the critic, and the policy once the critic has warmed up."""
        settings = self.settings
        generator = torch.Generator()
        generator.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING, 1 + self.iteration))
        experience = self._prepare(rollout, noisy)
        loss = update_critic(self.critic, self.critic_optimizer, experience, settings, generator)
        numbers = {"critic_loss": loss}
        if experience.scored is None or self.iteration < settings.warm_up:
            return numbers
        tuned = self._step_model(self.network.tuned, noisy)
        tuned.network.train()
        numbers |= update_policy(
            tuned, self.optimizer, experience, experience.scored, settings, generator
        )
        tuned.network.eval()
        self.network.note_written()
        return numbers

    def _prepare(self, rollout: Rollout, noisy: Sampler) -> Experience:
        """Advantages, and the steps' probabilities before the update."""
        settings = self.settings
        advantage = estimate_advantages(
            rollout.reward,
            rollout.value,
            rollout.next_value,
            rollout.terminated,
            rollout.done,
            settings.discount,
            settings.trace,
        )
        returns = advantage + rollout.value
        usable = torch.as_tensor((rollout.periods > 0).reshape(-1))
        scored = None
        if rollout.steps is not None:
            steps = rollout.steps.take(torch.nonzero(usable[rollout.steps.chunk]).flatten())
            log_prob, mean = self._score(self.network.tuned, noisy, steps, rollout)
            _, base_mean = self._score(self.network.base, noisy, steps, rollout)
            scored = ScoredSteps(steps, log_prob, mean, base_mean)
        return Experience(
            scored=scored,
            tokens=rollout.tokens,
            features=rollout.features,
            advantage=torch.as_tensor(advantage.reshape(-1), dtype=torch.float32),
            returns=torch.as_tensor(returns.reshape(-1), dtype=torch.float32),
            usable=usable,
        )

    def _score(
        self, network: Network, noisy: Sampler, steps: Transitions, rollout: Rollout
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and means of the rollout's steps under a network."""
        model = self._step_model(network, noisy)
        return evaluate_steps(model, steps, rollout.tokens, self.settings.batch)

    def _step_model(self, network: Network, noisy: Sampler) -> StepModel:
        """A network with the solver and the clip that the exploring sampler has."""
        assert isinstance(noisy, Fresh | WarmStart | Streaming)
        assert isinstance(noisy.solver, DDIM)
        return StepModel(self.model, network, noisy.solver, noisy.clip)

    def _draw_seeds(self) -> IntArray:
        """Seeds (N + 1, B) of the iteration's episodes."""
        generator = numpy_generator(self.settings.seed, Purpose.FINETUNING_STARTS, self.iteration)
        shape = (self.settings.chunks + 1, self.source.rows)
        return generator.integers(FIRST_SEED, LAST_SEED, shape)

    def _count_features(self) -> int:
        """F of the critic: what `describe_rows` gives for one row."""
        policy = DiffusionPolicy(self.model, self.sampler, self.executed)
        state = policy.initial_state([0])
        observed = {name: torch.as_tensor(each) for name, each in state.history.items()}
        tokens = self.model.encode_tokens(observed)
        features = describe_rows(self.model, self.sampler, state, observed, tokens, np.zeros(1))
        return features.shape[1]

    def _is_due(self) -> bool:
        last = self.iteration == self.settings.iterations
        return last or self.iteration % self.settings.save_every == 0

    def _say_stopped(self) -> str:
        last = self.folder / "checkpoints" / "last"
        return (
            f"stopped; {last} holds iteration {self.iteration} of {self.settings.iterations}; "
            "the same command goes on from there"
        )

    def save(self) -> None:
        """Write `checkpoints/last`, with what is needed to go on."""
        tensors: dict[str, Tensor] = {}
        for name, weight in self.critic.state_dict().items():
            tensors[f"critic.{name}"] = weight
        tensors |= pack_optimizer(self.optimizer, "optimizer")
        tensors |= pack_optimizer(self.critic_optimizer, "critic_optimizer")
        state = {
            "step": self.iteration,
            "seconds": self.seconds,
            "best": None,
            "threads": torch.get_num_threads(),
        }
        meta = {
            **self.meta,
            "ledger": self.ledger.to_json(),
            "finetuning": asdict(self.settings),
            "finetuned_iterations": self.iteration,
            "versions": versions(),
        }
        checkpoint.save(self.folder / "checkpoints" / "last", self.model, meta, tensors, state)

    def _resume(self) -> None:
        """Go on from `checkpoints/last`, if it is there; raises CheckpointError for another run."""
        folder = checkpoint.recover(self.folder / "checkpoints" / "last")
        if not folder.exists():
            return
        saved, meta = checkpoint.load(folder)
        mend = f"choose another run name, or delete {self.folder} to begin anew"
        before = meta.get("finetuning")
        if not isinstance(before, dict):
            raise CheckpointError(f"{folder} is no fine-tuning run: {mend}")
        other = self.settings.find_difference(before)
        part = checkpoint.find_difference(self.model.config, saved.config)
        if other or part:
            raise CheckpointError(f"{folder} was tuned with another {other or part}: {mend}")
        tensors, state = checkpoint.load_training_state(folder)
        try:
            self.model.load_state_dict(saved.state_dict())
            self.critic.load_state_dict(select_tensors(tensors, "critic."))
            load_optimizer(self.optimizer, tensors, "optimizer")
            load_optimizer(self.critic_optimizer, tensors, "critic_optimizer")
        except checkpoint.BROKEN as error:
            raise CheckpointError(
                f"{folder} holds no state to go on from: {shorten(error)}"
            ) from error
        self.iteration, self.seconds = int(state["step"]), float(state["seconds"])
        self.ledger = Ledger.from_json(meta.get("ledger", {}))
