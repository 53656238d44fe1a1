"""The benchmark beside busy programs, at its smallest."""

import json

import pytest
from hotstart.benchmarks import busy
from hotstart.spec import HotstartError


@pytest.mark.slow  # two processes import torch
def test_every_cell_is_measured_before_and_after(tmp_path, capsys):
    out = tmp_path / "busy.json"
    words = busy.Options(
        programs=(1,), whats=("control",), seconds=0.05, limit=60.0, threads=1, out=str(out)
    )
    busy.run(words)
    cells = json.loads(out.read_text())["cells"]
    assert [(cell["programs"], cell["setting"]) for cell in cells] == [(1, "before"), (1, "after")]
    assert all(cell["count"] >= 1 and 0 < cell["p50_s"] <= cell["p99_s"] < 60 for cell in cells)
    assert (
        len([line for line in capsys.readouterr().out.splitlines() if line.startswith("control  ")])
        == 1
    )


def test_a_cell_that_does_not_finish_is_given_up():
    child = object.__new__(busy._Child)
    child.setting = "before"
    child.threads = 2
    restarts = []
    child.ask = lambda what, seconds, limit_s: None
    child.restart = lambda: restarts.append(1)
    cell = busy._measure(child, "control", 0, busy.Options(limit=7.0))
    assert (cell.count, cell.p50_s, restarts) == (0, 7.0, [1])
    assert ">7000.0" in busy._columns(cell)


def test_unknown_words_are_refused():
    with pytest.raises(HotstartError, match="whats names 'sleep'; valid are train_small"):
        busy.run(busy.Options(whats=("sleep",)))
