"""Reaction times: those of a planning call that is known, and the benchmark's table."""

import numpy as np
import pytest
from hotstart.benchmarks.reaction import measure_reaction
from hotstart.cli import main
from hotstart.policy import checkpoint


def test_reactions_are_uniform_over_the_interval_between_plans():
    calls = [(0.02, 2)] * 10
    found = measure_reaction(calls, calls, 4, 0.05)
    assert found.interval == pytest.approx(0.2)
    np.testing.assert_allclose(
        np.percentile(found.reaction, (0, 50, 100)), (0.02, 0.12, 0.22), atol=0.004
    )


def test_slow_plans_are_made_less_often():
    calls = [(0.33, 10)] * 10
    found = measure_reaction(calls, calls, 4, 0.05)
    assert found.interval == pytest.approx(0.35)
    assert found.reaction.max() == pytest.approx(0.68, abs=0.01)


def test_the_benchmark_prints_a_line_for_every_sampler(tiny_model, tmp_path, capsys):
    checkpoint.save(tmp_path / "arm", tiny_model(), {"rate_hz": 10.0})
    words = ["samplers=ddim:2,rti:1", "calls=3", "threads=1"]
    assert main(["bench", "reaction", str(tmp_path / "arm"), *words]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "Ta 4 (400 ms)" in shown[0]
    assert [line.split()[:2] for line in shown[2:]] == [["ddim:2", "2"], ["rti:1", "1"]]
