"""Several processes train as one: the same rows, draws, gradients and weights."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.policy.training.metrics import read_metrics
from hotstart.policy.training.processes import Share, current_share
from hotstart.spec import ConfigError

TRAIN = """
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.policy.diffusion.regimes import Regimes
from hotstart.policy.training.settings import TrainingSettings
from hotstart.policy.training.trainer import Trainer
from hotstart.spec import TEXT_KEY, ConfigError, ObsKey, ObsSpec, text_to_bytes

rank, folder = int(args[0]), Path(args[1])
torch.set_default_dtype(torch.float64)  # what is left of a difference is one of method


def make_pictures():
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(4):
        said = text_to_bytes(("open the door", "push the puck")[number % 2])
        episodes.append({
            "camera": rng.integers(0, 255, (14, 12, 12, 3), dtype=np.uint8),
            "instruction": np.tile(said, (14, 1)),
            "state": rng.normal(size=(14, 2)),
            "action": rng.normal(size=(14, 2)),
        })
    camera, state = ObsKey((12, 12, 3), "uint8", "image"), ObsKey((2,))
    spec = ObsSpec({"camera": camera, "instruction": TEXT_KEY, "state": state})
    return Arrays(episodes, fps=10.0, obs_spec=spec)


encoders = "hotstart.policy.encoders"
pictures = {"_target_": f"{encoders}.image.ImageEncoder", "token_width": 16, "channels": 8}
pictures |= {"stages": 2, "keypoints": 4, "crop": 0.8, "jitter": 0.3}
instructed = {"_target_": f"{encoders}.language.InstructionEncoder", "base": pictures}
instructed |= {"condition_dropout": 0.5}
plain = TrainingSettings(steps=3, batch=8, threads=1, precision="fp32", regimes=Regimes(1, 1, 4))
plain = replace(plain, observation_noise=0.1, warmup=0)
data = make_dataset()
seen = make_pictures()
mode = make_config("mode", seen, encoder=instructed)
mode = replace(mode, denoiser={**mode.denoiser, "stochastic_routing": True, "prior": 0.5})
cases = {
    "unet": (data, make_config("unet", data), replace(plain, learned_weighting=True)),
    "mode": (seen, mode, replace(plain, learned_weighting=True, stratified=True)),
}


def train(made_by):
    for name, (dataset, config, settings) in cases.items():
        trainer = Trainer(dataset, config, settings, folder / "run")
        losses = []
        for _ in range(3):
            losses.append(trainer.advance()["loss"])
        result = {"losses": torch.stack(losses), "weights": trainer.model.state_dict()}
        result["average"] = trainer.ema.model.state_dict()
        torch.save(result, folder / f"{name}-{made_by}")
    return trainer


if rank == 0:
    train("alone")
    whole = cases
    cases = {kind: (*case[:2], replace(case[2], accumulate=4)) for kind, case in whole.items()}
    train("parts")
    cases = whole
cases = {kind: (*case[:2], replace(case[2], accumulate=2)) for kind, case in cases.items()}
meeting = f"file://{folder}/meeting"
torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=2)
trainer = train(rank)
uneven = replace(plain, batch=7)
try:
    Trainer(data, make_config(dataset=data), uneven, folder)
except ConfigError as error:
    print(error)
"""


def test_two_processes_train_as_one(tmp_path, fresh_python):
    """Everything that a step draws, and losses that are ratios over the batch.

    So does one process that takes the batch in parts; the two take theirs in parts too.
    What several processes cannot do is refused in each.
    """
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda rank: fresh_python(TRAIN, rank, tmp_path), range(2)):
            assert done.returncode == 0, done.stderr
            assert "batch is 7, which 2 processes cannot share evenly" in done.stdout
    for kind in ("unet", "mode"):
        alone, first, second = (
            torch.load(tmp_path / f"{kind}-{made_by}", weights_only=True)
            for made_by in ("alone", 0, 1)
        )
        parts = torch.load(tmp_path / f"{kind}-parts", weights_only=True)
        torch.testing.assert_close(parts["losses"], alone["losses"])
        mean = (first["losses"] + second["losses"]) / 2
        torch.testing.assert_close(mean, alone["losses"])
        assert not torch.allclose(first["losses"], mean, rtol=1e-3)
        for part in ("weights", "average"):
            torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
            torch.testing.assert_close(first[part], alone[part], rtol=0, atol=1e-6)
            torch.testing.assert_close(parts[part], alone[part], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_a_run(store_tiny, tmp_path):
    """Two processes of torchrun, then this one, end where this one does alone."""
    store_tiny(tmp_path / "tiny.zarr", 4)
    ends = {}
    for name, launch in (("shared", run_twice), ("alone", run_here)):
        words = [str(tmp_path / "tiny.zarr"), f"runs={tmp_path}", f"name={name}", *TINY]
        launch([*words, "training.steps=4"])
        records = read_metrics(tmp_path / name)
        assert [record["step"] for record in records] == [2, 4]
        run_here([*words, "training.steps=6"])
        model, _ = checkpoint.load(tmp_path / name / "checkpoints" / "last")
        ends[name] = (read_metrics(tmp_path / name), model.state_dict())
    for one, other in zip(ends["shared"][0], ends["alone"][0], strict=True):
        for quantity in ("loss", "validation_loss", "gradient_norm"):
            assert one.get(quantity) == pytest.approx(other.get(quantity), rel=1e-4)
    torch.testing.assert_close(ends["shared"][1], ends["alone"][1], rtol=0, atol=1e-5)


TINY = (
    "task=pusht_state",
    "denoiser=mlp",
    "denoiser.hidden=16",
    "horizon.observed=1",
    "horizon.planned=4",
    "horizon.executed=2",
    "training.batch=8",
    "training.threads=1",
    "training.log_every=2",
    "training.validate_every=2",
    "training.validation_share=0.25",
    "training.observation_noise=0.1",
)


def run_here(words):
    assert main(["train", *words]) == 0


def run_twice(words):
    """`torchrun --nproc-per-node 2`; its own end is that of the first process that fails."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program = [*torchrun, "--nproc-per-node", "2", "-m", "hotstart", "train", *words]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done in") == 1


def test_shares_are_the_rows_of_the_batch_in_order():
    whole = torch.arange(24).reshape(2, 12)
    parts = [Share(rank, 3).cut(whole, dim=1) for rank in range(3)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert {part.shape for part in parts} == {(2, 4)}
    assert current_share() == Share(0, 1)


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    Share(0, 3).check(9)
    with pytest.raises(ConfigError, match=r"batch is 7, which 3 .* give training\.batch=9"):
        Share(1, 3).check(7)
    Share(0, 3).check(12, 4)
    with pytest.raises(ConfigError, match=r"which 3 processes of 2 parts .* training\.batch=12"):
        Share(1, 3).check(9, 2)
