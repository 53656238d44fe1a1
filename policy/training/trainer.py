"""The training loop: one function for every network, objective and data set.

Everything random in a step (which windows, levels, noise) is drawn from the seed and the step's
number. So a run that was killed and resumed goes on as if it had never stopped, bit for bit on the
CPU. Needs no simulator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from ...datasets.episodes import Dataset
from ...datasets.locks import hold
from ...seeds import Purpose, torch_seed
from ...spec import CheckpointError, DataError, shorten
from ...system.interrupts import Interrupted, stop_flag
from ...system.threads import choose_threads
from ...system.versions import versions
from .. import checkpoint
from ..model import ModelConfig, PolicyModel
from ..normalizer import ACTION
from .batches import Prefetcher
from .data import TrainingData, check_specs, fit_normalizer, prepare_data
from .learner import Learner
from .metrics import MetricsLog
from .optimizer_state import load_optimizer, pack_optimizer, select_tensors
from .processes import current_share, find_greatest, find_mean
from .same_run import check_same_run, hash_numbers
from .settings import TrainingSettings
from .slow_steps import SlowSteps

VALIDATION_BATCHES = 4
OnLog = Callable[[int, Mapping[str, float]], None]  # called with the step and what is logged there


class Trainer:
    """Model, average, optimiser and data of one run.

    `run` trains, saving to and resuming from `folder`/checkpoints. In each of several processes of
    a torch.distributed group it takes the steps that one process would take with the whole batch,
    and the first process writes the files. Another number of processes may go on.
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
        self.share.check(settings.batch, settings.accumulate)
        self.settings, self.folder = settings, Path(folder)
        self.device = settings.choose_device()
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
        self.model.regimes = tuple(settings.regimes.names())
        self.learner = Learner(self.model, settings)
        self.ema, self.optimizer = self.learner.ema, self.learner.optimizer
        self.meta = {**(meta or {}), **self._describe(dataset, data)}
        self.step, self.seconds = 0, 0.0
        self.best, self.warned = math.inf, False
        self.slow_steps = SlowSteps()

    def _describe(self, dataset: Dataset, data: TrainingData) -> dict[str, Any]:
        """What the checkpoints say about the run."""
        actions = data.statistics[ACTION]
        mixed: dict[str, Any] = {}
        if data.sources:
            mixed["sources"] = dict(data.sources)
        return {
            **mixed,
            "dataset_hash": dataset.content_hash(),
            "numbers_hash": hash_numbers(dataset),
            "ledger": {"demonstrations": int(dataset.episode_ends[-1])},  # held out ones too
            "rate_hz": dataset.fps,
            "action_scale": ((actions["max"] - actions["min"]) / 2).tolist(),
            "regimes": self.settings.regimes.names(),
            "training": asdict(self.settings),
            "parameters": self.model.parameter_count,
            "versions": versions(),
        }

    def run(self, progress: bool = True, on_log: OnLog | None = None) -> PolicyModel:
        """Train to `settings.steps` and return the EMA model.

        SIGINT, SIGTERM and SIGHUP save first, then stop the run with `Interrupted`.

        Raises CheckpointError, at once, where another process trains in this folder.
        """
        with ExitStack() as stack:
            if self.share.leads:
                stack.enter_context(hold(self.folder, CheckpointError, shared=True))
                checkpoint.recover(self.folder / "checkpoints" / "last")
            find_greatest(0)  # all processes read what the first one has put right
            return self._run(progress and self.share.leads, on_log)

    def _run(self, progress: bool, on_log: OnLog | None) -> PolicyModel:
        self._resume()
        bar = tqdm(
            total=self.settings.steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not progress,
        )
        with stop_flag() as asked, bar, ExitStack() as stack:
            log = None
            if self.share.leads:
                log = stack.enter_context(MetricsLog(self.folder, self.step))
            while self.step < self.settings.steps:
                numbers = self.advance()
                self._report(numbers, log, bar, on_log)
                signal = find_greatest(asked())
                if signal:
                    self._stop(numbers, signal)
                bar.update()
        return self.ema.model

    def _stop(self, numbers: Mapping[str, Tensor], number: int) -> NoReturn:
        """Save and raise Interrupted, since signal `number` has asked to stop.

        The terminal may be gone, so nothing is written to it.
        """
        self._check_finite(numbers)
        self._save("last")
        last = self.folder / "checkpoints" / "last"
        raise Interrupted(
            f"stopped; {last} holds step {self.step} of {self.settings.steps}; "
            "the same command goes on from there",
            number,
        )

    def advance(self) -> dict[str, Tensor]:
        """One optimiser step; returns its numbers, the loss among them."""
        began = time.monotonic()
        numbers = self._train_step()
        taken_s = time.monotonic() - began
        self.seconds += taken_s
        self.step += 1
        notice = self.slow_steps.note(taken_s)
        if notice:
            self._say(f"step {self.step}: {notice}")
        return numbers

    def _train_step(self) -> dict[str, Tensor]:
        batch = self.prefetcher.at(self.step)
        rate = self.settings.rate(self.step)
        return self.learner.take_step(batch, self.step, rate, self.batches.weigh(self.step))

    @torch.no_grad()
    def validate(self) -> float | None:
        """Plain loss of the EMA model on held-out episodes; None where no episode is held out.

        The windows, levels and noise are the same at every call.
        """
        if self.held_out is None:
            return None
        losses = []
        for step in range(VALIDATION_BATCHES):
            batch = self.held_out.at(step)
            weight = self.held_out.weigh(step)
            _, numbers = self.learner.compute_loss(self.ema.model, batch, step, 0.0, weight)
            losses.append(numbers["loss"])
        return find_mean(float(torch.stack(losses).mean()))

    def _report(
        self,
        numbers: Mapping[str, Tensor],
        log: MetricsLog | None,
        bar: tqdm[Any],
        on_log: OnLog | None,
    ) -> None:
        """Write metrics and checkpoints where they are due.

        Raises DataError for a loss that is not a number.
        """
        log_due = self._is_due(self.settings.log_every)
        validate_due = self._is_due(self.settings.validate_every)
        save_due = self._is_due(self.settings.save_every)
        if not (log_due or validate_due or save_due):
            return
        self._check_finite(numbers)
        record: dict[str, float] = {}
        if log_due:
            record = self._make_record(numbers)
            bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
        if validate_due:
            record |= self._validate_and_keep()
        if record:
            if log is not None:
                log.write(self.step, record)
            if on_log is not None:
                on_log(self.step, record)
        if save_due:
            self._save("last")

    def _is_due(self, every: int) -> bool:
        """Whether what is done every so many steps is due now; all of it is after the last step."""
        return self.step == self.settings.steps or self.step % every == 0

    def _make_record(self, numbers: Mapping[str, Tensor]) -> dict[str, float]:
        """A step's numbers with its learning rate, the time, and what the network says of itself.

        A network's warning is shown once, and not before a fifth of the training.
        """
        record: dict[str, float] = {}
        for name, value in numbers.items():
            record[name] = find_mean(float(value))
        record["learning_rate"] = self.settings.rate(self.step - 1)
        record["seconds"] = self.seconds
        health = self.model.network.health()
        if health.warning and not self.warned and self.step >= self.settings.steps / 5:
            self.warned = True
            self._say(f"step {self.step}: {health.warning}")
        return {**record, **health.numbers}

    def _check_finite(self, numbers: Mapping[str, Tensor]) -> None:
        """Raise DataError for a loss or a gradient that is not finite.

        Weights after such a step must not replace the last good ones.
        """
        for name in ("loss", "gradient_norm"):
            value = float(numbers[name])
            if not math.isfinite(value):
                raise DataError(
                    f"the {name.replace('_', ' ')} is {value} at step {self.step}: "
                    "lower training.learning_rate, check the data"
                )

    def _validate_and_keep(self) -> dict[str, float]:
        """The validation loss to log; the checkpoint with the lowest one is kept as `best`."""
        loss = self.validate()
        if loss is None:
            return {}
        if loss < self.best:
            self.best = loss
            self._save("best")
        return {"validation_loss": loss}

    def _say(self, words: str) -> None:
        """A line above the progress bar, once for all processes."""
        if self.share.leads:
            tqdm.write(words)

    def _save(self, name: str) -> None:
        """Write a checkpoint from the first process; the others wait for it."""
        if self.share.leads:
            self._write_checkpoint(name)
        find_greatest(0)

    def _write_checkpoint(self, name: str) -> None:
        """`best` is for use only, `last` holds the training state too."""
        meta = {**self.meta, "step": self.step, "training_seconds": round(self.seconds, 1)}
        target = self.folder / "checkpoints" / name
        if name == "best":
            checkpoint.save(target, self.ema.model, {**meta, "validation_loss": self.best})
            return
        best = None
        if math.isfinite(self.best):
            best = self.best
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "best": best,
            "threads": torch.get_num_threads(),
        }
        checkpoint.save(target, self.ema.model, meta, self._tensors(), state)

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and the optimiser's moments, `model.NAME` and `optimizer.NUMBER.NAME`."""
        tensors: dict[str, Tensor] = {}
        for name, weight in self.model.state_dict().items():
            tensors[f"model.{name}"] = weight
        return tensors | pack_optimizer(self.optimizer, "optimizer")

    def _resume(self) -> None:
        """Go on from `checkpoints/last`, if it is there.

        Raises CheckpointError where it is of other data, another model or other settings.
        """
        folder = checkpoint.recover(self.folder / "checkpoints" / "last")
        if not folder.exists():
            return
        saved, meta = checkpoint.load(folder, self.device)
        try:
            same_data = meta["dataset_hash"] == self.meta["dataset_hash"]
            check_same_run(folder, meta, saved.config, same_data, self.model.config, self.settings)
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
        """Go on from weights, optimiser and counters, as `_tensors` and `_save` wrote them."""
        self.ema.model.load_state_dict(saved.state_dict())
        self.model.load_state_dict(select_tensors(tensors, "model."))
        load_optimizer(self.optimizer, tensors, "optimizer")
        self._take_threads(int(state.get("threads", 0)))
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.best = math.inf
        if state["best"] is not None:
            self.best = float(state["best"])

    def _say_extended(self, before: int) -> None:
        """Say what becomes of the learning rate where the run is to be longer than it was."""
        if before < self.settings.steps:
            self._say(
                f"{self.folder} goes on from step {self.step} to {self.settings.steps} in place of "
                f"{before}: the learning rate follows the longer cosine from here, beginning at "
                f"{self.settings.rate(self.step):.2e}"
            )

    def _take_threads(self, before: int) -> None:
        """Go on with as many threads as before, where this process has them.

        Another number sums in another order.
        """
        if before and not self.settings.threads and before <= torch.get_num_threads():
            torch.set_num_threads(before)
