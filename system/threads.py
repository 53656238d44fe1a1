"""Threads of numerical libraries: how many there are, and how long they spin while they wait.

A thread of OpenMP that waits for others spins for milliseconds before it sleeps. Beside another
busy program it spins on the core that the others need, and a training step takes 60 times longer.
A short spin costs nothing on a quiet machine. The libraries read their environment when they are
loaded, so it is set before torch is imported.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables by which a user says how threads wait; where one is set, all of them are left alone."""
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""Turns of a loop for GNU's OpenMP, as in torch's Linux wheels; else milliseconds."""
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables by which a user says how many threads there are; OpenBLAS has a pool of its own."""
ONE_THREAD: dict[str, str] = dict.fromkeys((*COUNTS, "NUMBA_NUM_THREADS"), "1")
"""Environment of a worker: with a process per core, threads within would disturb each other."""
SAMPLE_S = 0.2
"""How long the machine is watched to see which CPUs are idle."""


def set_up_environment(
    environment: MutableMapping[str, str] = os.environ, root: Path = Path("/")
) -> None:
    """Set a short spin, and as many threads as a container may use.

    Does nothing where torch is loaded, and changes nothing that the user has set.
    """
    if "torch" in sys.modules:
        return
    if not any(name in environment for name in WAITING):
        environment.update(SHORT_SPIN)
    quota = cpu_quota(root)
    if quota < _cpus() and not any(name in environment for name in COUNTS):
        environment.update(dict.fromkeys(COUNTS, str(quota)))


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use, by its affinity and by the quota of its control groups."""
    return min(_cpus(), cpu_quota(root))


def choose_threads(most: int, environment: Mapping[str, str] = os.environ) -> int:
    """Threads to compute with, at most `most`: one for every idle CPU, and at least one.

    Where the user has set a number of threads, it is `most`. Takes SAMPLE_S seconds.
    """
    if most <= 1 or any(name in environment for name in COUNTS):
        return most
    idle = idle_cpus(SAMPLE_S)
    if idle is None:
        return most
    return max(1, min(most, round(idle)))


def idle_cpus(seconds: float, root: Path = Path("/")) -> float | None:
    """How many of this process's CPUs are idle in the next `seconds`; None where nobody can tell.

    What runs at a low priority (nice) gives way, and counts as idle.
    """
    before = _times(root)
    time.sleep(seconds)
    after = _times(root)
    idle, counted = 0.0, 0
    for name, (free, total) in after.items():
        free_before, total_before = before.get(name, (0, 0))
        if total > total_before:
            idle += (free - free_before) / (total - total_before)
            counted += 1
    if counted:
        return idle
    return None


def cpu_quota(root: Path = Path("/")) -> int:
    """CPUs that this process's control groups allow, rounded up; very many without a limit."""
    quota = min(map(_quota, _control_groups(root)), default=math.inf)
    if quota == math.inf:
        return sys.maxsize
    return max(1, math.ceil(quota))


def explain_slowness(environment: Mapping[str, str] = os.environ) -> str:
    """Why computing may have become slow, and what helps."""
    load = os.getloadavg()[0]
    text = (
        f"other programs may use the CPUs (load {load:.1f} on {usable_cpus()}): stop them, or wait"
    )
    if not any(name in environment for name in WAITING):
        text += (
            "; torch was imported before hotstart, so its threads spin: "
            "import hotstart first, or set GOMP_SPINCOUNT=1000"
        )
    return text


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _times(root: Path) -> dict[str, tuple[int, int]]:
    """(idle, all) ticks so far of every CPU that this process may use."""
    try:
        lines = (root / "proc/stat").read_text().splitlines()
    except OSError:
        return {}
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    found: dict[str, tuple[int, int]] = {}
    for line in lines:
        name, *numbers = line.split()
        if name in mine:
            ticks = list(map(int, numbers[:8]))  # user, nice, system, idle, waiting, ...
            found[name] = (ticks[1] + ticks[3] + ticks[4], sum(ticks))
    return found


def _control_groups(root: Path) -> list[Path]:
    """The folders of the control groups that may limit this process's CPUs, with their parents."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        number, group = line.split(":", maxsplit=1)
        controllers, path = group.split(":", maxsplit=1)
        if number == "0":
            base = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup" / controllers
        else:
            continue
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(base):
                folders.append(folder)
    return folders


def _quota(folder: Path) -> float:
    """CPUs that one control group allows; infinity where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        if int(quota) > 0:
            return int(quota) / int(period)
        return math.inf
    except (OSError, ValueError):  # "max", or no such file
        return math.inf
