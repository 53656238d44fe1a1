"""How far real-time chunking holds what is frozen: for a posterior that is known, and as the
benchmark prints it.
"""

import pytest
import torch
from hotstart.benchmarks._moments import continue_plan
from hotstart.benchmarks.prefix_hold import Held, agreement
from hotstart.cli import main
from hotstart.policy.samplers.base import Sampler
from hotstart.policy.samplers.fresh import Fresh
from hotstart.policy.samplers.real_time_chunking import RealTimeChunking
from torch import Tensor

from .analytic import Posterior, request

STEPS, ROWS, SPREAD, LIKE = 24, 64, 0.1, 0.95
BOTH = torch.ones(2, dtype=torch.bool)


def covariance() -> Tensor:
    """Neighbouring steps of a plan are alike: SPREAD^2 LIKE^|i - j|."""
    index = torch.arange(STEPS, dtype=torch.float64)
    return SPREAD**2 * LIKE ** (index.unsqueeze(1) - index).abs()


def correlated() -> Posterior:
    """The exact posterior mean of such plans, at any levels of their steps."""
    prior = covariance()

    def posterior(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        signal, noise = torch.diag_embed(alpha[..., 0].double()), sigma[..., 0].double()
        seen = signal @ prior @ signal + torch.diag_embed(noise**2 + 1e-12)
        gain = prior @ signal @ torch.linalg.inv(seen)
        return (gain @ x.double()).to(x)

    return posterior


def held(sampler: Sampler, frozen: int = 4) -> Held:
    """Agreement of new plans with the plans before, drawn from the data."""
    draws = torch.randn(
        ROWS, STEPS, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    before = (torch.linalg.cholesky(covariance()) @ draws).float()
    asked = continue_plan(request(correlated(), rows=ROWS), before, 8, frozen)
    return agreement(sampler(asked).plan, asked, BOTH)


@pytest.mark.parametrize("frozen", [1, 4, 8])
def test_guidance_holds_half_of_it_or_more_and_a_given_prefix_all(frozen):
    """In ten evaluations, of data that spread by a tenth of their range: the pull is bounded,
    and so is what it holds.
    """
    fresh = float(held(Fresh(10), frozen).frozen.mean())
    shares = {
        mode: held(RealTimeChunking(10, mode), frozen) for mode in ("full", "identity", "trained")
    }
    left = {mode: float(found.frozen.mean()) / fresh for mode, found in shares.items()}
    assert 0.3 < left["full"] < 0.6
    assert left["identity"] < 0.25
    assert left["trained"] == 0
    for found in shares.values():
        assert float(found.later.mean()) < 0.85 * float(held(Fresh(10), frozen).later.mean())


@pytest.mark.parametrize("mode", ["full", "identity"])
def test_what_is_held_leads_the_steps_behind_it_on(mode):
    """Nothing is wished for behind the frozen steps, but they say what follows them."""
    fresh, found = held(Fresh(10)), held(RealTimeChunking(10, mode, fade="hard"))
    assert float(found.seam.mean()) < 0.85 * float(fresh.seam.mean())


def test_the_agreement_of_a_case_worked_out_by_hand():
    base = request(correlated(), rows=1)
    before = torch.zeros(1, STEPS, 2)
    before[0, 8:] = 0.5  # all that is left when eight steps are executed
    asked = continue_plan(base, before, 8, frozen=2)
    plan = torch.full((1, STEPS, 2), 0.5)
    plan[0, 1:3] = torch.tensor([0.8, 0.1])  # frozen: 0.3 above and 0.4 below
    plan[0, 3] = 0.7  # the first free step
    found = agreement(plan, asked, BOTH)
    assert float(found.frozen) == pytest.approx((0.09 + 0.16) ** 0.5 / 2**0.5)
    assert float(found.seam) == pytest.approx(0.2)
    assert float(found.later) == pytest.approx((0.04 / 13) ** 0.5)  # one of the steps 3 to 15
    assert float(agreement(plan, asked, torch.tensor([True, False])).frozen) == pytest.approx(0.3)


def test_the_benchmark_prints_a_row_for_every_way(good, tmp_path, store_tiny, capsys):
    store_tiny(tmp_path / "d.zarr", episodes=2)
    words = [
        "bench",
        "prefix_hold",
        str(good),
        f"data={tmp_path / 'd.zarr'}",
        "steps=2",
        "moments=3",
        "betas=5",
    ]
    assert main([*words, "frozen=2,4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 moments, 2 evaluations")
    assert [line.split("  ")[1].strip() for line in lines[3:7]] == [
        "fresh",
        "rtc full, beta 5",
        "rtc identity, beta 5",
        "rti, 2 evaluations",
    ]
    assert len(lines) == 2 + 2 * 5
    assert main([*words, "frozen=9"]) == 2
    assert "frozen is [9]; numbers from 1 to" in capsys.readouterr().err
