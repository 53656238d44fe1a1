"""Values of chunks: members that know nothing of each other, and a checkpoint that keeps them."""

import numpy as np
import pytest
import torch
from hotstart.policy import checkpoint
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.best_of import BestOf
from hotstart.policy.samplers.conditioning import condition
from hotstart.policy.values import ChunkValues, MemberLinear
from hotstart.spec import CheckpointError, ConfigError
from torch import nn

OPTIONS = {"first": 1, "steps": 8, "members": 3, "hidden": 8}


@pytest.fixture
def valued(tiny_model):
    model = tiny_model()
    model.add_values(OPTIONS)
    return model.eval().requires_grad_(False)


def test_a_member_is_a_network_of_its_own():
    """Written out member by member, with PyTorch's own layers."""
    values = ChunkValues(features=4, width=2, planned=12, first=1, steps=3, members=3, hidden=5)
    for parameter in values.parameters():
        nn.init.normal_(parameter)
    tokens, chunk = torch.randn(6, 2, 2), torch.randn(6, 3, 2)
    said = values(tokens, chunk)
    assert said.shape == (6, 3)
    layers = list(values.layers)
    for member in range(3):
        x = torch.cat((tokens.flatten(1), chunk.flatten(1)), 1)
        for layer in layers:
            if isinstance(layer, nn.LayerNorm | nn.Mish):
                x = layer(x)
            else:
                assert isinstance(layer, MemberLinear)
                x = nn.functional.linear(x, layer.weight[member].T, layer.bias[member, 0])
        torch.testing.assert_close(said[:, member], x[:, 0])
    values.fit_scale(torch.tensor([1.0, 3.0, 8.0, 8.0]))
    deviation = 9.5**0.5
    torch.testing.assert_close(values(tokens, chunk), 5 + deviation * said)


def test_a_plan_counts_as_the_least_that_a_member_says_of_its_chunk(valued):
    observed = {"state": torch.randn(4, 2, 2)}
    seen = condition(valued, observed)
    plan = torch.randn(4, valued.config.horizon.planned, 2)
    said = valued.values(seen.tokens, plan[:, 1:9])
    assert torch.equal(seen.score(plan), said.amin(1))
    later = plan.clone()
    later[:, 9:] += 1.0
    assert torch.equal(seen.score(later), seen.score(plan))
    rows = torch.tensor([3, 3, 1])
    torch.testing.assert_close(seen.take(rows).score(plan[rows]), seen.score(plan)[rows])


def test_a_checkpoint_keeps_its_values_and_the_policy_is_as_it_was(
    valued, tiny_model, tmp_path, watched, plan
):
    checkpoint.save(tmp_path / "c", valued, {"regimes": ["constant"]})
    loaded, _ = checkpoint.load(tmp_path / "c")
    assert loaded.capabilities.valued
    best = [DiffusionPolicy(model, BestOf(3, 2)) for model in (valued, loaded)]
    chunks = [plan(policy, watched(policy)).actions for policy in best]
    assert np.array_equal(*chunks)
    plain = [DiffusionPolicy(model) for model in (tiny_model(), loaded)]
    assert np.array_equal(*(plan(policy, watched(policy)).actions for policy in plain))


def test_values_that_do_not_fit_the_plans_are_refused(valued, tmp_path):
    checkpoint.save(tmp_path / "c", valued, {})
    config = tmp_path / "c" / "config.yaml"
    config.write_text(config.read_text().replace("first: 1", "first: 100"))
    with pytest.raises(CheckpointError, match="value ensemble wants 8 action steps from step 100"):
        checkpoint.load(tmp_path / "c")
    with pytest.raises(ConfigError, match="0 members"):
        ChunkValues(features=4, width=2, planned=12, first=1, steps=3, members=0)
