"""A policy behind a websocket: the same actions as beside it, and refusals in words."""

import json
import threading
import time
from dataclasses import replace
from http.client import HTTPConnection

import numpy as np
import pytest
from hotstart.control import LoopSettings, RealClock, VirtualClock, run
from hotstart.planners import ImmediatePlanner
from hotstart.policy.diffusion_policy import DiffusionPolicy
from hotstart.policy.samplers.warm_start import WarmStart
from hotstart.real_robot.client import Client, LateError, ServerError
from hotstart.real_robot.client.wire import pack, unpack
from hotstart.real_robot.remote import RemotePlanner, RemotePolicy
from hotstart.real_robot.server.server import ServerSettings, serving
from hotstart.spec import ConfigError, Robot, SilentError
from websockets.sync.client import connect
from websockets.typing import Origin

STATE = np.array([0.5, -1.0], np.float32)


@pytest.fixture(scope="module")
def policy(tiny_model):
    return DiffusionPolicy(tiny_model(), WarmStart())


@pytest.fixture(scope="module")
def server(policy):
    with serving(policy) as started:
        yield started


@pytest.fixture
def client(server):
    with Client(port=server.port, deadline_s=5.0) as connected:
        yield connected


def read(socket):
    """The next answer, which is no refusal."""
    data = socket.recv()
    assert isinstance(data, bytes), data
    return unpack(data)


def plan_alone(policy, seed, states, executed):
    """The chunks for single observations, made beside the policy."""
    state, chunks = policy.initial_state([seed]), []
    row = np.zeros(1, np.int64)
    for observed in states:
        state = policy.observe(state, {"state": observed[None]})
        planned = policy.plan(state, row, np.array([executed]))
        state = policy.adopt(state, planned)
        chunks.append(planned.actions[0])
    return chunks


def test_the_server_says_what_its_policy_is(client, policy):
    told = client.metadata
    assert told["horizon"]["observed"] == policy.horizon.observed
    assert told["observation"]["state"]["shape"] == [2]
    assert [dim["name"] for dim in told["action"]] == [d.name for d in policy.action_spec.dims]


def test_a_client_gets_the_plans_that_the_policy_makes_by_itself(client, policy):
    states = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    wanted = plan_alone(policy, 3, states, policy.horizon.executed)
    client.reset(seed=3)
    for observed, chunk in zip(states, wanted, strict=True):
        np.testing.assert_array_equal(client.infer({"state": observed}), chunk)
    assert client.answer["nfe"] == 2  # the third plan was a warm start: it lives on the server
    assert client.answer["server_timing"]["infer_ms"] > 0


def test_a_history_counts_as_its_observations_one_after_the_other(client, policy):
    states = np.random.default_rng(1).normal(size=(2, 2)).astype(np.float32)
    client.reset(seed=1)
    client.observe({"state": states[0]})
    one = client.infer({"state": states[1]})
    client.reset(seed=1)
    np.testing.assert_array_equal(client.infer({"state": states}), one)
    client.reset(seed=1)
    assert not np.array_equal(client.infer({"state": states[1]}), one)


def test_observations_between_plans_say_how_much_was_executed(client, policy):
    state = policy.observe(policy.initial_state([0]), {"state": STATE[None]})
    row = np.zeros(1, np.int64)
    state = policy.adopt(state, policy.plan(state, row, np.zeros(1, np.int64)))
    for _ in range(3):
        state = policy.observe(state, {"state": STATE[None]})
    wanted = policy.plan(state, row, np.array([3])).actions[0]
    client.reset(seed=0)
    client.infer({"state": STATE})
    for _ in range(2):
        client.observe({"state": STATE})
    np.testing.assert_array_equal(client.infer({"state": STATE}), wanted)


def test_several_clients_have_an_episode_each(server, policy):
    with Client(port=server.port) as one, Client(port=server.port) as other:
        one.reset(seed=1)
        other.reset(seed=2)
        found = [one.infer({"state": STATE}), other.infer({"state": STATE})]
        found += [one.infer({"state": STATE}), other.infer({"state": STATE})]
    executed = policy.horizon.executed
    one_alone = plan_alone(policy, 1, [STATE, STATE], executed)
    other_alone = plan_alone(policy, 2, [STATE, STATE], executed)
    for got, wanted in zip(
        found, [one_alone[0], other_alone[0], one_alone[1], other_alone[1]], strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_client_of_openpi_is_served(server):
    """It sends an observation and nothing else, and waits for a map with actions."""
    with connect(f"ws://127.0.0.1:{server.port}", compression=None, max_size=None) as socket:
        assert "horizon" in read(socket)
        array = {b"__ndarray__": True, b"data": STATE.tobytes(), b"dtype": "<f4", b"shape": (2,)}
        socket.send(pack({"state": array, "prompt": "push"}))
        answer = read(socket)
        assert answer["actions"].shape == (4, 2)
        assert "infer_ms" in answer["server_timing"]
        socket.send(pack({"state": "push"}))
        assert isinstance(socket.recv(), str)  # openpi's client raises it


def test_health_is_told_without_a_token(tiny_model):
    settings = ServerSettings(port=0, token="x" * 16)
    with serving(DiffusionPolicy(tiny_model()), settings) as server:
        asked = HTTPConnection("127.0.0.1", server.port, timeout=5)
        asked.request("GET", "/healthz")
        answer = asked.getresponse()
        assert (answer.status, answer.read()) == (200, b"OK\n")
        asked.close()
        for wrong in (None, "x" * 15, "y" * 16):
            with pytest.raises(ServerError, match="wants its token"):
                Client(port=server.port, token=wrong)
        with Client(port=server.port, token="x" * 16) as client:
            assert client.infer({"state": STATE}).shape == (4, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "0.0.0.0"}, "a token is wanted"),
        ({"host": "robot.local"}, "a token is wanted"),
        ({"token": "short"}, "16 or more"),
        ({"port": 70000}, "from 0 to 65535"),
        ({"deadline_s": 0.0}, "above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        ServerSettings(**changes)


def test_pages_in_a_browser_get_no_answer(server):
    with pytest.raises(Exception, match="403"):
        connect(f"ws://127.0.0.1:{server.port}", origin=Origin("http://evil.example"))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"state": np.zeros(3)}, "shape"),
        ({"state": np.zeros((9, 2))}, "1 to 2 are wanted"),
        ({"state": np.zeros((2, 2, 2))}, "or a history"),
        ({"state": [0.0, np.nan]}, "not finite"),
        ({"state": ["a", "b"]}, "numbers are wanted"),
        ({"state": [[1.0], [1.0, 2.0]]}, "no array"),
        ({"other": STATE}, "lacks 'state'"),
        ({"state": STATE, "__request__": 3}, "a map is wanted"),
        ({"state": STATE, "__request__": {"kind": "shutdown"}}, "are known"),
        ({"state": STATE, "__request__": {"executed": -1}}, "from 0 to"),
        ({"state": STATE, "__request__": {"executed": 1.5}}, "a whole number"),
        ({"state": STATE, "__request__": {"age_s": np.inf}}, "seconds from 0"),
        ({"state": STATE, "__request__": {"deadline_s": "soon"}}, "seconds from 0"),
        ({"state": STATE, "__request__": {"applied": np.zeros(3)}}, "applied has shape"),
    ],
)
def test_a_wrong_request_is_refused_in_words_and_the_next_one_is_served(server, message, words):
    with connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv()
        socket.send(pack(message))
        refused = json.loads(socket.recv())
        assert refused["error"] == "refused"
        assert words in refused["message"]
        socket.send(pack({"state": STATE}))
        assert read(socket)["actions"].shape == (4, 2)


def test_an_old_observation_is_refused(client):
    now_s = time.monotonic()
    with pytest.raises(LateError, match="too old") as caught:
        client.infer({"state": STATE}, made_s=now_s - 2.0)
    assert caught.value.kind == "stale"
    assert client.infer({"state": STATE}, made_s=now_s - 2.0, max_age_s=60.0).shape == (4, 2)


def test_a_message_that_was_long_under_way_makes_its_observation_old(server):
    """The client's clock says nothing by itself: only the second message is late by it."""
    with connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv()
        for sent_s in (1e6, 1e6 - 5.0):
            socket.send(pack({"state": STATE, "__request__": {"sent_s": sent_s}}))
            time.sleep(0.001)
        assert isinstance(socket.recv(), bytes)
        assert json.loads(socket.recv())["error"] == "stale"


class SlowPolicy(DiffusionPolicy):
    """The same policy, whose plans take `wait_s`."""

    def __init__(self, policy, wait_s):
        vars(self).update(vars(policy))
        self.wait_s, self.asked = wait_s, []

    def plan(self, state, rows, executed, frozen=None, trace=None):
        self.asked.append(len(rows))
        time.sleep(self.wait_s)
        return super().plan(state, rows, executed, frozen)


def test_what_cannot_be_answered_in_time_is_answered_with_an_error_in_time(policy):
    slow = SlowPolicy(policy, 0.3)
    with serving(slow) as server, connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv()
        began_s = time.monotonic()
        asked = {"state": STATE, "__request__": {"deadline_s": 0.05, "id": 7}}
        socket.send(pack(asked))
        error = json.loads(socket.recv())
        assert (error["error"], error["id"]) == ("deadline", 7)
        assert time.monotonic() - began_s < 0.2
        time.sleep(0.3)
        socket.send(pack({"state": STATE, "__request__": {"deadline_s": 0.25}}))
        refused_s = time.monotonic()
        assert json.loads(socket.recv())["error"] == "deadline"
        assert time.monotonic() - refused_s < 0.1  # it is known how long a plan takes
        socket.send(pack({"state": STATE}))
        assert read(socket)["nfe"] == 10  # plans that nobody got are not continued


def test_a_silent_server_raises_within_the_deadline_and_late_answers_are_dropped(policy):
    with serving(SlowPolicy(policy, 0.2)) as server, Client(port=server.port) as client:
        client.deadline_s = 0.1
        with pytest.raises(LateError):
            client.infer({"state": STATE})
        client.deadline_s = 5.0
        assert client.infer({"state": STATE}).shape == (4, 2)


def test_an_answer_to_another_request_is_dropped(client):
    client._connection.send(pack({"state": STATE, "__request__": {"id": 10**6}}))
    client.infer({"state": STATE})
    assert client.answer["id"] < 10**6


def test_rows_of_several_clients_are_planned_for_together(policy):
    slow = SlowPolicy(policy, 0.1)
    with serving(slow) as server:
        clients = [Client(port=server.port) for _ in range(5)]
        threads = [threading.Thread(target=c.infer, args=({"state": STATE},)) for c in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
    assert sum(slow.asked) == 5 + 1  # one to warm up
    assert max(slow.asked) > 2


class FailingPolicy(SlowPolicy):
    """Fails where any row has seen a large number."""

    def plan(self, state, rows, executed, frozen=None, trace=None):
        if (state.history["state"] > 100).any():
            raise RuntimeError("secret words")
        return super().plan(state, rows, executed, frozen)


def test_a_policy_that_fails_for_one_client_serves_the_others(policy, caplog):
    failing = FailingPolicy(policy, 0.05)
    with (
        serving(failing) as server,
        Client(port=server.port) as good,
        Client(port=server.port) as bad,
    ):
        found = []

        def ask_badly():
            try:
                bad.infer({"state": 1000 * np.ones(2, np.float32)})
            except ServerError as error:
                found.append(error)

        thread = threading.Thread(target=ask_badly)
        thread.start()
        assert good.infer({"state": STATE}).shape == (4, 2)
        thread.join()
        assert found[0].kind == "failed"
        assert "secret" not in str(found[0])
        assert "the policy failed" in caplog.text


def test_an_ending_server_sends_the_answers_under_way(policy):
    with serving(SlowPolicy(policy, 0.2)) as server:
        client = Client(port=server.port, deadline_s=2.0)
        threading.Timer(0.1, server.stop).start()
        assert client.infer({"state": STATE}).shape == (4, 2)
    with pytest.raises(LateError):
        client.infer({"state": STATE}, deadline_s=0.2)
    client.close()


def test_a_client_connects_again_and_begins_with_its_seed(policy):
    settings = ServerSettings(port=0)
    with serving(policy, settings) as server:
        client = Client(port=server.port, deadline_s=5.0)
        client.reset(seed=5)
        first = client.infer({"state": STATE})
        port = server.port
    with serving(policy, replace(settings, port=port)):
        np.testing.assert_array_equal(client.infer({"state": STATE}), first)
    client.close()


class Standing(Robot):
    """A robot of one row that stands still and remembers what it was told."""

    rate_hz = 50.0

    def __init__(self, policy, scripted):
        self.obs_spec, self.action_spec = policy.obs_spec, policy.action_spec
        self.commands, self.feedback = [], scripted.feedback([False], [False], [0.0])

    def observe(self):
        seen = STATE + 0.1 * len(self.commands)
        return {"state": seen[None].astype(np.float32)}

    def act(self, actions, substeps=None, timed=None):
        self.commands.append(actions.copy())
        return self.feedback

    def hold_position(self):
        return np.zeros((1, 2))

    def stop(self):
        pass


def test_the_loop_runs_a_remote_policy_as_it_runs_the_policy_itself(server, policy, scripted):
    here, there = Standing(policy, scripted), Standing(policy, scripted)
    settings = LoopSettings(11, any_rate=True)
    run(here, policy, ImmediatePlanner(policy), VirtualClock(), [4], settings)
    remote = RemotePolicy(port=server.port)
    run(there, remote, ImmediatePlanner(remote), VirtualClock(), [4], settings)
    np.testing.assert_array_equal(there.commands, here.commands)
    remote.close()


def test_a_remote_planner_never_waits_and_silence_ends_the_loop(policy, scripted):
    slow = SlowPolicy(policy, 0.0)
    with serving(slow) as server, RemotePlanner(port=server.port, patience_s=5.0) as planner:
        robot = Standing(policy, scripted)
        settings = LoopSettings(15, replan_at=2, any_rate=True, patience_s=0.2)
        (log,) = run(robot, planner.policy, planner, RealClock(), [0], settings)
        assert len(log.nfe) >= 3
        slow.wait_s = 0.5
        with pytest.raises(SilentError, match="has not answered"):
            run(robot, planner.policy, planner, RealClock(), [0], settings)


def test_where_nobody_listens_the_client_says_so():
    with pytest.raises(LateError, match="no policy server answers"):
        Client(port=1, connect_s=0.05)
