"""`hotstart record`: demonstrations that an operator shows on a robot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from ..configs.recording import Record
from ..control import LoopSettings, RealClock, RowLog
from ..control import run as run_loop
from ..datasets.store import Store
from ..planners import ImmediatePlanner
from ..real_robot import teleop
from ..real_robot.keys import KeyBox, Keys, TerminalKeys
from ..real_robot.overlay import Overlay
from ..real_robot.recorder import Recorder
from ..real_robot.recording import list_images
from ..real_robot.session import HELP, Session, SessionEnd
from ..spec import LONGEST_EPISODE, ConfigError, HotstartError, Listener, Robot, shorten
from ..system.interrupts import explain
from .arm_robot import check_robot, open_robot
from .next_steps import write_command, write_path

MOST_FAILURES = 10
"""A stage that has judged so many episodes in a row to be failures ends a recording."""


def run(options: Record) -> int:
    """Record until the operator ends it; says what is in the store."""
    check(options)
    with open_keys(options) as keys, open_robot(options, options.speed) as robot:
        episodes = record(options, robot, keys)
    print(f"{options.out}: {episodes} episodes")
    print(f"next: {write_command('data verify', write_path(options.out))}")
    return 0


def check(options: Record) -> None:
    """Raise ConfigError for options that cannot be."""
    check_robot(options)
    if not 0 < options.speed <= 1:
        raise ConfigError(f"speed is {options.speed:g}; a share above 0, at most 1, is wanted")
    if options.seconds < 0 or options.episodes < 0 or options.memory_mb <= 0:
        raise ConfigError(
            f"seconds is {options.seconds:g}, episodes {options.episodes} and memory_mb "
            f"{options.memory_mb:g}; at least 0, 0 and more than 0 are wanted"
        )
    if not options.ask and not (options.stage and options.episodes and options.seconds):
        raise ConfigError(
            "ask=false lets a stage begin and end episodes: it needs stage=127.0.0.1:PORT, "
            "episodes= and seconds="
        )


def open_keys(options: Record) -> AbstractContextManager[Keys]:
    """The operator's keys; none of an operator who is not asked."""
    if options.ask:
        return TerminalKeys()
    return nullcontext(KeyBox())


def record(options: Record, robot: Robot, keys: Keys) -> int:
    """The control loop with the operator as the policy; returns how many episodes there are."""
    source = f"{options.teleop.name} on {options.robot.name}"
    recorder = Recorder(
        options.out, robot, task=options.task, source=source, memory_mb=options.memory_mb
    )
    listeners: list[Listener] = []
    if options.overlay is not None:
        listeners.append(make_overlay(options, robot))
    operator = teleop.make(options.teleop.name, robot.action_spec, keys, **options.teleop.options)
    try:
        operator.start()
        with recorder:
            policy = teleop.OperatorPolicy(robot, operator)
            try:
                if options.ask:
                    follow_keys(options, policy, recorder, keys, listeners)
                else:
                    follow_stage(options, policy, recorder, listeners)
            except KeyboardInterrupt as interrupt:
                kept = f"stopped; {options.out} keeps {recorder.episodes} episodes"
                raise explain(interrupt, kept) from None
            recorder.drop()
            recorder.wait()
    finally:
        operator.close()
    return recorder.episodes


def follow_keys(
    options: Record,
    policy: teleop.OperatorPolicy,
    recorder: Recorder,
    keys: Keys,
    listeners: Sequence[Listener],
) -> None:
    """Record what keys say, until they end it."""
    print(f"{options.out} has {recorder.episodes} episodes. {HELP}", flush=True)
    session = Session(recorder, keys, say, options.seconds, options.episodes)
    settings = LoopSettings(max_ticks=LONGEST_EPISODE)
    try:
        for seed in itertools.count(options.seed):  # one goes on unless a stage ends it
            log = run_episode(policy, seed, settings, [session, *listeners])
            session.end_episode(log.success)
    except SessionEnd as end:
        if str(end):
            say(str(end))


def follow_stage(
    options: Record,
    policy: teleop.OperatorPolicy,
    recorder: Recorder,
    listeners: Sequence[Listener],
) -> None:
    """Record an episode of each scene, until so many have succeeded; others are dropped."""
    print(f"{options.out} has {recorder.episodes} episodes", flush=True)
    settings = LoopSettings(max_ticks=round(options.seconds * policy.robot.rate_hz))
    failures, in_a_row = 0, 0
    while recorder.episodes < options.episodes:
        seed = options.seed + recorder.episodes + failures
        recorder.begin()
        log = run_episode(policy, seed, settings, [recorder, *listeners])
        if not log.success:
            recorder.drop()
            failures, in_a_row = failures + 1, in_a_row + 1
            say(f"seed {seed}: failure after {log.steps} steps; it is dropped")
            if in_a_row == MOST_FAILURES:
                raise HotstartError(
                    f"{in_a_row} episodes in a row have failed: look at who moves the robot; "
                    f"{options.out} keeps {recorder.episodes} episodes"
                )
            continue
        in_a_row = 0
        recorder.finish(True)
        recorder.wait()
        say(recorder.reports[-1].describe())


def run_episode(
    policy: teleop.OperatorPolicy,
    seed: int,
    settings: LoopSettings,
    listeners: Sequence[Listener],
) -> RowLog:
    """The operator moves the robot until the episode ends."""
    planner = ImmediatePlanner(policy)
    (log,) = run_loop(policy.robot, policy, planner, RealClock(), [seed], settings, listeners)
    return log


def say(text: str) -> None:
    """A line for the operator."""
    print(text, flush=True)


def make_overlay(options: Record, robot: Robot) -> Overlay:
    """The first picture of a demonstration over the live one; ConfigError where there is none."""
    assert options.overlay is not None, "it was asked for"
    cameras = list_images(robot.obs_spec)
    camera = options.overlay_camera
    if not camera and cameras:
        camera = cameras[0]
    if camera not in cameras:
        raise ConfigError(f"overlay_camera is {camera!r}; the robot has {shorten(cameras)}")
    store = Store.open(options.overlay)
    if camera not in store.keys:
        raise ConfigError(f"{options.overlay} has no pictures {camera!r}; it has {store.keys}")
    first = store.episode(options.overlay_episode)[camera][0]
    overlay = Overlay(first, camera, options.overlay_out)
    print(f"overlay: {options.overlay_out.with_suffix('.html')}")
    return overlay
