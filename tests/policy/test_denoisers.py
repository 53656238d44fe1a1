"""Both networks under one contract: prepared levels, batches, horizons, causality, and an
ordinary U-Net as oracle.
"""

import copy
import gc
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hotstart.policy.denoisers.mlp import DiffusionMLP
from hotstart.policy.denoisers.mode import ModeTransformer
from hotstart.policy.denoisers.published_unet import PublishedUnet
from hotstart.policy.denoisers.transformer import DiffusionTransformer, TemporalLinear
from hotstart.policy.denoisers.unet import ConditionalUnet
from hotstart.policy.diffusion.contract import Denoiser, Preconditioner
from hotstart.policy.diffusion.schedule import VPCosine, grid
from hotstart.policy.training.ema import EMA
from hotstart.spec import ConfigError

WIDTH, TOKENS, TOKEN_WIDTH, STEPS = 3, 2, 5, 16
SIZES: dict[str, Any] = {"width": WIDTH, "tokens": TOKENS, "token_width": TOKEN_WIDTH}


def make(kind: str, seed: int = 0, **options):
    torch.manual_seed(seed)
    if kind == "unet":
        return ConditionalUnet(
            **SIZES, **{"channels": (8, 16, 24), "groups": 4, "level_width": 16, **options}
        ).eval()
    if kind == "mlp":
        return DiffusionMLP(**SIZES, **{"hidden": 32, "steps": STEPS, **options}).eval()
    made = ModeTransformer if kind == "mode" else DiffusionTransformer
    return made(
        **SIZES, **{"embed": 32, "layers": 2, "heads": 4, "level_width": 16, **options}
    ).eval()


VARIANTS = {
    "unet": ("unet", {}),
    "transformer": ("transformer", {}),
    "causal": ("transformer", {"causal": True}),
    "without convolution": ("transformer", {"kernel": 1}),
    "mlp": ("mlp", {}),
    "mode": ("mode", {}),
    "mode, sees everything": ("mode", {"causal": False}),
    "mode, one expert a token": ("mode", {"top": 1}),
    "mode, dense": ("mode", {"experts": 1, "top": 1}),
}


@pytest.fixture(params=VARIANTS)
def network(request):
    kind, options = VARIANTS[request.param]
    return make(kind, **options)


def inputs(rows: int, steps: int = STEPS, seed: int = 1):
    """x (B, T, A), tokens (B, K, E) and a level of its own for every step, (B, T)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, steps, WIDTH, generator=generator)
    tokens = torch.randn(rows, TOKENS, TOKEN_WIDTH, generator=generator)
    return x, tokens, torch.rand(rows, steps, generator=generator)


@torch.no_grad()
def answer(network, x, tokens, level, prepared=None):
    return network(x, level, network.encode_context(tokens), prepared)


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


# --- what any network must do


def test_everything_it_is_given_matters(network):
    x, tokens, level = inputs(2)
    before = answer(network, x, tokens, level)
    assert before.shape == x.shape
    assert torch.equal(before, answer(network, x, tokens, level))
    for changed in ((x + 0.1, tokens, level), (x, tokens + 0.1, level), (x, tokens, level * 0.9)):
        assert differ(before, answer(network, *changed)) > 1e-4
    assert (
        differ(before, answer(network, x, tokens.flip(1), level)) > 1e-4
    )  # observed steps have an order
    assert (
        differ(before.flip(1), answer(network, x.flip(1), tokens, level.flip(1))) > 1e-3
    )  # and so have planned ones


def test_a_level_works_at_its_own_step(network):
    """A level changed at one step moves the output there more than anywhere else: levels belong
    to positions.
    """
    if isinstance(network, DiffusionMLP):
        pytest.skip("an MLP sees a plan as a whole")
    x, tokens, level = inputs(100)
    changed = level.clone()
    changed[:, 6] = 1 - changed[:, 6]
    moved = (
        (answer(network, x, tokens, changed) - answer(network, x, tokens, level)).abs().mean((0, 2))
    )
    assert moved.argmax() in (5, 6, 7)  # a U-Net's coarser scales see means over neighbours
    assert moved[6] > 1.5 * moved[13:].max()


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_row_has_the_same_answer_in_any_company(network, rows):
    x, tokens, level = inputs(50)
    whole = answer(network, x, tokens, level)
    part = answer(network, x[:rows], tokens[:rows], level[:rows])
    torch.testing.assert_close(part, whole[:rows], atol=1e-5, rtol=0)


def test_permuting_rows_permutes_answers(network):
    x, tokens, level = inputs(7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(4))
    whole = answer(network, x, tokens, level)
    torch.testing.assert_close(
        answer(network, x[order], tokens[order], level[order]), whole[order], atol=1e-5, rtol=0
    )


def test_the_horizon_is_not_baked_into_the_weights(network):
    if isinstance(network, DiffusionMLP):
        with pytest.raises(ConfigError, match=r"give denoiser\.steps=24"):
            answer(network, *inputs(2, 24))
        return
    answers = [answer(network, *inputs(2, steps)) for steps in (16, 24, 32)]
    assert [tuple(a.shape) for a in answers] == [(2, steps, WIDTH) for steps in (16, 24, 32)]
    assert all(torch.isfinite(a).all() for a in answers)


def test_gradients_reach_every_weight(network):
    x, tokens, level = inputs(4)
    network(x, level, network.encode_context(tokens)).square().mean().backward()
    assert [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ] in (
        [],
        ["position"],  # only the part of it that a plan of this length reaches
    )


# --- prepared levels


def test_prepared_levels_give_the_same_answer(network):
    x, tokens, _ = inputs(5)
    levels = grid(VPCosine(), 4)[:-1]
    table = network.prepare(levels, STEPS)
    for step, level in enumerate(levels):
        plain = answer(network, x, tokens, level.expand(5, STEPS))
        torch.testing.assert_close(
            answer(network, x, tokens, None, table.at(step)), plain, atol=1e-6, rtol=0
        )
    assert (
        differ(
            answer(network, x, tokens, None, table.at(0)),
            answer(network, x, tokens, None, table.at(3)),
        )
        > 1e-3
    )


def test_staircases_can_be_prepared_too(network):
    x, tokens, _ = inputs(5)
    stairs = torch.linspace(0.1, 0.9, STEPS) * torch.tensor([[1.0], [0.8], [0.6]])  # (S, T)
    table = network.prepare(stairs, STEPS)
    for step in range(3):
        plain = answer(network, x, tokens, stairs[step].expand(5, STEPS))
        torch.testing.assert_close(
            answer(network, x, tokens, None, table.at(step)), plain, atol=1e-6, rtol=0
        )


TRACED = {
    "unet": lambda: make("unet", channels=(8, 16)),
    "transformer": lambda: make("transformer", layers=1),
    "mode": lambda: make("mode"),
    "published unet": lambda: PublishedUnet(**SIZES, channels=(8, 16), step_width=8),
}


@pytest.mark.parametrize("kind", TRACED)
def test_a_network_traces_in_one_graph(kind):
    """With a table and without, under autograd: no host read, no shape that depends on a route."""
    network = TRACED[kind]()
    x, tokens, level = inputs(3)
    level = level[:, :1].expand(-1, STEPS)  # one for each row
    shared = level[:1].expand(3, -1)
    entry = network.prepare(level[:1], STEPS).at(0)

    def run(x, tokens):
        context = network.encode_context(tokens)
        return network(x, level, context), network(x, shared, context, entry)

    expected = run(x, tokens)
    got = torch.compile(run, fullgraph=True, backend="eager")(x, tokens)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_a_table_holds_constants(network):
    """What reads levels alone gets no gradient through it, where autograd is on too."""
    x, tokens, level = inputs(2)
    entry = network.prepare(level[:1], STEPS).at(0)
    output = network(x, level[:1], network.encode_context(tokens), entry)
    output.sum().backward()
    reached = [name for name, p in network.named_parameters() if p.grad is not None]
    assert not any(name.startswith("embedding.") for name in reached)
    assert any(name.startswith("out.") for name in reached)


def optimiser_step(network, fused: bool = False):
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, fused=fused)
    x, tokens, level = inputs(2)
    network(x, level, network.encode_context(tokens)).square().mean().backward()
    optimiser.step()


def fused_optimiser_step(network):
    optimiser_step(network, fused=True)
    network.note_written()  # torch does not count what fused kernels write


def load(network):
    network.load_state_dict({name: tensor + 0.01 for name, tensor in network.state_dict().items()})


def one_weight(network):
    with torch.no_grad():
        next(network.parameters()).mul_(1.01)


@pytest.mark.parametrize("change", [optimiser_step, fused_optimiser_step, load, one_weight])
def test_a_table_of_other_weights_is_refused(network, change):
    denoiser = Denoiser(network, Preconditioner())
    table = network.prepare(grid(VPCosine(), 4)[:-1], STEPS)
    context = network.encode_context(inputs(2)[1])
    denoiser.bind(context, table=table)
    change(network)
    with pytest.raises(ConfigError, match=r"weights have changed.*prepare\(\) again"):
        denoiser.bind(context, table=table)
    denoiser.bind(context, table=network.prepare(table.levels, STEPS))


def test_a_table_of_an_average_that_moved_on_is_refused(network):
    ema = EMA(network)
    table = ema.model.prepare(grid(VPCosine(), 4)[:-1], STEPS)
    ema.update(network, 3)
    with pytest.raises(ConfigError, match="weights have changed"):
        ema.model.check_table(table)


def test_a_table_of_another_network_is_refused(network):
    """Two checkpoints freshly loaded were written to equally often; that does not make them the
    same.
    """
    one, other = copy.deepcopy(network), copy.deepcopy(network)
    for net, factor in ((one, 0.9), (other, 1.1)):
        net.load_state_dict(
            {name: factor * tensor for name, tensor in network.state_dict().items()}
        )
    table = one.prepare(grid(VPCosine(), 4)[:-1], STEPS)
    one.check_table(table)
    with pytest.raises(ConfigError, match="another network"):
        other.check_table(table)


def test_a_table_never_fits_a_network_that_comes_later_to_the_same_address(network):
    levels = grid(VPCosine(), 4)[:-1]
    tables = {}
    for _ in range(400):
        later = copy.deepcopy(network)
        met_before = id(later) in tables
        for table in tables.values():
            assert not table.fits(later, STEPS)
        if met_before:
            return
        tables[id(later)] = later.prepare(levels, STEPS)
        assert tables[id(later)].fits(later, STEPS)
        del later
        gc.collect()  # the network's cycles hold its address until then
    pytest.fail("no address came twice: the test says nothing")


@pytest.mark.parametrize(
    "make_another", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_has_a_serial_number_of_its_own(make_another, network):
    others = [make_another(network) for _ in range(3)]
    assert len({network.serial, *(other.serial for other in others)}) == 4


def test_a_network_moved_or_filled_with_other_tensors_knows_none_of_its_tables(network):
    """Neither counts as a write to a weight."""
    levels = grid(VPCosine(), 4)[:-1]
    for change in (
        lambda: network.double(),
        lambda: network.load_state_dict(
            {k: v.clone() for k, v in network.state_dict().items()}, assign=True
        ),
    ):
        table = network.prepare(levels.to(next(network.parameters())), STEPS)
        change()
        assert not table.fits(network, STEPS)


# --- U-Net


def ordinary_unet(net: Any, x, tokens, level):
    """Diffusion Policy's U-Net (2303.04137) in plain functions: one level per row, one joint
    FiLM vector per block.
    """

    def embed(k):  # (B,) -> (B, E)
        angle = k[:, None] * net.embedding.frequencies
        h = F.mish(
            F.linear(torch.cat((angle.sin(), angle.cos()), -1), *params(net.embedding.layers[0]))
        )
        return F.linear(h, *params(net.embedding.layers[2]))

    def params(layer):
        return layer.weight, layer.bias

    def conv_block(block, h):
        h = F.conv1d(h, *params(block[0]), padding=block[0].kernel_size[0] // 2)
        return F.mish(F.group_norm(h, block[1].num_groups, *params(block[1])))

    def residual(block, h):
        weight = torch.cat((block.level_film.weight, block.context_film.weight), 1)
        film = F.linear(F.mish(joint), weight, block.level_film.bias)  # (B, 2C)
        scale, shift = film.unsqueeze(-1).chunk(2, 1)
        skip = h if isinstance(block.skip, torch.nn.Identity) else F.conv1d(h, *params(block.skip))
        return conv_block(block.second, conv_block(block.first, h) * (1 + scale) + shift) + skip

    def stage(stage_, h):
        for block in stage_.blocks:
            h = residual(block, h)
        return h

    joint = torch.cat((embed(level), tokens.flatten(1)), -1)
    h, skips = x.transpose(1, 2), []
    for down, shrink in zip(net.down[:-1], net.shrink, strict=True):
        skips.append(stage(down, h))
        h = F.conv1d(skips[-1], *params(shrink), stride=2, padding=1)
    h = stage(net.middle, stage(net.down[-1], h))
    for grow, up in zip(net.grow, net.up, strict=True):
        h = stage(
            up,
            torch.cat((F.conv_transpose1d(h, *params(grow), stride=2, padding=1), skips.pop()), 1),
        )
    return F.conv1d(conv_block(net.out[0], h), *params(net.out[1])).transpose(1, 2)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_with_one_level_the_unet_is_the_ordinary_one(dtype, most):
    """The two FiLMs are one joint FiLM split in two sums; what is left is the order of
    additions.
    """
    net = make("unet").to(dtype)
    x, tokens, level = (tensor.to(dtype) for tensor in inputs(6))
    with torch.no_grad():
        expected = ordinary_unet(net, x, tokens, level[:, 0])
    got = answer(net, x, tokens, level[:, :1].expand(-1, STEPS))
    assert got.std() > 0.01
    assert differ(got, expected) < most


def test_coarser_scales_see_the_mean_of_the_levels_below_them():
    """Levels that change places within a pair are nothing to the coarser scales, within four to
    the coarsest; else they are.
    """
    net = make("unet")
    assert isinstance(net, ConditionalUnet)
    level = torch.rand(1, STEPS, generator=torch.Generator().manual_seed(0))
    pairs, fours = torch.arange(STEPS) ^ 1, torch.arange(STEPS) ^ 2
    scales = [scale for scale, _ in net._list_blocks()]
    with torch.no_grad():
        plain, in_pairs, in_fours = (
            net.modulation(level[:, order]) for order in (torch.arange(STEPS), pairs, fours)
        )
    assert sorted(set(scales)) == [0, 1, 2]
    for scale, film, paired, foured in zip(scales, plain, in_pairs, in_fours, strict=True):
        assert film.shape[2] == STEPS >> scale
        assert (differ(film, paired) < 1e-6) == (scale >= 1)
        assert (differ(film, foured) < 1e-6) == (scale == 2)


@pytest.mark.parametrize("resolutions", [1, 2, 3])
def test_a_unet_says_which_plans_it_can_take(resolutions):
    net = make("unet", channels=(8, 16, 24)[:resolutions])
    factor = 2 ** (resolutions - 1)
    assert answer(net, *inputs(1, 4 * factor)).shape == (1, 4 * factor, WIDTH)
    if factor > 1:
        with pytest.raises(
            ConfigError,
            match=rf"horizon\.planned is 9.*multiple of {factor}.*try {12 if factor == 4 else 10}",
        ):
            answer(net, *inputs(1, 9))


def test_preparing_levels_for_a_wrong_horizon_says_so_too():
    with pytest.raises(ConfigError, match=r"horizon\.planned is 9.*multiple of 4"):
        make("unet").prepare(grid(VPCosine(), 4)[:-1], 9)


def test_channels_that_cannot_be_normalised_in_groups_are_refused():
    with pytest.raises(
        ConfigError, match=r"denoiser\.channels \[8, 18\].*divisible by denoiser\.groups \(4\)"
    ):
        make("unet", channels=(8, 18))


# --- transformer


@pytest.mark.parametrize("kind", ["transformer", "mode"])
def test_a_causal_transformer_hides_later_actions_to_the_bit(kind):
    net = make(kind, causal=True)
    x, tokens, level = inputs(3)
    before = answer(net, x, tokens, level)
    for j in (0, 5, STEPS - 1):
        changed, changed_level = x.clone(), level.clone()
        changed[:, j] += 1.0
        changed_level[:, j] = 1 - changed_level[:, j]
        after = answer(net, changed, tokens, changed_level)
        assert torch.equal(after[:, :j], before[:, :j])
        assert (after[:, j:] != before[:, j:]).any(-1).all()  # it and all later ones see the change


@pytest.mark.parametrize("kind", ["transformer", "mode"])
def test_a_transformer_without_the_mask_sees_everything(kind):
    net = make(kind, causal=False)
    x, tokens, level = inputs(3)
    changed = x.clone()
    changed[:, -1] += 1.0
    assert (answer(net, changed, tokens, level) != answer(net, x, tokens, level)).any(-1).all()


@pytest.mark.parametrize("kind", ["transformer", "mode"])
def test_a_transformer_says_how_long_a_plan_may_be(kind):
    net = make(kind, steps=20)
    with pytest.raises(ConfigError, match=r"horizon\.planned is 24, but denoiser\.steps allows 20"):
        answer(net, *inputs(1, 24))


@pytest.mark.parametrize("kind", ["transformer", "mode"])
def test_heads_must_divide_the_width(kind):
    with pytest.raises(ConfigError, match=r"denoiser\.embed \(32\).*denoiser\.heads \(5\)"):
        make(kind, heads=5)


@pytest.mark.parametrize("kernel", [0, 2])
def test_a_convolution_has_a_middle(kernel):
    with pytest.raises(ConfigError, match="must be odd"):
        make("transformer", kernel=kernel)


@pytest.mark.parametrize("causal", [False, True])
def test_the_convolution_is_torchs_own(causal):
    layer = TemporalLinear(5, 7, 3, causal)
    h = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    weight = layer.weight.unflatten(1, (3, 5)).transpose(1, 2)  # (7, 5, 3)
    padded = F.pad(h.transpose(1, 2), (2, 0) if causal else (1, 1))
    torch.testing.assert_close(layer(h), F.conv1d(padded, weight, layer.bias).transpose(1, 2))
