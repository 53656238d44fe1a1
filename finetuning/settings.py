"""How a policy is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..spec import ConfigError, option
from .sources import Reward


@dataclass(frozen=True)
class PPOSettings:
    """PPO over the last denoising steps (DPPO, 2409.00588)."""

    iterations: int = option(60, "rollouts, each followed by an update")
    rows: int = option(64, "episodes side by side in a rollout")
    chunks: int = option(40, "action chunks of each row in a rollout")
    trained_steps: int = option(5, "last denoising steps of a fresh plan that are trained")
    min_std: float = option(
        0.1, "least noise of a denoising step while it is tuned", "normalised units"
    )
    rate: float = option(1e-4, "learning rate of the policy")
    critic_rate: float = option(1e-3, "learning rate of the critic")
    critic_hidden: int = option(128, "width of the critic")
    warm_up: int = option(1, "iterations in which the critic alone learns")
    epochs: int = option(4, "passes over a rollout")
    batch: int = option(2048, "denoising steps in a batch")
    share: float = option(0.5, "share of a rollout's denoising steps that a pass takes")
    clip: float = option(0.03, "PPO's clip at the last denoising step")
    clip_first: float = option(0.003, "PPO's clip at the noisiest trained step")
    discount: float = option(0.99, "discount of rewards per chunk")
    trace: float = option(0.95, "lambda of the advantages")
    denoising_discount: float = option(0.95, "discount of advantages per denoising step")
    divergence: float = option(0.05, "weight of the KL divergence to the base; 0: none")
    stop_divergence: float = option(1.0, "KL to the policy before the update that ends it")
    clip_norm: float = option(1.0, "largest norm of a gradient")
    reward: Reward = option(
        "success", "success (1 when first fulfilled), environment, or score (how much it rises)"
    )
    seed: int = option(0, "seed of all that is random")
    save_every: int = option(5, "iterations between checkpoints")

    def __post_init__(self) -> None:
        for name in ("iterations", "rows", "chunks", "epochs", "batch", "critic_hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"method.{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("rate", "critic_rate", "clip", "clip_first", "min_std", "share", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"method.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("discount", "trace", "denoising_discount", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"method.{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if self.clip_first > self.clip:
            raise ConfigError(
                f"method.clip_first is {self.clip_first}; it must be at most method.clip, "
                f"{self.clip}: noisy steps are held tighter"
            )
        if self.trained_steps < 0 or self.warm_up < 0:
            raise ConfigError("method.trained_steps and method.warm_up must be 0 or more")

    def find_difference(self, other: dict[str, Any]) -> str | None:
        """The first setting in which a run before differs; more iterations are no difference."""
        for each in fields(self):
            if each.name in ("iterations", "save_every"):
                continue
            if other.get(each.name) != getattr(self, each.name):
                return each.name
        return None
