"""The control port of a simulated device: begin an episode, look at the scene, let things go wrong.

It is the hand of the person beside the arm, and a test's. A request and its answer are a line of
JSON each, over TCP on this machine:

    {"do": "reset", "seed": 3, "arm": false}
    {"do": "look"}
    {"do": "fault", "kind": "bus_silence", "after_s": 2.0, "for_s": 1.0}
    {"do": "clear"}
    {"do": "quit"}

Answers hold `ok`, and then what `World.look` says, or `error`.
"""

from __future__ import annotations

import json
import math
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from ...spec import ConfigError, HotstartError, shorten, unknown
from .faults import Faults
from .world import World

LONGEST_LINE = 64 << 10
"""Bytes of a request."""
MOST_CONNECTIONS = 16
IDLE_S = 3600.0
"""A connection that says nothing for so long is closed."""


class Stage:
    """Serves the control port of a world from threads of its own."""

    def __init__(self, world: World, faults: Faults, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0: a free one, see `port`.

        Raises ConfigError where the port is taken.
        """
        self.world, self.faults = world, faults
        self.ended = threading.Event()
        """Set once somebody has asked to quit."""
        self._handlers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "reset": self._reset,
            "look": self._look,
            "fault": self._schedule,
            "clear": self._clear,
            "quit": self._quit,
        }
        try:
            self._server = _Server(("127.0.0.1", port), _Connection)
        except OSError as error:
            raise ConfigError(
                f"the control port {port} cannot be opened ({error.strerror}): "
                "another simulation may run; give another port, or 0 for a free one"
            ) from error
        self._server.stage = self
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="stage", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; may be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def answer(self, line: bytes) -> dict[str, Any]:
        """What to say to a request; what is wrong with one is said as `error`."""
        try:
            request = _read_request(line)
            return {"ok": True, **self._handlers[_choose(request, self._handlers)](request)}
        except HotstartError as error:
            return {"ok": False, "error": str(error)}

    def _reset(self, request: Mapping[str, Any]) -> dict[str, Any]:
        seed = request.get("seed", 0)
        arm = request.get("arm", True)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise ConfigError(f"the seed is {shorten(seed)}; a whole number is wanted")
        if not isinstance(arm, bool):
            raise ConfigError(f"arm is {shorten(arm)}; true or false is wanted")
        self.world.reset(seed, arm)
        return self.world.look()

    def _look(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self.world.look()

    def _schedule(self, request: Mapping[str, Any]) -> dict[str, Any]:
        times = {}
        for name, default in (("after_s", 0.0), ("for_s", math.inf), ("amount", None)):
            times[name] = _read_number(request, name, default)
        fault = self.faults.schedule(str(request.get("kind", "")), **times)
        return {"begin_s": fault.begin_s}

    def _clear(self, request: Mapping[str, Any]) -> dict[str, Any]:
        kind = request.get("kind")
        if kind is not None and not isinstance(kind, str):
            raise ConfigError(f"the kind is {shorten(kind)}; a word is wanted")
        self.faults.clear(kind)
        return {}

    def _quit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.ended.set()
        return {}


class StageClient:
    """Asks the control port of a simulated device."""

    def __init__(self, port: int, host: str = "127.0.0.1", answer_s: float = 5.0) -> None:
        """Connect; raises HotstartError where nobody listens."""
        try:
            self._socket = socket.create_connection((host, port), answer_s)
        except OSError as error:
            raise HotstartError(
                f"no simulated device listens at {host}:{port} ({error}): "
                "start one with hotstart robot sim"
            ) from error
        self._file = self._socket.makefile("rwb")

    def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """The answer to a request; raises HotstartError for one that was refused, and where none
        comes.
        """
        try:
            self._file.write(json.dumps({"do": do, **words}).encode() + b"\n")
            self._file.flush()
            line = self._file.readline(LONGEST_LINE)
        except OSError as error:
            raise HotstartError(f"the simulated device does not answer: {error}") from error
        if not line:
            raise HotstartError("the simulated device has ended the connection")
        answer = json.loads(line)
        if not answer.pop("ok"):
            raise HotstartError(answer["error"])
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    """A thread per connection, so many at most."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    stage: Stage

    def __init__(self, address: tuple[str, int], handler: type[_Connection]) -> None:
        super().__init__(address, handler)
        self.free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's concern."""


class _Connection(socketserver.StreamRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = IDLE_S

    def handle(self) -> None:
        """Answer line by line until the other side ends, or sends a line without an end."""
        if not self.server.free.acquire(blocking=False):
            self._say({"ok": False, "error": f"{MOST_CONNECTIONS} connections are open already"})
            return
        try:
            while line := self.rfile.readline(LONGEST_LINE):
                self._say(self._answer(line))
        finally:
            self.server.free.release()

    def _answer(self, line: bytes) -> dict[str, Any]:
        """What to say to a line, which may be a part of a longer one."""
        if line.endswith(b"\n"):
            return self.server.stage.answer(line)
        while rest := self.rfile.readline(LONGEST_LINE):
            if rest.endswith(b"\n"):
                break
        error = f"a request ends with a newline, after {LONGEST_LINE - 1} bytes at most"
        return {"ok": False, "error": error}

    def _say(self, answer: Mapping[str, Any]) -> None:
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def _read_request(line: bytes) -> dict[str, Any]:
    """The request of a line; raises ConfigError for anything but an object of JSON."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the request is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise ConfigError(f"the request is {shorten(request)}; an object with `do` is wanted")
    return request


def _choose(request: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    do = request.get("do")
    if not isinstance(do, str) or do not in known:
        raise ConfigError(unknown("request", str(do), sorted(known)))
    return do


def _read_number(request: Mapping[str, Any], name: str, default: float | None) -> float | None:
    value = request.get(name, default)
    if value is default:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} is {shorten(value)}; a number is wanted")
    return float(value)
