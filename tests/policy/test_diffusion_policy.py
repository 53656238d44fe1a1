"""A policy in the loop: windows, states that are values, plans, and what mistakes say."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.statistics import statistics
from hotstart.policy import checkpoint
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.schedule import VPCosine, grid
from hotstart.policy.diffusion.solvers import DDIM, DPMSolverPP
from hotstart.policy.diffusion_policy import DiffusionPolicy, build_sampler
from hotstart.policy.model import AS_GIVEN
from hotstart.policy.normalizer import ACTION, Normalizer
from hotstart.policy.samplers.base import PlanOutcome, Sampler
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.streaming import Streaming
from hotstart.spec import ActionDim, ActionSpec, ConfigError

ROWS = 7
SAMPLERS = [Fresh(3), Fresh(3, DDIM(1.0)), Fresh(3, DPMSolverPP())]


# --- windows and values


def test_states_are_values(policy, observation, plan, same_rows):
    state = policy.initial_state(list(range(ROWS)))
    for call in (
        lambda s: policy.observe(s, observation()),
        lambda s: policy.adopt(s, plan(policy, s)),
        lambda s: policy.reset_rows(s, np.array([1]), [8]),
    ):
        before = copy.deepcopy(state)
        after = call(state)
        assert same_rows(state, before, range(ROWS))
        assert not same_rows(after, state, range(ROWS))
        state = after


def test_adopt_takes_plans_into_the_newer_state(policy, observation, watched, plan, same_rows):
    asked = watched(policy)
    newer = policy.observe(asked, observation(ROWS, 9))
    planned = plan(policy, asked, [1, 4])
    adopted = policy.adopt(newer, planned)
    assert np.array_equal(adopted.history["state"], newer.history["state"])
    assert np.array_equal(adopted.seen, newer.seen)
    assert np.array_equal(adopted.plan.x[[1, 4]], planned.plan.x)
    assert adopted.plan.count.tolist() == [0, 1, 0, 0, 1, 0, 0]
    assert same_rows(adopted, newer, [0, 2, 3, 5, 6])
    # answers of two planners that overlapped, in either order
    other = plan(policy, asked, [2])
    both = [
        policy.adopt(policy.adopt(newer, a), b) for a, b in ((planned, other), (other, planned))
    ]
    assert same_rows(both[0], both[1], range(ROWS))


def test_what_goes_on_from_an_adopted_plan_goes_on_from_all_of_it(
    tiny_model, observation, watched, plan
):
    """Its noise too: a staircase's later steps are noisy still."""
    policy = DiffusionPolicy(tiny_model(), Streaming(2, cold=3))
    asked = watched(policy)
    planned = plan(policy, asked, [1, 4])
    adopted = policy.adopt(asked, planned)
    assert planned.plan.level.any()
    np.testing.assert_array_equal(adopted.plan.level[[1, 4]], planned.plan.level)
    seen = observation(ROWS, 9)
    early = plan(policy, policy.observe(adopted, seen), [1, 4])
    late = plan(policy, policy.adopt(policy.observe(asked, seen), planned), [1, 4])
    np.testing.assert_array_equal(late.actions, early.actions)


# --- plans


def test_actions_are_the_executed_part_of_the_plan_in_the_robots_units(policy, watched, plan):
    planned = plan(policy, watched(policy), [2, 5])
    first, last = policy.horizon.past, policy.horizon.past + policy.horizon.executed
    part = torch.as_tensor(planned.plan.x[:, first:last])
    assert planned.actions.shape == (2, 4, 2)
    np.testing.assert_array_equal(
        planned.actions, policy.model.normalizer.denormalize(ACTION, part).numpy()
    )
    assert planned.rows.tolist() == [2, 5]
    assert len(planned.plan.x) == 2  # only the rows that were asked for


def test_another_number_of_executed_steps_gives_a_longer_chunk_of_the_same_plan(
    policy, watched, plan
):
    state = watched(policy)
    longer = DiffusionPolicy(policy.model, policy.sampler, executed=9)
    np.testing.assert_array_equal(plan(longer, state).actions[:, :4], plan(policy, state).actions)
    assert plan(longer, state).actions.shape[1] == longer.horizon.executed == 9
    with pytest.raises(ConfigError, match=r"planned is 12.*= 13 steps are needed"):
        DiffusionPolicy(policy.model, policy.sampler, executed=12)


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), DPMSolverPP()])
@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_a_fresh_plan_is_the_loop_written_out(kind, solver, tiny_model, watched, plan):
    """From the row's noise down the grid, each estimate clipped, no level prepared beforehand."""
    model = tiny_model(kind)
    policy = DiffusionPolicy(model, Fresh(5, solver, clip=0.4))
    state = watched(policy)
    noise, history = RowNoise(state.seeds, state.plan.count), None
    x, context = (
        noise.normal(12, 2),
        model.encode({"state": torch.as_tensor(state.history["state"])}),
    )
    for level_from, level_to in pairwise(grid(VPCosine(), 5)):
        levels = (level_from.expand(len(x), 12), level_to.expand(len(x), 12))
        step = solver.step(
            lambda x, level: model.denoiser(x, level, context).clamp(-0.4, 0.4), x, *levels, history
        )
        x, history = step.mean, step.history
        if solver.stochastic:
            x = x + step.std * noise.normal(12, 2)
    np.testing.assert_allclose(plan(policy, state).plan.x, x, atol=1e-5)


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), DPMSolverPP()])
@pytest.mark.parametrize("steps", [1, 4])
def test_evaluations_are_counted_per_row(steps, solver, tiny_model, watched, plan):
    model = tiny_model()
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    policy = DiffusionPolicy(model, Fresh(steps, solver))
    planned = plan(policy, watched(policy), [0, 2, 5])
    assert planned.nfe.tolist() == [steps] * 3
    assert len(calls) == steps  # one network call for all rows


def test_plans_are_clipped_to_the_range_of_the_data_unless_told_otherwise(
    tiny_model, watched, plan
):
    model = tiny_model()
    with torch.no_grad():
        model.network.out[1].bias += 5
    state = watched(DiffusionPolicy(model))
    clipped, free = (
        plan(DiffusionPolicy(model, Fresh(4, clip=clip)), state).plan.x for clip in (1.0, None)
    )
    assert np.abs(clipped).max() <= 1
    assert np.abs(free).max() > 1.5


def test_a_sampler_is_handed_all_it_needs_and_its_outcome_is_used(tiny_model, watched, replan):
    """A sampler of one's own is told of the last plan, and its plan is what is executed."""
    requests = []

    class Own(Sampler):
        def __call__(self, request):
            requests.append(request)
            nfe = torch.tensor([7] * request.rows)
            return PlanOutcome(torch.full((request.rows, 12, 2), 0.5), nfe)

    policy = DiffusionPolicy(tiny_model(), Own())
    state = replan(policy, watched(policy), [1, 3])
    second = policy.plan(state, np.array([1, 2]), np.array([4, 0]))
    assert second.nfe.tolist() == [7, 7]
    np.testing.assert_allclose(
        second.actions, policy.model.normalizer.denormalize(ACTION, torch.full((2, 4, 2), 0.5))
    )
    assert torch.isnan(requests[0].previous.plan).all()
    assert requests[1].previous.plan[0].eq(0.5).all()
    assert torch.isnan(requests[1].previous.plan[1]).all()
    assert requests[1].previous.executed.tolist() == [4, 0]
    assert requests[1].noise.seeds.tolist() == [1, 2]
    assert requests[1].noise.plans.tolist() == [1, 0]


@pytest.mark.parametrize("size", [1.0, 0.2])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.08)])
def test_a_number_of_two_values_takes_the_value_on_its_own_side(
    low, high, size, tiny_model, watched, plan
):
    """Below the middle it is the data's lower value, above it the higher one, however near."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-3, 3, (4, 14, 2)).astype(np.float32)
    grips = np.where(np.arange(14) % 2, high, low)[:, None]
    episodes = [
        {"state": s, "action": np.concatenate((s[:, :1], grips), 1).astype(np.float32)}
        for s in states
    ]
    spec = ActionSpec((ActionDim("x"), ActionDim("grip", "", "discrete")))
    model = tiny_model(
        dataset=Arrays(episodes, fps=10.0, action_spec=spec),
        actions={**AS_GIVEN, "discrete_size": size},
    )
    found = {
        ACTION: model.actions.set_known_ranges(
            statistics(np.concatenate([e["action"] for e in episodes]))
        )
    }
    model.normalizer.load_state_dict(
        {**model.normalizer.state_dict(), **Normalizer.fit(found, {ACTION: (2,)}).state_dict()}
    )
    wanted = torch.tensor([-0.9, -0.01, 0.01, 0.9]) * size  # the chunk's four steps

    class Own(Sampler):
        def __call__(self, request):
            made = torch.zeros(request.rows, 12, 2)
            made[:, 1:5, 1] = wanted
            return PlanOutcome(made, torch.zeros(request.rows, dtype=torch.long))

    policy = DiffusionPolicy(model, Own())
    actions = plan(policy, watched(policy)).actions
    np.testing.assert_allclose(
        actions[:, :, 1], np.broadcast_to([low, low, high, high], (ROWS, 4)), atol=1e-6
    )


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_the_steps_of_the_delay_are_handed_out_after_the_chunk(delay, tiny_model, watched, plan):
    model = tiny_model()
    policy, without = (
        DiffusionPolicy(model, Fresh(2), delay=delay),
        DiffusionPolicy(model, Fresh(2)),
    )
    planned = plan(policy, watched(policy))
    assert planned.actions.shape == (ROWS, 4 + delay, 2)
    np.testing.assert_array_equal(planned.actions[:, :4], plan(without, watched(without)).actions)
    part = torch.as_tensor(planned.plan.x[:, 1 : 5 + delay])
    np.testing.assert_array_equal(
        planned.actions, model.normalizer.denormalize(ACTION, part).numpy()
    )


def test_steps_that_are_still_noisy_are_never_handed_out(tiny_model, watched, plan):
    """A streamed plan is clean in its chunk only, whatever the delay."""
    policy = DiffusionPolicy(tiny_model(), Streaming(2), delay=3)
    planned = plan(policy, watched(policy))
    assert planned.plan.level[:, 5:].min() > 0
    assert planned.actions.shape == (ROWS, 4, 2)


# --- mistakes


def test_numbers_that_are_not_finite_never_become_actions(policy, observation, watched, plan):
    state = watched(policy)
    seen = observation(ROWS, 3)
    for value in (np.nan, np.inf):
        seen["state"][4, 1] = value
        bad = policy.observe(state, seen)
        with pytest.raises(
            ConfigError,
            match=r"plan is not finite: the observation or the weights hold NaN or infinity",
        ):
            plan(policy, bad)
        assert np.isfinite(
            plan(policy, bad, [0, 3]).actions
        ).all()  # the other rows are as well as before


def test_planning_before_seeing_is_refused(policy, observation, plan):
    state = policy.observe(policy.initial_state([0, 1]), observation(2))
    state = policy.reset_rows(state, np.array([1]), [5])
    with pytest.raises(ConfigError, match=r"observed nothing: call observe\(\) first"):
        plan(policy, state)
    assert plan(policy, state, [0]).actions.shape == (1, 4, 2)


def test_steps_of_a_sampler_are_checked():
    with pytest.raises(ConfigError, match=r"inference\.steps is 0"):
        Fresh(0)


# --- from a configuration and from a file


def test_a_sampler_is_built_from_its_configuration():
    home = "hotstart.policy"
    sampler = build_sampler(
        {
            "_target_": f"{home}.samplers.fresh.Fresh",
            "steps": 4,
            "solver": {"_target_": f"{home}.diffusion.solvers.DDIM", "eta": 0.5},
            "clip": None,
        }
    )
    assert isinstance(sampler, Fresh)
    assert isinstance(sampler.solver, DDIM)
    assert (sampler.steps, sampler.clip, sampler.solver.eta) == (4, None, 0.5)
    with pytest.raises(ConfigError, match=r"solver names the target 'os\.system'"):
        build_sampler(
            {"_target_": f"{home}.samplers.fresh.Fresh", "solver": {"_target_": "os.system"}}
        )
    with pytest.raises(
        ConfigError, match=r"inference\.step is unknown; Fresh takes steps, solver, clip"
    ):
        build_sampler({"_target_": f"{home}.samplers.fresh.Fresh", "step": 4})


def test_a_loaded_policy_does_what_the_saved_one_did(tmp_path, policy, watched, plan):
    checkpoint.save(tmp_path / "c", policy.model, {})
    back = DiffusionPolicy.load(tmp_path / "c", policy.sampler)
    assert np.array_equal(plan(back, watched(back)).actions, plan(policy, watched(policy)).actions)


def test_nothing_is_remembered_outside_the_state(policy, watched, plan, replan):
    """Two episodes by turns are two episodes one after the other."""
    a, b = (watched(policy, [seed]) for seed in (1, 2))
    alone = plan(policy, replan(policy, a)).actions
    first = replan(policy, a)
    plan(policy, replace(b, seeds=b.seeds + 3))
    assert np.array_equal(plan(policy, first).actions, alone)
