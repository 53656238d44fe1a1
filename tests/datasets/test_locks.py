"""Two real processes on one target: the second is refused, and a lock ends with its process."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hotstart.datasets.formats.conversion import convert
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.locks import hold
from hotstart.datasets.store import Store
from hotstart.spec import CheckpointError, DataError

APPEND = """
    import sys, time
    from hotstart.datasets.store import Store
    sys.path.insert(0, sys.argv[2])
    from conftest import make_episode
    store = Store.open(sys.argv[1])
    store.append(make_episode(len(store.lengths)))
    print("held", flush=True)
    time.sleep(60)
"""
FORK = """
    import os, sys, time
    from hotstart.datasets.locks import hold
    held = hold(sys.argv[1])
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start():
    """Start a program and wait for its first line, which is handed out with the process."""
    running = []

    def begin(program, target):
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", textwrap.dedent(program), str(target), here]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert running[-1].stdout is not None
        return running[-1], running[-1].stdout.readline().strip()

    yield begin
    for process in running:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_and_told_the_target_and_the_first(tmp_path, hold_elsewhere):
    first = hold_elsewhere(tmp_path / "data")
    began = time.monotonic()
    with pytest.raises(
        CheckpointError,
        match=rf"data is being written by another process \({first.pid}\): wait until",
    ):
        hold(tmp_path / "data", CheckpointError)
    assert time.monotonic() - began < 5
    with pytest.raises(DataError, match="is being written"):
        hold(tmp_path / "elsewhere" / ".." / "data")  # another name of the same place


def test_a_killed_process_holds_nothing(tmp_path, hold_elsewhere):
    first = hold_elsewhere(tmp_path / "data")
    first.kill()
    first.wait()
    hold(tmp_path / "data").release()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_does_not_keep_its_parents_lock(tmp_path, start):
    parent, child = start(FORK, tmp_path / "data")
    with pytest.raises(DataError, match="is being written"):
        hold(tmp_path / "data")
    parent.kill()
    parent.wait()
    os.kill(int(child), 0)  # it lives
    hold(tmp_path / "data").release()
    os.kill(int(child), signal.SIGKILL)


def test_one_process_may_hold_a_lock_twice_where_both_say_so(tmp_path):
    with hold(tmp_path / "data", shared=True):
        hold(tmp_path / "data", shared=True).release()
        with pytest.raises(DataError, match="in this process already"):
            hold(tmp_path / "data")
        assert (tmp_path / ".data.lock").exists()
    assert not (tmp_path / ".data.lock").exists()


def test_two_processes_cannot_append_to_one_store_but_one_may_read(
    tmp_path, specs, episode_maker, start
):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    first, _ = start(APPEND, store.path)
    with pytest.raises(DataError, match="data is being written by another process"):
        store.append(episode_maker(0))
    assert len(Store.open(store.path).lengths) == 1
    first.kill()
    first.wait()
    with pytest.raises(DataError, match="appended to by somebody else since it was opened"):
        store.append(episode_maker(0))
    opened = Store.open(store.path)
    opened.append(episode_maker(1))
    np.testing.assert_array_equal(
        Store.open(store.path).array("count")[-1:], episode_maker(1)["count"][-1:]
    )


def test_two_processes_cannot_convert_to_one_target(tmp_path, hold_elsewhere):
    np.savez(
        tmp_path / "a.npz",
        action=np.zeros((3, 2)),
        obs=np.zeros((3, 4)),
        episode_ends=np.array([3]),
    )
    hold_elsewhere(tmp_path / "data")
    (tmp_path / "data.converting").mkdir()  # the other one is at work there
    with pytest.raises(DataError, match="data is being written by another process"):
        convert(tmp_path / "a.npz", tmp_path / "data", ReadOptions(fps=10))
    assert (tmp_path / "data.converting").exists()


READ_ONLY = """
    import os, sys
    sys.path.insert(0, sys.argv[2])
    from conftest import make_episode
    from hotstart.datasets.store import Store
    from hotstart.spec import DataError
    if os.getuid() == 0:
        os.setuid(65534)  # root may write everywhere
    store = Store.open(sys.argv[1])
    assert len(store.array("state")) == len(store)
    try:
        store.append(make_episode(1))
    except DataError as error:
        print(error)
"""


def test_a_store_that_may_not_be_written_can_be_read(specs, episode_maker, start):
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # pytest's own folders cannot be entered by others
        store = Store.create(Path(folder) / "data", fps=10, **specs)
        store.append(episode_maker(0))
        store.release()
        subprocess.run(["chmod", "-R", "a=rX", folder], check=True)
        _, said = start(READ_ONLY, store.path)
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    assert "cannot be written" in said
