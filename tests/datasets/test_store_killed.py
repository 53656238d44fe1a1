"""A process that appends is killed at every write, in the middle of writes and at any moment."""

import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hotstart.datasets.store import Store

EVERY_WRITE = """
    import os, shutil, signal, sys
    from pathlib import Path
    import zarr.storage._local as local
    from hotstart.datasets.store import Store
    sys.path.insert(0, sys.argv[2])
    from conftest import make_episode

    folder, put = Path(sys.argv[1]), local._put

    def append(copy, deadly):
        writes = 0
        def deadly_put(path, value, exclusive=False):
            nonlocal writes
            writes += 1
            if writes == deadly:
                # Half of the file is there, under the name that zarr gives it before the rename.
                content = bytes(value.as_buffer_like())
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".0.partial").write_bytes(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return put(path, value, exclusive)
        local._put = deadly_put
        first, count = int(sys.argv[3]), int(sys.argv[4])
        Store.open(copy).extend([make_episode(first + i) for i in range(count)])
        os._exit(0)

    for deadly in range(1, 100):  # forked before zarr has started its thread
        copy = folder / f"killed_{deadly}"
        shutil.copytree(folder / "data", copy)
        child = os.fork()
        if child == 0:
            append(copy, deadly)
        if os.waitpid(child, 0)[1] == 0:
            break
"""

UNTIL_KILLED = """
    import sys
    from hotstart.datasets.store import Store
    sys.path.insert(0, sys.argv[2])
    from conftest import make_episode

    store = Store.open(sys.argv[1])
    while True:
        store.append(make_episode(len(store.lengths)))
        print(len(store.lengths), flush=True)
"""


def start(program: str, *words: object) -> subprocess.Popen:
    here = str(Path(__file__).parent)
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(program),
        str(words[0]),
        here,
        *map(str, words[1:]),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check_episodes(store: Store, episode_maker) -> None:
    for number in range(len(store.lengths)):
        read, written = store.episode(number), episode_maker(number)
        for key, values in written.items():
            np.testing.assert_array_equal(read[key], values, err_msg=f"{key} of episode {number}")


@pytest.mark.parametrize(("finished", "added"), [(0, 1), (3, 1), (2, 4)])
def test_a_kill_at_any_write_costs_only_the_unfinished_episodes(
    tmp_path, specs, episode_maker, finished, added
):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    for number in range(finished):
        store.append(episode_maker(number))
    assert start(EVERY_WRITE, tmp_path, finished, added).wait(60) == 0
    copies = sorted(tmp_path.glob("killed_*"))
    assert (
        len(copies) > 10
    )  # at least a header and a chunk for each of four keys, the timestamps and the ends
    outcomes = set()
    for copy in copies:
        opened = Store.open(copy)
        outcomes.add(len(opened.lengths))
        check_episodes(opened, episode_maker)
        opened.append(episode_maker(len(opened.lengths)))  # over what the killed one left behind
        check_episodes(Store.open(copy), episode_maker)
        assert not list(copy.rglob("*.partial"))
    assert outcomes == {finished, finished + added}  # the last copy is the one that was left alone


def test_a_shorter_episode_overwrites_what_a_kill_left_behind(tmp_path, specs, episode_maker):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    store.append(episode_maker(0))
    store.append(episode_maker(1, 40))
    store._writable_array("meta/episode_ends")[1:] = -1  # as if the end had never been written
    opened = Store.open(store.path)
    assert len(opened.lengths) == 1
    opened.append(episode_maker(1, 4))
    read = Store.open(store.path)
    assert read.lengths.tolist() == [len(episode_maker(0)["action"]), 4]
    np.testing.assert_array_equal(read.episode(1)["image"], episode_maker(1, 4)["image"])
    np.testing.assert_array_equal(read.array("state")[-4:], episode_maker(1, 4)["state"])


def test_extras_of_a_first_episode_that_was_never_finished_do_not_bind(
    tmp_path, specs, episode_maker
):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    store.append({**episode_maker(0, 5), "reward": np.ones(5)})
    store._writable_array("meta/episode_ends")[:] = -1  # as if its end had never been written
    opened = Store.open(store.path)
    opened.append(episode_maker(0))
    assert "reward" not in Store.open(store.path).keys
    check_episodes(Store.open(store.path), episode_maker)


def test_kills_at_random_moments_lose_nothing_that_was_reported(tmp_path, specs, episode_maker):
    store = Store.create(tmp_path / "data", fps=10, **specs)
    pause = random.Random(0)
    for _ in range(4):
        child = start(UNTIL_KILLED, store.path)
        assert child.stdout is not None
        child.stdout.readline()  # it is at work
        time.sleep(pause.uniform(0, 0.25))
        child.kill()
        reported = [int(line) for line in child.stdout.read().split()]
        child.wait()
        opened = Store.open(store.path)
        assert not reported or len(opened.lengths) >= reported[-1]
        check_episodes(opened, episode_maker)
    assert len(opened.lengths) >= 4
