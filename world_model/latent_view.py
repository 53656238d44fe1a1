"""What a latent model imagines, beside what happened, as one picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..spec import ConfigError
from .base import WorldModel
from .play import Play


@torch.no_grad()
def predict_strip(
    model: WorldModel, play: Play, episode: int, start: int = 0, steps: int = 40, every: int = 4
) -> NDArray[np.uint8]:
    """Recorded pictures above imagined ones, for every camera, uint8 (rows, columns, 3).

    The model sees the episode up to its step `start` and is told the `steps` recorded actions
    after it. Each column is `every` control periods after the one before; the first is `start`.
    Raises ConfigError where the episode is too short, or holds no picture.
    """
    cameras = [name for name, key in play.obs_spec.keys.items() if key.kind == "image"]
    if not cameras:
        raise ConfigError("the play holds no pictures to show")
    first = int(play.first[episode])
    length = int(play.episode_ends[episode]) - first
    chunks = steps // model.jump
    if start < 0 or start + chunks * model.jump >= length:
        raise ConfigError(
            f"{steps} steps from step {start} are asked of episode {episode}, "
            f"which has {length} steps"
        )
    begin = first + start
    imagined = _imagine(model, play, begin, chunks, cameras)
    shown = np.arange(0, chunks * model.jump + 1, every)
    rows = []
    for name in cameras:
        rows.append(_lay_out(play.observations[name][begin + shown]))
        rows.append(_lay_out(imagined[name][shown]))
    return np.concatenate(rows)


def _imagine(
    model: WorldModel, play: Play, begin: int, chunks: int, cameras: list[str]
) -> dict[str, NDArray[np.uint8]]:
    """Pictures of `begin` and of every step of the chunks after it, name -> (n, H, W, C)."""
    encoded = model.encode(play)
    device = next(iter(encoded.values())).device
    state = model.begin(encoded, torch.tensor([begin], device=device))
    member = torch.zeros(1, dtype=torch.long, device=device)
    pieces = [model.decode(state, 1)]
    for number in range(chunks):
        now = begin + number * model.jump
        actions = torch.as_tensor(play.actions[now : now + model.jump], dtype=torch.float32)
        state = model.step(state, actions[None].to(device), member).state
        pieces.append(model.decode(state, model.jump))
    joined = {}
    for name in cameras:
        frames = [piece[name][0] for piece in pieces]
        joined[name] = torch.cat(frames).cpu().numpy()
    return joined


def _lay_out(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (n, H, W, C) side by side, (H, n W, 3)."""
    row = np.concatenate(list(pictures), 1)
    if row.shape[-1] == 1:
        return np.repeat(row, 3, -1)
    return row
