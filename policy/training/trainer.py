"""The training loop: one function for every network, objective and data set.

Everything random in a step (which windows, levels, noise) is drawn from the seed and the step's
number. So a run that was killed and resumed goes on as if it had never stopped, bit for bit on the
CPU. Needs no simulator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...datasets.episodes import Dataset
from ...datasets.locks import hold
from ...seeds import Purpose, torch_seed
from ...spec import CheckpointError, DataError, shorten
from ...system.interrupts import Interrupted, stop_flag
from ...system.threads import choose_threads
from ...system.versions import versions
from .. import checkpoint
from ..denoisers.base import layer_weights
from ..diffusion.objective import draw_times
from ..model import ModelConfig, PolicyModel
from ..normalizer import ACTION
from .batches import Prefetcher, WindowBatches
from .data import TrainingData, check_specs, fit_normalizer, prepare_data
from .ema import EMA
from .metrics import MetricsLog
from .processes import current_share, draw_rows, synchronize
from .settings import TrainingSettings
from .slow_steps import SlowSteps

VALIDATION_BATCHES = 4
OnLog = Callable[[int, Mapping[str, float]], None]  # called with the step and what is logged there


class Trainer:
    """Model, average, optimiser and data of one run.

    `run` trains, saving to and resuming from `folder`/checkpoints. In each of several processes of
    a torch.distributed group `advance` takes the step that one process would take with the whole
    batch. Files are written by one process alone.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ModelConfig,
        settings: TrainingSettings,
        folder: Path,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """`meta` is added to that of the checkpoints.

        Raises ConfigError and DataError where data, model and settings do not fit each other.
        """
        settings.check_horizon(config.horizon)
        torch.set_num_threads(settings.threads or choose_threads(torch.get_num_threads()))
        check_specs(dataset, config)
        self.share = current_share()
        self.share.check(settings.batch)
        self.settings, self.folder = settings, Path(folder)
        self.device = settings.resolved_device()
        torch.manual_seed(torch_seed(settings.seed, Purpose.INITIALISATION))
        # Before pictures are decoded: what the model refuses is said at once.
        model = PolicyModel(replace(config, learned_weighting=settings.learned_weighting))
        data = prepare_data(dataset, config, settings, self.device)
        fit_normalizer(model, data)
        self.batches, self.held_out = data.batches, data.held_out
        loaders = 0
        if self.batches.frames:
            loaders = settings.loaders
        self.prefetcher = Prefetcher(self.batches, loaders)
        self.model = model.to(self.device)
        self.model.regimes = tuple(settings.regimes.trained())
        self.synchronized = synchronize(self.model)
        self.ema = EMA(self.model, settings.ema_power)
        self.optimizer = _optimizer(self.model, settings)
        self.meta = {**(meta or {}), **self._describe(dataset, data)}
        self.step, self.seconds = 0, 0.0
        self.best, self.warned = math.inf, False
        self.slow_steps = SlowSteps()

    def _describe(self, dataset: Dataset, data: TrainingData) -> dict[str, Any]:
        """What the checkpoints say about the run."""
        actions = data.statistics[ACTION]
        return {
            "dataset_hash": dataset.content_hash(),
            "rate_hz": dataset.fps,
            "action_scale": ((actions["max"] - actions["min"]) / 2).tolist(),
            "regimes": self.settings.regimes.trained(),
            "training": asdict(self.settings),
            "parameters": self.model.parameter_count,
            "versions": versions(),
        }

    def run(self, progress: bool = True, on_log: OnLog | None = None) -> PolicyModel:
        """Train to `settings.steps` and return the EMA model; SIGINT, SIGTERM and SIGHUP save first, then stop the run.

        Raises CheckpointError, at once, where another process trains in this folder.
        """
        with hold(self.folder, CheckpointError, shared=True):
            return self._run(progress, on_log)

    def _run(self, progress: bool, on_log: OnLog | None) -> PolicyModel:
        self._resume()
        log = MetricsLog(self.folder, self.step)
        bar = tqdm(
            total=self.settings.steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not progress,
        )
        with stop_flag() as asked, log, bar:
            while self.step < self.settings.steps:
                numbers = self.advance()
                self._report(numbers, log, bar, on_log)
                if asked():
                    self._stop(numbers, asked())
                bar.update()
        return self.ema.model

    def _stop(self, numbers: Mapping[str, Tensor], number: int) -> NoReturn:
        """Save and raise Interrupted: a signal has asked to stop. The terminal may be gone, so nothing is written to it."""
        self._check_finite(numbers)
        self._save("last")
        where = f"{self.folder / 'checkpoints' / 'last'} holds step {self.step} of {self.settings.steps}"
        raise Interrupted(f"stopped; {where}; the same command goes on from there", number)

    def advance(self) -> dict[str, Tensor]:
        """One optimiser step; returns its numbers, the loss among them."""
        began = time.monotonic()
        numbers = self._train_step()
        taken_s = time.monotonic() - began
        self.seconds += taken_s
        self.step += 1
        notice = self.slow_steps.note(taken_s)
        if notice:
            tqdm.write(f"step {self.step}: {notice}")
        return numbers

    def _train_step(self) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step)
        self.model.train()
        loss, numbers = self._loss(
            self.synchronized, self.prefetcher, self.step, self.settings.observation_noise
        )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.model.network.note_written()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.step)
        return {**numbers, "gradient_norm": norm}

    def _loss(
        self,
        model: nn.Module,
        batches: WindowBatches | Prefetcher,
        step: int,
        observation_noise: float = 0.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`PolicyModel.forward` on the batch of `step`; levels and noise come from seed and step.

        `model` is the trainer's model, its average, or its DistributedDataParallel.
        """
        settings = self.settings
        observation, commands = batches.at(step)
        actions = self.model.actions.encode(commands, observation)  # (B, T, A')
        levels, own = self._generator(Purpose.LEVELS, step), self._generator(Purpose.NOISE, step)
        horizon = self.model.config.horizon
        times = draw_times(settings.regimes, horizon, settings.batch, levels, settings.stratified)
        times = times.to(self.device)  # (G, T), of the batch of all processes
        noise = draw_rows(
            lambda rows: torch.randn(rows, *actions.shape[1:], generator=own), len(actions)
        )
        torch.manual_seed(torch_seed(settings.seed, Purpose.LAYERS, step))
        if observation_noise:
            own = self._generator(Purpose.OBSERVATIONS, step)
            observation = self.model.normalizer.augment_with_noise(
                observation, observation_noise, own
            )
        with torch.autocast(self.device, torch.bfloat16, enabled=settings.autocast_bf16()):
            return model(observation, actions, self.share.cut(times), noise.to(self.device), times)

    def _generator(self, purpose: Purpose, step: int) -> torch.Generator:
        """A generator on the CPU at the beginning of a step's stream."""
        return torch.Generator().manual_seed(torch_seed(self.settings.seed, purpose, step))

    @torch.no_grad()
    def validate(self) -> float | None:
        """Plain loss of the EMA model on held-out episodes, always on the same windows, levels and noise."""
        if self.held_out is None:
            return None
        losses = []
        for step in range(VALIDATION_BATCHES):
            losses.append(self._loss(self.ema.model, self.held_out, step)[1]["loss"])
        return float(torch.stack(losses).mean())

    def _report(
        self, numbers: Mapping[str, Tensor], log: MetricsLog, bar: tqdm[Any], on_log: OnLog | None
    ) -> None:
        """Write metrics and checkpoints where they are due; a loss that is not a number stops the run."""
        s, last = self.settings, self.step == self.settings.steps
        log_due, validate_due, save_due = (
            last or self.step % n == 0 for n in (s.log_every, s.validate_every, s.save_every)
        )
        record: dict[str, float] = {}
        if log_due or validate_due or save_due:
            self._check_finite(numbers)
        if log_due:
            record = {name: float(value) for name, value in numbers.items()}
            record |= {
                "learning_rate": self.settings.rate(self.step - 1),
                "seconds": self.seconds,
                **self._health(),
            }
            bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
        if validate_due:
            record |= self._validated()
        if record:
            log.write(self.step, record)
            if on_log is not None:
                on_log(self.step, record)
        if save_due:
            self._save("last")

    def _health(self) -> dict[str, float]:
        """What the network says of itself; a warning is shown once, and not before a fifth of the training."""
        health = self.model.network.health()
        if health.warning and not self.warned and self.step >= self.settings.steps / 5:
            self.warned = True
            tqdm.write(f"step {self.step}: {health.warning}")
        return health.numbers

    def _check_finite(self, numbers: Mapping[str, Tensor]) -> None:
        """Raise DataError for a loss or a gradient that is not a number: its weights must not replace the last good ones."""
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(value := float(numbers[name])):
                what = f"the {name.replace('_', ' ')} is {value} at step {self.step}"
                raise DataError(f"{what}: lower training.learning_rate, check the data")

    def _validated(self) -> dict[str, float]:
        loss = self.validate()
        if loss is None:
            return {}
        if loss < self.best:
            self.best = loss
            self._save("best")
        return {"validation_loss": loss}

    def _save(self, name: str) -> None:
        """Write a checkpoint; `best` is for use only, `last` holds the training state too."""
        meta = {**self.meta, "step": self.step, "training_seconds": round(self.seconds, 1)}
        target = self.folder / "checkpoints" / name
        if name == "best":
            checkpoint.save(target, self.ema.model, {**meta, "validation_loss": self.best})
            return
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best if math.isfinite(self.best) else None,
            "threads": torch.get_num_threads(),
        }
        checkpoint.save(target, self.ema.model, meta, self._tensors(), state)

    def _tensors(self) -> dict[str, Tensor]:
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        optimizer = self.optimizer.state_dict()["state"]
        return weights | {
            f"optimizer.{i}.{name}": torch.as_tensor(t)
            for i, s in optimizer.items()
            for name, t in s.items()
        }

    def _resume(self) -> None:
        """Go on from `checkpoints/last`, if it is there; refuse one of other data, model or settings."""
        folder = checkpoint.recover(self.folder / "checkpoints" / "last")
        if not folder.exists():
            return
        saved, meta = checkpoint.load(folder, self.device)
        try:
            self._check_same_run(meta, saved.config, folder)
            self._take_state(saved, *checkpoint.load_training_state(folder))
            self._say_extended(int(meta["training"]["steps"]))
        except CheckpointError:
            raise
        except checkpoint.BROKEN as error:
            raise CheckpointError(
                f"{folder} holds no training state to go on from: {shorten(error)}"
            ) from error

    def _take_state(
        self, saved: PolicyModel, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> None:
        """Go on from weights, optimiser and counters."""
        self.ema.model.load_state_dict(saved.state_dict())
        self.model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        self._load_optimizer(tensors)
        self._take_threads(int(state.get("threads", 0)))
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        if state["best"] is None:
            self.best = math.inf
        else:
            self.best = float(state["best"])

    def _say_extended(self, before: int) -> None:
        """Say what becomes of the learning rate where the run is to be longer than it was."""
        if before < self.settings.steps:
            tqdm.write(
                f"{self.folder} goes on from step {self.step} to {self.settings.steps} in place of {before}: the learning rate "
                f"follows the longer cosine from here, beginning at {self.settings.rate(self.step):.2e}"
            )

    def _take_threads(self, before: int) -> None:
        """Go on with as many threads as before, where this process has them: another number sums in another order."""
        if before and not self.settings.threads and before <= torch.get_num_threads():
            torch.set_num_threads(before)

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                state.setdefault(int(number), {})[name] = tensor
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})

    def _check_same_run(self, meta: Mapping[str, Any], config: ModelConfig, folder: Path) -> None:
        mend = f"choose another run name, or delete {self.folder} to begin anew"
        if meta["dataset_hash"] != self.meta["dataset_hash"]:
            raise CheckpointError(f"{folder} was trained on other data: {mend}")
        part = checkpoint.find_difference(
            self.model.config,
            replace(config, learned_weighting=self.model.config.learned_weighting),
        )
        if part:
            raise CheckpointError(f"{folder} was trained with another {part}: {mend}")
        other = self.settings.differing(meta["training"])
        if other == "steps":
            raise CheckpointError(
                f"{folder} was trained with training.steps={meta['training']['steps']}: give as many or more, or {mend}"
            )
        if other:
            raise CheckpointError(f"{folder} was trained with another training.{other}: {mend}")


def _optimizer(model: PolicyModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW (1711.05101); only matrices of linear layers and convolutions decay, and what the network adds."""
    chosen = {id(p) for p in (*layer_weights(model), *model.network.decayed_parameters())}
    decayed = [p for p in model.parameters() if id(p) in chosen]
    kept = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
