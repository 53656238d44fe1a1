"""The fuzzing benchmark: its good files are read, its damage is found out, and faults are counted
as what they are.
"""

import numpy as np
import pytest
from hotstart.benchmarks import _fuzz_worker, fuzz
from hotstart.benchmarks._fuzz_damage import damage
from hotstart.benchmarks._fuzz_files import write_good
from hotstart.benchmarks._fuzz_process import Worker
from hotstart.cli import main
from hotstart.spec import DataError


def test_damaged_and_hostile_files_are_answered_in_a_process_of_their_own(capsys):
    assert main(["bench", "fuzz", "files=10", "hostile=5"]) == 0
    lines = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["all"][1] == "15"
    assert lines["all"][4:8] == ["0", "0", "0", "0"]  # executed, crash, hang, traceback


def test_every_kind_of_damage_changes_files(tmp_path):
    write_good(tmp_path / "good")
    for kind in fuzz.KINDS:
        good = {path.read_bytes() for path in (tmp_path / "good").rglob("*") if path.is_file()}
        path = damage(kind, tmp_path, np.random.default_rng(1))
        files = [each for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file()]
        assert not {each.read_bytes() for each in files} <= good


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (None, "read"),
        (DataError("no"), "refused"),
        (DataError("x" * 10_000), "traceback"),
        (KeyError("a"), "traceback"),
        (SystemExit(3), "traceback"),
        (RecursionError(), "traceback"),
        (MemoryError(), "traceback"),
    ],
)
def test_outcomes_are_told_apart(fault, wanted, tmp_path, monkeypatch):
    def read(_):
        if fault is not None:
            raise fault

    monkeypatch.setitem(_fuzz_worker.READERS, "native", read)
    assert _fuzz_worker.outcome("native", tmp_path)[0] == wanted


@pytest.mark.parametrize(("command", "wanted"), [("exit 3", "crash"), ("sleep 60", "hang")])
def test_a_process_that_dies_or_hangs_is_counted_and_replaced(command, wanted, tmp_path):
    import subprocess

    worker = Worker(tmp_path, limit_s=0.5)
    pipe = subprocess.PIPE
    worker.process = subprocess.Popen(["bash", "-c", command], stdin=pipe, stdout=pipe, text=True)
    assert worker.read("native", tmp_path)[0] == wanted
    assert worker.process is None
