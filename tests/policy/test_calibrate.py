"""Where warm starts should begin, measured on a checkpoint's own samples."""

import numpy as np
import pytest
import torch
from hotstart.cli import main
from hotstart.datasets.arrays import Arrays
from hotstart.policy import checkpoint
from hotstart.policy.calibrate import MEMORY, STARTS, Calibration, _mode, calibrate
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.spec import DataError

WARM = {"_target_": "hotstart.policy.diffusion.warm_start.WarmStart", "steps": 2}


def test_the_least_start_that_forgets_enough_is_taken():
    gains = np.linspace(0.95, 0.1, len(STARTS))
    found = Calibration(0.1, 0.2, tuple(gains))
    place = STARTS.index(found.start)
    assert gains[place] / (1 - gains[place]) <= MEMORY < gains[place - 1] / (1 - gains[place - 1])
    assert Calibration(0.1, 0.2, (1.2,) * len(STARTS)).start == STARTS[-1]  # nothing forgets: the whole way


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


def test_data_without_two_chunks_in_a_row_are_refused(tiny_model, tiny_dataset):
    short = [{name: tiny_dataset.array(name)[:4] for name in ("state", "action")}]
    with pytest.raises(DataError, match="longer than the 4 steps of a chunk"):
        calibrate(tiny_model(), Arrays(short, fps=10.0), windows=2, samples=4)


def test_the_command_writes_the_start_that_an_open_one_takes(good, tmp_path, tiny_dataset, capsys):
    import shutil

    from hotstart.datasets.store import Store

    run = shutil.copytree(good, tmp_path / "last")
    left_open = {**WARM, "start": None, "least_start": None}
    assert DiffusionPolicy.load(run, left_open).way.least_start == 0.3
    store = Store.create(tmp_path / "d.zarr", fps=10, action_spec=tiny_dataset.action_spec, obs_spec=tiny_dataset.obs_spec)
    for first in range(0, 28, 14):
        store.append({name: np.asarray(tiny_dataset.array(name)[first : first + 14]) for name in ("state", "action")})
    assert main(["checkpoint", "calibrate", str(run), f"data={tmp_path / 'd.zarr'}", "windows=2", "samples=4"]) == 0
    written = checkpoint.read_meta(run)["warm_start"]
    assert "<- taken" in capsys.readouterr().out
    assert DiffusionPolicy.load(run, left_open).way.least_start == written["start"] in STARTS
    assert DiffusionPolicy.load(run, {**left_open, "start": 0.4}).way.start == 0.4
    assert DiffusionPolicy.load(run, {**left_open, "least_start": 0.2}).way.least_start == 0.2  # the user's word counts
