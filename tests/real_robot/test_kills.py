"""`hotstart bench kills`: when an arm rests, whose processes are left, and a cut network."""

import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hotstart.benchmarks import _proxy, kills


class Fading:
    """An arm whose speed falls to nothing 0.12 s after the kill at 5 s, but for one late twitch.

    Its clock goes on by 10 ms with every reading.
    """

    def __init__(self, twitch_s=np.inf):
        self.passed_s = 0.0
        self.twitch_s = twitch_s

    def read(self):
        self.passed_s += 0.01
        moves = self.passed_s < 0.12 or 0 < self.passed_s - self.twitch_s < 0.05
        return SimpleNamespace(made_s=5 + self.passed_s, velocities=np.array([0.0, 1.0 * moves]))


def test_an_arm_rests_where_it_stays_at_rest():
    still: Any = Fading()
    assert kills.watch_rest(still, 5.0) == pytest.approx(0.12, abs=0.02)
    twitching: Any = Fading(0.25)
    assert kills.watch_rest(twitching, 5.0) == pytest.approx(0.3, abs=0.02)


def test_a_row_counts_who_rests_in_time_and_what_is_left():
    trials = [kills.Trial(0.25, 0.01, 0, 0, 0), kills.Trial(0.35, 0.04, 1, 1, 2, ["why"])]
    row = kills.summarise("ur5e", "network", trials)
    assert (row["in_time"], row["lost"], row["left"]) == (1, 1, 3)
    assert (row["p50_ms"], row["max_ms"], row["said"]) == (350, 350, ["why"])
    assert "200 ms" in kills.describe(row)
    assert "none" in kills.describe(kills.summarise("so101", "network", trials))


def test_processes_of_a_trial_are_found_by_what_they_inherit():
    environment = {**os.environ, kills.TOKEN: "of-this-test"}
    with subprocess.Popen(["sleep", "30"], env=environment) as process:
        kills.wait_until(lambda: kills.find_members("of-this-test") == [process.pid], 5.0)
        process.kill()
    assert kills.find_members("of-this-test") == []


def test_a_proxy_passes_on_until_it_is_killed():
    far = socket.create_server(("127.0.0.1", 0))
    port = far.getsockname()[1]

    def echo():
        connection = far.accept()[0]
        while part := connection.recv(10):
            connection.sendall(part)

    threading.Thread(target=echo, daemon=True).start()
    program = [sys.executable, _proxy.__file__, "127.0.0.53", "127.0.0.1", str(port)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        with socket.create_connection(("127.0.0.53", port), 5) as near:
            near.sendall(b"there")
            assert near.recv(10) == b"there"
            process.kill()
            with pytest.raises((ConnectionError, AssertionError)):
                assert near.recv(10)
    far.close()
