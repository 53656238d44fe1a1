"""`hotstart export` from the command line."""

import importlib.util
import json

import pytest
import torch
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.policy.runtime.certificate import Certificate
from hotstart.policy.runtime.exported import load_policy
from hotstart.spec import Horizon

MLP = {
    "_target_": "hotstart.policy.denoisers.mlp.DiffusionMLP",
    "steps": 12,
    "hidden": 16,
    "layers": 1,
    "level_width": 8,
}


@pytest.fixture
def words(tiny_model, tmp_path):
    """The command for a tiny checkpoint, writing to tmp_path / out."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the package openvino is not installed: pip install 'hotstart[openvino]'")
    model = tiny_model("unet", horizon=Horizon(2, 12, 4), denoiser=MLP)
    generator = torch.Generator().manual_seed(1)
    for weight in model.network.parameters():
        weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    checkpoint.save(tmp_path / "last", model, {"step": 1, "task": "toy", "rate_hz": 10})
    return ["export", str(tmp_path / "last"), f"out={tmp_path / 'out'}", "plans=3"]


def test_it_writes_a_policy_with_its_certificate(words, store_tiny, tmp_path, capsys):
    store_tiny(tmp_path / "data.zarr", 2)
    assert main([*words, f"data={tmp_path / 'data.zarr'}", "executed=3", "delay=1"]) == 0
    assert "rti-2 for exported-openvino-fp32" in capsys.readouterr().out
    policy = load_policy(tmp_path / "out")
    assert policy.rate_hz == 10
    assert (policy.horizon.executed, policy.horizon.delay) == (3, 1)
    (file,) = (tmp_path / "out").glob("certificate_*.json")
    found = Certificate.load(file)
    assert found.passed and found.data == "data.zarr" and found.differences.plans == 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["checkpoint"] == found.checkpoint
    assert manifest["sampler"]["steps"] == 2
    assert not list(tmp_path.glob("*.unfinished"))


def test_plans_beyond_the_tolerance_fail(words, tmp_path, capsys):
    assert main([*words, "tolerance=1e-12"]) == 1
    assert "beyond the tolerance of 1e-12" in capsys.readouterr().out
    (file,) = (tmp_path / "out").glob("certificate_*.json")
    assert Certificate.load(file).data == "drawn"


def test_it_replaces_exported_policies_only_when_told_and_nothing_else_ever(
    words, tmp_path, capsys
):
    assert main([*words, "inference=ddim", "inference.steps=2"]) == 0
    assert main(words) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert main([*words, "overwrite=true"]) == 0
    (tmp_path / "mine").mkdir()
    assert main([*words[:2], f"out={tmp_path / 'mine'}", "overwrite=true"]) == 2
    assert "is no exported policy" in capsys.readouterr().err


def test_what_cannot_be_exported_leaves_nothing(words, tmp_path, capsys):
    for word in ("inference=rtc", "runtime=eager", "rows=0"):
        assert main([*words, word]) == 2
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob("*.unfinished"))
    text = capsys.readouterr().err
    assert "inference=sdp" in text and "runtime=openvino" in text and "rows is 0" in text
