"""Where warm starts should begin, measured on a checkpoint's own samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotstart.cli import main
from hotstart.datasets.arrays import Arrays
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.contract import Denoiser, Preconditioner
from hotstart.policy.diffusion.schedule import alpha_sigma
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.fitting.calibration import MEMORY, STARTS, Calibration, _mode, calibrate
from hotstart.policy.samplers.warm_start import WarmStart, gain
from hotstart.spec import DataError

from ..analytic import Exact, gaussian

WARM = {"_target_": "hotstart.policy.samplers.warm_start.WarmStart", "steps": 2}


def test_the_least_start_that_forgets_enough_is_taken():
    gains = np.linspace(0.95, 0.1, len(STARTS))
    found = Calibration(0.1, 0.2, tuple(gains))
    place = STARTS.index(found.start)
    assert gains[place] / (1 - gains[place]) <= MEMORY < gains[place - 1] / (1 - gains[place - 1])
    assert (
        Calibration(0.1, 0.2, (1.2,) * len(STARTS)).start == STARTS[-1]
    )  # nothing forgets: the whole way


def test_a_mode_is_the_half_that_lies_together():
    generator = torch.Generator().manual_seed(0)
    near = 0.01 * torch.randn(18, 4, 2, generator=generator)
    far = 0.01 * torch.randn(14, 4, 2, generator=generator) + 1.0
    assert _mode(torch.cat((far, near))).abs().max() < 0.1


def test_what_begins_noisier_forgets_more(tiny_model, tiny_dataset):
    model = tiny_model()
    found = calibrate(model, tiny_dataset, windows=4, samples=8)
    again = calibrate(model, tiny_dataset, windows=4, samples=8)
    assert found == again
    assert len(found.gains) == len(STARTS)
    assert found.spread > 0
    assert found.drift > 0
    assert found.gains[-1] < found.gains[0]  # from .8 on little of the guess is left


class Drifting(Exact):
    """Plans N(mean, 0.1^2) that go on from call to call but for 0.1, up and down.

    The context is the moment in the data.
    """

    def __init__(self, horizon):
        super().__init__(gaussian(0.0, 0.1))
        self.horizon = horizon

    def forward(self, x, level, context, prepared=None):
        step = torch.arange(x.shape[1]) - self.horizon.past
        chunk = torch.div(context, self.horizon.executed, rounding_mode="floor")
        mean = 0.03 * (context + step - 13) + 0.1 * (chunk % 2)  # (R, T)
        mean = mean.unsqueeze(-1)
        alpha, _ = alpha_sigma(level.unsqueeze(-1))
        return mean + super().forward(x - alpha * mean, level, context)


def test_drift_and_gains_of_a_known_posterior_are_found(tiny_model):
    moments = np.arange(14, dtype=np.float32).repeat(2).reshape(14, 2)
    data = Arrays([{"state": moments, "action": moments}] * 3, fps=10.0)
    model = tiny_model(dataset=data)
    model.network = Drifting(model.config.horizon)
    model.denoiser = Denoiser(model.network, Preconditioner("x0"))
    model.encode_tokens = lambda observation: observation["state"][:, -1, :1]
    found = calibrate(model, data, windows=4, samples=128)
    assert found.drift == pytest.approx(
        0.1, rel=0.1
    )  # a plan that was not moved on would be off by 0.16
    expected = [gain(model.schedule, start, 2, 0.1, 1.0) for start in STARTS[:2]]
    assert found.gains[:2] == pytest.approx(
        expected, abs=0.03
    )  # 0.55 and 0.26; later ones drown in the samples' noise


def test_data_without_two_chunks_in_a_row_are_refused(tiny_model, tiny_dataset):
    short = [{name: tiny_dataset.array(name)[:4] for name in ("state", "action")}]
    with pytest.raises(DataError, match="longer than the 4 steps of a chunk"):
        calibrate(tiny_model(), Arrays(short, fps=10.0), windows=2, samples=4)


def load_warm_start(run: Path, options: dict[str, Any]) -> WarmStart:
    """The warm start of a checkpoint's policy, what is left open settled."""
    sampler = DiffusionPolicy.load(run, options).sampler
    assert isinstance(sampler, WarmStart)
    return sampler


def test_the_command_writes_the_start_that_an_open_one_takes(good, tmp_path, store_tiny, capsys):
    import shutil

    run = shutil.copytree(good, tmp_path / "last")
    left_open = {**WARM, "start": None, "min_start": None}
    assert load_warm_start(run, left_open).min_start == 0.3
    store_tiny(tmp_path / "d.zarr", episodes=2)
    assert (
        main(
            [
                "checkpoint",
                "calibrate",
                str(run),
                f"data={tmp_path / 'd.zarr'}",
                "windows=2",
                "samples=4",
            ]
        )
        == 0
    )
    written = checkpoint.read_meta(run)["warm_start"]
    assert "<- taken" in capsys.readouterr().out
    assert load_warm_start(run, left_open).min_start == written["start"] in STARTS
    assert load_warm_start(run, {**left_open, "start": 0.4}).start == 0.4
    given = load_warm_start(run, {**left_open, "min_start": 0.2})
    assert given.min_start == 0.2  # what the user gives counts
