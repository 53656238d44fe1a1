"""How a policy is trained: what can be set, what is refused, and the learning rate of every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from ..spec import ConfigError
from .diffusion.objective import Regimes

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; lengths are in optimiser steps.

    `observation_noise` is the standard deviation of noise on the observed states, drawn apart for each observed step, in half
    ranges of the data: it keeps a policy from reading its next action off its last motion. `cache` says how pictures are held
    (ram, disk, none or auto, see datasets/frames.py) within `memory_gb`; `loaders` threads put batches with pictures together.
    `balanced` repeats the windows of tasks that have few of them, where the observation holds the task's words. `stratified`
    spreads the noise levels of a batch evenly, `uncertainty` learns how much each level counts (see objective.py).
    """

    steps: int = 10_000
    batch: int = 128
    learning_rate: float = 3e-4
    warmup: int = 250
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_power: float = 0.75
    observation_noise: float = 0.0
    cache: str = "auto"
    memory_gb: float = 4.0
    loaders: int = 1
    regimes: Regimes = field(default_factory=Regimes)
    validation_share: float = 0.05
    balanced: bool = False
    stratified: bool = False
    uncertainty: bool = False
    log_every: int = 50
    validate_every: int = 500
    save_every: int = 500
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} is {getattr(self, name)}; it must be at least 1")
        if self.observation_noise < 0:
            raise ConfigError(f"training.observation_noise is {self.observation_noise}; it must not be negative")
        if self.memory_gb <= 0 or self.loaders < 0:
            raise ConfigError(
                f"training.memory_gb is {self.memory_gb} and loaders {self.loaders}; above 0 and at least 0 wanted"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(f"training.precision is {self.precision!r}; choose one of {', '.join(PRECISIONS)}")

    def resolved_device(self) -> str:
        """`auto` is the GPU where there is one."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def autocast_bf16(self) -> bool:
        """`auto` is bf16 on a GPU that has it; on one CPU bf16 is slower than fp32, on another faster (BENCHMARKS.md)."""
        on_gpu = self.resolved_device() == "cuda"
        return self.precision == "bf16" or (self.precision == "auto" and on_gpu and torch.cuda.is_bf16_supported())

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then a cosine down to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
