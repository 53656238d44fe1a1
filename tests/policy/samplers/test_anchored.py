"""Anchored starts: anchors are the data's plans, the head chooses by the observation, and a
checkpoint keeps them.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.schedule import VPCosine, alpha_sigma
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.fitting.anchors import fit_anchors
from hotstart.policy.normalizer import ACTION
from hotstart.policy.samplers.anchored import Anchored
from hotstart.policy.samplers.base import Capabilities
from hotstart.spec import ConfigError, Horizon

from ..analytic import gaussian, request

ANCHORED = {"_target_": "hotstart.policy.samplers.anchored.Anchored", "steps": 2}


@pytest.fixture(scope="module")
def anchored_model(tiny_model, tiny_dataset):
    model = tiny_model()
    return model, fit_anchors(model, tiny_dataset, count=7, steps=600)


def test_anchors_are_the_datas_plans_and_the_head_finds_them(anchored_model, tiny_dataset):
    """Each of the eight episodes holds one action, and one episode is held out: seven anchors
    leave little.
    """
    model, found = anchored_model
    actions = torch.as_tensor(np.asarray(tiny_dataset.array(ACTION)))
    plans = model.normalizer.normalize(ACTION, actions)[:, None].expand(
        -1, model.config.horizon.planned, -1
    )
    apart = (plans - model.anchors.plans[model.anchors.find_nearest(plans)]).square().mean().sqrt()
    spread = plans.std()
    assert float(apart) < 0.35 * float(spread)
    states = {
        "state": torch.as_tensor(np.asarray(tiny_dataset.array("state")))
        .float()[:, None]
        .expand(-1, 2, -1)
    }
    chosen = model.anchors.choose(model.encode_tokens(states))
    assert float((chosen - plans).square().mean().sqrt()) < 1.3 * float(apart) + 0.02
    assert found.chosen >= found.distance > 0
    assert 0 <= found.first <= 1


def test_it_begins_at_the_anchor_and_ends_in_the_data():
    anchor = torch.full((3, 24, 2), -0.5)
    asked = request(gaussian(0.2, 0.02), rows=3, start=anchor)
    outcome = Anchored(2, 0.5)(asked)
    assert outcome.nfe.tolist() == [2] * 3
    np.testing.assert_allclose(outcome.plan.mean(), 0.2, atol=0.05)
    near = Anchored(1, 0.02)(asked)
    assert float(near.plan.mean()) < 0.1  # hardly any noise: the anchor is believed


def test_the_anchor_gets_the_noise_of_its_level():
    """Written out: one step of a known posterior from alpha anchor + sigma noise."""
    spread, steps = 0.5, torch.full((3, 24), float(VPCosine().level(torch.tensor(0.5))))
    asked = request(gaussian(0.0, spread), rows=3, start=torch.full((3, 24, 2), -0.5))
    alpha, sigma = alpha_sigma(steps.unsqueeze(-1))
    x = alpha * -0.5 + sigma * replace(asked, noise=RowNoise([0, 1, 2], [0, 0, 0])).draw()
    expected = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * x
    torch.testing.assert_close(Anchored(1, 0.5, clip=None)(asked).plan, expected)


def test_a_saved_checkpoint_keeps_its_anchors(anchored_model, tmp_path, observation, watched, plan):
    model, _ = anchored_model
    checkpoint.save(tmp_path / "last", model, {"regimes": ["constant"]})
    loaded, _ = checkpoint.load(tmp_path / "last")
    assert loaded.anchors is not None and model.anchors is not None
    assert torch.equal(loaded.anchors.plans, model.anchors.plans)
    one, other = (DiffusionPolicy(each, Anchored()) for each in (model, loaded))
    np.testing.assert_array_equal(
        plan(one, watched(one)).actions, plan(other, watched(other)).actions
    )


def test_a_checkpoint_without_anchors_is_refused_with_the_command_that_gives_some(tiny_model):
    with pytest.raises(ConfigError, match="hotstart checkpoint anchors RUN data=DATA"):
        DiffusionPolicy(tiny_model(), Anchored())
    with pytest.raises(ConfigError, match=r"anchored .*constant; it knows staircase"):
        Anchored().adapt_to(
            Capabilities(("staircase",), Horizon(2, 24, 8), anchored=True), Horizon(2, 24, 8)
        )


@pytest.mark.parametrize(
    ("options", "match"), [({"steps": 0}, "steps is 0"), ({"start": 0.0}, "start is 0.0")]
)
def test_settings_that_cannot_be_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        Anchored(**options)


def test_more_anchors_than_windows_are_refused(tiny_model, tiny_dataset):
    with pytest.raises(ConfigError, match="100000 anchors are asked for, and the data hold"):
        fit_anchors(tiny_model(), tiny_dataset, count=100_000)


def test_a_model_that_could_not_begin_from_anchors_gets_none(tiny_model, tiny_dataset):
    model = tiny_model()
    model.regimes = ("staircase",)
    with pytest.raises(ConfigError, match=r"anchored start .*constant; it knows staircase"):
        fit_anchors(model, tiny_dataset, count=2, steps=1)
    assert model.anchors is None


def test_the_command_writes_a_checkpoint_beside_the_old_one(good, tmp_path, store_tiny, capsys):
    store_tiny(tmp_path / "d.zarr", episodes=3)
    words = [f"data={tmp_path / 'd.zarr'}", f"out={tmp_path / 'with'}", "count=2", "steps=20"]
    assert main(["checkpoint", "anchors", str(good), *words]) == 0
    assert "2 anchors" in capsys.readouterr().out
    assert DiffusionPolicy.load(tmp_path / "with", ANCHORED).model.anchors is not None
    with pytest.raises(ConfigError, match="has none"):
        DiffusionPolicy.load(good, ANCHORED)
    weights = (tmp_path / "with" / "model.safetensors").read_bytes()
    assert main(["checkpoint", "anchors", str(good), *words]) == 2
    assert "is not overwritten unasked" in capsys.readouterr().err
    assert (tmp_path / "with" / "model.safetensors").read_bytes() == weights


def test_a_run_is_never_taken_for_the_place_of_a_checkpoint(good, tmp_path, store_tiny, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("{}")
    assert main(["checkpoint", "anchors", str(good), f"data={tmp_path}", f"out={run}"]) == 2
    assert "is there already and is no checkpoint" in capsys.readouterr().err
    assert (run / "metrics.jsonl").exists()
