"""A simulated Franka FR3: a program for an environment that has `franky-sim`, see `franka`.

It imports nothing of hotstart. The server is that package's; added are what it does not simulate:
reflexes, and the share of real time that was reached. Its time waits for the client's next command:
on a busy machine the arm is slow, but no torque acts for longer than a cycle. A motion whose
commands stay out ends after a quarter of a second, in a strict one after 20 cycles as at an arm.
Things to push are bodies beside the arm in the same simulation.

It is told by its standard input, a line each, and ends with it:
    reflex: the arm meets an obstacle
    arm Q1 .. Q7 WIDTH: arm and hand are there at once, at rest; answered by `put` or `busy`
    object X Y Z QW QX QY QZ: the object lies there, at rest; answered by `put`
With things it says 100 times a second how it is: `at`, then joints (7), their speeds (7), the
hand's width, the object's pose (7) and speed (6).
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any
from xml.etree import ElementTree

PERIOD_S = 0.001
LISTEN_CYCLES = 20
"""The standard input is looked at every so many cycles."""
TELL_CYCLES = 10
"""Every so many cycles it says how it is."""
MOST_LOST = 20
"""Cycles without a command that end a motion."""
PATIENCE_S = 0.25
"""Time stands still for so long at most, until a command comes; then the motion ends [s]."""
POLL_S = 0.0001
HAND = (0.05, 40.0)
"""Speed [m/s] and force [N] of the hand where nobody sets them."""
FASTEST = (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)
"""Of the joints [rad/s]; a joint that moves faster is a reflex."""
PRIORITY = 20
"""Before other programs, where this is permitted; behind the controller and the client."""
FAST_JOINT = 3
CARTESIAN_REFLEX = 7
COMMUNICATION = 25
"""Numbers of errors in a state of libfranka."""
ERRORS = 41


def make_server_class(package: Any, protocol: Any, messages: Any, strict: bool) -> Any:
    """The package's server of one arm, with reflexes."""

    class Server(package.FrankaRobotServer):
        """An arm that can be in a reflex."""

        error: int | None = None
        heard = False
        talking = False  # since the motion began
        lost = 0

        def begin_reflex(self, error: int) -> None:
            """End the motion, and move no more until the error is cleared."""
            if self.current_motion_id > 0:
                messages.BaseCommand.send_response(
                    self._tcp_socket,
                    protocol.RobotCommand.kMove,
                    self.current_motion_id,
                    protocol.MoveStatus.kReflexAborted,
                )
            self.error = error
            self.reset_current_motion_id()
            self.stop_motion(send_preemption_signal=False)

        def start_motion(self, *arguments: Any) -> None:
            if self.error is not None:
                raise ValueError("the arm is in a reflex")
            self.lost = 0
            self.talking = False
            super().start_motion(*arguments)

        def _handle_udp_command(self, command_data: bytes) -> None:
            self.heard = True
            self.talking = True
            if self.error is None:
                super()._handle_udp_command(command_data)

        def _process_udp_commands(self) -> None:
            super()._process_udp_commands()
            if strict or not self.talking or self.current_motion_id <= 0:
                return
            until_s = time.monotonic() + PATIENCE_S
            while not self.heard and time.monotonic() < until_s:
                time.sleep(POLL_S)
                super()._process_udp_commands()
            if not self.heard:
                self.begin_reflex(COMMUNICATION)

        def _post_process_commands(self) -> None:
            self.lost += 1
            if self.heard or self.current_motion_id <= 0:
                self.lost = 0
            self.heard = False
            if strict and self.lost > MOST_LOST:
                self.begin_reflex(COMMUNICATION)
            speeds = zip(self.robot.inner_state.dq, FASTEST, strict=True)
            if self.current_motion_id > 0 and any(abs(dq) > most for dq, most in speeds):
                self.begin_reflex(FAST_JOINT)
            super()._post_process_commands()

        @property
        def robot_state(self) -> Any:
            state = super().robot_state
            if self.error is None:
                return state
            errors = tuple(number == self.error for number in range(ERRORS))
            mode = protocol.RobotMode.kReflex
            return state.replace(robot_mode=mode, errors=errors, reflex_reason=errors)

    def recover(command: Any, server: Server) -> None:
        server.error = None
        command.reply(protocol.AutomaticErrorRecoveryStatus.kSuccess)

    protocol.AutomaticErrorRecoveryCommand.handle = recover
    return Server


class Bench:
    """What the person beside the arm does and sees, word by word."""

    def __init__(self, server: Any, sim: Any, has_things: bool) -> None:
        self._server = server
        self._sim = sim
        self._has_things = has_things
        self._left = b""
        self.ended = False

    def listen(self) -> None:
        """Do what has been told since the last time."""
        if not select.select([0], [], [], 0.0)[0]:
            return
        told = os.read(0, 4096)
        self.ended = not told
        *lines, self._left = (self._left + told).split(b"\n")
        for line in lines:
            word, *numbers = line.decode().split()
            self._do(word, [float(number) for number in numbers])

    def _do(self, word: str, numbers: list[float]) -> None:
        if word == "reflex":
            self._server.begin_reflex(CARTESIAN_REFLEX)
        elif word == "arm":
            self._put_arm(numbers[:7], numbers[7])
        elif word == "object":
            data = self._sim.data
            data.joint("object").qpos[:] = numbers
            data.joint("object").qvel[:] = 0.0
            print("put", flush=True)

    def _put_arm(self, joints: list[float], width: float) -> None:
        """Arm and hand are elsewhere at once, and hold there; not while a motion goes on."""
        if self._server.current_motion_id > 0:
            print("busy", flush=True)
            return
        robot, data = self._server.robot, self._sim.data
        data.qpos[robot._qpos_addrs] = joints
        data.qpos[robot._finger_qpos_addrs] = width / 2
        data.qvel[[*robot._dof_addrs, *robot._finger_dof_addrs]] = 0.0
        robot.set_hand_goal(width, *HAND)
        self._server._reset_state()
        print("put", flush=True)

    def tell(self) -> None:
        """Say how it is, where there are things."""
        if not self._has_things:
            return
        robot, data = self._server.robot, self._sim.data
        there = data.joint("object")
        values: list[Iterable[float]] = [
            data.qpos[robot._qpos_addrs],
            data.qvel[robot._dof_addrs],
            [robot.hand_width],
            there.qpos,
            there.qvel,
        ]
        numbers = [f"{number:.6f}" for part in values for number in part]
        print("at", *numbers, flush=True)


def run(server: Any, sim: Any, bench: Bench) -> float:
    """Cycle after cycle until the standard input ends; the share of real time that was reached."""
    cycles = 0
    begun_s = time.monotonic()
    while not bench.ended:
        cycles += 1
        started_s = time.monotonic()
        server.process_commands()
        sim.step()
        server.send_state()
        if cycles % LISTEN_CYCLES == 0:
            bench.listen()
        if cycles % TELL_CYCLES == 0:
            bench.tell()
        time.sleep(max(0.0, started_s + PERIOD_S - time.monotonic()))
    return cycles * PERIOD_S / (time.monotonic() - begun_s)


def main(words: list[str]) -> None:
    """Serve one arm at an address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--things", default="<worldbody/>", help="MJCF of what is beside the arm")
    options = parser.parse_args(words)
    package = import_module("franky_sim")
    simulators = import_module("franky_sim.mujoco_simulator")
    protocol = import_module("franky_sim.franka_robot_protocol")
    messages = import_module("franky_sim.franka_server")
    server_class = make_server_class(package, protocol, messages, options.strict)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    with simulators.MujocoSimulator() as sim:
        things = list(ElementTree.fromstring(options.things))
        sim.worldbody.extend(things)
        server = server_class(sim.add_robot(), [options.address])
        server.init()
        sim.start()
        print("ready", flush=True)
        share = run(server, sim, Bench(server, sim, bool(things)))
        server.cleanup()
    print(f"share {share:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
