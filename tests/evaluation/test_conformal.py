"""Thresholds of alarms: they keep their promise on rollouts that are like those they come from."""

import numpy as np
import pytest
from hotstart.evaluation.conformal import calibrate
from hotstart.spec import ConfigError


def draw_rollouts(rng, count):
    """Scores that depend on time, on the rollout, and on the plan before; lengths differ."""
    rollouts = []
    for _ in range(count):
        length = int(rng.integers(6, 12))
        drift = np.cumsum(rng.standard_normal(length)) + np.arange(length)
        rollouts.append(rng.exponential() * drift)
    return rollouts


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_false_alarms_are_as_rare_as_promised_and_not_rarer(varying, rate):
    """Exchangeable rollouts: 1 - rank / (n + 1) of new ones raise an alarm, on average."""
    rng, repeats = np.random.default_rng(0), 400
    alarms = 0
    count = 19 * (1 + varying)
    for _ in range(repeats):
        *known, new = draw_rollouts(rng, count + 1)
        alarms += calibrate(known, rate, varying).first_alarm(new) is not None
    wanted = 1 - np.ceil(20 * (1 - rate)) / 20
    assert wanted == pytest.approx(rate)
    assert abs(alarms / repeats - wanted) < 3.5 * np.sqrt(wanted * (1 - wanted) / repeats)


def test_equal_scores_raise_no_alarm():
    threshold = calibrate([np.ones(4)] * 20, 0.1)
    assert threshold.first_alarm(np.ones(9)) is None
    assert threshold.first_alarm(np.array([np.nan, 1.0, 1.1, 2.0])) == 2


def test_few_rollouts_promise_nothing():
    calibrate([np.ones(3)] * 9, 0.1)
    with pytest.raises(ConfigError, match="9 are needed"):
        calibrate([np.ones(3)] * 8, 0.1)
    with pytest.raises(ConfigError, match="no finite scores"):
        calibrate([np.full(3, np.nan)] * 20, 0.1)


def test_a_time_varying_threshold_follows_the_scores():
    rng = np.random.default_rng(1)
    rollouts = [np.arange(8) + 0.1 * rng.standard_normal(8) for _ in range(40)]
    threshold = calibrate(rollouts, 0.1, varying=True)
    assert threshold.at(0) < 1 < threshold.at(2) < threshold.at(7)
    assert threshold.at(70) == threshold.at(7)
    late = np.arange(8.0)
    late[3] += 1.0
    assert threshold.first_alarm(late) == 3
    assert calibrate(rollouts, 0.1).first_alarm(late) is None
