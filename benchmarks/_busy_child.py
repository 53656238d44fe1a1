"""What `busy` times, in a process of its own.

It times training steps, and planning calls as an evaluation and a control loop make them. It reads
lines "WHAT SECONDS" and answers each with a line of JSON: the seconds of every step or call.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..datasets.arrays import Arrays
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import ModelConfig
from ..policy.samplers.fresh import Fresh
from ..policy.training.settings import TrainingSettings
from ..policy.training.trainer import Trainer
from ..spec import Horizon
from ..system.threads import choose_threads

NETWORKS = {"train_small": [32, 64, 128], "train_large": [64, 128, 256]}
"""Channels of the U-Nets that are trained: the demo's, and the default."""
CALLS = {"evaluation": (50, 0.0), "control": (1, 0.05)}
"""Rows of a planning call of the demo's U-Net, and the seconds from one call to the next."""
STATE, ACTION = 20, 7


def main() -> None:
    """Build and warm up what the arguments name, say so, then answer questions to their end."""
    chosen = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        works = {what: _work(what, Path(folder), chosen) for what in sys.argv[1:]}
        for work in works.values():
            work(0.0)
        print(json.dumps({"threads": chosen}), flush=True)
        for line in sys.stdin:
            what, seconds = line.split()
            torch.set_num_threads(chosen)
            print(json.dumps(works[what](float(seconds))), flush=True)


def _work(what: str, folder: Path, threads: int) -> Callable[[float], list[float]]:
    """What times one thing for so many seconds."""
    if what in NETWORKS:
        trainer = _trainer(NETWORKS[what], folder / what)
        return lambda seconds: _train(trainer, seconds, threads)
    policy = DiffusionPolicy(_trainer(NETWORKS["train_small"], folder / what).ema.model, Fresh(10))
    rows, period_s = CALLS[what]
    return lambda seconds: _plan(policy, rows, seconds, period_s)


def _trainer(channels: list[int], folder: Path) -> Trainer:
    """A training on made-up states and actions, of the size of the demo's."""
    rng = np.random.default_rng(0)
    states, actions = rng.standard_normal((10, 100, STATE)), rng.uniform(-1, 1, (10, 100, ACTION))
    episodes = []
    for state, action in zip(states, actions, strict=True):
        episodes.append({"state": state.astype(np.float32), "action": action.astype(np.float32)})
    data = Arrays(episodes, fps=20.0)
    config = ModelConfig(
        encoder={"_target_": "hotstart.policy.encoders.state.StateEncoder"},
        denoiser={
            "_target_": "hotstart.policy.denoisers.unet.ConditionalUnet",
            "channels": channels,
        },
        schedule={"_target_": "hotstart.policy.diffusion.schedule.VPCosine"},
        obs_spec=data.obs_spec,
        action_spec=data.action_spec,
        horizon=Horizon(2, 24, 8),
    )
    return Trainer(data, config, TrainingSettings(threads=torch.get_num_threads()), folder)


def _train(trainer: Trainer, seconds: float, most: int) -> list[float]:
    """The seconds of training steps, at least one.

    It takes as many threads as a training that begins now.
    """
    torch.set_num_threads(choose_threads(most))
    return _time_calls(trainer.advance, seconds, 0.0)


@torch.no_grad()
def _plan(policy: DiffusionPolicy, rows: int, seconds: float, period_s: float) -> list[float]:
    """The seconds of planning calls, at least one, one in every period."""
    rng = np.random.default_rng(0)
    observation = {"state": rng.standard_normal((rows, STATE)).astype(np.float32)}
    state = policy.observe(policy.initial_state(range(rows)), observation)
    executed = np.full(rows, policy.horizon.executed)
    return _time_calls(lambda: policy.plan(state, np.arange(rows), executed), seconds, period_s)


def _time_calls(work: Callable[[], object], seconds: float, period_s: float) -> list[float]:
    """How long each call took; none begins later than `seconds` from now."""
    end_s = time.monotonic() + seconds
    taken: list[float] = []
    while not taken or time.monotonic() < end_s:
        began_s = time.monotonic()
        work()
        taken.append(time.monotonic() - began_s)
        time.sleep(max(0.0, began_s + period_s - time.monotonic()))
    return taken
