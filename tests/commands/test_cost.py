"""What a chunk costs, counted where operators are dispatched, against what the sizes of a network
say.
"""

import pytest
import torch
from hotstart.benchmarks.cost import cost_of
from hotstart.cli import main
from hotstart.policy import checkpoint
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.fresh import Fresh
from hotstart.spec import ConfigError

EMBED = 32
LAYERS = 2
PLANNED = 12
ACTIONS = 2
HEADS = 2


@pytest.fixture
def mode(tiny_model):
    return DiffusionPolicy(tiny_model("mode"), Fresh(3))


def test_an_evaluation_costs_what_the_sizes_say(mode):
    cost = cost_of(mode)
    block = 4 * EMBED**2 + 2 * 12 * EMBED**2  # a CPU's fused attention is not counted
    assert cost.evaluation_macs == PLANNED * (LAYERS * block + 2 * ACTIONS * EMBED)
    assert cost.chunk_macs > 3 * cost.evaluation_macs
    expert = (2 * 4 * EMBED) * EMBED + 2 * 4 * EMBED + EMBED * 4 * EMBED
    assert cost.weights - cost.active == LAYERS * 2 * expert
    # Routers, the levels' embedding and the conditions are worked out beforehand; two experts of
    # four are read.
    attention = 4 * EMBED**2 + 3 * EMBED + 2 * EMBED + 2 * EMBED // HEADS
    ends = 2 * ACTIONS * EMBED + EMBED + ACTIONS + EMBED + PLANNED * EMBED
    assert cost.evaluation_bytes == 4 * (LAYERS * (attention + 2 * expert) + ends)


def test_half_precision_reads_half_the_bytes(mode, tiny_model):
    half = DiffusionPolicy(tiny_model("mode").set_precision("bf16"), Fresh(3))
    assert cost_of(half).evaluation_bytes == cost_of(mode).evaluation_bytes / 2
    assert cost_of(half).evaluation_macs == cost_of(mode).evaluation_macs


def test_all_weights_of_a_dense_network_are_active(tiny_model):
    cost = cost_of(DiffusionPolicy(tiny_model("transformer"), Fresh(3)))
    assert cost.active == cost.weights
    assert 0 < cost.evaluation_bytes < 4 * cost.weights


def test_forms_of_weights_are_refused_where_there_are_none(tiny_model):
    with pytest.raises(ConfigError, match="float32 only"):
        tiny_model("unet").set_precision("bf16")
    with pytest.raises(ConfigError, match="choose one of fp32, bf16"):
        tiny_model("mode").set_precision("int8")
    model = tiny_model("unet")
    assert model.set_precision("fp32") is model


def test_the_table_has_a_line_for_every_form(tiny_model, tmp_path, capsys):
    for kind in ("mode", "unet"):
        checkpoint.save(tmp_path / kind, tiny_model(kind), {"step": 1, "task": "toy"})
    threads = torch.get_num_threads()
    assert (
        main(["bench", "cost", f"{tmp_path / 'mode'},{tmp_path / 'unet'}", "steps=2", "calls=2"])
        == 0
    )
    torch.set_num_threads(threads)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[:2] for line in lines] == [["mode", "fp32"], ["mode", "bf16"], ["unet", "fp32"]]
    assert all(float(number) > 0 for line in lines for number in line[2:])
