"""Trains a jump model on the windows of a play."""

from __future__ import annotations

import torch
from torch import Tensor

from ..seeds import Purpose, torch_seed
from .fitting import FitSettings, draw_rows, fit
from .jump import JumpModel, JumpSettings, find_events
from .play import Play


def train_jump(
    play: Play, jump: int, settings: JumpSettings, fitting: FitSettings, progress: bool = True
) -> tuple[JumpModel, list[dict[str, float]]]:
    """A jump model that has learned from all windows of a play, and the records of its training."""
    torch.manual_seed(torch_seed(fitting.seed, Purpose.WORLD_MODEL))
    model = JumpModel.fit_layout(play, jump, settings)
    windows = play.list_windows(model.stride)
    index = torch.as_tensor(windows)
    encoded = model.encode(play)
    chunks = torch.as_tensor(play.take_chunks(windows, model.stride))
    with torch.no_grad():
        inputs = model.make_inputs(model.begin(encoded, index), chunks)
        targets = model.find_target(encoded, index)
        noise = fitting.jitter * model.input_noise()
    events = torch.as_tensor(find_events(model, play, windows))
    weight = torch.where(events, fitting.events, 1.0)

    def compute(generator: torch.Generator) -> Tensor:
        chosen = draw_rows(weight, fitting.batch * model.members, generator)
        disturbed = inputs[chosen]
        disturbed = disturbed + noise * torch.randn(disturbed.shape, generator=generator)
        return model.compute_loss(disturbed, targets[chosen])

    records = fit(model.network, compute, fitting.updates, fitting, "dynamics", progress)
    return model.eval().requires_grad_(False), records
