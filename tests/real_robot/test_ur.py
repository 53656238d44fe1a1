"""The driver of a UR5e and the vendor's client against a simulated controller at the wire."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hotstart.envs import arm
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers import ur
from hotstart.real_robot.drivers.link_server import drop_overtaken
from hotstart.real_robot.drivers.ur import UR
from hotstart.real_robot.drivers.ur_link import ClockMap
from hotstart.real_robot.sim.faults import Faults
from hotstart.real_robot.sim.plain_body import PlainBody
from hotstart.real_robot.sim.ur_controller import ControllerOptions, RobotMode, SafetyMode
from hotstart.real_robot.sim.ur_script import Watchdog
from hotstart.real_robot.sim.ur_server import Ports, RtdeConnection, UrServer
from hotstart.real_robot.sim.ur_wire import INPUTS, make_recipe
from hotstart.real_robot.sim.world import World
from hotstart.spec import ConfigError

rtde_control = pytest.importorskip("rtde_control")
ADDRESS = f"127.18.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""Of this process alone: the client knows one set of ports."""
QUICK = ControllerOptions(unlock_after_s=0.2, power_s=0.05)


@pytest.fixture(scope="module")
def server():
    with World("ur5e_push") as world, UrServer(world, Ports(ADDRESS), QUICK) as server:
        raised = world.read().positions
        raised[1] -= 0.4  # nothing is in its way there
        server.controller.motion.reset(raised)
        yield server


@contextlib.contextmanager
def connected(watchdog_s=1.0, silence_s=2.0, **options):
    """A driver that waits for a busy machine, unless its times are what is tested."""
    driver = UR(ADDRESS, watchdog_s=watchdog_s, silence_s=silence_s, **options)
    driver.connect()
    try:
        yield driver
    finally:
        driver.close()


def wait_for(condition, within_s=10.0):
    """Until then; the time is the wall's, and a busy machine takes much of it."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s
        time.sleep(0.001)


def swing(driver, speed, for_s):
    """Command the first joint at a speed [rad/s] for a while, period after period."""
    start = driver.read().positions
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < for_s:
        target = start.copy()
        target[0] += speed * now
        driver.command(target)
        time.sleep(1 / driver.servo_hz)


def rest(server):
    """Periods of the controller, in seconds, until the arm rests."""
    begun = server.controller.time_s
    wait_for(lambda: server.controller.motion.resting)
    return server.controller.time_s - begun


def test_the_arm_follows_a_sine_with_the_lag_of_its_lookahead(server):
    with connected(servo_hz=125.0, lookahead_s=0.1) as driver:
        start = driver.read().positions
        begun = time.monotonic()
        times = []
        targets = []
        states = []
        while time.monotonic() - begun < 1.0:
            times.append(time.monotonic())
            targets.append(start + 0.3 * np.sin(np.pi * (times[-1] - begun)))
            driver.command(targets[-1])
            states.append(driver.read())
            time.sleep(max(0.0, times[-1] + 1 / 125 - time.monotonic()))
        driver.stop()
        assert rest(server) < 0.01
        wait_for(lambda: np.abs(driver.read().velocities).max() < 0.02)
    late = [state for state in states if state.made_s - begun > 0.4]
    assert len(late) > 20
    assert all(state.fault == "" and not state.made_s > time.monotonic() for state in late)
    seen = np.array([state.positions[0] for state in late])
    made = np.array([state.made_s for state in late])
    commanded = np.interp(made - 0.1, times, [target[0] for target in targets])
    assert np.median(np.abs(seen - commanded)) < 0.03
    assert np.ptp(seen) > 0.1


def test_the_tool_goes_where_it_is_commanded(server):
    with connected(mode="tool") as driver:
        state = driver.read()
        target = state.positions + np.array([0, 0, 0.03, 0, 0, 0.1])
        for _ in range(80):
            driver.command(target)
            time.sleep(0.008)
        state = driver.read()
        assert state.positions == pytest.approx(target, abs=2e-3)
        assert state.observation["tool"] == pytest.approx(target, abs=2e-3)
        assert driver.action_spec == arm.TOOL_SPEC  # the environment's


def test_stop_brings_a_moving_arm_to_rest_and_may_be_repeated(server):
    with connected(payload_kg=0.5, watchdog_s=0.5) as driver:
        assert server.controller.script.payload_kg == 0.5
        swing(driver, 1.8, 0.4)
        assert server.controller.motion.qd[0] > 1.5
        begun = server.controller.time_s
        driver.stop()
        assert server.controller.motion.resting
        assert server.controller.time_s - begun < 0.3
        driver.stop()
        time.sleep(0.6)  # longer than the watchdog
        assert driver.read().fault == ""
        swing(driver, 0.5, 0.3)
        assert not server.controller.motion.resting


def test_a_stop_brakes_as_strongly_as_it_was_told(server, monkeypatch):
    asked = []
    stop = server.controller.motion.stop

    def note(*acceleration):
        asked.extend(acceleration)
        stop(*acceleration)

    with connected(stop_acceleration=30.0) as driver:
        swing(driver, 1.8, 0.4)
        monkeypatch.setattr(server.controller.motion, "stop", note)
        driver.stop()
        monkeypatch.undo()
    assert asked == pytest.approx([30.0, 30.0])


def test_motors_hold_the_arm_where_its_scene_begins_anew(server):
    """Targets of before would throw it back to where it was."""
    before = server.controller.motion.q.copy()
    server.controller.body.reset(3)
    wait_for(lambda: not np.array_equal(server.controller.motion.q, before))
    time.sleep(0.1)
    start = server.controller.body.scene.start
    assert server.controller.body.read().positions == pytest.approx(start, abs=0.01)
    assert server.controller.motion.q == pytest.approx(start, abs=0.01)


def make_queue(server, count):
    """A client whose targets for joint 1 came while the controller was held up, 8 ms apart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    connection = RtdeConnection(near, server.controller, [])
    server.connections.append(connection)
    names = ["input_int_register_0", *(f"input_double_register_{n}" for n in range(11))]
    recipe = make_recipe(1, ",".join(names), INPUTS, set())
    connection.inputs.append(recipe)
    for number in range(count):
        values = np.append(server.controller.motion.q, [0.0, 0.0, 0.008, 0.1, 300.0])
        values[0] += 3.0 * 0.008 * number
        far.sendall(recipe.pack([11, *values.tolist()]))
    size = count * len(recipe.pack([11, *values.tolist()]))
    while connection.inward.size < size:
        connection.receive(0.0)
    return far


def test_a_controller_that_was_held_up_makes_up_for_it_period_by_period():
    """All targets at once would be a jump, and then a silence."""
    server = UrServer(PlainBody(6, np.zeros(6)), Ports("127.0.0.1", 0, 0, 0, 0))
    controller = server.controller
    controller.run_program("rtde_cmd reg_offset_int = 0")
    assert controller.script is not None
    controller.script.watchdog = Watchdog("input_int_register_0", 10.0)
    with make_queue(server, 37):
        server._advance(150, time.monotonic())  # 0.3 s
        assert controller.messages == []
        assert controller.safety_mode == SafetyMode.NORMAL
        assert controller.motion.q[0] == pytest.approx(3.0 * (0.3 - 0.1), abs=0.15)
    server.close()


def test_the_clock_of_a_controller_goes_on_while_it_is_held_up():
    """Its clients know the age of what it tells by it."""
    with UrServer(PlainBody(6, np.zeros(6)), Ports("127.0.0.1", 0, 0, 0, 0)) as server:
        controller = server.controller
        drive = controller.drive
        begun = controller.time_s - time.monotonic()
        controller.drive = lambda: time.sleep(0.6)
        time.sleep(0.1)
        controller.drive = drive
        wait_for(lambda: controller.time_s - time.monotonic() < begun - 0.3)
        wait_for(lambda: controller.time_s - time.monotonic() > begun - 0.1)


def test_a_client_process_that_is_killed_leaves_the_arm_to_its_watchdog(server):
    with connected(watchdog_s=0.5) as driver:
        swing(driver, 1.0, 0.5)
        assert driver._link is not None
        driver._link._process.kill()
        assert rest(server) < 0.5 + 0.5
        assert "watchdog" in server.controller.messages[-1]
        with pytest.raises(DriverError, match="has ended"):
            driver.read()
        driver.recover()
        wait_for(lambda: driver.read().fault == "")


def test_when_the_driver_process_is_killed_the_arm_stops(server):
    code = f"""
    import sys, time
    from hotstart.real_robot.drivers.ur import UR
    driver = UR({ADDRESS!r}, watchdog_s=0.5)
    driver.connect()
    start = driver.read().positions
    begun = time.monotonic()
    print("connected", flush=True)
    while True:
        target = start.copy()
        target[0] += time.monotonic() - begun
        driver.command(target)
        time.sleep(0.008)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        wait_for(lambda: server.controller.motion.qd[0] > 0.8)
        process.send_signal(signal.SIGKILL)
        assert rest(server) < 0.5 + 0.5


def test_a_protective_stop_is_named_and_recovered_from(server):
    with connected() as driver:
        swing(driver, 1.0, 0.3)
        server.controller.faults.schedule("protective_stop")
        wait_for(lambda: driver.read().fault == "protective stop")
        assert rest(server) < 0.1
        driver.command(driver.read().positions)
        driver.stop()
        with pytest.raises(DriverError, match="PROTECTIVE_STOP: look at the cause"):
            UR(ADDRESS).connect()
        driver.recover()
        wait_for(lambda: driver.read().fault == "")
        swing(driver, 0.5, 0.3)
        assert not server.controller.motion.resting


def test_a_target_far_away_is_a_protective_stop(server):
    with connected() as driver:
        driver.command(driver.read().positions + 1.0)
        wait_for(lambda: driver.read().fault == "protective stop")
        assert "sudden change" in server.controller.messages[-1]
        before = server.controller.motion.q.copy()
        driver.recover()
        wait_for(lambda: driver.read().fault == "")
        time.sleep(0.05)
        assert server.controller.motion.q == pytest.approx(before)  # the old target is forgotten


def test_after_an_emergency_stop_the_arm_is_powered_on_only_where_that_is_allowed(server):
    with connected(power_on=True) as driver:
        server.controller.faults.schedule("emergency_stop")
        wait_for(lambda: driver.read().fault == "emergency stop")
        with pytest.raises(DriverError, match="turn the red button"):
            driver.recover()
        wait_for(lambda: server.controller.robot_mode == RobotMode.POWER_OFF)
        server.controller.faults.clear("emergency_stop")  # the button is turned
        wait_for(lambda: "no power" in driver.read().fault)
        with pytest.raises(DriverError, match="power_on=true"):
            UR(ADDRESS).connect()
        driver.recover()
        wait_for(lambda: driver.read().fault == "")


def test_a_lost_connection_is_said_and_mended(server):
    with connected() as driver:
        swing(driver, 1.0, 0.3)
        server.cut()
        begun = time.monotonic()
        with pytest.raises(DriverError, match=f"{ADDRESS}:30004 has (ended|told|not answered)"):
            wait_for(lambda: driver.read() is None)
        driver.stop()
        assert rest(server) < 0.3
        assert time.monotonic() - begun < 10.0
        driver.recover()
        wait_for(lambda: driver.read().fault == "")


def test_a_program_that_the_client_restarts_by_itself_never_moves_the_arm(server):
    with connected() as driver:
        swing(driver, 0.5, 0.2)
        for connection in list(server.connections):
            if isinstance(connection, RtdeConnection) and connection.inputs:
                connection.open = False  # that of commands alone: the client mends it, or aborts
        with contextlib.suppress(DriverError):
            swing(driver, 0.5, 0.5)
        script = server.controller.script
        assert server.controller.motion.resting or script.watchdog is not None
        driver.recover()
        wait_for(lambda: driver.read().fault == "")
        assert server.controller.script.watchdog is not None


def test_a_silent_controller_is_an_error_within_its_time(server):
    with connected(silence_s=0.2) as driver:
        server.controller.faults.schedule("stale", for_s=0.4)
        with pytest.raises(DriverError, match=f"{ADDRESS}:30004 has told nothing"):
            wait_for(lambda: driver.read() is None)
        wait_for(lambda: driver._is_well())
        server.controller.faults.schedule("bus_silence", for_s=0.6)
        begun = time.monotonic()
        with pytest.raises(
            DriverError, match=f"{ADDRESS}:30004 has (told nothing|not answered) for"
        ):
            wait_for(lambda: driver.read() is None)
        assert 0.15 < time.monotonic() - begun < 3.0
        time.sleep(0.6)
        driver.stop()


def test_stop_ends_in_bounded_time_while_nothing_answers(server):
    with connected() as driver:
        swing(driver, 0.5, 0.2)
        server.controller.faults.schedule("bus_silence", for_s=3.0)
        begun = time.monotonic()
        with pytest.raises(DriverError, match="could not be told to stop"):
            driver.stop()
        assert time.monotonic() - begun < 3.0
        assert server.controller.motion.resting  # the watchdog did it
        server.controller.faults.clear()
        driver.stop()
        assert driver._untold == ""


def test_a_silent_handshake_and_a_server_that_dies_are_bounded(monkeypatch):
    address = ADDRESS.replace("127.18", "127.19")
    monkeypatch.setattr(ur, "CONNECT_S", 1.0)
    mute = socket.create_server((address, ur.RTDE_PORT))  # it takes connections, and says nothing
    refused = pytest.raises(DriverError, match=f"{address}: .*has not answered for 1.0 s")
    with mute, UrServer(PlainBody(6), Ports(address, rtde=0), QUICK), refused:
        UR(address).connect()
    server = UrServer(PlainBody(6), Ports(address), QUICK)
    server.start()
    monkeypatch.undo()
    driver = UR(address)
    driver.connect()
    swing(driver, 0.5, 0.1)
    server.close()
    begun = time.monotonic()
    with pytest.raises(DriverError, match=f"{address}:30004"):
        wait_for(lambda: driver.read() is None)
    with pytest.raises(DriverError, match="could not be told to stop"):
        driver.stop()
    driver.close()
    assert time.monotonic() - begun < 3.0


def test_the_arm_of_a_scene_follows_and_five_percent_of_lost_packets_do_not_stop_it():
    address = ADDRESS.replace("127.18", "127.20")
    faults = Faults()
    with World("ur5e_push") as world, UrServer(world, Ports(address), QUICK, faults):
        driver = UR(address, watchdog_s=1.0)
        driver.connect()
        faults.schedule("packet_loss")
        start = driver.read()
        assert start.observation["tool"][3:] @ np.array([1.0, 0, 0]) > 0
        goal = start.positions + np.array([0.3, 0, 0, 0, 0, 0])
        for step in range(75):
            driver.command(start.positions + (goal - start.positions) * min(1.0, step / 50))
            time.sleep(0.008)
        state = driver.read()
        driver.close()
    assert state.fault == ""
    assert state.positions == pytest.approx(goal, abs=0.05)


def test_local_control_and_a_wrong_host_are_refused_with_what_to_do(server):
    server.controller.remote = False
    try:
        with pytest.raises(DriverError, match="press Local at the upper right"):
            UR(ADDRESS).connect()
    finally:
        server.controller.remote = True
    with pytest.raises(DriverError, match=r"127.18.255.254:29999 does not answer .* switched on"):
        UR("127.18.255.254").connect()


def test_a_second_client_is_refused_while_the_first_one_commands(server):
    with connected(), pytest.raises(DriverError, match="already in use"):
        UR(ADDRESS).connect()


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="gain is 50"):
        UR("host", gain=50)
    with pytest.raises(ConfigError, match="velocity is 4"):
        UR("host", velocity=4)
    with pytest.raises(ConfigError, match="valid: joints, tool"):
        UR("host", mode="both")  # pyright: ignore[reportArgumentType]


def test_the_clock_of_the_controller_is_that_of_the_quickest_packet():
    clock = ClockMap()
    offset = 100.0
    for stamp, delay in ((1.0, 0.03), (2.0, 0.001), (3.0, 0.05), (25.0, 0.002)):
        made = clock.convert(stamp, stamp + offset + delay)
    assert made == pytest.approx(25.0 + offset + 0.001)
    assert clock.convert(4.0, 4.0 + offset + 0.5) == pytest.approx(4.0 + offset + 0.001)


def test_only_the_newest_target_is_commanded_and_none_before_a_stop():
    messages = [(1, "servo", 1), (2, "read", None), (3, "servo", 2), (4, "stop", None)]
    assert [number for number, _, _ in drop_overtaken(messages)] == [2, 4]
    later = [*messages, (5, "servo", 3), (6, "servo", 4)]
    assert [number for number, _, _ in drop_overtaken(later)] == [2, 4, 6]
