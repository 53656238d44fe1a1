"""The operator of a deployment, who takes the arm over by a key or where a rule says so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from ..policy.failure import FailureMonitor
from ..real_robot import teleop
from ..real_robot.interventions import Alarmed, Rule, Stalled, TakeOver
from ..real_robot.keys import KeyBox, TerminalKeys
from ..spec import ConfigError, FloatArray, Intervention, Robot, Tick
from ..system.untrusted import parse_yaml


class Operator:
    """Takes over in the episodes of a deployment; listens to them."""

    def __init__(self, take_over: TakeOver, keys: KeyBox, rules: list[Rule]) -> None:
        self.take_over, self.keys = take_over, keys
        self.rules = rules
        self.score = 0.0
        """Of the present episode, before it was taken over."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """An episode, for `with`: keys are read meanwhile."""
        self.take_over.begin()
        for rule in self.rules:
            rule.begin()
        self.score = 0.0
        keys: AbstractContextManager[Any] = nullcontext()
        if isinstance(self.keys, TerminalKeys):
            keys = self.keys
        with keys:
            yield

    def __call__(self, tick: Tick) -> None:
        """Take note of how a turn went."""
        for rule in self.rules:
            rule(tick)
        if not self.take_over.count:
            self.score = float(tick.feedback.score[0])


def check_operator(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a rule of a take-over that nobody or nothing can follow."""
    rules = {
        "takeover_after_s": config["takeover_after_s"] > 0,
        "on_failure=takeover": config["on_failure"] == "takeover",
        "takeover_options": bool(config["takeover_options"]),
    }
    for name, given in rules.items():
        if given and not config["takeover"]:
            raise ConfigError(
                f"{name} needs who takes over, as takeover=scripted; "
                f"valid: {', '.join(teleop.teleoperator_names())}"
            )
    if rules["takeover_after_s"] and not config["stage"]:
        raise ConfigError("takeover_after_s follows the score, which a stage tells: give stage=")
    if rules["on_failure=takeover"] and not config["failure"]:
        raise ConfigError("on_failure=takeover needs a calibration of failure detection: failure=")
    if config["on_failure"] == "ask" and config["takeover"]:
        raise ConfigError(
            "on_failure=ask and takeover both read the terminal: take on_failure=takeover"
        )


def open_operator(
    config: Mapping[str, Any], robot: Robot, monitor: FailureMonitor | None, stack: ExitStack
) -> Operator | None:
    """The operator that is asked for, with the device started; None where there is none."""
    if not config["takeover"]:
        return None
    rules: list[Rule] = []
    if config["takeover_after_s"] > 0:
        rules.append(Stalled(config["takeover_after_s"]))
    if monitor is not None and config["on_failure"] == "takeover":
        rules.append(Alarmed(monitor.alarms))
    keys = KeyBox()
    if sys.stdin.isatty() or not rules:
        keys = TerminalKeys()
    options: dict[str, Any] = {}
    for name, text in config["takeover_options"].items():
        options[name] = parse_yaml(str(text), f"takeover_options.{name}", ConfigError)
    operator = teleop.make(config["takeover"], robot.action_spec, keys, **options)
    stack.callback(operator.close)
    operator.start()
    return Operator(TakeOver(robot, operator, keys, rules=rules), keys, rules)


def join_interventions(
    monitor: FailureMonitor | None, operator: Operator | None
) -> Callable[[Tick], FloatArray | None] | None:
    """Both of them as one hook; what the operator says counts."""
    hooks: list[Intervention] = []
    if monitor is not None:
        hooks.append(monitor.intervene)
    if operator is not None:
        hooks.append(operator.take_over)
    if not hooks:
        return None

    def intervene(tick: Tick) -> FloatArray | None:
        action = None
        for hook in hooks:
            said = hook(tick)
            if said is not None:
                action = said
        return action

    return intervene
