"""Intervals and paired tests against scipy, closed forms and simulation."""

import math

import numpy as np
import pytest
from hotstart.evaluation import intervals
from hotstart.spec import ConfigError, DataError
from scipy import stats


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 50), (1, 1), (3, 7), (47, 50), (50, 50)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_agrees_with_scipy(successes, n, confidence):
    ours = intervals.wilson(successes, n, confidence)
    theirs = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert ours.rate == successes / n
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ConfigError, match="impossible"):
        intervals.wilson(successes, n)


def test_bootstrap_agrees_with_scipy_and_is_deterministic():
    values = np.random.default_rng(3).beta(2, 1, 60)
    ours = intervals.bootstrap_mean(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, rng=1
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert intervals.bootstrap_mean(values) == ours
    assert intervals.bootstrap_mean(values, seed=1) != ours


def test_bootstrap_of_nothing_to_resample():
    assert intervals.bootstrap_mean([0.7]) == (0.7, 0.7, 0.7)
    assert intervals.bootstrap_mean([0.1] * 9) == (0.1, 0.1, 0.1)
    with pytest.raises(DataError, match="at least one"):
        intervals.bootstrap_mean([])
    with pytest.raises(DataError, match="finite"):
        intervals.bootstrap_mean([1.0, math.nan])


def test_pairing_takes_out_what_both_share():
    rng = np.random.default_rng(0)
    hard = rng.uniform(size=80)
    a, b = hard + 0.05 + 0.01 * rng.normal(size=80), hard
    paired = intervals.paired_bootstrap(a, b)
    assert paired.low < 0.05 < paired.high
    assert paired.high - paired.low < 0.1 * (
        intervals.bootstrap_mean(a).high - intervals.bootstrap_mean(a).low
    )
    assert intervals.paired_bootstrap(b, a).mean == pytest.approx(-paired.mean)
    with pytest.raises(DataError, match="80 and 79"):
        intervals.paired_bootstrap(a, b[:-1])


def _outcomes(both, only_a, only_b, neither):
    table = [(1, 1)] * both + [(1, 0)] * only_a + [(0, 1)] * only_b + [(0, 0)] * neither
    return np.array(table, bool).T


@pytest.mark.parametrize(
    "table", [(20, 12, 2, 16), (5, 0, 7, 1), (3, 4, 4, 3), (0, 1, 0, 0), (40, 1, 3, 6)]
)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(table):
    test = intervals.mcnemar(*_outcomes(*table))
    assert (test.only_a, test.only_b) == table[1:3]
    assert test.p == pytest.approx(stats.binomtest(table[1], table[1] + table[2]).pvalue)
    assert test.difference.mean == pytest.approx((table[1] - table[2]) / sum(table))
    assert test.difference.low <= test.difference.mean <= test.difference.high


def test_mcnemar_of_the_textbook():
    """Two media for the same 50 specimens (Armitage and Berry 1994): exact p 0.0129."""
    assert intervals.mcnemar(*_outcomes(20, 12, 2, 16)).p == pytest.approx(0.0129, abs=5e-5)


def test_paired_interval_at_its_limits():
    same = intervals.mcnemar(*_outcomes(8, 0, 0, 12))
    assert (same.p, same.difference) == (1.0, pytest.approx((0, 0, 0), abs=0.2))
    there, back = (
        intervals.mcnemar(*pair).difference
        for pair in (_outcomes(9, 6, 2, 3), _outcomes(9, 2, 6, 3))
    )
    assert there == pytest.approx((-back.mean, -back.high, -back.low))
    opposite = intervals.mcnemar(*_outcomes(0, 10, 0, 0)).difference
    assert opposite.high == 1.0
    assert 0 < opposite.low < 1


def test_paired_interval_covers_the_truth():
    """Of many simulated comparisons about 95 % hold the true difference; binomial sampling of
    pairs is the oracle.
    """
    shares = np.array([0.45, 0.25, 0.10, 0.20])
    drawn = np.random.default_rng(5).multinomial(50, shares, size=1500)
    found = [intervals.mcnemar(*_outcomes(*row)).difference for row in drawn.tolist()]
    covered = np.mean([i.low <= 0.15 <= i.high for i in found])
    assert 0.93 < covered < 0.985


def test_a_medians_interval_holds_it_as_often_as_it_says():
    assert intervals.median_interval([1.0] * 5) is None
    assert intervals.median_interval([3, 1, 2, 6, 5, 4]) == (3.5, 1, 6)  # 1 - 2 / 2**6 = 0.969
    draws = np.random.default_rng(0).exponential(size=(4000, 25))
    held = []
    for drawn in draws:
        found = intervals.median_interval(drawn)
        assert found is not None
        _, low, high = found
        held.append(low <= np.log(2) <= high)
    assert 0.95 <= np.mean(held) < 0.975
