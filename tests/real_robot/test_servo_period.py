"""The measurement of a controller's periods."""

import pytest
from hotstart.benchmarks.servo_period import Options, describe, measure, run
from hotstart.spec import ConfigError


def test_a_controller_is_measured_while_it_follows_plans():
    report = measure(250.0, 2, 0.6, real_time=False)
    assert report["plans"] == 6
    assert report["clamps"] == {}
    assert 100 < report["periods"]["count"] <= 200
    row = describe(report, 3).split()
    assert row[:3] == ["250", "3", "usual"]
    assert len(row) == 10


def test_a_measurement_of_no_time_is_refused():
    with pytest.raises(ConfigError, match="seconds=0"):
        run(Options(seconds=0))
