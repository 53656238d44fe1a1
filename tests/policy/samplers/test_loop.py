"""The sampling loop: pure, traced, compiled as one graph, and open to gradients."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.solvers import DDIM, PLMS, DPMSolverPP, Solver
from hotstart.policy.model import PolicyModel
from hotstart.policy.samplers import base
from hotstart.policy.samplers.anchored import Anchored
from hotstart.policy.samplers.base import PlanRequest, PreviousPlan, Sampler
from hotstart.policy.samplers.bidirectional import BidirectionalDecoding
from hotstart.policy.samplers.classifier_free import ClassifierFreeGuidance
from hotstart.policy.samplers.conditioning import ConditionedModel, condition
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.loop import Transition, sample
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import ConfigError

NETWORKS = ["unet", "transformer", "mode"]
ROWS, STEPS = 3, 12
SOLVERS = [
    DDIM(),
    DDIM(1.0),
    DDIM(0.5, min_std=0.1),
    DPMSolverPP(),
    DPMSolverPP(min_std=0.05),
    PLMS(),
]


def see(model: PolicyModel, rows: int = ROWS) -> ConditionedModel:
    """The model, conditioned on some states."""
    generator = torch.Generator().manual_seed(1)
    return condition(model, {"state": torch.randn(rows, 2, 2, generator=generator)})


def ask(model: ConditionedModel, first: int = ROWS) -> PlanRequest:
    """A request of rows with plans of different ages; from row `first` on there was none."""
    generator = torch.Generator().manual_seed(2)
    plan = 0.5 * torch.randn(ROWS, STEPS, 2, generator=generator)
    plan[first:] = torch.nan
    level = torch.zeros(ROWS, STEPS)
    level[:, 5:] = 0.6
    previous = PreviousPlan(plan, level, torch.tensor([4, 2, 3]), torch.tensor([0, 1, 2]))
    return PlanRequest(model, RowNoise(range(ROWS), [0] * ROWS), previous, trace=[])


def trainable(model: PolicyModel) -> PolicyModel:
    """The model with gradients for every parameter."""
    return model.requires_grad_(True)


# --- the loop


@torch.no_grad()
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_loop_is_the_old_one_written_out(kind: str, solver: Solver, tiny_model):
    """Noise drawn step by step; a staircase, so that levels differ along T."""
    model = see(tiny_model(kind))
    levels = Streaming(4)._levels(ask(model))  # (S + 1, T)
    noise = RowNoise(range(ROWS), [0] * ROWS)
    x = start = noise.normal(STEPS, 2)
    bound, history = model.bind(levels, 1.0), None
    for step, (level_from, level_to) in enumerate(pairwise(levels.unsqueeze(1).expand(-1, 3, -1))):
        denoise = partial(bound, step=step)
        x, std, history = solver.step(denoise, x, level_from, level_to, history)
        if solver.stochastic:
            x = x + std * noise.normal(STEPS, 2)
    request = PlanRequest(model, RowNoise(range(ROWS), [0] * ROWS))
    outcome = base.run_sampler(request, request.draw(), levels, solver, 1.0)
    assert torch.equal(request.noise.restart().normal(STEPS, 2), start)
    assert torch.equal(outcome.plan, x)
    assert outcome.nfe.tolist() == [4] * ROWS


def test_the_trace_holds_the_chain_from_the_first_noise_to_the_plan(tiny_model):
    request = ask(see(tiny_model()))
    outcome = Fresh(4, DDIM(1.0))(request)
    trace = request.trace
    assert trace is not None and len(trace) == 4
    assert torch.equal(trace[0].x, request.noise.restart().normal(STEPS, 2))
    assert torch.equal(trace[-1].next_x, outcome.plan)
    for one, other in pairwise(trace):
        assert torch.equal(one.next_x, other.x)
        assert torch.equal(one.level_to, other.level_from)
    assert not trace[-1].std.any()  # DDPM has no noise at its last step
    assert bool((trace[0].std > 0).all())


def test_log_probabilities_are_those_of_a_gaussian_and_none_where_nothing_is_drawn():
    generator = torch.Generator().manual_seed(0)
    mean, next_x = torch.randn(2, 2, 4, 3, generator=generator).unbind()
    std = torch.full((2, 4, 1), 0.3)
    std[:, 0] = 0.0
    level = torch.full((2, 4), 0.5)
    found = Transition(mean, next_x, mean, std, level, level).log_prob()
    assert not found[:, 0].any()
    expected = torch.distributions.Normal(mean[:, 1:], 0.3).log_prob(next_x[:, 1:])
    torch.testing.assert_close(found[:, 1:], expected)


@pytest.mark.parametrize("make", [DDIM, DPMSolverPP, PLMS])
def test_a_floor_gives_every_step_that_moves_its_noise_and_leaves_the_mean(make, tiny_model):
    model = see(tiny_model())
    floored, plain = ask(model), ask(model)
    for request, solver in ((floored, make(min_std=0.1)), (plain, make())):
        levels = Streaming(4)._levels(request)
        levels[:, :2] = 0.0  # these do not move
        base.run_sampler(request, request.draw(), levels, solver, 1.0)
    for step in floored.trace or []:
        assert torch.equal(step.std[:, 2:], torch.full((ROWS, STEPS - 2, 1), 0.1))
        assert not step.std[:, :2].any()
    assert floored.trace is not None and plain.trace is not None
    assert torch.equal(floored.trace[0].mean, plain.trace[0].mean)
    assert not make().stochastic
    with pytest.raises(ConfigError, match=r"min_std is -0.1; it must be 0 or more"):
        make(min_std=-0.1)


# --- gradients


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_of_a_traced_chain_reach_every_parameter(kind: str, tiny_model):
    """As policy gradients need it; without a floor the last step has no density."""
    model = trainable(tiny_model(kind))
    request = ask(see(model))
    Fresh(3, DDIM(1.0, min_std=0.1))(request)
    assert request.trace is not None
    log_prob = torch.stack([step.log_prob() for step in request.trace])  # (S, R, T, A)
    assert bool(torch.isfinite(log_prob).all())
    assert bool((log_prob != 0).all())
    log_prob.sum().backward()
    for name, weight in [*model.encoder.named_parameters(), *model.network.named_parameters()]:
        assert weight.grad is not None, name
        assert bool(torch.isfinite(weight.grad).all()), name
        assert bool(weight.grad.any()), name


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_chain_drawn_without_gradients_is_scored_again_with_them(kind: str, tiny_model):
    """The same weights give the same log-probabilities, though the drawing used prepared levels."""
    model = trainable(tiny_model(kind))
    solver = DDIM(1.0, min_std=0.1)
    with torch.no_grad():
        drawn = ask(see(model))
        Fresh(3, solver)(drawn)
    bound = see(model).bind(None, 1.0)
    for step in drawn.trace or []:
        again = solver.step(bound, step.x, step.level_from, step.level_to, None)
        scored = step._replace(mean=again.mean, std=again.std).log_prob()
        torch.testing.assert_close(scored, step.log_prob(), atol=1e-4, rtol=1e-4)
        (slope,) = torch.autograd.grad(scored.sum(), next(model.network.parameters()))
        assert bool(slope.any())


@pytest.mark.parametrize("kind", NETWORKS)
def test_no_level_table_is_used_with_gradients(kind: str, tiny_model, monkeypatch):
    """Neither made for the loop, nor used by it where it was bound beforehand."""
    model = tiny_model(kind)
    seen: list[object] = []
    forward = type(model.network).forward

    def watch(network, x, level, context, prepared=None):
        seen.append(prepared)
        return forward(network, x, level, context, prepared)

    monkeypatch.setattr(type(model.network), "forward", watch)
    with torch.no_grad():
        levels = ask(see(model)).grid(2)
        bound = see(model).bind(levels, 1.0)
        x = torch.zeros(ROWS, STEPS, 2)
        sample(bound, DDIM(), x, None, levels.unsqueeze(1).expand(-1, ROWS, -1))
    assert None not in seen and len(seen) == 2
    seen.clear()
    sample(bound, DDIM(), x, None, levels.unsqueeze(1).expand(-1, ROWS, -1))
    Fresh(2)(ask(see(model)))
    assert seen == [None] * 4
    assert model.denoiser.prepare(levels) is None


# --- compilation

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "fresh": lambda: Fresh(2, DDIM(1.0)),
    "dpmpp": lambda: Fresh(3, DPMSolverPP()),
    "plms": lambda: Fresh(3, PLMS()),
    "rti": lambda: WarmStart(2, cold=2, ramp=False),
    "rti ramp": lambda: WarmStart(2, cold=2, ramp=True),
    "rti fallback": lambda: WarmStart(2, cold=2, ramp=False, fallback=5.0),
    "sdp": lambda: Streaming(2, cold=2),
    "rtc full": lambda: RealTimeChunking(2, "full"),
    "rtc identity": lambda: RealTimeChunking(2, "identity"),
    "rtc trained": lambda: RealTimeChunking(2, "trained"),
    "bid": lambda: BidirectionalDecoding(2, 1, steps=2, weak_steps=0),
    "anchored": lambda: Anchored(2),
    "cfg": lambda: ClassifierFreeGuidance(2, 2.0, agree=0.5),
}


SMALL = {
    "unet": {
        "_target_": "hotstart.policy.denoisers.unet.ConditionalUnet",
        "channels": [8],
        "groups": 2,
        "level_width": 8,
    },
    "transformer": {
        "_target_": "hotstart.policy.denoisers.transformer.DiffusionTransformer",
        "embed": 8,
        "layers": 1,
        "heads": 2,
    },
    "mode": {
        "_target_": "hotstart.policy.denoisers.mode.ModeTransformer",
        "embed": 8,
        "layers": 1,
        "heads": 2,
    },
}
"""Few layers: it takes about as long to trace them as there are operations."""


class WithoutInstruction(ConditionedModel):
    """A model of states, which has no instruction to leave out: other states stand in for that."""

    def unconditional(self) -> ConditionedModel:
        return see(self.model)


def check_one_graph(make: Callable[[], Sampler], model: PolicyModel, monkeypatch) -> None:
    """The sampler's loop, compiled as one graph, gives the plans that it gives directly."""
    given = WithoutInstruction(**vars(see(model)))
    plain = make()(ask(given))
    torch.compiler.reset()
    compiled = torch.compile(sample, backend="eager", fullgraph=True)
    loops: list[int] = []

    def run(*arguments):
        loops.append(1)
        return compiled(*arguments)

    monkeypatch.setattr(base, "sample", run)
    outcome = make()(ask(given))
    assert len(loops) == 1
    torch.testing.assert_close(outcome.plan, plain.plan, atol=1e-5, rtol=1e-5)
    assert outcome.nfe.tolist() == plain.nfe.tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_loop_of_every_sampler_compiles_as_one_graph(kind, name, tiny_model, monkeypatch):
    model = tiny_model(kind, denoiser=SMALL[kind])
    model.add_anchors(3)
    model.anchors.plans.normal_(generator=torch.Generator().manual_seed(3))
    check_one_graph(SAMPLERS[name], model, monkeypatch)


@torch.no_grad()
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_of_several_layers_compile(kind, tiny_model, monkeypatch):
    """With levels of each row's own, so that nothing is prepared."""
    check_one_graph(SAMPLERS["rtc trained"], tiny_model(kind), monkeypatch)
