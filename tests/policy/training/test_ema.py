"""The average of the weights."""

import pytest
import torch
from hotstart.policy.training.ema import EMA
from torch import nn


def test_the_average_follows_the_rule_written_out():
    torch.manual_seed(0)
    layer, norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
    model = nn.Sequential(layer, norm)
    ema = EMA(model, power=0.75)
    expected = layer.weight.detach().clone()
    for step in range(50):
        with torch.no_grad():
            layer.weight.add_(torch.randn(2, 3))
            norm.get_buffer("running_mean").add_(1.0)
        ema.update(model, step)
        decay = min(0.9999, 1 - (1 + step) ** -0.75)
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    torch.testing.assert_close(ema.model.get_parameter("0.weight"), expected)
    copied = ema.model.get_buffer("1.running_mean")
    assert torch.equal(copied, norm.get_buffer("running_mean"))  # buffers are not averaged


def test_the_first_step_keeps_nothing_and_the_decay_rises_to_its_most():
    ema = EMA(nn.Linear(2, 2))
    decays = [ema.decay(step) for step in (0, 1, 10, 1000, 10**9)]
    assert decays[0] == 0
    assert decays == sorted(decays)
    assert decays[-1] == 0.9999
    assert decays[3] == pytest.approx(1 - 1001**-0.75)


def test_the_average_is_apart_from_the_model():
    model = nn.Linear(2, 2)
    ema = EMA(model)
    before = ema.model.weight.clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(ema.model.weight, before)
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
