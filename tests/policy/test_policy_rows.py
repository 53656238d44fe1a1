"""Rows that do not know of each other: resets, company, permutations, noise."""

import copy

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.solvers import DDIM, DPMSolverPP
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.bidirectional import BidirectionalDecoding
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from hotstart.policy.samplers.streaming import Streaming
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.spec import ConfigError

ROWS = 7
SAMPLERS = [Fresh(3), Fresh(3, DDIM(1.0)), Fresh(3, DPMSolverPP())]
GOING_ON = [
    WarmStart(2, cold=3),
    WarmStart(2, cold=3, solver=DDIM(), renoise=False, fallback=0.05),
    WarmStart(2, cold=3, ramp=True),
    Streaming(2, cold=3, solver=DDIM(1.0)),
    Streaming(2, primer="constant"),
    RealTimeChunking(3),
    RealTimeChunking(3, "identity"),
    RealTimeChunking(3, "trained"),
    BidirectionalDecoding(4, 2, steps=3),
]


# --- rows


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", ["unet", "transformer", "mode"])
def test_a_row_has_the_same_plan_in_any_company(
    kind, sampler, tiny_model, observation, watched, plan
):
    policy = DiffusionPolicy(tiny_model(kind), sampler)
    state = watched(policy)
    together = plan(policy, state)
    for rows in ([3], [0, 6], [5, 4, 3, 2, 1]):
        some = plan(policy, state, rows)
        np.testing.assert_allclose(some.plan.x, together.plan.x[rows], atol=1e-5)
    alone = DiffusionPolicy(policy.model, sampler)  # a batch of one from the beginning
    for row in (0, 3):
        one = alone.initial_state([row])
        for tick in range(2):
            one = alone.observe(one, {"state": observation(ROWS, tick)["state"][row : row + 1]})
        np.testing.assert_allclose(plan(alone, one).plan.x[0], together.plan.x[row], atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_permuting_rows_permutes_plans(sampler, tiny_model, observation, watched, plan):
    policy = DiffusionPolicy(tiny_model(), sampler)
    order = np.array([4, 0, 6, 2, 1, 5, 3])
    together, mixed = watched(policy), policy.initial_state(order.tolist())
    for tick in range(2):
        mixed = policy.observe(mixed, {"state": observation(ROWS, tick)["state"][order]})
    one, other = plan(policy, together), plan(policy, mixed)
    np.testing.assert_allclose(other.plan.x, one.plan.x[order], atol=1e-5)
    np.testing.assert_allclose(other.actions, one.actions[order], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("rows", [[2], [6, 0], []])
def test_resetting_rows_leaves_the_others_to_the_bit(
    rows, policy, observation, watched, plan, replan, same_rows, row_of
):
    state = replan(policy, watched(policy))
    before = copy.deepcopy(state)
    reset = policy.reset_rows(state, np.array(rows, np.int64), [90 + row for row in rows])
    assert same_rows(state, before, range(ROWS))  # the old value is not touched
    assert same_rows(reset, state, set(range(ROWS)) - set(rows))
    fresh = policy.initial_state([90 + row for row in rows])
    for number, row in enumerate(rows):
        assert all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(row_of(reset, row), row_of(fresh, number), strict=True)
        )
    # and the others go on as if nothing had happened
    others = sorted(set(range(ROWS)) - set(rows))
    one, other = (
        plan(policy, policy.observe(s, observation(ROWS, 5)), others) for s in (reset, state)
    )
    assert np.array_equal(one.actions, other.actions)


def test_reset_rows_wants_a_seed_for_every_row(policy, watched):
    with pytest.raises(ConfigError, match=r"2 rows .*1 seeds; give one seed per row"):
        policy.reset_rows(watched(policy), np.array([0, 1]), [5])


def test_a_row_that_is_reset_with_its_seed_does_the_same_again(
    policy, observation, watched, plan, replan
):
    state = watched(policy)
    first = plan(policy, state)
    state = replan(policy, policy.adopt(state, first))
    state = policy.reset_rows(state, np.array([3]), [3])
    for tick in range(2):
        state = policy.observe(state, observation(ROWS, tick))
    again = plan(policy, state, [3])
    np.testing.assert_allclose(again.actions[0], first.actions[3], rtol=1e-5)


def test_each_plan_of_a_row_has_noise_of_its_own(policy, watched, plan):
    state = watched(policy)
    first = plan(policy, state)
    second = plan(policy, policy.adopt(state, first))
    assert np.array_equal(
        plan(policy, state).actions, first.actions
    )  # the state is a value: asked twice, same answer
    assert np.abs(second.plan.x - first.plan.x).max() > 0.05
    assert (second.plan.count == 2).all()
    twins = policy.observe(policy.initial_state([1, 2]), {"state": np.ones((2, 2), np.float32)})
    assert (
        np.abs(np.diff(plan(policy, twins).plan.x, axis=0)).max() > 0.05
    )  # another seed, another plan


# --- samplers that continue the plan before: rows at different calls and shifts, in one batch


@pytest.mark.parametrize("sampler", GOING_ON)
@pytest.mark.parametrize("kind", ["unet", "transformer", "mode"])
def test_a_row_goes_on_the_same_in_any_company(
    kind, sampler, tiny_model, observation, watched, replan
):
    policy = DiffusionPolicy(tiny_model(kind), sampler)
    # these rows are one plan ahead of the others
    state = replan(policy, watched(policy), [0, 2, 3, 5])
    state = policy.observe(state, observation(ROWS, 8))
    executed, frozen = np.array([4, 3, 2, 4, 1, 4, 0]), np.array([0, 1, 0, 2, 0, 0, 0])

    def go_on(rows: list[int]):
        return policy.plan(state, np.array(rows), executed[rows], frozen[rows])

    together = go_on(list(range(ROWS)))
    for rows in ([3], [0, 6], [5, 4, 1], [2]):
        some = go_on(rows)
        np.testing.assert_allclose(some.plan.x, together.plan.x[rows], atol=2e-5)
        np.testing.assert_allclose(some.plan.level, together.plan.level[rows])
        assert some.nfe.tolist() == together.nfe[rows].tolist()


@pytest.mark.parametrize("sampler", GOING_ON)
def test_resetting_a_row_leaves_what_the_others_go_on_from(
    sampler, tiny_model, observation, watched, plan, replan, same_rows
):
    policy = DiffusionPolicy(tiny_model(), sampler)
    state = replan(policy, watched(policy))
    reset = policy.reset_rows(state, np.array([2]), [77])
    assert same_rows(reset, state, set(range(ROWS)) - {2})
    others = [0, 1, 3, 4, 5, 6]
    one, other = (
        plan(policy, policy.observe(s, observation(ROWS, 5)), others) for s in (reset, state)
    )
    assert np.array_equal(one.actions, other.actions)
    fresh = policy.initial_state([77])
    fresh = policy.observe(fresh, {"state": observation(ROWS, 5)["state"][2:3]})
    again = plan(policy, policy.observe(reset, observation(ROWS, 5)), [2])
    np.testing.assert_allclose(
        again.plan.x[0], plan(policy, fresh).plan.x[0], atol=1e-5
    )  # nothing of the old plan


# --- noise


def test_noise_of_a_row_is_bit_equal_in_any_company():
    def draws(seeds, plans):
        noise = RowNoise(seeds, plans)
        return torch.stack([noise.normal(12, 2) for _ in range(3)], 1)

    together = draws([5, 9, 2**62], [0, 3, 1])
    for row, (seed, number) in enumerate(zip([5, 9, 2**62], [0, 3, 1], strict=True)):
        assert torch.equal(draws([seed], [number])[0], together[row])


def test_no_two_draws_are_the_same_and_all_are_standard_normal():
    seen = []
    for plans in range(3):
        noise = RowNoise(range(20), [plans] * 20)
        seen += [noise.normal(12, 2) for _ in range(4)]
    values = torch.stack(seen)  # (12, 20, 12, 2)
    assert values.dtype == torch.float32
    assert len(values.unique()) > 0.99 * values.numel()
    assert float(values.mean()) == pytest.approx(0, abs=4 / np.sqrt(values.numel()))
    assert float(values.var()) == pytest.approx(1, abs=4 * np.sqrt(2 / values.numel()))


@pytest.mark.parametrize("seeds", [[-1, 3], [2**63 - 1, 3]])
def test_seeds_of_any_sign_and_size_work(seeds, policy, observation, plan):
    state = policy.observe(policy.initial_state(seeds), observation(2))
    assert np.isfinite(plan(policy, state).actions).all()
