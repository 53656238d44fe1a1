"""A client of a policy server: it asks for actions, and never waits longer than it was told."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .wire import WireError, pack, unpack

REQUEST = "__request__"
"""Key of a message under which stands what is asked; an observation has the other keys."""
LARGEST = 16 * 2**20
"""An answer takes no more bytes than this."""
PAUSE_S = 0.1
"""Between two attempts to connect."""
LATE = ("deadline", "stale", "silent")


class ServerError(RuntimeError):
    """The server has refused a request, or failed; `kind` is a word for programs."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LateError(ServerError):
    """No answer in time; the next request, with a newer observation, may well be answered."""


class Client:
    """One row of a policy on another machine; for one thread.

    The server keeps what the policy remembers, warm starts included, as long as the connection
    lives. A lost connection is made anew by the next request; the policy then begins afresh.

        client = Client("192.168.1.5", 8000, token="...")
        client.reset(seed=0)
        actions = client.infer({"state": state, "image": frame})  # (Ta, A)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        deadline_s: float = 1.0,
        connect_s: float = 5.0,
    ) -> None:
        """Connect within `connect_s` [s]; a request takes `deadline_s` [s] at most.

        Raises LateError where nobody answers there, ServerError where the server refuses.
        """
        if ":" in host:
            host = f"[{host}]"
        self.address = f"{host}:{port}"
        self.deadline_s = deadline_s
        self.answer: Mapping[str, Any] = {}
        """The newest answer, whole: actions, nfe, times on the server, and the request's id."""
        self.metadata: Mapping[str, Any] = {}
        """What the server says of itself and of its policy."""
        self._token, self._seed = token, 0
        self._closed = False
        self._connection: ClientConnection | None = None
        self._numbers = itertools.count(1)
        self._connect(time.monotonic() + connect_s)

    def infer(
        self,
        observation: Mapping[str, Any],
        *,
        made_s: float | None = None,
        deadline_s: float | None = None,
        max_age_s: float | None = None,
        executed: int | None = None,
        frozen: int = 0,
    ) -> Any:
        """The actions (Ta, A) for an observation, in the robot's units.

        Args:
            observation: key -> array without a batch axis; with a first axis of up to To steps,
                oldest first, it is a history
            made_s: when it was made, by `time.monotonic`; None: now
            deadline_s: how long the answer may take [s]; None: as the client was told
            max_age_s: how old the observation may be when it is planned from [s]; None: as the
                server says
            executed: steps of the plan before that lie behind; None: all of its actions, or as many
                as observations were sent since
            frozen: its further steps that are executed before the answer is there

        Raises:
            LateError: no answer in time, or the observation is too old
            ServerError: the server refused the request; `kind` and the message say why
        """
        fields = {"executed": executed, "frozen": frozen, "max_age_s": max_age_s}
        answer = self._ask("infer", observation, fields, made_s, deadline_s)
        if "actions" not in answer:
            raise ServerError("failed", "the server's answer holds no actions")
        return answer["actions"]

    def observe(
        self,
        observation: Mapping[str, Any],
        *,
        applied: Any = None,
        made_s: float | None = None,
        deadline_s: float | None = None,
    ) -> None:
        """Hand over one control period's observation without asking for a plan.

        `applied` (A,) is what was executed since the one before; a policy with a filter needs it.
        Raises as `infer`.
        """
        self._ask("observe", observation, {"applied": applied}, made_s, deadline_s)

    def reset(self, seed: int = 0, deadline_s: float | None = None) -> None:
        """An episode begins: the server forgets what it knows, and `seed` fixes the noise."""
        self._seed = int(seed)
        self._ask("reset", {}, {"seed": self._seed}, None, deadline_s)

    def close(self) -> None:
        """End; may be called twice, and from another thread: a request under way fails."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def __enter__(self) -> Client:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, however the block ended."""
        self.close()

    def _ask(
        self,
        kind: str,
        observation: Mapping[str, Any],
        fields: Mapping[str, Any],
        made_s: float | None,
        deadline_s: float | None,
    ) -> Mapping[str, Any]:
        """The answer to one request; a lost connection is made anew while there is time."""
        if deadline_s is None:
            deadline_s = self.deadline_s
        until_s = time.monotonic() + deadline_s
        given = {name: value for name, value in fields.items() if value is not None}
        while True:
            connection = self._connection
            try:
                if connection is None:
                    connection = self._reconnect(until_s)
                self.answer = self._exchange(connection, kind, observation, given, made_s, until_s)
                return self.answer
            except (ConnectionClosed, OSError) as error:
                self._drop()
                if self._closed or time.monotonic() + PAUSE_S > until_s:
                    message = f"the connection to {self.address} was lost: {error}"
                    raise LateError("silent", message) from error

    def _exchange(
        self,
        connection: ClientConnection,
        kind: str,
        observation: Mapping[str, Any],
        fields: Mapping[str, Any],
        made_s: float | None,
        until_s: float,
    ) -> Mapping[str, Any]:
        """Send one request and wait for its answer until `until_s`."""
        now_s, number = time.monotonic(), next(self._numbers)
        if made_s is None:
            made_s = now_s
        request = {
            "kind": kind,
            "id": number,
            "sent_s": now_s,
            "age_s": max(0.0, now_s - made_s),
            "deadline_s": max(0.0, until_s - now_s),
            **fields,
        }
        _limit_sending(connection.socket, until_s - now_s)
        connection.send(pack({**observation, REQUEST: request}))
        return self._receive(connection, number, until_s)

    def _receive(
        self, connection: ClientConnection, number: int, until_s: float
    ) -> Mapping[str, Any]:
        """The answer to the request `number`; those to earlier ones came late and are dropped."""
        while True:
            try:
                data = connection.recv(timeout=max(0.0, until_s - time.monotonic()))
            except TimeoutError:
                message = f"{self.address} has not answered in time; is it busy, or gone?"
                raise LateError("silent", message) from None
            if isinstance(data, str):
                error, concerns = _read_error(data)
                if concerns in (None, number):
                    raise error
                continue
            try:
                answer = unpack(data)
            except WireError as error:
                raise ServerError("failed", f"{self.address} answers strangely: {error}") from error
            if answer.get("id") == number:
                return answer

    def _reconnect(self, until_s: float) -> ClientConnection:
        """Connect again, and begin with the same seed."""
        connection = self._connect(until_s)
        self._exchange(connection, "reset", {}, {"seed": self._seed}, None, until_s)
        return connection

    def _connect(self, until_s: float) -> ClientConnection:
        """A new connection by `until_s`; attempts go on while the server does not listen."""
        while True:
            if self._closed:
                raise LateError("silent", "the client was closed")
            left_s = max(0.01, until_s - time.monotonic())
            try:
                connection = self._open(left_s)
                break
            except InvalidStatus as error:
                raise _explain_status(error, self.address) from error
            except (OSError, InvalidHandshake, ConnectionClosed, EOFError) as error:
                if time.monotonic() + PAUSE_S > until_s:
                    message = f"no policy server answers at {self.address}: {error}"
                    raise LateError("silent", message) from error
                time.sleep(PAUSE_S)
        self._connection = connection
        return connection

    def _open(self, left_s: float) -> ClientConnection:
        """One attempt to connect; the server's first message is its metadata."""
        headers = {}
        if self._token is not None:
            headers["Authorization"] = f"Api-Key {self._token}"
        connection = connect(
            f"ws://{self.address}",
            additional_headers=headers,
            compression=None,
            proxy=None,
            open_timeout=left_s,
            close_timeout=1.0,
            max_size=LARGEST,
        )
        try:
            first = connection.recv(timeout=left_s)
            self.metadata = unpack(first if isinstance(first, bytes) else b"")
        except WireError as error:
            connection.close()
            raise ServerError("failed", f"{self.address} is no policy server: {error}") from error
        except BaseException:
            connection.close()
            raise
        return connection


def _limit_sending(own: socket.socket, left_s: float) -> None:
    """Let a send that the network does not take fail after `left_s` [s] instead of waiting."""
    left_s = max(0.01, left_s)
    whole = int(left_s)
    with contextlib.suppress(OSError):
        limit = struct.pack("ll", whole, int((left_s - whole) * 1e6))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _read_error(text: str) -> tuple[ServerError, Any]:
    """What the server reports, and the number of the request that it concerns."""
    try:
        fields = json.loads(text)
        kind, message = fields["error"], fields["message"]
        number = fields["id"]
    except (ValueError, TypeError, KeyError):
        kind, message = "failed", text[:400]
        number = None
    if kind in LATE:
        return LateError(kind, message), number
    return ServerError(kind, message), number


def _explain_status(error: InvalidStatus, address: str) -> ServerError:
    """What a refused handshake means."""
    status = error.response.status_code
    if status == 401:
        return ServerError("token", f"{address} wants its token: Client(..., token=...)")
    if status == 503:
        return ServerError("full", f"{address} serves as many clients as it may")
    return ServerError("refused", f"{address} refused the connection (status {status})")
