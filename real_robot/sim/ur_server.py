"""A simulated UR5e at the wire: the RTDE, dashboard and script ports of its controller over TCP.

`ur_rtde` connects as it does to an arm. It knows one set of ports, so every arm has an address of
its own: 127.0.0.1, 127.0.0.2, ...
"""

from __future__ import annotations

import math
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...spec import ConfigError
from .body import Body
from .faults import Faults
from .ur_controller import Controller, ControllerOptions
from .ur_dashboard import GREETING, VERSION, answer
from .ur_motion import PERIOD_S
from .ur_wire import INPUTS, MAX_HZ, OUTPUTS, Kind, Recipe, Value, make_recipe, pack, split_packets

RTDE_PORT = 30004
DASHBOARD_PORT = 29999
SECONDARY_PORT = 30002
REALTIME_PORT = 30003
RESENT_AFTER_S = 0.02
"""What a lost packet costs: TCP sends it again after so long, and what follows waits.

Where packets come every few milliseconds, the next ones that are acknowledged reveal the loss; the
last one of a burst is sent again after some 10 ms (RFC 8985).
"""
MOST_LATE_PERIODS = 100
"""A process that was held up for longer advances only so far; its clock goes on all the same."""
MOST_WAITING = 1 << 20
CHUNK = 65536


@dataclass(frozen=True)
class Ports:
    """Where a controller listens; 0: any free port.

    Programs are taken at the secondary and the realtime port; `ur_rtde` sends its own to the
    latter.
    """

    address: str = "127.0.0.1"
    rtde: int = RTDE_PORT
    dashboard: int = DASHBOARD_PORT
    secondary: int = SECONDARY_PORT
    realtime: int = REALTIME_PORT


class Wire:
    """One direction of a connection, with the delay, losses and silence of the faults.

    As TCP does, it loses nothing in the end and keeps the order: a lost packet is sent again later.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._free_s = 0.0
        self.size = 0

    def put(self, data: bytes, now: float) -> None:
        """Data that begin their way."""
        due = now + self._faults.delay_s()
        if self._faults.active("bus_silence") is None and self._faults.drops():
            due += RESENT_AFTER_S
        self._free_s = max(self._free_s, due)
        self._waiting.append((self._free_s, data))
        self.size += len(data)

    def take(self, now: float) -> bytes:
        """Data that have arrived."""
        if not self._waiting or self._faults.active("bus_silence") is not None:
            return b""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now:
            arrived.append(self._waiting.popleft()[1])
        data = b"".join(arrived)
        self.size -= len(data)
        return data


class Connection:
    """One client at one port."""

    def __init__(self, link: socket.socket, faults: Faults) -> None:
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link = link
        self.inward = Wire(faults)
        self.outward = Wire(faults)
        self.buffer = bytearray()
        self.open = True
        self._unsent = b""

    def receive(self, now: float) -> None:
        """Take what the client sent off the socket."""
        try:
            data = self.link.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.inward.put(data, now)
        else:
            self.open = False

    def send(self, data: bytes, now: float) -> None:
        """Data for the client; one that takes nothing for long is let go."""
        self.outward.put(data, now)
        if self.outward.size > MOST_WAITING:
            self.open = False

    def flush(self, now: float) -> None:
        """Give the socket what it takes."""
        self._unsent += self.outward.take(now)
        if not self._unsent:
            return
        try:
            sent = self.link.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.open = False
            return
        self._unsent = self._unsent[sent:]

    def advance(self, now: float) -> None:
        """Deal with what has arrived; every period."""
        self.buffer += self.inward.take(now)

    def take_text(self, mark: bytes) -> str:
        """What has arrived up to a mark that is there."""
        end = self.buffer.index(mark)
        text = self.buffer[:end].decode(errors="replace")
        del self.buffer[: end + len(mark)]
        return text

    def close(self) -> None:
        """The client is gone."""
        self.link.close()


class DashboardConnection(Connection):
    """Lines of text."""

    def __init__(self, link: socket.socket, controller: Controller) -> None:
        super().__init__(link, controller.faults)
        self._controller = controller
        self.send(f"{GREETING}\n".encode(), time.monotonic())

    def advance(self, now: float) -> None:
        """Answer every whole line."""
        super().advance(now)
        while b"\n" in self.buffer:
            reply = answer(self.take_text(b"\n"), self._controller)
            self.send(f"{reply}\n".encode(), now)


class ScriptConnection(Connection):
    """Programs as text: from `def` to the `end` that stands at the beginning of a line."""

    def __init__(self, link: socket.socket, controller: Controller) -> None:
        super().__init__(link, controller.faults)
        self._controller = controller

    def advance(self, now: float) -> None:
        """Run every whole program."""
        super().advance(now)
        while b"\nend\n" in self.buffer:
            self._controller.run_program(self.take_text(b"\nend\n"))


class RtdeConnection(Connection):
    """Packets: recipes are agreed, then data flow both ways."""

    def __init__(
        self, link: socket.socket, controller: Controller, others: Sequence[Connection]
    ) -> None:
        super().__init__(link, controller.faults)
        self._controller = controller
        self._others = others
        self.inputs: list[Recipe] = []
        self._output: Recipe | None = None
        self._tellers: list[Callable[[], Value]] = []
        self._every = 1
        self._started = False
        self._periods = 0
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._count = 0
        """How many had arrived when the periods began that are being made up for."""

    def advance(self, now: float) -> None:
        """Take in every whole packet."""
        super().advance(now)
        try:
            self._arrived += split_packets(self.buffer)
        except struct.error:
            self._let_go()
        self._count = len(self._arrived)

    def handle(self, now: float, share: float) -> None:
        """Answer packets, up to a share of those that have arrived; data are for the controller.

        Where periods are made up for, each one deals with what came in its time.
        """
        left = math.floor(self._count * (1.0 - share))
        try:
            while len(self._arrived) > left:
                kind, payload = self._arrived.popleft()
                self._handle(kind, payload, now)
        except (struct.error, IndexError, UnicodeDecodeError):
            self._let_go()

    def _let_go(self) -> None:
        self._controller.log("an RTDE packet could not be read; its client is let go")
        self.open = False

    def _handle(self, kind: int, payload: bytes, now: float) -> None:
        if kind == Kind.DATA:
            recipe = self.inputs[payload[0] - 1]
            self._controller.write(recipe.unpack(payload))
            return
        reply = self._reply(kind, payload)
        self.send(pack(Kind(kind), reply), now)

    def _reply(self, kind: int, payload: bytes) -> bytes:
        """What a packet other than data is answered."""
        if kind == Kind.VERSION:
            return bytes([struct.unpack(">H", payload)[0] == 2])
        if kind == Kind.CONTROLLER_VERSION:
            return struct.pack(">4I", *VERSION)
        if kind == Kind.SETUP_OUTPUTS:
            return self._agree_outputs(payload)
        if kind == Kind.SETUP_INPUTS:
            return self._agree_inputs(payload)
        if kind in (Kind.START, Kind.PAUSE):
            self._started = kind == Kind.START and self._output is not None
            return bytes([self._started or kind == Kind.PAUSE])
        raise struct.error(f"kind {kind}")

    def _agree_outputs(self, payload: bytes) -> bytes:
        hz = struct.unpack_from(">d", payload)[0]
        recipe = make_recipe(1, payload[8:].decode(), OUTPUTS, set())
        if recipe.known and 0 < hz <= MAX_HZ:
            self._output = recipe
            self._tellers = [self._controller.find_output(name) for name in recipe.names]
            self._every = max(1, round(MAX_HZ / hz))
        return bytes([recipe.number]) + ",".join(recipe.types).encode()

    def _agree_inputs(self, payload: bytes) -> bytes:
        used: set[str] = set()
        for other in self._others:
            if other is not self and isinstance(other, RtdeConnection):
                for recipe in other.inputs:
                    used.update(recipe.names)
        recipe = make_recipe(len(self.inputs) + 1, payload.decode(), INPUTS, used)
        if not recipe.known:
            return bytes([0]) + ",".join(recipe.types).encode()
        self.inputs.append(recipe)
        return bytes([recipe.number]) + ",".join(recipe.types).encode()

    def wants_data(self, periods: int) -> bool:
        """Whether so many periods later it is the turn of a data packet."""
        self._periods += periods
        if not self._started or self._periods < self._every:
            return False
        self._periods %= self._every
        return True

    def tell(self, now: float) -> None:
        """Send a data packet."""
        assert self._output is not None
        self.send(self._output.pack(tell() for tell in self._tellers), now)


class UrServer:
    """The ports of one controller, in one thread. Use it in a `with`."""

    def __init__(
        self,
        body: Body,
        ports: Ports | None = None,
        options: ControllerOptions | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.controller = Controller(body, options, faults)
        self.connections: list[Connection] = []
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        wanted = ports or Ports()
        self._listeners: list[socket.socket] = []
        try:
            rtde = self._listen(wanted.address, wanted.rtde, self._make_rtde)
            dashboard = self._listen(wanted.address, wanted.dashboard, self._make_dashboard)
            secondary = self._listen(wanted.address, wanted.secondary, self._make_script)
            realtime = self._listen(wanted.address, wanted.realtime, self._make_script)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"a simulated UR5e cannot listen at {wanted.address}: {error}; "
                "another one may be there: take another address, as 127.0.0.2"
            ) from error
        self.ports = Ports(wanted.address, rtde, dashboard, secondary, realtime)

    def _listen(self, address: str, port: int, make: Callable[[socket.socket], Connection]) -> int:
        listener = socket.create_server((address, port), reuse_port=False)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, make)
        return listener.getsockname()[1]

    def _make_rtde(self, link: socket.socket) -> Connection:
        return RtdeConnection(link, self.controller, self.connections)

    def _make_dashboard(self, link: socket.socket) -> Connection:
        return DashboardConnection(link, self.controller)

    def _make_script(self, link: socket.socket) -> Connection:
        return ScriptConnection(link, self.controller)

    def run(self) -> None:
        """Serve until `close`, in this thread."""
        begun = time.monotonic()
        done = 0
        while not self._ending.is_set():
            next_s = begun + (done + 1) * PERIOD_S
            self._wait(max(0.0, next_s - time.monotonic()))
            now = time.monotonic()
            due = int((now - begun) / PERIOD_S)
            late = due - done
            done = due
            if late > MOST_LATE_PERIODS:
                self.controller.skip(late - MOST_LATE_PERIODS)
                late = MOST_LATE_PERIODS
            self._advance(late, now)

    def _wait(self, timeout_s: float) -> None:
        """Take what arrives, until the next period begins."""
        for key, _ in self._selector.select(timeout_s):
            now = time.monotonic()
            if isinstance(key.data, Connection):
                key.data.receive(now)
            else:
                self._accept(key)

    def _accept(self, key: selectors.SelectorKey) -> None:
        listener = key.fileobj
        assert isinstance(listener, socket.socket)
        link, _ = listener.accept()
        connection = key.data(link)
        self.connections.append(connection)
        self._selector.register(link, selectors.EVENT_READ, connection)

    def _advance(self, periods: int, now: float) -> None:
        """What arrived is dealt with, the controller goes on, and the clients are told."""
        for connection in self.connections:
            connection.advance(now)
        if periods == 0:
            self._handle(now, 1.0)
        for number in range(1, periods + 1):
            self._handle(now, number / periods)
            self.controller.step()
        if periods:
            self.controller.drive()
        for connection in self.connections:
            if isinstance(connection, RtdeConnection) and connection.wants_data(periods):
                connection.tell(now)
            connection.flush(now)
        self._drop_closed()

    def _handle(self, now: float, share: float) -> None:
        for connection in self.connections:
            if isinstance(connection, RtdeConnection):
                connection.handle(now, share)

    def _drop_closed(self) -> None:
        for connection in [each for each in self.connections if not each.open]:
            self._selector.unregister(connection.link)
            self.connections.remove(connection)
            connection.close()

    def cut(self) -> None:
        """Cut every connection, as a pulled cable and a reset do. From any thread."""
        for connection in list(self.connections):
            connection.open = False

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="simulated UR5e", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and let the clients go."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        for connection in self.connections:
            connection.close()
        for listener in self._listeners:
            listener.close()
        self._selector.close()

    def __enter__(self) -> UrServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
