"""MoDE: routes of levels, stacked experts, balance, and what each must be equal to."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hotstart.policy.denoisers.balance import (
    balance_loss,
    channel_windows,
    jensen_shannon,
    router_z_loss,
)
from hotstart.policy.denoisers.experts import Experts, Routes, plan_dispatch, select_experts
from hotstart.policy.denoisers.mode import ModeModulation, ModeTransformer
from hotstart.policy.diffusion.objective import staircase_times
from hotstart.policy.diffusion.schedule import VPCosine
from hotstart.spec import ConfigError, Horizon
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

SIZES: dict[str, Any] = {"width": 3, "tokens": 2, "token_width": 5}
STEPS, ROWS = 24, [1, 2, 7]
UNIFORM = torch.full((STEPS,), 0.4)
STAIRS = VPCosine().level(staircase_times(Horizon(1, STEPS, 8), torch.tensor([0.3]))[0])
RAMP = torch.linspace(0.05, 0.95, STEPS)


def make(seed: int = 0, **options) -> ModeTransformer:
    torch.manual_seed(seed)
    net = ModeTransformer(
        **SIZES, **{"embed": 32, "layers": 3, "heads": 4, "level_width": 16, **options}
    ).eval()
    for block in net.blocks:  # routers that have an opinion
        torch.nn.init.normal_(block.router.get_parameter("layers.2.weight"), std=1.0)
    return net


def inputs(rows: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, STEPS, 3, generator=generator), torch.randn(
        rows, 2, 5, generator=generator
    )


def slow(net: ModeTransformer, x: Tensor, level: Tensor, tokens: Tensor) -> Tensor:
    """The same network, token by token through masks over all experts: nothing prepared,
    nothing sorted.
    """

    def experts(block, h, phi):
        n, out = block.norm_experts(h), torch.zeros_like(h)
        probabilities = block.router(phi).softmax(-1).expand(*h.shape[:2], -1)
        best = probabilities.topk(net.top, -1)
        for number in range(probabilities.shape[-1]):
            weight = torch.where(best.indices == number, best.values, 0.0).sum(
                -1
            ) / best.values.sum(-1)
            value, gate = F.linear(
                n, block.experts.up_projection[number], block.experts.bias[number]
            ).chunk(2, -1)
            out = out + weight.unsqueeze(-1) * F.linear(
                value * F.silu(gate), block.experts.down_projection[number]
            )
        return h + out

    count = tokens.shape[1]
    h = torch.cat(
        (
            net.conditions(tokens) + net.condition_position,
            net.actions(x) + net.position[: x.shape[1]],
        ),
        1,
    )
    phi = torch.cat((net.condition_phi.expand(len(x), count, -1), net.embedding(level)), 1)
    mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).tril()
    mask[:count, :count] = True
    for block in net.blocks:
        q, k, v = (
            part.unflatten(-1, (block.heads, -1))
            for part in block.qkv(block.norm_attention(h) + phi).chunk(3, -1)
        )
        scores = (
            torch.einsum("bthd,bshd->bhts", block.norm_query(q), block.norm_key(k))
            / q.shape[-1] ** 0.5
        )
        joined = torch.einsum(
            "bhts,bshd->bthd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v
        ).flatten(2)
        h = experts(block, h + block.out(joined), phi)
    return net.out(net.norm_out(h))[:, count:]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("level", [UNIFORM, STAIRS, RAMP], ids=["uniform", "stairs", "ramp"])
def test_prepared_routes_sorted_tokens_and_masks_give_the_same_answer(rows, level):
    net = make()
    x, tokens = inputs(rows)
    levels = level.expand(rows, -1)
    with torch.no_grad():
        expected, context = slow(net, x, levels, tokens), net.encode_context(tokens)
        prepared = net.prepare(level.unsqueeze(0), STEPS).at(0)
        torch.testing.assert_close(
            net(x, levels, context, prepared), expected, atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(net(x, levels, context), expected, atol=1e-5, rtol=1e-4)


def test_rows_with_levels_of_their_own_give_the_same_answer():
    net = make()
    x, tokens = inputs(7)
    level = torch.rand(7, STEPS, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(
            net(x, level, net.encode_context(tokens)),
            slow(net, x, level, tokens),
            atol=1e-5,
            rtol=1e-4,
        )


def test_one_expert_is_a_dense_swiglu():
    torch.manual_seed(0)
    experts, h = Experts(16, 1, 24), torch.randn(2, 5, 16)
    value, gate = (h @ experts.up_projection[0].T + experts.bias[0]).chunk(2, -1)
    expected = (value * gate * gate.sigmoid()) @ experts.down_projection[0].T
    alone = Routes(torch.zeros(5, 1, dtype=torch.long), torch.ones(5, 1))
    torch.testing.assert_close(experts.apply_dispatch(h, plan_dispatch(alone)), expected)
    flat = Routes(torch.zeros(10, 1, dtype=torch.long), torch.ones(10, 1))
    torch.testing.assert_close(experts.apply_routes(h.flatten(0, 1), flat).view_as(h), expected)


def test_the_order_of_experts_means_nothing():
    net, order = make(), torch.tensor([2, 0, 3, 1])
    mixed = make()
    mixed.load_state_dict(net.state_dict())
    with torch.no_grad():
        for block in mixed.blocks:
            for weight in (
                block.experts.up_projection,
                block.experts.bias,
                block.experts.down_projection,
                block.router.get_parameter("layers.2.weight"),
            ):
                weight.copy_(weight[order])
            block.router.get_parameter("layers.2.bias").copy_(
                block.router.get_parameter("layers.2.bias")[order]
            )
        x, tokens = inputs(3)
        level = STAIRS.expand(3, -1)
        torch.testing.assert_close(
            mixed(x, level, mixed.encode_context(tokens)),
            net(x, level, net.encode_context(tokens)),
            atol=1e-5,
            rtol=1e-4,
        )


def test_dispatches_follow_the_routes():
    routes = Routes(
        torch.tensor([[0, 1], [0, 1], [1, 2], [2, 0]]),
        torch.tensor([[0.7, 0.3], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]]),
    )
    found = {(s.expert, s.spans): s.weight.flatten().tolist() for s in plan_dispatch(routes)}
    assert set(found) == {(0, ((0, 2), (3, 4))), (1, ((0, 3),)), (2, ((2, 4),))}
    assert found[0, ((0, 2), (3, 4))] == pytest.approx([0.7, 0.7, 0.1])
    assert found[1, ((0, 3),)] == pytest.approx([0.3, 0.3, 0.6])
    assert found[2, ((2, 4),)] == pytest.approx([0.4, 0.9])
    alike = plan_dispatch(Routes(routes.expert[:2], routes.weight[:2]))
    assert [s.weight.flatten().tolist() for s in alike] == [
        pytest.approx([0.7]),
        pytest.approx([0.3]),
    ]  # one for all


def test_a_grid_of_uniform_levels_runs_the_chosen_experts_only():
    net = make()
    table = net.prepare(torch.tensor([0.9, 0.5, 0.1]), STEPS)
    for step in range(3):
        for plan in table.at(step).routing:
            assert isinstance(plan, tuple)
            assert len(plan) == net.top
            assert all(s.spans == ((0, STEPS),) for s in plan)
            assert sum(float(s.weight) for s in plan) == pytest.approx(1)


def test_the_condition_tokens_routes_follow_the_weights():
    """They are kept from call to call; after an update of the routers, and in a copy, they are
    chosen anew.
    """
    net, tokens = make(), inputs(2)[1]
    with torch.no_grad():
        before = net.encode_context(tokens)
        unchanged = net.encode_context(tokens)
        for block in net.blocks:
            block.router.get_parameter("layers.2.weight").neg_()  # other experts come first
        after = net.encode_context(tokens)
        anew = make()
        anew.load_state_dict(net.state_dict())
        expected = anew.encode_context(tokens)
    for layer, (key, value) in enumerate(expected.layers):
        assert torch.equal(before.layers[layer][0], unchanged.layers[layer][0])
        assert torch.equal(after.layers[layer][0], key)
        assert torch.equal(after.layers[layer][1], value)
    assert not torch.allclose(after.layers[-1][0], before.layers[-1][0], atol=1e-3)


def test_draws_follow_the_probabilities_and_never_repeat_an_expert():
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).expand(20_000, 4)
    drawn = select_experts(logits, 2, sample=True)
    assert bool((drawn.expert[:, 0] != drawn.expert[:, 1]).all())
    p = logits[0].softmax(-1)
    first = torch.bincount(drawn.expert[:, 0], minlength=4) / 20_000
    torch.testing.assert_close(first, p, atol=0.015, rtol=0)
    likeliest = select_experts(logits[:1], 2, sample=False)
    assert likeliest.expert.tolist() == [[0, 1]]
    torch.testing.assert_close(likeliest.weight, (p[:2] / p[:2].sum()).unsqueeze(0))
    torch.testing.assert_close(
        select_experts(logits[:1], 1, sample=False).weight, p[:1].unsqueeze(0)
    )  # a router can learn from it


def test_in_training_tokens_of_a_row_that_share_a_level_share_their_experts():
    net = make(stochastic_routing=True).train()
    level = torch.stack([STAIRS, UNIFORM, STAIRS, UNIFORM])
    torch.manual_seed(0)
    for routes in net._modulate_rows(level).routing:
        assert isinstance(routes, Routes)
        for row in range(4):
            for block in level[row].unique():
                assert len(routes.expert[row][level[row] == block].unique(dim=0)) == 1
        assert (
            len(
                {tuple(e) for e in routes.expert[[1, 3], 0].tolist()}
                | {tuple(e) for e in routes.expert[:, 0].tolist()}
            )
            > 1
        )


def read_spans(entry: ModeModulation) -> list[list[tuple[int, Any]]]:
    """For each layer the experts that run, each with its steps."""
    layers = []
    for plan in entry.routing:
        assert isinstance(plan, tuple)
        layers.append([(dispatch.expert, dispatch.spans) for dispatch in plan])
    return layers


def test_half_precision_keeps_the_routes_and_stays_near():
    net, half = make(), make().set_precision(torch.bfloat16)
    x, tokens = inputs(2)
    level = STAIRS.unsqueeze(0)
    table, other = net.prepare(level, STEPS).at(0), half.prepare(level, STEPS).at(0)
    assert read_spans(table) == read_spans(other)
    with torch.no_grad():
        exact = net(x, level.expand(2, -1), net.encode_context(tokens), table)
        rough = half(x, level.expand(2, -1), half.encode_context(tokens), other)
    assert rough.dtype == torch.bfloat16
    assert float((rough - exact).abs().mean()) < 0.05 * float(exact.std())


# --- losses


def test_balance_is_one_where_all_do_as_much_and_the_number_of_experts_where_one_does_all():
    even = torch.zeros(2, 8, 4)
    assert float(
        balance_loss(even, torch.arange(16).reshape(8, 2).expand(2, 8, 2) % 4)
    ) == pytest.approx(1)
    collapsed = torch.tensor([50.0, 0, 0, 0]).expand(2, 8, 4)
    assert float(balance_loss(collapsed, torch.zeros(2, 8, 1, dtype=torch.long))) == pytest.approx(
        4
    )


def test_the_balance_loss_spreads_a_collapsed_router():
    torch.manual_seed(0)
    net = make(balance=1.0).train()
    for block in net.blocks:
        torch.nn.init.normal_(block.router.get_parameter("layers.2.weight"), std=0.02)
        with torch.no_grad():
            block.router.get_parameter("layers.2.bias")[0] = 4.0
    level, optimizer = torch.rand(64, STEPS), torch.optim.Adam(net.parameters(), 1e-2)
    before = float(net.losses(level)["balance"].detach())
    for _ in range(60):
        optimizer.zero_grad()
        net.losses(level)["balance"].backward()
        optimizer.step()
    assert before > 1.4
    assert float(net.losses(level)["balance"].detach()) < 1.1


def test_the_z_loss_sees_how_large_raw_logits_are():
    logits = torch.randn(2, 8, 4)
    assert float(router_z_loss(logits + 10)) > float(router_z_loss(logits)) + 50
    assert make(balance=0.0).losses(UNIFORM.unsqueeze(0)) == {}
    assert set(make(router_z=0.1).losses(UNIFORM.unsqueeze(0))) == {"balance", "router_z"}


def test_a_window_slides_with_the_noise_and_neighbours_share_most_of_it():
    place = torch.linspace(0, 1, 50)
    window = channel_windows(place, 20, 0.8)
    assert window.sum(1).tolist() == [16.0] * 50
    assert window[0].tolist() == [1.0] * 16 + [0.0] * 4
    assert window[-1].tolist() == [0.0] * 4 + [1.0] * 16
    assert float((window[1:] * window[:-1]).sum(1).min()) >= 15
    assert torch.equal(channel_windows(place, 20, 1.0), torch.ones(50, 20))


def test_jensen_shannon_is_nothing_for_equals_and_ln_2_for_strangers():
    p = torch.rand(5, 8).softmax(-1)
    assert float(jensen_shannon(p, p).abs().max()) < 1e-6
    one, other = torch.eye(4)[:2], torch.eye(4)[2:]
    torch.testing.assert_close(jensen_shannon(one, other), torch.full((2,), math.log(2.0)))


def test_the_prior_teaches_far_levels_to_take_other_experts():
    torch.manual_seed(0)
    net, level = (
        make(balance=0.0, prior=1.0, experts=4, top=2).train(),
        torch.linspace(0.01, 1, 64).reshape(4, 16),
    )
    optimizer = torch.optim.Adam(
        [p for block in net.blocks for p in block.router.parameters()], 1e-2
    )
    first = float(net.losses(level)["prior"].detach())
    for _ in range(150):
        optimizer.zero_grad()
        net.losses(level)["prior"].backward()
        optimizer.step()
    assert float(net.losses(level)["prior"].detach()) < 0.6 * first
    routes = [
        select_experts(block.router(net.embedding(torch.tensor([0.02, 0.99]))), 2, False).expert
        for block in net.blocks
    ]
    assert any(set(clean.tolist()) != set(noisy.tolist()) for clean, noisy in routes)


def test_layers_read_the_channels_of_the_window_only_and_the_others_pass_by():
    net, (x, tokens) = make(shared=0.5), inputs(2)
    level, read, left = torch.full((2, STEPS), 0.2), [], []
    net.blocks[0].norm_attention.register_forward_hook(
        lambda _, arguments, __: read.append(arguments[0])
    )
    net.norm_out.register_forward_hook(lambda _, arguments, __: left.append(arguments[0]))
    with torch.no_grad():
        context = net.encode_context(tokens)
        plain = net(x, level, context)
        prepared = net(x, level, context, net.prepare(level[:1], STEPS).at(0))
        torch.testing.assert_close(prepared, plain, atol=1e-5, rtol=1e-4)
        window = channel_windows(level[0, :1], 32, 0.5)[0].bool()
        assert window.sum() == 16
        assert not read[1][..., ~window].any()  # [0] is the condition tokens' pass
        assert read[1][..., window].any()
        for block in net.blocks:
            block.out.weight.zero_()
            block.experts.down_projection.zero_()
        net(x, level, context)
        torch.testing.assert_close(
            left[-1], net.actions(x) + net.position[:STEPS]
        )  # nothing is lost on the way


def test_a_collapsed_router_is_reported_with_the_mend():
    net = make(experts=4, top=1)
    for block in net.blocks:
        torch.nn.init.normal_(block.router.get_parameter("layers.2.weight"), std=20.0)
        torch.nn.init.normal_(block.router.get_parameter("layers.0.weight"), std=2.0)
    assert set(net.health().numbers) == {
        f"experts/layer{i}/{e}" for i in (1, 2, 3) for e in (1, 2, 3, 4)
    }
    with torch.no_grad():
        net.get_parameter("blocks.1.router.layers.2.bias")[2] = 1e4  # this one is always first
    warning = net.health().warning
    assert warning is not None
    assert "layer 2 uses 1 of 4" in warning
    assert "over all noise levels; raise denoiser.balance (0.01)" in warning
    assert net.health().numbers["experts/layer2/3"] == pytest.approx(1)
    dense = ModeTransformer(**SIZES, embed=32, heads=4, experts=1, top=1)
    assert dense.health().warning is None


# --- sizes


def test_the_dispatcher_counts_the_macs_of_the_formula():
    """Per action token and layer: attention 4 E^2, each chosen expert 3 E hidden; ends apart.

    The 2 (K + T) E of the scores are not in it: a CPU's fused attention is not counted.
    """
    embed, layers, rows = 64, 3, 1
    net = make(embed=embed, layers=layers, heads=4)
    x, tokens = inputs(rows)
    context, table = net.encode_context(tokens), net.prepare(torch.tensor([0.5]), STEPS)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x, UNIFORM.expand(rows, -1), context, table.at(0))
    block = 4 * embed**2 + net.top * 3 * embed * 4 * embed
    ends = 2 * 3 * embed
    assert counter.get_total_flops() / 2 == rows * STEPS * (layers * block + ends)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"top": 4}, "top is 4 of denoiser.experts 4"),
        ({"top": 0}, "top is 0"),
        ({"experts": 2, "top": 3}, "top is 3"),
        ({"balance": -1.0}, "balance is -1"),
        ({"shared": 0.0}, "shared is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        make(**options)
