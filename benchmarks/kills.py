"""What is killed while a simulated arm moves fast: when it rests, what is lost, what is left."""

from __future__ import annotations

import json
import multiprocessing
import os
import pty
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..datasets.store import Store
from ..evaluation.results import machine
from ..real_robot.servo import DriverFactory
from ..real_robot.shared_memory import find_folder
from ..real_robot.sim.faults import Faults
from ..real_robot.sim.rehearsal import ARMS, RehearsalOptions
from ..real_robot.sim.ur_server import Ports
from ..real_robot.sim.world import World
from ..spec import ConfigError, HotstartError, option, unknown
from ..system import outputs
from ..system.versions import versions
from ._kills_child import SWING_HZ, run_job

KINDS = ("policy", "camera", "terminal", "network", "controller")
ADDRESS, PROXY_ADDRESS = "127.0.0.51", "127.0.0.52"
OPTIONS: dict[str, dict[str, Any]] = {
    "ur5e": {
        "power_on": True,
        "velocity": 2.0,
        "acceleration": 10.0,
        "jerk": 200.0,
        "stop_acceleration": 25.0,
    },
    "so101": {"calibration": "nominal"},
}
WATCHDOG_S: dict[str, dict[str, float | None]] = {
    "ur5e": {"policy": 0.0, "camera": 0.25, "terminal": 0.0, "network": 0.2, "controller": 0.0},
    "so101": {"policy": 0.0, "camera": 0.25, "terminal": 0.0, "network": None, "controller": None},
}
"""What applies: a lifeline or a signal at once, the arm's own watchdog, or the age of a picture,
0.2 s, which is looked at every 0.05 s.

None: the arm has none, and goes to its last target.
"""
ALLOWED_S = 0.1
"""The arm should rest so long after the watchdog that applies, counted from the death."""
FAST_RAD_S = 0.9
"""The first joint is at least so fast when something is killed."""
RESTING_RAD_S = 0.05
RESTED_S = 0.3
LONGEST_S = 4.0
START_S = 60.0
END_S = 15.0
TRIES = 10
SWITCH_S = 0.0005
"""The threads of the simulated arm take turns so often [s]: real motors answer at once."""
FORKS = multiprocessing.get_context("forkserver")
"""Trials are forked from a process that has imported everything, in which no thread runs."""
FORKS.set_forkserver_preload([run_job.__module__])
TOKEN = "HOTSTART_KILLS"
"""In the environment of a trial's processes; they hand it down to theirs."""


@dataclass
class Options:
    """Kill one process of a rollout after another, with an arm moving at about 1 rad/s.

    The arms are simulated at the wire. It rests when no joint is faster than 0.05 rad/s for 0.3 s.
    """

    arms: tuple[str, ...] = option(("ur5e", "so101"), "simulated arms")
    kinds: tuple[str, ...] = option(KINDS, "what is killed")
    count: int = option(10, "how often each")
    seed: int = option(0, "of the moments")
    out: str = option("", "file for all figures; empty: none")
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


@dataclass
class Trial:
    """What a kill has brought."""

    rest_s: float
    """From the kill until the arm rests; infinity where it does not."""
    died_s: float
    """From the kill until the process was dead: a busy kernel takes its time."""
    lost: int
    """Finished episodes that the store lacks."""
    processes: int
    blocks: int
    """Processes and blocks of shared memory that are left."""
    said: list[str] = field(default_factory=list)


def run(options: Options) -> None:
    """Print a row for every arm and kind."""
    for kind in options.kinds:
        if kind not in KINDS:
            raise ConfigError(unknown("kind", kind, KINDS))
    for arm in options.arms:
        if arm not in OPTIONS:
            raise ConfigError(unknown("arm", arm, list(OPTIONS)))
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    print(
        f"{'arm':>6}{'killed':>12}{'n':>5}{'watchdog':>10}{'p50':>7}{'p95':>7}{'max ms':>8}"
        f"{'died':>7}{'max':>7}{'in time':>9}{'lost':>6}{'left':>6}"
    )
    rng = np.random.default_rng(options.seed)
    kept: dict[str, Any] = {"begun_anew": {}, "machine": machine(), "versions": versions()}
    rows: list[dict[str, Any]] = []
    for arm in options.arms:
        with Bench(arm) as bench:
            for kind in options.kinds:
                trials: list[Trial] = []
                for _ in range(options.count):
                    trials.append(bench.kill_moving(kind, rng))
                    kept["rows"] = [*rows, summarise(arm, kind, trials)]
                    kept["begun_anew"][arm] = bench.unmoved
                    if options.out:
                        outputs.write_text(Path(options.out), json.dumps(kept, indent=1))
                rows = kept["rows"]
                print(describe(rows[-1]), flush=True)


class UnmovedError(HotstartError):
    """A trial has ended before its arm moved."""


class Bench:
    """A simulated arm with its wire, and what trials need. Use it in a `with`."""

    def __init__(self, arm: str) -> None:
        self.arm = arm
        self.faults = Faults()
        self.unmoved: list[str] = []
        """Why trials were begun anew."""
        self._open = ExitStack()

    def __enter__(self) -> Bench:
        with ExitStack() as stack:
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(SWITCH_S)
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.video = self.folder / "gray.mp4"
            write_video(self.video)
            arm = ARMS[self.arm]
            options = RehearsalOptions(self.arm, ADDRESS, link_path=self.folder / "bus")
            self.world = stack.enter_context(arm.open_world(options))
            stack.enter_context(arm.open_device(self.world, self.faults, options))
            self._switch_on()
            self._open = stack.pop_all()
        return self

    def _switch_on(self) -> None:
        """Let motors hold from now on: a limp arm falls, and would drag over the table."""
        driver = DriverFactory(self.arm, self._find_options(ADDRESS))()
        driver.connect()
        driver.close()

    def _recover(self) -> None:
        """Clear what the arm may have latched: a protective stop would end every later trial."""
        driver = DriverFactory(self.arm, self._find_options(ADDRESS))()
        driver.recover()
        driver.close()

    def _find_options(self, host: str) -> dict[str, Any]:
        """The driver's options for our arm."""
        place = {"host": host}
        if self.arm == "so101":
            place = {"port": str(self.folder / "bus")}
        return {**place, **OPTIONS[self.arm]}

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def kill_moving(self, kind: str, rng: np.random.Generator) -> Trial:
        """One trial; a busy machine may stop an arm before it moves, which counts for nothing."""
        for _ in range(TRIES - 1):
            try:
                return self.kill(kind, rng)
            except UnmovedError as error:
                self.unmoved.append(str(error))
                print(f"begun anew: {error}", flush=True)
                self._recover()
        return self.kill(kind, rng)

    def _wait_until_fast(self, mover: Mover) -> None:
        """Until the first joint is fast; raises UnmovedError where it never is."""
        until_s = time.monotonic() + START_S
        while abs(self.world.read().velocities[0]) < FAST_RAD_S:
            mover.check()
            if time.monotonic() > until_s:
                raise UnmovedError("the arm has begun to move, and not become fast")
            time.sleep(0.001)

    def kill(self, kind: str, rng: np.random.Generator) -> Trial:
        """One trial, from a fresh process to its end."""
        self.faults.clear()
        self.world.reset(int(rng.integers(2**31)))
        store = self.folder / f"{secrets.token_hex(4)}.zarr"
        with ExitStack() as stack:
            cut, host = self._cut_bus, ADDRESS
            if self.arm == "ur5e" and kind == "network":
                host, cut = stack.enter_context(open_proxy())
            mover = stack.enter_context(Mover(self._make_job(store, host), kind == "terminal"))
            mover.wait_until_it_moves()
            time.sleep(rng.uniform(0.0, 1.0 / SWING_HZ))
            self._wait_until_fast(mover)
            members = mover.find_members()
            blows = {
                "policy": lambda: kill_process(mover.pid),
                "camera": partial(kill_process, find_camera(members)),
                "terminal": partial(hang_up, mover),
                "network": cut,
                "controller": lambda: kill_process(mover.controller),
            }
            killed_s = time.monotonic()
            died_s = blows[kind]() - killed_s
            rest_s = watch_rest(self.world, killed_s)
            self.faults.clear()
            return self._finish(mover, members, store, rest_s, died_s)

    def _cut_bus(self) -> float:
        self.faults.schedule("bus_silence")
        return time.monotonic()

    def _make_job(self, store: Path, host: str) -> dict[str, Any]:
        """What the process is told."""
        return {
            "robot": self.arm,
            "options": self._find_options(host),
            "camera": f"video:{self.video}",
            "store": str(store),
        }

    def _finish(
        self, mover: Mover, members: Sequence[int], store: Path, rest_s: float, died_s: float
    ) -> Trial:
        """Let the process end, and look at what is left."""
        mover.end()
        with suppress(TimeoutError):
            wait_until(lambda: not mover.find_members(), END_S, 0.02)
        left = mover.find_members()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        blocks = [path for pid in members for path in find_folder().glob(f"hotstart-{pid}-*")]
        finished = max([line.get("finished", 0) for line in mover.lines], default=0)
        found = len(Store.open(store).lengths)
        said = [line["ended"] for line in mover.lines if "ended" in line]
        return Trial(rest_s, died_s, max(0, finished - found), len(left), len(blocks), said)


class Mover:
    """The process that moves the arm.

    `terminal`: in a terminal and session of its own, to which the priority of ours does not extend.
    """

    def __init__(self, job: dict[str, Any], terminal: bool) -> None:
        self.token = secrets.token_hex(8)
        self.lines: list[dict[str, Any]] = []
        self._terminal, theirs = pty.openpty()
        self._heard, said = FORKS.Pipe(duplex=False)
        path = ""
        if terminal:
            path = os.ttyname(theirs)
        words = (job, {TOKEN: self.token}, path, said)
        self.process = FORKS.Process(target=run_job, args=words)
        self.process.start()
        os.close(theirs)
        said.close()

    def __enter__(self) -> Mover:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self._heard.close()
        self.hang_up()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.process.pid is not None, "it is started"
        return self.process.pid

    @property
    def controller(self) -> int:
        """The controller's process id."""
        return int(self.lines[-1]["controller"])

    def wait_until_it_moves(self) -> None:
        """Until the long episode begins; raises UnmovedError where it never does."""
        while self._hear(START_S):
            if self.lines[-1].get("moves"):
                return
        raise UnmovedError(f"the arm has not begun to move: {self.lines}")

    def check(self) -> None:
        """Raise UnmovedError where it has ended."""
        if not self.process.is_alive():
            self._listen()
            raise UnmovedError(f"the process that moves the arm has ended: {self.lines[-1]}")

    def hang_up(self) -> None:
        """Close the terminal: the kernel sends SIGHUP to who works in it."""
        if self._terminal >= 0:
            os.close(self._terminal)
        self._terminal = -1

    def end(self) -> None:
        """Ask it to end, and read its last words."""
        self.process.terminate()
        self.process.join(END_S)
        self.process.kill()
        self.process.join()
        self._listen()

    def find_members(self) -> list[int]:
        """Its living processes, and itself."""
        found = find_members(self.token)
        if self.process.is_alive():
            found.append(self.pid)
        return found

    def _listen(self) -> None:
        while self._hear(0.0):
            pass

    def _hear(self, within_s: float) -> bool:
        """Take in a line; False where none comes in time, or none ever will."""
        if not self._heard.poll(within_s):
            return False
        try:
            self.lines.append(self._heard.recv())
        except EOFError:
            return False
        return True


@contextmanager
def open_proxy() -> Iterator[tuple[str, Callable[[], float]]]:
    """A network to the simulated UR5e: its address, and what cuts it."""
    ports = Ports(ADDRESS)
    numbers = [ports.rtde, ports.dashboard, ports.secondary, ports.realtime]
    program = [sys.executable, "-m", f"{__package__}._proxy", PROXY_ADDRESS, ADDRESS]
    process = subprocess.Popen([*program, *map(str, numbers)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline(), "it listens"
        yield PROXY_ADDRESS, partial(kill_process, process.pid)
    finally:
        process.kill()
        process.wait()


def find_members(token: str) -> list[int]:
    """The living processes of a trial."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{TOKEN}={token}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def find_camera(members: Sequence[int]) -> int:
    """The camera's process; HotstartError where there is none."""
    for pid in members:
        if b"cameras.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise HotstartError("the trial has no camera process")


def watch_rest(world: World, killed_s: float) -> float:
    """Seconds from a kill until the arm rests; infinity where it does not within LONGEST_S."""
    moved_s = killed_s
    while True:
        state = world.read()
        if np.abs(state.velocities).max() > RESTING_RAD_S:
            moved_s = state.made_s
        if state.made_s - moved_s > RESTED_S:
            return max(0.0, moved_s - killed_s)
        if state.made_s - killed_s > LONGEST_S:
            return np.inf
        time.sleep(0.001)


def kill_process(pid: int) -> float:
    """Kill -9; returns when the process was dead, by `time.monotonic`."""
    watched = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([watched], [], [], LONGEST_S)
    finally:
        os.close(watched)
    return time.monotonic()


def hang_up(mover: Mover) -> float:
    """Close the terminal; returns when it was closed."""
    mover.hang_up()
    return time.monotonic()


def wait_until(holds: Callable[[], bool], seconds: float, every_s: float = 0.001) -> None:
    """Until something holds; raises TimeoutError."""
    until_s = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until_s:
            raise TimeoutError(f"it has not come within {seconds:g} s")
        time.sleep(every_s)


def write_video(path: Path) -> None:
    """Two seconds of gray pictures."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mpeg4", rate=30)
        stream.width, stream.height = 32, 32
        stream.pix_fmt = "yuv420p"
        for number in range(60):
            picture = np.full((32, 32, 3), 4 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())


def summarise(arm: str, kind: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """A row as plain values."""
    rests_ms = 1000 * np.array([trial.rest_s for trial in trials])
    deaths_ms = 1000 * np.array([trial.died_s for trial in trials])
    watchdog_s = WATCHDOG_S[arm][kind]
    in_time = None
    if watchdog_s is not None:
        in_time = int((rests_ms - deaths_ms <= 1000 * (watchdog_s + ALLOWED_S)).sum())
    p50, p95 = np.quantile(rests_ms, [0.5, 0.95], method="higher").tolist()
    return {
        "arm": arm,
        "kind": kind,
        "n": len(trials),
        "watchdog_s": watchdog_s,
        "p50_ms": p50,
        "p95_ms": p95,
        "max_ms": float(rests_ms.max()),
        "in_time": in_time,
        "death_p50_ms": float(np.median(deaths_ms)),
        "death_max_ms": float(deaths_ms.max()),
        "lost": sum(trial.lost for trial in trials),
        "left": sum(trial.processes + trial.blocks for trial in trials),
        "rests_ms": rests_ms.tolist(),
        "deaths_ms": deaths_ms.tolist(),
        "said": sorted({words for trial in trials for words in trial.said}),
    }


def describe(row: dict[str, Any]) -> str:
    """One row of the table."""
    watchdog, in_time = "none", "-"
    if row["watchdog_s"] is not None:
        watchdog = f"{1000 * row['watchdog_s']:.0f} ms"
        in_time = f"{row['in_time']}/{row['n']}"
    return (
        f"{row['arm']:>6}{row['kind']:>12}{row['n']:>5}{watchdog:>10}{row['p50_ms']:>7.0f}"
        f"{row['p95_ms']:>7.0f}{row['max_ms']:>8.0f}{row['death_p50_ms']:>7.0f}"
        f"{row['death_max_ms']:>7.0f}{in_time:>9}{row['lost']:>6}{row['left']:>6}"
    )
