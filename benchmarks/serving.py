"""Answer times of `hotstart serve` with many clients, alone and beside clients that misbehave."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ..evaluation.results import machine
from ..real_robot.client import Client, ServerError
from ..real_robot.client.wire import pack
from ..spec import REQUIRED, HotstartError, option

HELLO = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SERVING = re.compile(r":(\d+), to ")


@dataclass
class Options:
    """A server in a process of its own; clients ask one after the other, for `seconds`.

    The attackers send random bytes, messages above the limit, a byte a second, half of a
    connection, and requests whose answers they do not read; one of each, again and again.
    """

    checkpoint: str = option(REQUIRED, "a checkpoint or a run", positional=True)
    inference: str = option("rti", "sampler of the server")
    clients: tuple[int, ...] = option((1, 8, 32), "clients at a time")
    seconds: float = option(5.0, "how long each number of clients asks", "s")
    rate_hz: float = option(5.0, "plans that a client asks for in a second; 0: as fast as it can")
    deadline_s: float = option(2.0, "deadline of each request", "s")


@dataclass
class Tally:
    """What happened to requests."""

    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def run(options: Options) -> None:
    """Print p50 and p99 of the answer times, refusals, and the server's memory."""
    process = _start(options)
    try:
        port = _find_port(process)
        print(
            f"{machine()}, inference={options.inference}, {options.rate_hz:g} plans a second each"
        )
        print(
            f"{'clients':<10}{'attackers':<11}{'plans':>7}{'refused':>9}{'p50 ms':>9}{'p99 ms':>9}"
        )
        for attacked in (False, True):
            for count in options.clients:
                _measure(options, port, count, attacked)
                print(f"{'':<10}server's memory: {_read_memory(process.pid)}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    print(said.strip().splitlines()[-1])


def _start(options: Options) -> subprocess.Popen[str]:
    """The server, with room for all clients and for attackers."""
    room = max(options.clients) + len(ATTACKS)
    words = [options.checkpoint, f"inference={options.inference}", "port=0", f"clients={room}"]
    folder = str(Path(__file__).parents[1].resolve().parent)
    paths = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "hotstart", "serve", *words, "batch=32"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _find_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    found = SERVING.search(process.stdout.readline())
    if found is None:
        _, said = process.communicate()
        raise HotstartError(f"the server did not start: {said}")
    return int(found[1])


def _measure(options: Options, port: int, count: int, attacked: bool) -> None:
    """Let `count` clients ask at the same time and print a line."""
    over, tally = threading.Event(), Tally()
    threads = [
        threading.Thread(target=_ask, args=(options, port, seed, over, tally))
        for seed in range(count)
    ]
    if attacked:
        for attack in ATTACKS:
            threads.append(threading.Thread(target=_repeat, args=(attack, port, over)))
    for thread in threads:
        thread.start()
    time.sleep(options.seconds)
    over.set()
    for thread in threads:
        thread.join()
    p50, p99 = np.percentile(tally.seconds, (50, 99)) * 1e3
    kinds = {kind: tally.refused.count(kind) for kind in sorted(set(tally.refused))}
    attackers = len(ATTACKS) * attacked
    print(
        f"{count:<10}{attackers:<11}{len(tally.seconds):>7}{len(tally.refused):>9}"
        f"{p50:>9.1f}{p99:>9.1f}   {kinds or ''}",
        flush=True,
    )


def _ask(options: Options, port: int, seed: int, over: threading.Event, tally: Tally) -> None:
    """One client's life: made-up observations at its rate."""
    rng = np.random.default_rng(seed)
    period_s = 0.0
    if options.rate_hz:
        period_s = 1.0 / options.rate_hz
    with Client(port=port, deadline_s=options.deadline_s, connect_s=30.0) as client:
        client.reset(seed, deadline_s=30.0)
        shapes = _read_shapes(client.metadata)
        over.wait(period_s * rng.random())  # clients do not ask in step
        while not over.is_set():
            observation = {}
            for name, shape in shapes.items():
                observation[name] = rng.standard_normal(shape).astype(np.float32)
            began_s = time.monotonic()
            try:
                client.infer(observation)
                tally.seconds.append(time.monotonic() - began_s)
            except ServerError as error:
                tally.refused.append(error.kind)
            over.wait(max(0.0, began_s + period_s - time.monotonic()))


def _read_shapes(metadata: Mapping[str, Any]) -> dict[str, list[int]]:
    return {name: key["shape"] for name, key in metadata["observation"].items()}


def _repeat(
    attack: Callable[[int, threading.Event], None], port: int, over: threading.Event
) -> None:
    """Attack again and again until it is over."""
    while not over.is_set():
        try:
            attack(port, over)
        except (OSError, ConnectionClosed, EOFError):
            over.wait(0.05)


def _send_nonsense(port: int, over: threading.Event) -> None:
    rng = np.random.default_rng()
    with connect(f"ws://127.0.0.1:{port}", proxy=None) as attacker:
        attacker.recv()
        while not over.is_set():
            attacker.send(rng.bytes(int(rng.integers(1000))))
            attacker.recv(timeout=10)
            over.wait(0.001)


def _send_too_much(port: int, over: threading.Event) -> None:
    with connect(f"ws://127.0.0.1:{port}", proxy=None, compression=None) as attacker:
        attacker.recv()
        attacker.send(b"x" * 50_000_000)
        attacker.recv(timeout=10)


def _send_slowly(port: int, over: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as attacker:
        attacker.sendall(HELLO + b"\x82\xfe\x03\xe8\0\0\0\0")
        while not over.wait(1.0):
            attacker.sendall(b"x")


def _half_close(port: int, over: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as attacker:
        attacker.sendall(HELLO)
        attacker.shutdown(socket.SHUT_WR)
        while attacker.recv(4096):
            pass
    over.wait(0.05)


def _never_read(port: int, over: threading.Event) -> None:
    """Requests without reading the answers, until the server lets go."""
    attacker = socket.socket()
    attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    attacker.settimeout(0.2)
    message = pack({"x" * 100: 0})
    frame = bytes([0x82, 0x80 + len(message)]) + b"\0" * 4 + message
    with attacker:
        attacker.connect(("127.0.0.1", port))
        attacker.sendall(HELLO)
        while not over.is_set():
            try:
                attacker.sendall(frame * 100)
            except TimeoutError:  # no more goes in: wait until the server gives up
                over.wait(0.2)


ATTACKS = (_send_nonsense, _send_too_much, _send_slowly, _half_close, _never_read)


def _read_memory(process: int) -> str:
    """Resident memory of a process, now and at most."""
    text = Path(f"/proc/{process}/status").read_text()
    now, most = (re.search(rf"{name}:\s+(\d+)", text) for name in ("VmRSS", "VmHWM"))
    if now is None or most is None:
        return "not known"
    return f"{int(now[1]) / 1024:.0f} MiB, at most {int(most[1]) / 1024:.0f} MiB"
