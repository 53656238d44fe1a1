import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from hotstart.commands.processes import ordered
from hotstart.envs.workers import WorkerError
from hotstart.spec import ConfigError

LARGE = 10_000_000
"""Bytes; more than a pipe holds."""


def build_uneven():
    def work(item):
        time.sleep(0.05 * (item % 3 == 0))
        return item, os.getpid()

    return work


def build_large():
    return lambda item: (os.getpid(), bytes(LARGE))


def build_picky():
    def work(item):
        if item == 3:
            raise ConfigError("three is too many")
        return item

    return work


def build_broken(message):
    raise ConfigError(message)


@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_results_come_in_order_from_all_workers(count):
    results = list(ordered(build_uneven, (), range(count), 3))
    assert [item for item, _ in results] == list(range(count))
    if count == 25:
        assert len({process for _, process in results}) == 3


def test_only_a_few_items_are_taken_ahead():
    taken = []

    def items():
        for item in itertools.count():
            taken.append(item)
            yield item

    results = ordered(build_uneven, (), items(), 2)
    for wanted in range(6):
        assert next(results)[0] == wanted
        assert len(taken) <= wanted + 1 + 2 * 2
    results.close()


def test_a_workers_error_comes_after_what_was_right_and_is_the_users_own():
    results = ordered(build_picky, (), range(9), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ConfigError, match="three is too many"):
        next(results)


def test_what_cannot_be_built_says_why():
    with pytest.raises(ConfigError, match="no such arm"):
        list(ordered(build_broken, ("no such arm",), range(2), 2))


def test_a_worker_killed_while_it_sends_is_noticed_at_once():
    results = ordered(build_large, (), itertools.count(), 2)
    process, _ = next(results)
    time.sleep(0.3)  # both are in the midst of a message that nobody reads
    os.kill(process, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(WorkerError, match="a worker process died"):
        for _ in range(9):
            next(results)
    assert time.monotonic() - began < 10


def test_a_script_without_an_if_main_guard_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import operator\n"
        "from hotstart.commands.processes import ordered\n"
        "print('runs', flush=True)\n"
        "print(list(ordered(operator.attrgetter, ('real',), [1, 2, 3], 1)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "runs\n[1, 2, 3]\n", done.stderr
