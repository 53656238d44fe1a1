"""What every method of fine-tuning shares: rounds, checkpoints, and going on.

Every round begins new episodes and draws from the seed and its own number. So a run that was
stopped goes on as if it had never stopped, bit for bit on a CPU.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..datasets.locks import hold
from ..policy import checkpoint
from ..policy.model import PolicyModel
from ..policy.samplers.base import Sampler
from ..policy.training.metrics import MetricsLog
from ..policy.training.optimizer_state import load_optimizer, pack_optimizer, select_tensors
from ..seeds import Purpose, numpy_generator, torch_seed
from ..spec import CheckpointError, ConfigError, IntArray, RolloutSource, option, shorten
from ..system.interrupts import Interrupted, stop_flag
from ..system.versions import versions
from .ledger import Ledger
from .sources import Reward

FIRST_SEED = 10**6
"""Episodes of fine-tuning have seeds from here on: those below are for evaluation and for data."""
LAST_SEED = 2**31 - 1
MAY_CHANGE = ("iterations", "save_every")
"""Settings in which a run may differ from the one that it goes on with."""
KEPT = "kept"
"""Beginning of the names of what `Tuner.tensors` gives, in a checkpoint."""


@dataclass(frozen=True)
class Setup:
    """What is tuned, for which sampler, on which episodes, and where it is kept."""

    base: PolicyModel
    sampler: Sampler
    source: RolloutSource
    folder: Path
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Of the base's checkpoint; its ledger goes on."""
    executed: int | None = None
    """Ta, where it is not the checkpoint's own."""


@dataclass(frozen=True)
class MethodSettings(ABC):
    """What all methods share: rounds of episodes, what they are paid, seeds."""

    iterations: int = option(60, "rollouts, each followed by an update")
    rows: int = option(64, "episodes side by side in a rollout")
    chunks: int = option(40, "action chunks of each row in a rollout")
    reward: Reward = option(
        "success", "success (1 when first fulfilled), environment, or score (how much it rises)"
    )
    seed: int = option(0, "seed of all that is random")
    save_every: int = option(5, "iterations between checkpoints")

    def __post_init__(self) -> None:
        """Raise ConfigError for settings that cannot be."""
        self.check_least(1, ("iterations", "rows", "chunks", "save_every"))

    @abstractmethod
    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """The tuner of this method; raises ConfigError for a sampler that it cannot tune."""

    def find_difference(self, other: Mapping[str, Any]) -> str | None:
        """The first setting in which a run before differs; more iterations are no difference."""
        for each in fields(self):
            if each.name in MAY_CHANGE:
                continue
            if other.get(each.name) != getattr(self, each.name):
                return each.name
        return None

    def check_least(self, least: int, names: Sequence[str]) -> None:
        """Raise ConfigError for a whole number below `least`."""
        for name in names:
            if getattr(self, name) < least:
                value = getattr(self, name)
                raise ConfigError(f"method.{name} is {value}; it must be {least} or more")

    def check_positive(self, names: Sequence[str]) -> None:
        """Raise ConfigError for a number that is not above 0."""
        for name in names:
            if not getattr(self, name) > 0:
                raise ConfigError(f"method.{name} is {getattr(self, name)}; it must be above 0")

    def check_shares(self, names: Sequence[str]) -> None:
        """Raise ConfigError for a number outside [0, 1]."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"method.{name} is {getattr(self, name)}; it must lie in [0, 1]")


S = TypeVar("S", bound=MethodSettings)
"""Settings of a tuner's method."""


class Tuner(ABC, Generic[S]):
    """A policy that is tuned in rounds. A method says what a round is and which parts it trains."""

    model: PolicyModel
    """What is tuned, in the form in which it is saved and deployed."""

    def __init__(self, settings: S, setup: Setup) -> None:
        self.settings = settings
        self.source = setup.source
        self.sampler = setup.sampler
        self.executed = setup.executed
        self.folder = Path(setup.folder)
        self.meta = dict(setup.meta)
        self.ledger = Ledger.from_json(self.meta.get("ledger", {}))
        self.iteration = 0
        self.seconds = 0.0
        self.imagined = 0
        """Control periods of the source that were not real."""

    @abstractmethod
    def advance_round(self) -> dict[str, float]:
        """One round; returns numbers to log, `success` of the round's episodes among them."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Networks beside the model that a run needs to go on, by name."""

    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers, by name."""

    def tensors(self) -> dict[str, Tensor]:
        """What else a run needs to go on, as the episodes that it keeps; nothing by default."""
        return {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave; raises CheckpointError for what is not known."""
        if tensors:
            raise CheckpointError(f"the method knows nothing of {shorten(list(tensors))}")

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
                while self.iteration < self.settings.iterations and not self.is_over():
                    numbers = self.advance()
                    log.write(self.iteration, numbers)
                    bar.set_postfix(success=f"{numbers['success']:.3f}", refresh=False)
                    bar.update()
                    if self._is_due() or asked():
                        self.save()
                    if asked():
                        raise Interrupted(self._say_stopped(), asked())
        return self.model

    def is_over(self) -> bool:
        """Whether the run ends before its iterations do; most methods never do."""
        return False

    def advance(self) -> dict[str, float]:
        """One round; returns numbers to log, steps and seconds so far among them."""
        began = time.monotonic()
        numbers = self.advance_round()
        if not self.source.real:
            numbers["imagined_steps"] = float(self.imagined)
        self.iteration += 1
        self.seconds += time.monotonic() - began
        return {
            **numbers,
            "training_steps": float(self.ledger.training),
            "seconds": self.seconds,
        }

    def count_training(self, periods: int) -> None:
        """Put control periods of the source into the ledger, unless they were imagined."""
        if self.source.real:
            self.ledger = self.ledger.add("training", periods)
        else:
            self.imagined += periods

    def draw_seeds(self, chunks: int) -> IntArray:
        """Seeds (chunks + 1, B) of the round's episodes."""
        generator = numpy_generator(self.settings.seed, Purpose.FINETUNING_STARTS, self.iteration)
        return generator.integers(FIRST_SEED, LAST_SEED, (chunks + 1, self.source.rows))

    def make_generator(self) -> torch.Generator:
        """What the round's update draws from."""
        generator = torch.Generator()
        generator.manual_seed(
            torch_seed(self.settings.seed, Purpose.FINETUNING, 1 + self.iteration)
        )
        return generator

    def save(self) -> None:
        """Write `checkpoints/last`, with what is needed to go on."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts().items():
            for key, weight in part.state_dict().items():
                tensors[f"{name}.{key}"] = weight
        for name, optimizer in self.optimizers().items():
            tensors |= pack_optimizer(optimizer, name)
        for name, tensor in self.tensors().items():
            tensors[f"{KEPT}.{name}"] = tensor
        state = {
            "step": self.iteration,
            "seconds": self.seconds,
            "imagined": self.imagined,
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

    def _is_due(self) -> bool:
        last = self.iteration == self.settings.iterations or self.is_over()
        return last or self.iteration % self.settings.save_every == 0

    def _say_stopped(self) -> str:
        last = self.folder / "checkpoints" / "last"
        return (
            f"stopped; {last} holds iteration {self.iteration} of {self.settings.iterations}; "
            "the same command goes on from there"
        )

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
            for name, network in self.parts().items():
                network.load_state_dict(select_tensors(tensors, f"{name}."))
            for name, optimizer in self.optimizers().items():
                load_optimizer(optimizer, tensors, name)
            self.load_tensors(select_tensors(tensors, f"{KEPT}."))
        except checkpoint.BROKEN as error:
            raise CheckpointError(
                f"{folder} holds no state to go on from: {shorten(error)}"
            ) from error
        self.iteration, self.seconds = int(state["step"]), float(state["seconds"])
        self.imagined = int(state.get("imagined", 0))
        self.ledger = Ledger.from_json(meta.get("ledger", {}))
