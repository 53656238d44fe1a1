"""The fuzzing benchmark: its good files are read, its damage is found out, and faults are counted
as what they are.
"""

import json

import numpy as np
import pytest
from hotstart.benchmarks import _fuzz_worker, fuzz
from hotstart.benchmarks._fuzz_damage import damage
from hotstart.benchmarks._fuzz_files import write_good
from hotstart.benchmarks._fuzz_process import Answer, Worker
from hotstart.benchmarks.fuzz import Options
from hotstart.cli import main
from hotstart.spec import ConfigError, DataError


def test_damaged_and_hostile_files_are_answered_in_a_process_of_their_own(tmp_path, capsys):
    out = tmp_path / "counts.json"
    words = [f"out={out}", "files=45", "hostile=5", "kinds=native,hdf5,robomimic", "copies=true"]
    assert main(["bench", "fuzz", *words]) == 0
    lines = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["all"][1] == "50"
    assert lines["all"][6:10] == ["0", "0", "0", "0"]  # executed, crash, hang, traceback
    kinds = json.loads(out.read_text())["kinds"]
    assert kinds["hdf5"]["other"] >= 1  # nothing in it has a checksum
    assert "other" not in kinds["robomimic"]  # hotstart writes checksums
    with pytest.raises(ConfigError, match="'nothing'"):
        fuzz.run(Options(kinds=("nothing",)))


def test_every_kind_of_damage_changes_files(tmp_path):
    write_good(tmp_path / "good")
    for kind in fuzz.KINDS:
        good = {path.read_bytes() for path in (tmp_path / "good").rglob("*") if path.is_file()}
        path = damage(kind, tmp_path, np.random.default_rng(1))
        files = [each for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file()]
        assert not {each.read_bytes() for each in files} <= good


def test_a_bad_copy_cuts_a_file_off_or_flips_a_few_bits(tmp_path):
    write_good(tmp_path / "good", ("hdf5",))
    good = (tmp_path / "good" / "hdf5.h5").read_bytes()
    cut = 0
    for seed in range(8):
        path = damage("hdf5", tmp_path, np.random.default_rng(seed), bad_copy=True)
        raw = path.read_bytes()
        cut += len(raw) < len(good)
        assert sum(one != other for one, other in zip(raw, good, strict=False)) <= 3
        assert raw != good
    assert 0 < cut < 8


@pytest.mark.parametrize(
    ("said", "wanted"), [("a b", "read"), ("a c", "read"), ("d b", "other"), ("d c", "told")]
)
def test_silence_is_told_from_a_note(said, wanted):
    assert fuzz.judge(Answer("read", said, 0.0), "a b") == wanted
    assert fuzz.judge(Answer("refused", said, 0.0), "a b") == "refused"


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
