"""Settings of a training, their limits, and the learning rate of every step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...spec import ConfigError, Horizon, option, unknown
from ..diffusion.regimes import Regimes, check_regimes

PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
WARMUP = 250
"""Most steps of a warm-up that is not given; a run below 2,500 steps takes a tenth of them."""
WHOLE = ("steps", "batch", "accumulate", "buffer", "log_every", "validate_every", "save_every")
MOST = {"steps": 10**9, "batch": 10**6, "loaders": 256, "threads": 1024}
ABOVE_ZERO = ("learning_rate", "clip_norm", "memory_gb")
FREE = {
    "accumulate",
    "log_every",
    "validate_every",
    "save_every",
    "threads",
    "device",
    "cache",
    "memory_gb",
    "loaders",
}
"""Settings that change no weight."""
NOT_NEGATIVE = (
    "weight_decay",
    "ema_power",
    "observation_noise",
    "correction_weight",
    "policy_weight",
    "loaders",
    "threads",
    "seed",
    "warmup",
)


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; lengths are in optimiser steps.

    More `steps` than before go on with a run that is done; the learning rate then follows the
    longer cosine. It rises over `warmup` steps, then falls by a cosine to 0 at `steps`.
    `observation_noise` is drawn apart for each observed step. It keeps a policy from reading its
    next action off its last motion. `cache` and `memory_gb` are those of datasets/frames.py,
    `stratified` and `learned_weighting` those of diffusion/objective.py.
    """

    steps: int = option(10_000, "optimiser steps; more of them go on with a run that is done")
    batch: int = option(128, "windows in a step, of all processes together")
    accumulate: int = option(
        1, "parts that a step's windows go through the network in, where memory is short"
    )
    learning_rate: float = option(3e-4, "highest learning rate (AdamW)")
    warmup: int | None = option(
        None, "steps until the learning rate is reached; none: 250, but at most a tenth of steps"
    )
    weight_decay: float = option(1e-4, "weight decay of AdamW")
    clip_norm: float = option(1.0, "gradients longer than this are shortened to it; inf: never")
    ema_power: float = option(
        0.75, "the averaged weights that are kept follow by 1 - (1 + step)^-ema_power"
    )
    observation_noise: float = option(
        0.0, "standard deviation of noise on observed states [normalised units of the data]"
    )
    cache: str = option("auto", "where decoded pictures are held: ram, disk, none or auto")
    memory_gb: float = option(4.0, "what the cache may take [GB]")
    buffer: int = option(
        16_384,
        "windows with pictures that are shuffled together where they come from shards; a larger "
        "number needs more of them on disk",
    )
    loaders: int = option(1, "threads that put batches with pictures together")
    regimes: Regimes = option(Regimes, "shares of the noise level regimes")
    validation_share: float = option(0.05, "share of the episodes held out for the validation loss")
    balanced: bool = option(
        False,
        "whether windows of rare tasks are repeated; the observation must hold an instruction",
    )
    correction_weight: float = option(
        1.0, "what a step counts in which an operator took over from a policy; others count 1"
    )
    policy_weight: float = option(
        1.0,
        "what a step counts in which a policy acted; 0: only what people did (HG-DAgger)",
    )
    stratified: bool = option(False, "whether a batch's noise levels are spread evenly")
    learned_weighting: bool = option(
        False, "whether the weight of each noise level in the loss is learned"
    )
    log_every: int = option(50, "steps between two records of the loss")
    validate_every: int = option(500, "steps between two validations")
    save_every: int = option(500, "steps between two checkpoints")
    seed: int = option(0, "what all random numbers of the training come from")
    precision: str = option(
        "auto", "numbers to compute with: fp32, bf16, or auto (bf16 on a GPU that has it)"
    )
    device: str = option("auto", "where to train: cpu, cuda, or auto (the GPU where there is one)")
    threads: int = option(0, "CPU threads; 0: as many as are free")

    def __post_init__(self) -> None:
        for name in WHOLE:
            self._check(name, getattr(self, name) >= 1, "be at least 1")
        for name, most in MOST.items():
            self._check(name, getattr(self, name) <= most, f"be at most {most:,}")
        for name in ABOVE_ZERO:
            self._check(name, getattr(self, name) > 0, "be above 0")
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            self._check(name, value is None or value >= 0, "not be negative")
        share = self.validation_share
        self._check("validation_share", 0 <= share < 1, "lie in [0, 1), as 0.05")
        if self.precision not in PRECISIONS:
            choices = ", ".join(PRECISIONS)
            raise ConfigError(f"training.precision is {self.precision!r}; choose one of {choices}")
        self._check_warmup()
        self._check_device()

    def _check(self, name: str, holds: bool, rule: str) -> None:
        """Raise ConfigError unless the rule `holds` for a setting."""
        if not holds:
            raise ConfigError(f"training.{name} is {getattr(self, name)}; it must {rule}")

    def _check_warmup(self) -> None:
        if self.warmup is not None and self.warmup > self.steps:
            raise ConfigError(
                f"training.warmup is {self.warmup}, but training.steps is {self.steps}: "
                f"the learning rate would never reach {self.learning_rate:g}; "
                f"give training.warmup={max(1, self.steps // 10)}, or leave it out"
            )

    def _check_device(self) -> None:
        if self.device not in DEVICES:
            raise ConfigError(unknown("choice for training.device", self.device, DEVICES))
        if self.device == "cuda" and not _has_gpu():
            raise ConfigError(
                "training.device is cuda, but torch finds no GPU here: "
                "leave it out, or give training.device=cpu"
            )

    def check_horizon(self, horizon: Horizon) -> None:
        """Raise ConfigError where the regimes cannot be trained on plans of `horizon`."""
        check_regimes(self.regimes, horizon)

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises."""
        return _warmup_steps(self.warmup, self.steps)

    def find_difference(self, saved: Mapping[str, Any]) -> str | None:
        """The first setting in which a `saved` run was trained otherwise.

        None where this one can go on with it: more steps can be given, and settings that change no
        weight may differ. A setting that an older run did not have counts as its default.
        """
        before, now = {**_plain(TrainingSettings()), **saved}, _plain(self)
        steps = before["steps"]
        if not isinstance(steps, int) or steps > self.steps:
            return "steps"
        before["steps"] = self.steps
        for settings in (before, now):
            settings["warmup"] = _warmup_steps(settings["warmup"], steps)
        for name, value in before.items():
            if name not in FREE and now.get(name) != value:
                return name
        return None

    def choose_device(self) -> str:
        """`cpu` or `cuda`; `auto` is the GPU where there is one."""
        if self.device != "auto":
            return self.device
        if _has_gpu():
            return "cuda"
        return "cpu"

    def uses_bf16(self) -> bool:
        """Whether to compute in bfloat16; `auto` does on a GPU that has it.

        On one CPU bf16 is slower than fp32, on another faster
        (docs/notebook/2026-11-26-a-second-pair-on-pusht.md).
        """
        if self.precision != "auto":
            return self.precision == "bf16"
        import torch  # not above: see _has_gpu

        return self.choose_device() == "cuda" and torch.cuda.is_bf16_supported()

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then a cosine down to zero."""
        warmup = self.warmup_steps
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _has_gpu() -> bool:
    import torch  # not above: `--help` and the checks of a configuration need no torch

    return torch.cuda.is_available()


def _warmup_steps(given: int | None, steps: int) -> int:
    """Steps of the warm-up in a run of `steps`."""
    if given is None:
        return min(WARMUP, steps // 10)
    return given


def _plain(settings: TrainingSettings) -> dict[str, Any]:
    """The settings as they stand in a checkpoint's meta.json."""
    return json.loads(json.dumps(asdict(settings)))
