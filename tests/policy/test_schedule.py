"""Levels: round trips, the flow interpolation, DDPM's table against diffusers, grids."""

import numpy as np
import pytest
import torch
from hotstart.policy.diffusion.schedule import (
    Flow,
    LogLogistic,
    VPCosine,
    add_noise,
    alpha_sigma,
    ddpm_levels,
    grid,
    level_of_alpha_bar,
)
from hotstart.spec import ConfigError

SCHEDULES = [VPCosine(), VPCosine(offset=0.0), Flow()]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_and_level_are_inverse_and_rise(schedule):
    time = torch.linspace(0, 1, 501, dtype=torch.float64)
    level = schedule.level(time)
    assert (level.diff() > 0).all()
    torch.testing.assert_close(schedule.time(level), time, atol=1e-9, rtol=0)
    torch.testing.assert_close(schedule.level(schedule.time(level)), level, atol=1e-9, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 3, 100])  # vectorised and scalar code round differently
def test_time_0_is_exactly_clean_and_time_1_pure_noise(schedule, dtype, count):
    assert (schedule.level(torch.zeros(count, dtype=dtype)) == 0).all()
    torch.testing.assert_close(
        schedule.level(torch.ones(count, dtype=dtype)), torch.ones(count, dtype=dtype)
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_float32_is_good_enough_for_training(schedule):
    time = torch.linspace(1e-3, 1, 2000)
    torch.testing.assert_close(
        schedule.level(time).double(), schedule.level(time.double()), rtol=1e-2, atol=0
    )


def test_vp_cosine_is_the_papers_alpha_bar():
    """2102.09672, eq. 17: alpha-bar(t) = f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2)."""
    time = torch.linspace(0, 1, 101, dtype=torch.float64)
    f = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    alpha = alpha_sigma(VPCosine().level(time))[0]
    torch.testing.assert_close(alpha**2, f / f[0], atol=1e-12, rtol=0)


def test_ddpm_levels_are_those_of_diffusers():
    scheduler = pytest.importorskip("diffusers").DDPMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2"
    )
    alpha = alpha_sigma(ddpm_levels(100))[0]
    torch.testing.assert_close(alpha**2, scheduler.alphas_cumprod.double(), atol=1e-6, rtol=0)


def test_ddpm_table_is_the_continuous_schedule_shifted_by_one():
    levels, continuous = (
        ddpm_levels(100),
        VPCosine().level(torch.arange(1, 101, dtype=torch.float64) / 100),
    )
    torch.testing.assert_close(
        levels[:-1], continuous[:-1], atol=1e-9, rtol=0
    )  # only the last beta is capped
    assert 0.9 < levels[-1] < continuous[-1]


def test_alpha_sigma_is_variance_preserving_and_gives_the_level_back():
    level = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = alpha_sigma(level)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(level))
    torch.testing.assert_close(sigma / (alpha + sigma), level)
    torch.testing.assert_close(level_of_alpha_bar(alpha**2), level, atol=1e-7, rtol=0)


def test_flow_interpolation_is_the_vp_variable_up_to_its_norm():
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 7, 3, generator=generator, dtype=torch.float64).unbind(0)
    t = torch.rand(5, 7, generator=generator, dtype=torch.float64)
    interpolation = (1 - t.unsqueeze(-1)) * x0 + t.unsqueeze(-1) * noise
    norm = torch.sqrt((1 - t) ** 2 + t**2).unsqueeze(-1)
    torch.testing.assert_close(add_noise(x0, noise, Flow().level(t)), interpolation / norm)


def test_flow_weight_turns_an_error_in_v_into_one_in_u():
    """At one noisy x and two guesses of x0, u = eps - x0 and v = alpha eps - sigma x0 differ by
    a known factor.
    """
    level = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = alpha_sigma(level)
    x, guess, truth = (
        0.3,
        torch.tensor(0.7, dtype=torch.float64),
        torch.tensor(-0.2, dtype=torch.float64),
    )

    def errors(x0):
        eps = (x - alpha * x0) / sigma
        return eps - x0, alpha * eps - sigma * x0

    (u, v), (u_true, v_true) = errors(guess), errors(truth)
    torch.testing.assert_close((u - u_true) ** 2, Flow().weight(level) * (v - v_true) ** 2)


def test_noised_unit_data_keeps_unit_variance_and_its_share_of_signal():
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 40_000, 3, 1, generator=generator).unbind(0)
    level = torch.tensor([0.0, 0.3, 1.0]).expand(40_000, 3)
    x = add_noise(x0, noise, level)
    assert torch.equal(x[:, 0], x0[:, 0])
    torch.testing.assert_close(x[:, 2], noise[:, 2])
    torch.testing.assert_close(x.var(0), torch.ones(3, 1), atol=0.03, rtol=0)
    alpha = alpha_sigma(torch.tensor(0.3))[0]
    torch.testing.assert_close((x[:, 1] * x0[:, 1]).mean(), alpha, atol=0.03, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("start", [1.0, 0.35])
def test_grid_falls_from_its_start_to_clean(schedule, start):
    levels = grid(schedule, 7, start)
    assert levels.shape == (8,)
    assert levels[-1] == 0
    assert levels[0] == schedule.level(torch.tensor(start, dtype=torch.float64)).float()
    assert (levels.diff() < 0).all()
    torch.testing.assert_close(
        schedule.time(levels.double()).diff(),
        torch.full((7,), -start / 7).double(),
        atol=1e-5,
        rtol=0,
    )


def test_wrong_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"inference\.steps is 0"):
        grid(Flow(), 0)
    with pytest.raises(ConfigError, match=r"schedule\.offset is 1\.5"):
        VPCosine(1.5)


# --- EDM


EDM = [LogLogistic(), LogLogistic(0.001, 80.0), LogLogistic(logistic=False)]


@pytest.mark.parametrize("schedule", EDM)
def test_edm_times_and_levels_are_inverse_and_reach_from_the_least_to_the_largest_sigma(schedule):
    time = torch.linspace(1e-3, 1, 501, dtype=torch.float64)
    level = schedule.level(time)
    assert (level.diff() > 0).all()
    torch.testing.assert_close(schedule.time(level), time, atol=1e-9, rtol=0)
    assert schedule.level(torch.zeros(3)).tolist() == [0.0] * 3
    assert float(LogLogistic().level(torch.ones(1, dtype=torch.float64))) == pytest.approx(20 / 21)
    assert float(
        LogLogistic().level(torch.full((1,), 1e-12, dtype=torch.float64))
    ) == pytest.approx(0.005 / 1.005, rel=1e-3)


def test_edm_quantiles_are_those_of_a_truncated_log_logistic():
    """log sigma is logistic about log 0.5 with scale 0.5: scipy's own, between the ends."""
    from scipy.stats import logistic

    law = logistic(loc=np.log(0.5), scale=0.5)
    low, high = law.cdf(np.log([0.005, 20.0]))
    time = np.linspace(0.01, 0.99, 9)
    sigma = np.exp(law.ppf(low + time * (high - low)))
    level = LogLogistic().level(torch.as_tensor(time))
    np.testing.assert_allclose(level / (1 - level), sigma, rtol=1e-6)
    assert float(LogLogistic().level(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(
        1 / 3, abs=1e-3
    )


def test_an_even_edm_grid_is_even_in_log_sigma():
    levels = grid(LogLogistic(0.001, 80.0, logistic=False), 10)[:-1].double()
    ratios = (levels / (1 - levels)).log().diff()
    torch.testing.assert_close(ratios, ratios[:1].expand(9), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"sigma_min": 0.0}, {"sigma_max": 0.001}, {"scale": 0.0}])
def test_edm_ranges_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match="sigma_min below sigma_max"):
        LogLogistic(**options)
