"""A policy behind a websocket, in openpi's message shape, for several clients at a time.

On connecting a client gets the server's metadata. It sends observations, key -> array, and gets
`{"actions": (Ta, A), ...}`, or a text where it is refused. Bytes are msgpack (`client.wire`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Handshake
from websockets.http11 import Response

from ...spec import ConfigError, ObsSpec, Policy
from ..client.wire import WireError, pack, unpack
from .planning import Job, Planning, Session
from .requests import RefusedError, Request, Transit, find_number, read_request

SHORTEST_TOKEN = 16
TOKEN_WORDS = re.compile(r"^(?:api-key|bearer) +", re.IGNORECASE)
"""What stands before the token: openpi's clients say Api-Key."""
SPARE = 16
"""Connections beyond the clients' own that may be open: health checks, and those that are refused
with a word."""
SLOW_S = 5.0
"""A client that does not take an answer for so long [s] is let go, and so is a slow handshake."""
GRACE_S = 3.0
"""So long [s] a server that ends waits for the answers under way."""
PING_S = 10.0
ROOM = 65536
"""Bytes of a message beside its arrays."""
QUIET = logging.getLogger("hotstart.serve.sockets")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False  # every broken connection would be a traceback


@dataclass(frozen=True)
class ServerSettings:
    """Who may ask, how much, and how long an answer may take."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    token: str | None = None
    clients: int = 32
    batch: int = 16
    """Rows in one call of the policy."""
    deadline_s: float = 5.0
    """For clients that say none; none may have more."""
    max_age_s: float = 1.0
    """Of an observation when it is planned from, for clients that say none."""
    message_mb: float | None = None
    """Largest message [MB]; None: what the policy's observations take as float64."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and self.token is None:
            raise ConfigError(
                f"host is {self.host}, which other machines reach: a token is wanted, in a file "
                "(token_file=FILE) or in the environment variable HOTSTART_TOKEN; or leave "
                "host=127.0.0.1 and come through an SSH tunnel"
            )
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"the token has {len(self.token)} characters; {SHORTEST_TOKEN} or more are wanted, "
                "as `python -c 'import secrets; print(secrets.token_hex())'` makes them"
            )
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port is {self.port}; a number from 0 to 65535 is wanted")
        for name in ("clients", "batch", "deadline_s", "max_age_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value}; a number above 0 is wanted")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def describe(policy: Policy, **more: Any) -> dict[str, Any]:
    """The metadata of a policy's server: what it observes, what it plans, how often."""
    horizon = policy.horizon
    return {
        "server": "hotstart",
        "protocol": 1,
        "rate_hz": policy.rate_hz,
        "horizon": vars(horizon).copy(),
        "observation": policy.obs_spec.to_json(),
        "action": policy.action_spec.to_json(),
        **more,
    }


def largest_message(obs_spec: ObsSpec, observed: int) -> int:
    """Bytes that a history of `observed` (To) steps takes as float64, and room for the rest."""
    numbers = 0
    for key in obs_spec.keys.values():
        numbers += math.prod(key.shape)
    return 8 * numbers * observed + ROOM


class PolicyServer:
    """Serves a policy until `stop`; `run` is the program's life, and may be called once."""

    def __init__(
        self,
        policy: Policy,
        settings: ServerSettings | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`metadata` is sent to clients beside what `describe` says."""
        self.policy, self.settings = policy, settings or ServerSettings()
        self.port = self.settings.port
        self.largest = largest_message(policy.obs_spec, policy.horizon.observed)
        if self.settings.message_mb is not None:
            self.largest = int(self.settings.message_mb * 1e6)
        self.metadata = describe(policy, max_bytes=self.largest, **dict(metadata or {}))
        self.refused = 0
        """Requests that were refused."""
        self.ended_by = 0
        """The signal that ended `run`; 0: `stop` did."""
        self._clients: set[ServerConnection] = set()
        self._answering = 0
        self._ending = False

    def run(self, ready: Callable[[int], None] = lambda port: None) -> None:
        """Serve until `stop` or, in the main thread, SIGTERM, SIGINT or SIGHUP.

        `ready` is called with the port when clients may come. Raises OSError where the port is not
        to be had.
        """
        self.planning = Planning(self.policy, self.settings.batch)
        try:
            self.planning.warm_up()
            asyncio.run(self._run(ready))
        finally:
            self.planning.close(GRACE_S)

    def stop(self) -> None:
        """End `run`, from any thread: answers under way are sent first."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _run(self, ready: Callable[[int], None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._loop.add_signal_handler(number, self._note_signal, number)
        async with serve(
            self._serve_client,
            self.settings.host,
            self.settings.port,
            origins=[None],  # no page in a browser
            process_request=self._admit,
            create_connection=limit_connections(self.settings.clients + SPARE),
            compression=None,  # small bytes must not become large
            max_size=self.largest,
            max_queue=1,
            open_timeout=SLOW_S,
            close_timeout=1.0,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            server_header=None,
            logger=QUIET,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            ready(self.port)
            await self._stop.wait()
            await self._end(server)

    def _note_signal(self, number: int) -> None:
        self.ended_by = self.ended_by or number
        self._stop.set()

    async def _end(self, server: Server) -> None:
        """Let nobody in, send the answers under way, and close the connections."""
        self._ending = True
        until_s = time.monotonic() + GRACE_S
        while self._answering and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
        server.close()

    def _admit(self, connection: ServerConnection, handshake: Handshake) -> Response | None:
        """Answer a handshake; None lets it go on."""
        if handshake.path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if not self._is_trusted(handshake):
            self.refused += 1
            return connection.respond(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong\n")
        if self._ending or len(self._clients) >= self.settings.clients:
            self.refused += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no room for more clients\n")
        return None

    def _is_trusted(self, handshake: Handshake) -> bool:
        """Whether a client knows the token; how long that takes says nothing about it."""
        if self.settings.token is None:
            return True
        given = handshake.headers.get_all("Authorization")
        token = TOKEN_WORDS.sub("", "".join(given[:1])).encode("utf-8", "replace")
        return hmac.compare_digest(token, self.settings.token.encode())

    async def _serve_client(self, connection: ServerConnection) -> None:
        """The life of a connection."""
        if len(self._clients) >= self.settings.clients:  # two came in one moment
            await connection.close(1013, "no room for more clients")
            return
        self._clients.add(connection)
        session, transit = Session(self.policy), Transit()
        try:
            await self._send(connection, pack(self.metadata))
            async for data in connection:
                self._answering += 1
                try:
                    await self._send(connection, await self._answer(session, transit, data))
                finally:
                    self._answering -= 1
        except ConnectionClosed:
            pass
        finally:
            self._clients.discard(connection)

    async def _send(self, connection: ServerConnection, data: bytes | str) -> None:
        """Send; a client that does not read is let go."""
        try:
            async with asyncio.timeout(SLOW_S):
                await connection.send(data)
        except TimeoutError:
            connection.transport.abort()

    async def _answer(self, session: Session, transit: Transit, data: bytes | str) -> bytes | str:
        """The answer to one message, by its deadline."""
        arrived_s, number = time.monotonic(), None
        try:
            if isinstance(data, str):
                raise RefusedError("refused", "the message is a text; it is sent as bytes")
            message = unpack(data)
            number = find_number(message)
            request = read_request(message)
            job = self._make_job(session, transit, request, arrived_s)
            answer = await self._wait(job)
            return pack({**answer, "id": number, "age_s": time.monotonic() - arrived_s})
        except WireError as error:
            self.refused += 1
            return RefusedError("refused", str(error)).to_text(number)
        except RefusedError as error:
            self.refused += 1
            return error.to_text(number)

    def _make_job(
        self, session: Session, transit: Transit, request: Request, arrived_s: float
    ) -> Job:
        """The request with its times by this machine's clock."""
        deadline_s = self.settings.deadline_s
        if request.deadline_s is not None:
            deadline_s = min(request.deadline_s, deadline_s)
        max_age_s = self.settings.max_age_s
        if request.max_age_s is not None:
            max_age_s = request.max_age_s
        age_s = request.age_s + transit.measure(request.sent_s, arrived_s)
        return Job(session, request, arrived_s + deadline_s, arrived_s + max_age_s - age_s)

    async def _wait(self, job: Job) -> dict[str, Any]:
        """The job's answer, or RefusedError at its deadline.

        The session's job before it, whose answer came too late, is waited for first.
        """
        if self._ending:
            raise RefusedError("ending", "the server is ending")
        session = job.session
        try:
            async with asyncio.timeout_at(self._loop_time(job.until_s)):
                if session.under_way is not None:
                    await asyncio.shield(asyncio.wrap_future(session.under_way))
                session.under_way = job.answer
                self.planning.submit(job)
                answer = await asyncio.shield(asyncio.wrap_future(job.answer))
        except TimeoutError:
            raise RefusedError("deadline", "no plan was ready within the deadline") from None
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    def _loop_time(self, monotonic_s: float) -> float:
        return self._loop.time() + monotonic_s - time.monotonic()


def limit_connections(most: int) -> type[ServerConnection]:
    """Connections of which at most so many are open: a further one is cut off at once."""
    living: set[ServerConnection] = set()

    class Counted(ServerConnection):
        """A connection that counts."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """See asyncio.Protocol."""
            if len(living) >= most:
                assert isinstance(transport, asyncio.Transport)
                transport.abort()
                return
            living.add(self)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            """See asyncio.Protocol."""
            if self in living:
                living.discard(self)
                super().connection_lost(exc)

    return Counted


@contextlib.contextmanager
def serving(
    policy: Policy, settings: ServerSettings | None = None, **metadata: Any
) -> Iterator[PolicyServer]:
    """Serve in a thread of this process, at a free port unless `settings` names one."""
    server = PolicyServer(policy, settings or ServerSettings(port=0), metadata)
    begun = threading.Event()
    faults: list[BaseException] = []

    def live() -> None:
        try:
            server.run(lambda port: begun.set())
        except BaseException as error:
            faults.append(error)
            begun.set()

    thread = threading.Thread(target=live, name="policy server", daemon=True)
    thread.start()
    begun.wait()
    if faults:
        raise faults[0]
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def read_token(file: str) -> str | None:
    """The token in a file, else in HOTSTART_TOKEN; None where there is neither."""
    if not file:
        return os.environ.get("HOTSTART_TOKEN") or None
    return Path(file).read_text(encoding="utf-8").strip()
