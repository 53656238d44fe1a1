"""A model under training: its loss, its optimiser and its average, whatever the batches are."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ...seeds import Purpose, torch_seed
from ..denoisers.base import layer_weights
from ..diffusion.objective import draw_times
from ..model import PolicyModel
from .batches import Batch
from .ema import EMA
from .processes import Share, current_share, draw_rows, synchronize, work_on_part
from .settings import TrainingSettings


class Learner:
    """One optimiser step after the other; all that a step draws comes from seed and step."""

    def __init__(self, model: PolicyModel, settings: TrainingSettings) -> None:
        """Train `model`; its average is `self.ema.model`."""
        self.model, self.settings = model, settings
        self.synchronized = synchronize(model)
        self.ema = EMA(model, settings.ema_power)
        self.optimizer = _make_optimizer(model, settings)

    def take_step(
        self, batch: Batch, step: int, rate: float, step_weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Learn from the batch of `step` at a learning rate; returns numbers to log."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        numbers = self._learn_in_parts(batch, step, step_weight)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.model.network.note_written()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model, step)
        return {**numbers, "gradient_norm": norm}

    def _learn_in_parts(
        self, batch: Batch, step: int, step_weight: Tensor | None
    ) -> dict[str, Tensor]:
        """Gradients of the batch, whose rows go through the network in equal parts.

        Returns the means of the parts' numbers.
        """
        parts = self.settings.accumulate
        noise = self.settings.observation_noise
        found: list[dict[str, Tensor]] = []
        for part in range(parts):
            own = Share(part, parts)
            weight = None
            if step_weight is not None:
                weight = own.cut(step_weight)
            with work_on_part(part, parts), self._hold_back(part + 1 < parts):
                rows = cut_batch(batch, own)
                loss, numbers = self.compute_loss(self.synchronized, rows, step, noise, weight)
                (loss / parts).backward()
            found.append(numbers)
        means: dict[str, Tensor] = {}
        for name in found[0]:
            means[name] = torch.stack([numbers[name] for numbers in found]).mean(0)
        return means

    def _hold_back(self, more: bool) -> AbstractContextManager[None]:
        """Where more parts follow, gradients stay in their process until the last one."""
        if more and isinstance(self.synchronized, nn.parallel.DistributedDataParallel):
            return self.synchronized.no_sync()
        return nullcontext()

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        step: int,
        observation_noise: float = 0.0,
        step_weight: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`PolicyModel.forward` on a batch; levels and noise come from seed and step.

        `model` is the learner's model, its average, or its DistributedDataParallel.
        """
        settings = self.settings
        observation, commands = batch
        actions = self.model.actions.encode(commands, observation)  # (B, T, A')
        device = actions.device
        times = draw_times(
            settings.regimes,
            self.model.config.horizon,
            settings.batch,
            self._generator(Purpose.LEVELS, step),
            settings.stratified,
        ).to(device)  # (G, T), of the batch of all processes
        generator = self._generator(Purpose.NOISE, step)
        noise = draw_rows(
            lambda rows: torch.randn(rows, *actions.shape[1:], generator=generator), len(actions)
        ).to(device)
        torch.manual_seed(torch_seed(settings.seed, Purpose.LAYERS, step))
        if observation_noise:
            generator = self._generator(Purpose.OBSERVATIONS, step)
            observation = self.model.normalizer.augment_with_noise(
                observation, observation_noise, generator
            )
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.uses_bf16()):
            mine = current_share().cut(times)
            return model(observation, actions, mine, noise, times, step_weight)

    def _generator(self, purpose: Purpose, step: int) -> torch.Generator:
        """A generator on the CPU at the beginning of a step's stream."""
        return torch.Generator().manual_seed(torch_seed(self.settings.seed, purpose, step))


def cut_batch(batch: Batch, share: Share) -> Batch:
    """The rows of a share."""
    observation, commands = batch
    return {name: share.cut(value) for name, value in observation.items()}, share.cut(commands)


def _make_optimizer(model: PolicyModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW (1711.05101), without weight decay for what neither layers nor the network name.

    Matrices of linear layers and convolutions decay; biases, norms and tables do not.
    """
    chosen = {id(p) for p in (*layer_weights(model), *model.network.decayed_parameters())}
    decayed, kept = [], []
    for parameter in model.parameters():
        if id(parameter) in chosen:
            decayed.append(parameter)
        else:
            kept.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
