"""Rings and queues between processes: whole records, in order, and nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import hotstart
import numpy as np
import pytest
from hotstart.real_robot import shared_memory
from hotstart.real_robot.shared_memory import (
    Queue,
    QueueFullError,
    Ring,
    SharedMemoryError,
    find_folder,
    sweep,
)

RECORD = np.dtype([("number", "<i8"), ("values", "<f8", (50,))])
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hotstart.__file__).parents[1])}
HEAD = """
import sys, time
import numpy as np
from hotstart.real_robot.shared_memory import Queue, Ring, sweep
RECORD = np.dtype([("number", "<i8"), ("values", "<f8", (50,))])
"""


def start(code: str, *words: str) -> subprocess.Popen:
    program = HEAD + textwrap.dedent(code)
    command = [sys.executable, "-c", program, *words]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def make_record(number: int) -> np.ndarray:
    record = np.zeros(1, RECORD)
    record["number"], record["values"] = number, number
    return record


def find_names(pid: int) -> list[str]:
    return [path.name for path in find_folder().glob(f"hotstart-{pid}-*")]


@pytest.mark.parametrize("checked", [False, True])
def test_the_newest_records_come_oldest_first(checked):
    with Ring.create(RECORD, 4, checked) as ring:
        assert ring.newest() is None
        assert len(ring.last(3)) == 0
        for number in range(11):
            ring.write(make_record(number))
        assert ring.last(2)["number"].tolist() == [9, 10]
        assert ring.last(50)["number"].tolist() == [8, 9, 10]  # one slot is spare for the writer
        newest = ring.newest()
        assert newest is not None
        assert newest["number"] == 10


@pytest.mark.parametrize("checked", [False, True])
def test_a_reader_never_sees_half_a_record(checked):
    large = np.dtype([("number", "<i8"), ("values", "<f8", (20000,))])
    code = """
    large = np.dtype([("number", "<i8"), ("values", "<f8", (20000,))])
    ring = Ring.attach(sys.argv[1], large, sys.argv[2] == "True")
    record = ring.blank()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        record["number"] += 1
        record["values"] = record["number"][0]
        ring.write(record)
    """
    with Ring.create(large, 5, checked) as ring:  # so few that the writer laps the reader
        writer = start(code, ring.name, str(checked))
        try:
            seen, records = set(), ring.last(4)
            while len(seen) < 100:
                with contextlib.suppress(SharedMemoryError):
                    records = ring.last(4)
                for record in records:
                    assert (record["values"] == record["number"]).all()
                    seen.add(int(record["number"]))
        finally:
            writer.kill()
            writer.communicate()
        last = ring.written
        assert ring.last(1)["number"].tolist() == [last]  # readable after kill -9


def test_a_torn_record_is_not_handed_out():
    with Ring.create(RECORD, 4, checked=True) as ring:
        ring.write(make_record(1))
        ring._records["values"][0, 7] = 99.0
        with pytest.raises(SharedMemoryError, match="could not be copied"):
            ring.last(1)


def test_a_queue_hands_each_message_over_once_and_says_when_it_is_full():
    with Queue.create(RECORD, 3) as ours, Queue.attach(ours.name, RECORD) as theirs:
        for turn in range(4):
            for number in range(3):
                ours.put(make_record(10 * turn + number))
            with pytest.raises(QueueFullError, match="3 messages wait"):
                ours.put(make_record(99))
            taken = theirs.take()["number"].tolist()
            assert taken == [10 * turn, 10 * turn + 1, 10 * turn + 2]
            assert len(theirs.take()) == 0


def test_a_block_of_another_kind_is_refused():
    other = np.dtype([("number", "<i8")])
    with Ring.create(RECORD, 4) as ring, pytest.raises(SharedMemoryError, match="24 were expected"):
        Ring.attach(ring.name, other)
    with pytest.raises(SharedMemoryError, match="may have ended"):
        Ring.attach(ring.name, RECORD)
    (find_folder() / "hotstart-no-block").write_bytes(b"")
    with pytest.raises(SharedMemoryError, match="holds slots of 0 bytes"):
        Ring.attach("hotstart-no-block", RECORD)
    assert "hotstart-no-block" in sweep()


def test_too_little_memory_is_said_before_it_is_used():
    before = set(find_folder().glob("hotstart-*"))
    with pytest.raises(SharedMemoryError, match="could not be had"):
        Ring.create(RECORD, 1 << 42)
    assert set(find_folder().glob("hotstart-*")) <= before


def test_the_survivor_of_a_kill_removes_the_name():
    code = """
    ring = Ring.create(RECORD, 8)
    print(ring.name, flush=True)
    time.sleep(10)
    """
    owner = start(code)
    assert owner.stdout is not None
    with Ring.attach(owner.stdout.readline().strip(), RECORD):
        assert sweep() == []  # it lives
        owner.send_signal(signal.SIGKILL)
        _, words = owner.communicate()
        assert find_names(owner.pid) != []
    assert find_names(owner.pid) == []
    assert words == ""


def test_whoever_comes_next_removes_what_nobody_has_open():
    code = """
    ring = Ring.create(RECORD, 8)
    print(flush=True)
    time.sleep(10)
    """
    owner = start(code)
    assert owner.stdout is not None
    owner.stdout.readline()
    owner.kill()
    owner.communicate()
    assert find_names(owner.pid) != []
    Ring.create(RECORD, 2).close()
    assert find_names(owner.pid) == []


def test_a_name_may_go_as_soon_as_both_sides_are_there():
    with Ring.create(RECORD, 4) as ours, Ring.attach(ours.name, RECORD) as theirs:
        theirs.unlink()
        ours.write(make_record(5))
        assert theirs.last(1)["number"].tolist() == [5]
        assert find_names(os.getpid()) == []


def test_without_a_folder_in_memory_blocks_are_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "MEMORY", tmp_path / "none")
    monkeypatch.setattr(shared_memory.tempfile, "gettempdir", lambda: str(tmp_path))
    with Ring.create(RECORD, 4) as ring:
        assert (tmp_path / ring.name).exists()
    assert list(tmp_path.iterdir()) == []
