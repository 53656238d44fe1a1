"""Options that several methods of fine-tuning share."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import ConfigError, option
from .tuner import MethodSettings


@dataclass(frozen=True)
class UpdateSettings(MethodSettings):
    """Updates of a policy: passes over a rollout, held near the base and near what it was."""

    rate: float = option(1e-4, "learning rate of the policy")
    epochs: int = option(4, "passes over a rollout")
    batch: int = option(2048, "samples in a batch: denoising steps, or plans where they are one")
    divergence: float = option(0.05, "weight of the KL divergence to the base; 0: none")
    stop_divergence: float = option(1.0, "KL to the policy before the update that ends it")
    clip_norm: float = option(1.0, "largest norm of a gradient")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("epochs", "batch"))
        self.check_positive(("rate", "clip_norm"))


@dataclass(frozen=True)
class CriticSettings(MethodSettings):
    """Advantages by a learned value (1506.02438)."""

    critic_rate: float = option(1e-3, "learning rate of the critic")
    critic_hidden: int = option(128, "width of the critic")
    warm_up: int = option(1, "iterations in which the critic alone learns")
    discount: float = option(0.99, "discount of rewards per chunk")
    trace: float = option(0.95, "lambda of the advantages")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("critic_hidden",))
        self.check_least(0, ("warm_up",))
        self.check_positive(("critic_rate",))
        self.check_shares(("discount", "trace"))


@dataclass(frozen=True)
class StepSettings(UpdateSettings):
    """Updates of the last denoising steps."""

    trained_steps: int = option(5, "last denoising steps of a fresh plan that are trained")
    min_std: float = option(
        0.1, "least noise of a denoising step while it is tuned", "normalised units"
    )
    share: float = option(0.5, "share of a rollout's denoising steps that a pass takes")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(0, ("trained_steps",))
        self.check_positive(("min_std", "share"))
        self.check_shares(("share",))


@dataclass(frozen=True)
class LadderSettings(StepSettings):
    """Updates that hold noisy denoising steps tighter (DPPO, 2409.00588, section 4)."""

    clip: float = option(0.03, "PPO's clip at the last denoising step")
    clip_first: float = option(0.003, "PPO's clip at the noisiest trained step")
    denoising_discount: float = option(0.95, "discount of advantages per denoising step")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(("clip", "clip_first"))
        self.check_shares(("denoising_discount",))
        if self.clip_first > self.clip:
            raise ConfigError(
                f"method.clip_first is {self.clip_first}; it must be at most method.clip, "
                f"{self.clip}: noisy steps are held tighter"
            )
