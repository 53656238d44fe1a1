"""The benchmark that kills conversions: it counts kills, and sees what is lost or wrong."""

import numpy as np
from hotstart.benchmarks import conversion_kills
from hotstart.benchmarks.conversion_kills import Options, is_same, make_data
from hotstart.datasets.writing import write_store


def test_a_killed_conversion_ends_whole(capsys):
    conversion_kills.run(Options(kills=2, episodes=2))
    assert "kills 2, writings" in (said := capsys.readouterr().out)
    assert "lost 0, unreadable 0, wrong 0" in said


def test_another_data_set_is_told_apart(tmp_path):
    data = make_data(2, np.random.default_rng(0))
    write_store(make_data(2, np.random.default_rng(1)), tmp_path / "other")
    write_store(data, tmp_path / "same")
    assert is_same(data, tmp_path / "same")
    assert not is_same(data, tmp_path / "other")
