"""The environment of numerical libraries' threads: when it is set, to what, and that it works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hotstart.system import threads

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in (*threads.WAITING, *threads.COUNTS)
}


def started(program: str, **environment: str) -> list[str]:
    """What a Python of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=CLEAN | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.split()


SAY = (
    "import os, hotstart; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('KMP_BLOCKTIME'))"
)


def test_importing_the_package_limits_the_spin():
    assert started(SAY) == ["1000", "1"]


@pytest.mark.parametrize("name", threads.WAITING)
def test_what_the_user_has_set_stays(name):
    environment = {name: "7"}
    threads.set_up_environment(environment, Path("/nowhere"))
    assert environment == {name: "7"}


def test_nothing_is_set_once_torch_is_loaded():
    program = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); " + SAY
    assert started(program) == ["None", "None"]


def test_torch_loads_the_library_that_the_spin_is_set_for():
    """torch's own OpenMP reports the spin that it read: GOMP_SPINCOUNT belongs to GNU's,
    KMP_BLOCKTIME to the others.
    """
    program = "import hotstart, torch; print('read')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=CLEAN | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '1000'" in done.stderr or "KMP_BLOCKTIME='1'" in done.stderr


def fake_system(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, sys.maxsize),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        (
            "4:cpu,cpuacct:/x\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            sys.maxsize,
        ),
        ("3:cpuset:/\n", {}, sys.maxsize),
    ],
)
def test_the_quota_of_control_groups(groups, files, cpus, tmp_path):
    assert threads.cpu_quota(fake_system(tmp_path, groups, files)) == cpus


def test_a_container_gets_no_more_threads_than_its_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "_cpus", lambda: 16)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    root = fake_system(tmp_path, "0::/\n", {"cpu.max": "300000 100000"})
    environment: dict[str, str] = {}
    threads.set_up_environment(environment, root)
    assert [environment[name] for name in threads.COUNTS] == ["3", "3", "3"]
    chosen = {"MKL_NUM_THREADS": "5"}
    threads.set_up_environment(chosen, root)
    assert "OMP_NUM_THREADS" not in chosen
    assert threads.usable_cpus(root) == 3


def test_idle_cpus_are_counted_and_low_priorities_give_way(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    before = (
        "cpu 0 0 0 0\ncpu0 10 0 0 100 0 0 0 0 0 0\ncpu1 10 0 0 100 0 0 0 0 0 0\n"
        "cpu2 0 5 0 0 0 0 0 0\ncpu3 9 9 9 9 9 9 9 9\n"
    )
    after = (
        "cpu 0 0 0 0\ncpu0 20 0 0 100 0 0 0 0 0 0\ncpu1 15 0 0 105 0 0 0 0 0 0\n"
        "cpu2 0 15 0 0 0 0 0 0\ncpu3 9 9 9 9 9 9 9 9\n"
    )
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(before)
    monkeypatch.setattr(threads.time, "sleep", lambda _: (tmp_path / "proc/stat").write_text(after))
    assert threads.idle_cpus(0.1, tmp_path) == 0 + 0.5 + 1
    assert threads.idle_cpus(0.1, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("most", "idle", "environment", "chosen"),
    [
        (16, 11.6, {}, 12),
        (16, 0.3, {}, 1),
        (16, None, {}, 16),
        (16, 3.0, {"OMP_NUM_THREADS": "16"}, 16),
        (2, 1.1, {}, 1),
        (1, 5.0, {}, 1),
    ],
)
def test_threads_are_as_many_as_cpus_are_idle(most, idle, environment, chosen, monkeypatch):
    monkeypatch.setattr(threads, "idle_cpus", lambda seconds: idle)
    assert threads.choose_threads(most, environment) == chosen


def test_this_machine_says_what_is_idle():
    idle = threads.idle_cpus(0.05)
    assert idle is None or 0 <= idle <= len(os.sched_getaffinity(0))
