"""Whatever a client does, the others are served."""

import gc
import socket
import time

import numpy as np
import pytest
from hotstart.real_robot.client import Client, LateError, ServerError
from hotstart.real_robot.client.wire import pack
from hotstart.real_robot.server import server as module
from hotstart.real_robot.server.server import ServerSettings, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

HELLO = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HALF_FRAME = b"\x82\xfe\x03\xe8\0\0\0\0" + b"x" * 10
"""A message of 1000 bytes announced, 10 of them sent."""


@pytest.fixture(scope="module")
def server(scripted):
    quick = pytest.MonkeyPatch()
    quick.setattr(module, "SLOW_S", 0.3)
    quick.setattr(module, "PING_S", 0.15)
    with serving(scripted.Policy(), ServerSettings(port=0, clients=4)) as started:
        yield started
    quick.undo()


@pytest.fixture(autouse=True)
def others_are_served(server):
    """Before, while and after: a client that behaves gets its actions."""
    with Client(port=server.port) as client:
        yield client
        assert ask(client)


def ask(client):
    return client.infer({"tick": np.full(1, 7.0)})[0, 0] == 7.0


def open_raw(server, *parts):
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    for part in parts:
        raw.sendall(part)
    return raw


def wait_until(true, within_s=3.0):
    until_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def is_cut_off(raw):
    """Whether the server closes a raw connection; what it says before is read."""
    try:
        while raw.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_random_bytes_are_answered_with_refusals(server):
    rng = np.random.default_rng(0)
    with connect(f"ws://127.0.0.1:{server.port}") as attacker:
        attacker.recv()
        for length in rng.integers(0, 300, 100).tolist():
            attacker.send(rng.bytes(length))
            assert "refused" in str(attacker.recv())
        attacker.send("a text")
        assert "refused" in str(attacker.recv())


def test_refusals_and_broken_connections_write_nothing_down(server, caplog):
    with connect(f"ws://127.0.0.1:{server.port}") as attacker:
        attacker.recv()
        for _ in range(20):
            attacker.send(pack({"nothing": 1}))
            assert "refused" in str(attacker.recv())
    with open_raw(server, HELLO, HALF_FRAME):
        pass
    wait_until(lambda: len(server._clients) == 1)
    gc.collect()
    assert caplog.text == ""


def test_bytes_that_are_no_handshake_and_broken_frames_close_the_connection(server):
    for data in (b"\0" * 100, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000, HELLO + b"\xff" * 50):
        with open_raw(server, data) as raw:
            assert is_cut_off(raw)


def test_a_message_above_the_limit_is_not_read(server):
    with connect(f"ws://127.0.0.1:{server.port}", max_size=None) as attacker:
        attacker.recv()
        with pytest.raises(ConnectionClosed) as caught:
            attacker.send(b"x" * (server.largest + 1))
            attacker.recv(timeout=5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


@pytest.mark.parametrize("parts", [(b"GET / HT",), (HELLO, HALF_FRAME), ()])
def test_who_sends_slowly_keeps_nobody_waiting_and_is_cut_off(server, others_are_served, parts):
    with open_raw(server, *parts) as raw:
        began_s = time.monotonic()
        assert ask(others_are_served)
        assert time.monotonic() - began_s < 0.25
        assert is_cut_off(raw)


def test_a_half_closed_connection_ends(server):
    with open_raw(server, HELLO) as raw:
        wait_until(lambda: len(server._clients) == 2)
        raw.shutdown(socket.SHUT_WR)
        assert is_cut_off(raw)
    wait_until(lambda: len(server._clients) == 1)


def test_further_clients_are_refused_until_one_leaves(server):
    clients = [Client(port=server.port) for _ in range(3)]
    with pytest.raises(ServerError) as caught:
        Client(port=server.port)
    assert caught.value.kind == "full"
    clients.pop().close()
    wait_until(lambda: len(server._clients) < 4)
    clients.append(Client(port=server.port))
    assert all(map(ask, clients))
    for client in clients:
        client.close()
    wait_until(lambda: len(server._clients) == 1)


def test_connections_that_say_nothing_leave_no_room_but_do_no_harm(server, others_are_served):
    idle = [open_raw(server) for _ in range(4 + module.SPARE - 1)]
    with pytest.raises(LateError):
        Client(port=server.port, connect_s=0.05)
    assert ask(others_are_served)
    for raw in idle:
        assert is_cut_off(raw)
        raw.close()
    with Client(port=server.port) as client:
        assert ask(client)
