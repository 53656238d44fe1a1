"""`hotstart doctor`: what this machine lacks for training, pictures and robots; how to mend it."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from ..arms.rendering import LIBRARIES, choose_gl
from ..configs.doctor import Examine
from ..system import outputs

State = Literal["good", "note", "bad"]
PACKAGE = "hotstart"
MARKS = {"good": "ok  ", "note": "note", "bad": "BAD "}
LOAD_SHARE = 0.5
"""Running programs per core from which on the machine counts as busy."""
FREE_GB = 5.0
SERIAL = ("ttyACM*", "ttyUSB*")
FTDI_MS = 1
"""Latency timer of an FTDI adapter that serves a bus at 100 Hz [ms]; its default is 16."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what would mend it."""

    part: str
    state: State
    says: str
    mend: str = ""


def run(options: Examine) -> int:
    """Print a line for each finding; the exit status is 1 where something is bad."""
    findings = examine(options)
    for finding in findings:
        print(f"{MARKS[finding.state]}  {finding.part:<12} {finding.says}")
        if finding.mend:
            print(f"{'':<6}{'':<12} mend it: {finding.mend}")
    counts = Counter(finding.state for finding in findings)
    print(f"{counts['good']} good, {counts['note']} to know, {counts['bad']} bad")
    if options.out is not None:
        text = json.dumps([asdict(finding) for finding in findings], indent=1)
        outputs.check_file(options.out, options.overwrite)
        outputs.write_text(options.out, text + "\n")
    return int(counts["bad"] > 0)


def examine(options: Examine) -> list[Finding]:
    """Every finding, in the order in which they are printed."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        check_python,
        check_packages,
        check_gl,
        check_disk,
        check_load,
        check_real_time,
        check_serial,
        check_cameras,
    ]
    findings: list[Finding] = []
    for check in checks:
        findings += check()
    for port in options.ports:
        findings.append(check_port(port))
    return findings


def check_python() -> Iterator[Finding]:
    """The interpreter and the machine."""
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "python", "good", f"{platform.python_version()} on {platform.system()}, {cores} cores"
    )


def check_packages() -> Iterator[Finding]:
    """Every declared dependency against its bounds; extras that are missing are only named."""
    wrong = 0
    missing: dict[str, list[str]] = {}
    for text in metadata.requires(PACKAGE) or ():
        wanted = Requirement(text)
        extra = _find_extra(wanted)
        try:
            have = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            if extra:
                missing.setdefault(extra, []).append(wanted.name)
                continue
            wrong += 1
            yield Finding(
                "packages", "bad", f"{wanted.name} is missing", f'pip install "{wanted.name}"'
            )
            continue
        if not wanted.specifier.contains(have, prereleases=True):
            wrong += 1
            bounds = f"{wanted.name}{wanted.specifier}"
            yield Finding(
                "packages",
                "bad",
                f"{wanted.name} {have} is installed, {bounds} is wanted",
                f'pip install "{bounds}"',
            )
    if not wrong:
        yield Finding("packages", "good", "all that hotstart needs, within its bounds")
    for extra, names in sorted(missing.items()):
        yield Finding(
            "packages",
            "note",
            f"the extra {extra} is not installed ({', '.join(names)})",
            f'pip install "hotstart[{extra}]", if you want it',
        )


def _find_extra(wanted: Requirement) -> str:
    """The extra that a requirement belongs to; empty for the core."""
    marker = str(wanted.marker or "")
    if "extra ==" not in marker:
        return ""
    return marker.split("extra ==")[1].split()[0].strip("\"')")


def check_gl() -> Iterator[Finding]:
    """Whether pictures of scenes can be drawn without a screen."""
    library = choose_gl()
    if library:
        yield Finding("pictures", "good", f"MuJoCo draws by {library}")
        return
    wanted = " or ".join(LIBRARIES.values())
    yield Finding(
        "pictures",
        "bad",
        "no OpenGL library draws without a screen: no videos, no tasks from pictures",
        f"on Debian or Ubuntu: sudo apt-get install {wanted}",
    )


def check_disk() -> Iterator[Finding]:
    """Room in this folder, where data and runs are written."""
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    if free_gb >= FREE_GB:
        yield Finding("disk", "good", f"{free_gb:.0f} GB are free here")
    else:
        yield Finding("disk", "note", f"{free_gb:.1f} GB are free here", "make room for data")


def check_load() -> Iterator[Finding]:
    """Other programs that compete for the cores."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    says = f"{load:.1f} programs are running on {cores} cores"
    if load <= LOAD_SHARE * cores:
        yield Finding("load", "good", says)
    else:
        yield Finding("load", "note", says, "end them before you time anything or move an arm")


def check_real_time() -> Iterator[Finding]:
    """Whether the controller process may run before others, and keep its memory in place."""
    if os.geteuid() == 0 or _limit(resource.RLIMIT_RTPRIO) > 0:
        yield Finding("real time", "good", "SCHED_FIFO is permitted to the controller process")
    else:
        yield Finding(
            "real time",
            "note",
            "SCHED_FIFO is not permitted: servo periods will be late on a busy machine",
            "add '@realtime - rtprio 80' and '@realtime - memlock unlimited' to "
            "/etc/security/limits.conf, join the group realtime, log in again",
        )
    kernel = Path("/sys/kernel/realtime")
    if kernel.exists():
        yield Finding("real time", "good", "the kernel is a PREEMPT_RT one")
    else:
        yield Finding("real time", "note", "the kernel is no PREEMPT_RT one")


def _limit(which: int) -> float:
    """A soft limit; infinity where there is none."""
    soft, _ = resource.getrlimit(which)
    if soft == resource.RLIM_INFINITY:
        return float("inf")
    return float(soft)


def check_serial() -> Iterator[Finding]:
    """Serial ports of servo buses, with permissions and the latency timer of FTDI adapters."""
    ports = sorted(path for pattern in SERIAL for path in Path("/dev").glob(pattern))
    if not ports:
        yield Finding("serial", "note", "no serial port (/dev/ttyACM*, /dev/ttyUSB*) is there")
    for port in ports:
        if not os.access(port, os.R_OK | os.W_OK):
            yield Finding(
                "serial",
                "bad",
                f"{port} may not be opened",
                "sudo usermod -a -G dialout $USER, then log in again",
            )
            continue
        yield Finding("serial", "good", f"{port} may be opened")
        timer = Path(f"/sys/bus/usb-serial/devices/{port.name}/latency_timer")
        if timer.exists() and int(timer.read_text()) > FTDI_MS:
            yield Finding(
                "serial",
                "note",
                f"{port} answers up to {timer.read_text().strip()} ms late (its latency timer)",
                f"echo {FTDI_MS} | sudo tee {timer}",
            )


def check_cameras() -> Iterator[Finding]:
    """Cameras that Linux knows, and whether they may be opened."""
    cameras = sorted(Path("/dev").glob("video*"))
    if not cameras:
        yield Finding("cameras", "note", "no camera (/dev/video*) is there")
    for camera in cameras:
        if os.access(camera, os.R_OK | os.W_OK):
            yield Finding("cameras", "good", f"{camera} may be opened")
        else:
            yield Finding(
                "cameras",
                "bad",
                f"{camera} may not be opened",
                "sudo usermod -a -G video $USER, then log in again",
            )


def check_port(port: int) -> Finding:
    """Whether a program may listen at a TCP port of this machine."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(
                "ports",
                "bad",
                f"{port}: {error.strerror}",
                "end what listens there, or take another",
            )
    return Finding("ports", "good", f"{port} is free")
