"""`hotstart deploy`: a checkpoint on an arm; the arm is stopped first, however it ends."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configs.compose import list_choices
from ..control import LoopSettings, RealClock, RowLog
from ..control import run as run_loop
from ..evaluation import results
from ..planners import ImmediatePlanner, ThreadedPlanner
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.failure import (
    Alarm,
    Detector,
    Disagreement,
    FailureMonitor,
    Samples,
    Scorer,
    WatchedPlanner,
)
from ..policy.model import PolicyModel
from ..policy.runtime.warm_up import warm_up
from ..real_robot.recorder import Recorder
from ..real_robot.servo_robot import ServoRobot
from ..real_robot.staged_robot import StagedRobot
from ..spec import (
    Actor,
    ConfigError,
    HotstartError,
    Listener,
    Observation,
    Planner,
    Robot,
    TimedObservation,
)
from ..system import outputs
from .arm_robot import find_stage, make_workspace
from .certify import check_certificate
from .deploy_page import write_deployment
from .deploy_robot import open_robot
from .deploy_takeover import Operator, check_operator, join_interventions, open_operator
from .deploy_times import LoopTimes, describe_plans, join_times
from .evaluate import find_action_scale, find_weights_hash
from .rollouts import label
from .runtimes import set_up_model

RESULT, TIMING = "result.json", "timing.json"
PAGE = "page.html"
WARM_UP_PLANS = 6
"""Plans before the arm moves: the first is cold, the others say how early to ask for a plan."""
SURE = 0.95


@dataclass(frozen=True)
class Deployed:
    """What a deployment brought."""

    result: dict[str, Any]
    timing: dict[str, Any]
    times: LoopTimes
    ended_by: BaseException | None = None
    """What ended it before its last episode; that episode does not count."""


def check(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for what cannot be, before anything is connected."""
    if not config["robot"]:
        choices = ", ".join(list_choices("robot"))
        raise ConfigError(f"robot must be given, as robot=ur5e robot.host=...; valid: {choices}")
    for name in ("episodes", "seconds", "speed", "patience_s"):
        if not config[name] > 0:
            raise ConfigError(f"{name} is {config[name]}; a number above 0 is wanted")
    if config["speed"] > 1:
        raise ConfigError(f"speed is {config['speed']}; a share of the arm's limits, at most 1")
    make_workspace(config["box"])
    check_operator(config)
    if config["stage"]:
        find_stage(config["stage"])
    folder = find_folder(config)
    outputs.check_free(folder / TIMING, config["overwrite"], folder, "name")
    outputs.check_folder(folder, "name")


def run(config: Mapping[str, Any]) -> int:
    """Deploy, then write the result, the times and a page; print where they are."""
    deployed = deploy(config)
    folder = find_folder(config)
    results.save(deployed.result, folder / RESULT)
    outputs.write_text(folder / TIMING, json.dumps(deployed.timing, indent=2) + "\n")
    page = write_deployment(folder / PAGE, deployed.result, deployed.timing, deployed.times)
    print(describe(deployed))
    print(f"result: {folder / RESULT}\ntimes: {folder / TIMING}\npage: {page}", flush=True)
    if deployed.ended_by is not None:
        raise deployed.ended_by
    return 0


def find_folder(config: Mapping[str, Any]) -> Path:
    """Where a deployment is written."""
    name = config["name"]
    if not name:
        name = f"{Path(config['checkpoint']).name}_on_{config['choices']['robot']}"
    return Path(config["runs"]) / name


def describe(deployed: Deployed) -> str:
    """The outcome in two lines."""
    result, timing = deployed.result, deployed.timing
    loop = timing["loop"]["period_ms"]
    success = results.success_words(result["success"])
    return (
        f"{result['task']}, {result['inference']}: success {success}, "
        f"{result['episodes']} episodes\n"
        f"period p50 {loop['p50']:.1f} ms, p99 {loop['p99']:.1f} ms, max {loop['max']:.1f} ms; "
        f"{timing['late_actions']} late actions, {timing['starved_ticks']:.0f} starved periods"
    )


@dataclass
class Rig:
    """All that the episodes of a deployment share."""

    robot: ServoRobot | StagedRobot
    policy: DiffusionPolicy
    asked: ThreadedPlanner | ImmediatePlanner
    """The planner whose calls are timed."""
    planner: Planner
    """The same, or around it one that watches for failures."""
    monitor: FailureMonitor | None
    recorder: Recorder | None
    operator: Operator | None
    times: LoopTimes
    replan_at: int
    taken_over: list[int] = field(default_factory=list)
    """Seeds of the episodes in which the operator took over."""


def deploy(config: Mapping[str, Any]) -> Deployed:
    """Run the episodes; raises what `hotstart.run` raises in the first one.

    What ends a later one is kept beside the episodes that are finished.
    """
    check(config)
    check_certificate(config)
    detector = read_detector(config)
    model, meta = checkpoint.load(config["checkpoint"], config["device"])
    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        rig = set_up(config, set_up_model(config, model), meta, detector, stack)
        logs, ended_by = run_episodes(config, rig)
        if not logs:
            raise ConfigError("no episode was run")
        wall_s = time.monotonic() - began
        result = summarise(config, meta, rig, logs, wall_s)
        timing = describe_times(config, rig, logs, result)
    timing["ended_by"] = str(ended_by or "")
    return Deployed(result, timing, rig.times, ended_by)


def set_up(
    config: Mapping[str, Any],
    model: PolicyModel,
    meta: Mapping[str, Any],
    detector: Detector | None,
    stack: ExitStack,
) -> Rig:
    """Connect the robot, and make what plans, watches, records and times; nothing moves."""
    sampler = build_sampler(config["inference"])
    rate_hz = float(config["rate_hz"] or meta["rate_hz"])
    robot = stack.enter_context(open_robot(config, model, rate_hz))
    first = DiffusionPolicy(model, sampler, config["executed"])
    warm_up(first, [1])  # nothing is compiled from now on
    replan_at = choose_replan_at(config, first, robot)
    policy = DiffusionPolicy(model, sampler, config["executed"], replan_at)
    policy.rate_hz = float(meta["rate_hz"])
    times = LoopTimes(rate_hz, [dim.name for dim in policy.action_spec.dims])
    asked = stack.enter_context(open_planner(config, policy))
    planner: Planner = asked
    monitor: FailureMonitor | None = None
    if detector is not None:
        planner = WatchedPlanner(asked, [make_scorer(detector, policy)])
        monitor = watch_failures(config, planner, detector, robot)
    recorder = open_recorder(config, robot, stack)
    operator = open_operator(config, robot, monitor, stack)
    return Rig(robot, policy, asked, planner, monitor, recorder, operator, times, replan_at)


def run_episodes(config: Mapping[str, Any], rig: Rig) -> tuple[list[RowLog], BaseException | None]:
    """The episodes that are finished, and what ended the one after them.

    Raises what ends the first one.
    """
    settings = LoopSettings(
        max_ticks=math.ceil(config["seconds"] * rig.times.rate_hz),
        replan_at=rig.replan_at,
        patience_s=config["patience_s"],
        any_rate=config["rate"] == "any",
    )
    logs: list[RowLog] = []
    for seed in range(config["seed"], config["seed"] + config["episodes"]):
        if not wait_for_operator(config, len(logs)):
            break
        try:
            logs.append(run_episode(rig, seed, settings))
        except (HotstartError, KeyboardInterrupt, SystemExit) as error:
            if not logs:
                raise
            return logs, error  # the arm stands still, and what is finished is written
        print(describe_episode(len(logs), logs[-1]), flush=True)
    return logs, None


def run_episode(rig: Rig, seed: int, settings: LoopSettings) -> RowLog:
    """One episode, recorded where that is asked for.

    One that the operator took over is no success of the policy, and its score is that of before.
    """
    operator, recorder = rig.operator, rig.recorder
    listeners: list[Listener] = [rig.times]
    watch: AbstractContextManager[None] = nullcontext()
    if recorder is not None:
        listeners.append(recorder)
        recorder.begin()
    if operator is not None:
        listeners.append(operator)
        watch = operator.watch()
    rig.times.begin()
    hook = join_interventions(rig.monitor, operator)
    with watch:
        (log,) = run_loop(
            rig.robot, rig.policy, rig.planner, RealClock(), [seed], settings, listeners, hook
        )
    if recorder is not None:
        recorder.finish(log.success)
    if operator is not None and operator.take_over.count:
        rig.taken_over.append(seed)
        if log.success:
            log.success = False
        log.score = operator.score
    return log


def summarise(
    config: Mapping[str, Any],
    meta: Mapping[str, Any],
    rig: Rig,
    logs: Sequence[RowLog],
    wall_s: float,
) -> dict[str, Any]:
    """The result, in the form of `hotstart evaluate`."""
    policy = rig.policy
    setting = results.Setting(
        task=find_task(config, meta),
        checkpoint=str(config["checkpoint"]),
        inference=label(config),
        rate_hz=rig.times.rate_hz,
        executed=policy.horizon.executed,
        planner=config["planner"],
        wall_seconds=wall_s,
        device=config["device"],
    )
    scale = find_action_scale(policy.model, meta)
    result = results.summarise(logs, rig.asked.seconds, setting, policy.action_spec, scale)
    return result | {
        "robot": config["choices"]["robot"],
        "stage": bool(config["stage"]),
        "taken_over": rig.taken_over,
    }


def describe_times(
    config: Mapping[str, Any], rig: Rig, logs: Sequence[RowLog], result: Mapping[str, Any]
) -> dict[str, Any]:
    """What `timing.json` holds."""
    executed = rig.policy.horizon.executed
    plans = describe_plans(rig.asked.seconds, logs, executed, rig.times.rate_hz)
    timing = join_times(rig.times, plans, rig.robot.report(), logs)
    return timing | {
        "robot_name": config["choices"]["robot"],
        "checkpoint": str(config["checkpoint"]),
        "inference": label(config),
        "planner": config["planner"],
        "replan_at": rig.replan_at,
        "alarms": list_alarms(rig.monitor),
        "versions": result["versions"],
        "machine": result["machine"],
    }


def find_task(config: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """The task's name, as the checkpoint says it."""
    task = meta.get("task")
    if isinstance(task, Mapping):
        return str(task.get("name", "deployment"))
    return str(task or "deployment")


def read_detector(config: Mapping[str, Any]) -> Detector | None:
    """The failure detector that is asked for; raises ConfigError for one of another checkpoint."""
    if not config["failure"]:
        return None
    detector = Detector.load(Path(config["failure"]))
    meta = checkpoint.read_meta(checkpoint.find(config["checkpoint"]))
    weights = find_weights_hash(meta) or ""
    if detector.checkpoint != weights or detector.inference != label(config):
        raise ConfigError(
            f"failure={config['failure']} was calibrated for inference={detector.inference} and "
            "the weights that it names; calibrate it for this checkpoint and sampler: "
            "hotstart bench failure_detection"
        )
    return detector


def make_scorer(detector: Detector, policy: DiffusionPolicy) -> Scorer:
    """What scores the plans for a detector; raises ConfigError where it needs the training data."""
    if detector.score == "disagreement":
        return Disagreement(policy)
    if detector.score in ("spread", "energy"):
        return Samples(policy)
    raise ConfigError(
        f"the detector's score is {detector.score!r}; deploy knows disagreement, spread, energy"
    )


def watch_failures(
    config: Mapping[str, Any], planner: WatchedPlanner, detector: Detector, robot: Robot
) -> FailureMonitor:
    """The monitor of a deployment; the operator is asked at the terminal."""

    def ask(alarm: Alarm) -> bool:
        return input(f"{alarm}: go on? [y/N] ").strip().lower() == "y"

    on_failure = config["on_failure"]
    if on_failure == "takeover":
        on_failure = "log"  # the operator sees the alarms
    return FailureMonitor(planner, detector, robot.hold_position, on_failure, ask)


def list_alarms(monitor: FailureMonitor | None) -> list[dict[str, float]]:
    """The alarms as plain values."""
    if monitor is None:
        return []
    return [vars(alarm) for alarm in monitor.alarms]


def open_recorder(config: Mapping[str, Any], robot: Robot, stack: ExitStack) -> Recorder | None:
    """A recorder into the store that is asked for."""
    if not config["record"]:
        return None
    source = f"{config['checkpoint']} on {config['choices']['robot']}"
    recorder = Recorder(config["record"], robot, source=source, planner=Actor.POLICY)
    stack.enter_context(recorder)
    return recorder


@contextmanager
def open_planner(
    config: Mapping[str, Any], policy: DiffusionPolicy
) -> Iterator[ThreadedPlanner | ImmediatePlanner]:
    """Plans beside the loop, or within it."""
    if config["planner"] == "sync":
        yield ImmediatePlanner(policy)
        return
    with ThreadedPlanner(policy) as planner:
        yield planner


def choose_replan_at(config: Mapping[str, Any], policy: DiffusionPolicy, robot: Robot) -> int:
    """How many actions must be left when the next plan is asked for, so that it comes in time.

    The policy plans a few times from what the robot sees now; nothing moves. Raises ConfigError
    where a plan takes as long as its actions last.
    """
    if config["planner"] == "sync":
        return 0
    seconds = time_plans(policy, robot)
    wanted = math.ceil(float(np.quantile(seconds[1:], SURE)) * robot.rate_hz)
    most = policy.horizon.planned - policy.horizon.observed + 1 - policy.horizon.executed
    if config["replan_at"] is not None:
        wanted = config["replan_at"]
    if wanted > max(most, 0) or wanted >= policy.horizon.executed:
        plan_ms = 1000 * float(np.quantile(seconds[1:], SURE))
        raise ConfigError(
            f"a plan takes {plan_ms:.0f} ms here, which is {wanted} control periods; its "
            f"{policy.horizon.executed} executed steps and {max(most, 0)} further ones cannot "
            "bridge that: take fewer evaluations (inference.steps), a warm start (inference=rti), "
            "or planner=sync"
        )
    print(f"plans take {1000 * np.median(seconds[1:]):.0f} ms: replan_at={wanted}", flush=True)
    return wanted


def time_plans(policy: DiffusionPolicy, robot: Robot) -> list[float]:
    """Seconds of a few plans from what the robot sees now, the first one cold."""
    observation = see(robot)
    state = policy.observe(policy.initial_state([0]), observation)
    rows = np.zeros(1, np.int64)
    executed = np.zeros(1, np.int64)
    seconds = []
    for _ in range(WARM_UP_PLANS):
        began = time.perf_counter()
        planned = policy.plan(state, rows, executed)
        seconds.append(time.perf_counter() - began)
        state = policy.observe(policy.adopt(state, planned), observation)
        executed = np.full(1, policy.horizon.executed)
    return seconds


def see(robot: Robot) -> Observation:
    """What a robot observes, without the times."""
    seen = robot.observe()
    if isinstance(seen, TimedObservation):
        return seen.observation
    return seen


def wait_for_operator(config: Mapping[str, Any], done: int) -> bool:
    """Whether to go on: on a stage always, else as the operator says."""
    if config["stage"] or not config["ask"]:
        return True
    text = input(f"episode {done + 1} of {config['episodes']}: Enter begins, q ends: ")
    return text.strip().lower() != "q"


def describe_episode(number: int, log: RowLog) -> str:
    """One episode in a line."""
    word = {True: "success", False: "failure", None: "success not reported"}[log.success]
    return (
        f"episode {number}, seed {log.seed}: {word}, score {log.score:.3f}, {log.steps} periods, "
        f"{log.late_actions} late actions, {log.starved_ticks:.1f} starved periods"
    )
