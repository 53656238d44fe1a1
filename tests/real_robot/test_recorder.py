"""Episodes recorded from the control loop: what they hold, and what kills and full disks cost."""

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hotstart.control import VirtualClock
from hotstart.datasets.checks.verify import verify
from hotstart.datasets.store import Store
from hotstart.real_robot.recorder import Recorder, RecordError
from hotstart.real_robot.recording import EpisodeWriter, Job
from hotstart.spec import Actor, ConfigError

from .bench_arm import SPEED, Arm, make_tick, record, wait_for


@pytest.fixture
def arm():
    return Arm(VirtualClock())


def process_of(recorder):
    assert recorder._process is not None
    return recorder._process


def test_an_episode_holds_what_was_seen_done_and_when(tmp_path, arm):
    with Recorder(tmp_path / "a.zarr", arm, task="push", clock=VirtualClock()) as recorder:
        recorder(make_tick(arm, 0))  # not recorded: nothing has begun
        recorder.begin()
        actors = [Actor.HOLD, Actor.POLICY, Actor.INTERVENTION, *[Actor.POLICY] * 17]
        for number, actor in enumerate(actors):
            recorder(make_tick(arm, number, actor))
        recorder(make_tick(arm, 20, lasts=0))  # the loop's episode is over
        assert recorder.steps == 20
        recorder.finish(success=True)
        recorder.wait()
        (report,) = recorder.reports
        assert "episode 0: 20 steps" in report.describe()
    store = Store.open(tmp_path / "a.zarr")
    episode = store.episode(0)
    now_s = np.arange(20) / 10
    np.testing.assert_allclose(episode["timestamp"], now_s)
    np.testing.assert_allclose(episode["target_s"], now_s + 0.02)
    np.testing.assert_allclose(episode["made_s.front"], now_s - 0.03)
    np.testing.assert_allclose(episode["made_s.joints"], now_s)
    np.testing.assert_allclose(episode["recorded_s"], -100)  # its clock stands at 0
    np.testing.assert_allclose(episode["action"][:, 0], SPEED * np.arange(20), rtol=1e-6)
    assert (episode["action"][:, 1] == 1).all()  # as applied, not as asked for
    assert (episode["front"][:, 0, 0, 0] == np.arange(2, 22)).all()
    assert episode["actor"][:4].tolist() == [Actor.HOLD, 4, Actor.INTERVENTION, Actor.OPERATOR]
    assert episode["success"].tolist() == [False] * 19 + [True]
    assert (store.attrs["task"], store.fps) == ("push", 10)


def test_episodes_are_appended_dropped_and_taken_back(tmp_path, arm):
    with Recorder(tmp_path / "a.zarr", arm, planner=Actor.POLICY) as recorder:
        first = record(recorder, arm, 5)
        record(recorder, arm, 11)
        recorder.drop_last()
        recorder.begin()
        recorder(make_tick(arm, 0))
        recorder.drop_last()  # the one that is going on
        third = record(recorder, arm, 13, success=False)
        recorder.begin()
        recorder(make_tick(arm, 0))
        recorder.finish()  # one step teaches nothing
        recorder.wait()
        assert recorder.episodes == 2
        assert [report.number for report in recorder.reports] == [0, 1, 1]
    store = Store.open(tmp_path / "a.zarr")
    for number, grays in enumerate([first, third]):
        assert store.episode(number)["front"][:, 0, 0, 0].tolist() == grays
    assert (store.array("actor") == Actor.POLICY).all()
    assert not store.episode(1)["success"].any()
    assert [found for found in verify(store) if found.severity == "error"] == []
    with Recorder(tmp_path / "a.zarr", arm) as recorder:
        for _ in range(3):
            recorder.drop_last()  # one more than there are
        recorder.wait()
        assert recorder.episodes == 0


def test_a_store_of_another_robot_or_rate_is_refused(tmp_path, arm):
    with Recorder(tmp_path / "a.zarr", arm):
        pass
    other = Arm(VirtualClock(), rate_hz=20.0)
    with pytest.raises(RecordError, match="it runs at 10 Hz, the robot at 20 Hz; record elsewhere"):
        Recorder(tmp_path / "a.zarr", other).start()
    other.rows = 2
    with pytest.raises(ConfigError, match="one row is recorded"):
        Recorder(tmp_path / "a.zarr", other)


def test_a_process_that_is_killed_costs_the_episode_that_is_going_on(tmp_path, arm):
    with Recorder(tmp_path / "a.zarr", arm) as recorder:
        record(recorder, arm, 5)
        recorder.wait()
        recorder.begin()
        recorder(make_tick(arm, 0))
        process_of(recorder).kill()
        with pytest.raises(RecordError, match="keeps 1"):
            for number in range(10_000):
                recorder(make_tick(arm, number))
                time.sleep(0.001)
        record(recorder, arm, 6)  # the next one has a new process
        recorder.wait()
        assert recorder.episodes == 2
    assert Store.open(tmp_path / "a.zarr").lengths.tolist() == [5, 6]


def test_a_full_disk_is_an_error_that_says_what_is_kept(tmp_path, arm):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Recorder(tmp_path / "a.zarr", arm) as recorder:
        record(recorder, arm, 5)
        recorder.wait()
        resource.prlimit(process_of(recorder).pid, resource.RLIMIT_FSIZE, (1000, limit[1]))
        recorder.begin()
        rng = np.random.default_rng(0)
        with pytest.raises(RecordError, match="cannot be written; the 1 finished ones are kept"):
            for number in range(10_000):
                tick = make_tick(arm, number)
                tick.observation["front"][:] = rng.integers(0, 256, (1, 8, 8, 3))
                recorder(tick)
                time.sleep(0.001)
        resource.prlimit(process_of(recorder).pid, resource.RLIMIT_FSIZE, limit)
        record(recorder, arm, 6)
        recorder.wait()
    assert Store.open(tmp_path / "a.zarr").lengths.tolist() == [5, 6]


def test_memory_is_bounded_when_compression_does_not_keep_up(tmp_path, arm):
    with Recorder(tmp_path / "a.zarr", arm, memory_mb=0) as recorder:
        recorder.begin()
        process_of(recorder).send_signal(signal.SIGSTOP)
        with pytest.raises(RecordError, match="faster than they can be compressed"):
            for number in range(17):
                recorder(make_tick(arm, number))
        process_of(recorder).send_signal(signal.SIGCONT)
        queue = recorder._queue
        assert queue is not None
        wait_for(lambda: queue._tail[0] == 16)
        record(recorder, arm, 5)
        recorder.wait()
        assert recorder.episodes == 1


def test_what_is_appended_outlives_a_power_cut(tmp_path, arm):
    """`tests/datasets/test_store_ahead.py` cuts the power; here it is asked for."""
    job = Job(tmp_path / "a.zarr", 10.0, arm.action_spec, arm.obs_spec, "push", "a test")
    assert EpisodeWriter(job, []).store.durable


UNTIL_KILLED = """
    import sys
    from pathlib import Path
    from hotstart.control import VirtualClock
    from hotstart.real_robot.recorder import Recorder
    sys.path.insert(0, sys.argv[2])
    from bench_arm import Arm, record
    recorder = Recorder(sys.argv[1], Arm(VirtualClock()))
    recorder.start()
    print(recorder.episodes, recorder._process.pid, flush=True)
    while True:
        record(recorder, recorder.robot, 5 + recorder.episodes % 7)
        recorder.wait()
        print(recorder.episodes, flush=True)
"""


@pytest.mark.parametrize("victims", ["parent", "both"])
def test_kills_at_random_moments_lose_no_finished_episode(tmp_path, victims):
    pause = random.Random(victims)
    path = tmp_path / "a.zarr"
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", textwrap.dedent(UNTIL_KILLED), str(path), here]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline().split()[1])
    parent.stdout.readline()  # it has finished an episode
    time.sleep(pause.uniform(0, 0.3))
    assert list(Path("/dev/shm").glob(f"hotstart-{parent.pid}-*")) == []
    if victims == "both":
        os.kill(child, signal.SIGKILL)
    parent.kill()
    reported = [1, *map(int, parent.stdout.read().split())]
    parent.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    check_whole(Store.open(path), reported[-1])


def check_whole(store, least):
    """Every finished episode is there with all of its pictures."""
    assert len(store.lengths) >= least > 0
    assert [found for found in verify(store) if found.severity == "error"] == []
    grays = store.array("front")[:, 0, 0, 0].astype(int)
    for number in range(len(store.lengths)):
        end = store.episode_ends[number]
        steps = np.diff(grays[end - store.lengths[number] : end]) % 256
        assert (steps == 1).all()
