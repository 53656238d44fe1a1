"""The control port of a simulated device: what it does, and what it refuses without harm."""

import json
import socket

import numpy as np
import pytest
from hotstart.arms import make_scene
from hotstart.real_robot.sim.faults import Faults
from hotstart.real_robot.sim.stage import LONGEST_LINE, MOST_CONNECTIONS, Stage, StageClient
from hotstart.real_robot.sim.world import World
from hotstart.spec import ConfigError, HotstartError


@pytest.fixture(scope="module")
def stage():
    with Stage(World(make_scene("ur5e_push")), Faults()) as stage:
        yield stage


@pytest.fixture
def client(stage):
    with StageClient(stage.port) as client:
        yield client


def send(stage, raw):
    """What is answered to some bytes; the last line of it."""
    with socket.create_connection(("127.0.0.1", stage.port), 5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return json.loads(connection.makefile("rb").readlines()[-1])


def test_a_reset_begins_the_episode_of_its_seed_and_a_look_tells_how_it_is(stage, client):
    first = client.ask("reset", seed=3)
    assert client.ask("look")["object"] == first["object"]
    assert client.ask("reset", seed=4)["object"] != first["object"]
    again = client.ask("reset", seed=3)
    assert again["object"] == first["object"]
    assert again["start"] == again["positions"]
    assert not again["success"]
    stage.world.scene.put_goal(again["object"][:3])
    assert client.ask("look")["success"]


def test_a_reset_may_leave_the_arm_where_it_is(stage, client):
    before = client.ask("reset", seed=3)
    after = client.ask("reset", seed=4, arm=False)
    assert after["positions"] == before["positions"]
    assert after["object"] != before["object"]
    assert after["start"] == client.ask("reset", seed=4)["positions"]
    assert np.ptp(np.subtract(after["start"], before["start"])) > 1e-3


def test_faults_are_scheduled_and_cleared(stage, client):
    client.ask("fault", kind="bus_silence", for_s=60)
    assert stage.faults.drops()
    client.ask("clear")
    assert not stage.faults.drops()


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\n",
        b"[1, 2]\n",
        b"\xff\xfe\n",
        b"[" * 30000 + b"\n",
        b'{"do": "dance"}\n',
        b'{"do": ["reset"]}\n',
        b'{"do": "reset", "seed": "three"}\n',
        b'{"do": "reset", "seed": -1}\n',
        b'{"do": "reset", "seed": 1e400}\n',
        b'{"do": "fault", "kind": "stale", "after_s": NaN}\n',
        b'{"do": "fault", "kind": "stale", "after_s": "soon"}\n',
        b'{"do": "look"}',
        b" " * (LONGEST_LINE + 10) + b"\n",
    ],
)
def test_what_it_cannot_do_is_answered_and_harms_nothing(stage, client, raw):
    answer = send(stage, raw)
    assert not answer["ok"]
    assert answer["error"]
    assert client.ask("look")["score"] >= 0


def test_more_connections_than_it_serves_are_turned_away_and_those_that_end_make_room(stage):
    clients = []
    with pytest.raises(HotstartError, match="open already"):
        for _ in range(MOST_CONNECTIONS + 1):
            clients.append(StageClient(stage.port))
            clients[-1].ask("look")
    for client in clients:
        client.close()


def test_quitting_is_told_and_a_taken_port_is_refused(stage, client):
    with pytest.raises(ConfigError, match="another port"):
        Stage(stage.world, stage.faults, stage.port)
    client.ask("quit")
    assert stage.ended.wait(1)
