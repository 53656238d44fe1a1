"""The page of a deployment: how it went, and curves of time and motion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..spec import Actor
from .deploy_times import LoopTimes
from .drawing import INK, SERIES, STYLE, make_axes
from .page import (
    embed_figure,
    join_parts,
    write_facts,
    write_foot,
    write_headline,
    write_note,
    write_page,
    write_table,
)

TURNS = 600
"""So many turns of the loop are drawn, the first ones."""
JOINTS = 8
SERVO = {"periods": "servo period", "lags": "servo turn, late by", "work": "servo turn, work"}
"""Statistics of the controller process, and what they are called."""
REMARK = (
    "Periods of the control loop, and how old its observations were. The line is the period that "
    "was asked for. A turn above it came late."
)
MOTION_REMARK = "What the arm was told in the first turns. Grey bands: no plan was there, it held."


def write_deployment(
    path: Path, result: Mapping[str, Any], timing: Mapping[str, Any], times: LoopTimes
) -> Path:
    """Write the page in one piece; it loads nothing. Returns it."""
    sections = [
        write_headline([result], [result["inference"]]),
        *list_warnings(timing),
        write_curves(timing, times),
        write_latencies(timing),
        write_facts("What was counted", list_counts(timing)),
        write_episodes(timing),
    ]
    robot = str(timing["robot_name"])
    title = f"{result['task']} on {robot}"
    write_page(path, title=title, task=robot, sections=sections, foot=write_foot([result]))
    return path


def list_warnings(timing: Mapping[str, Any]) -> list[str]:
    """What a reader must know before he believes the rest."""
    notes = []
    loop = timing["loop"]
    if loop["late_turns"]:
        share = loop["late_turns"] / max(loop["turns"], 1)
        notes.append(
            f"{loop['late_turns']} of {loop['turns']} turns of the control loop came late "
            f"({share:.1%}): look for other programs, or lower the rate."
        )
    if timing["starved_ticks"]:
        notes.append(
            f"The arm held for {timing['starved_ticks']:.1f} control periods since no plan was "
            "there: plan faster, or ask earlier (replan_at=)."
        )
    clamps = sum_counts(timing["robot"].get("clamps", {}))
    if clamps:
        notes.append(
            f"Numbers of commands that the safety filter changed: {clamps:.0f}, see below."
        )
    return [write_note(text) for text in notes]


def sum_counts(counts: Any) -> float:
    """The sum of a tree of counts."""
    if isinstance(counts, Mapping):
        return sum(sum_counts(each) for each in counts.values())
    if isinstance(counts, list | tuple):
        return sum(sum_counts(each) for each in counts)
    return float(counts)


def write_curves(timing: Mapping[str, Any], times: LoopTimes) -> str:
    """Curves of time and of motion, each with its remark."""
    columns = [
        embed_figure("Periods and ages", draw_periods(timing, times)),
        f'<p class="remark">{REMARK}</p>',
        embed_figure("Commands", draw_commands(times)),
        f'<p class="remark">{MOTION_REMARK}</p>',
    ]
    return f"<section>\n<h2>Time and motion</h2>\n{join_parts(columns)}\n</section>"


def draw_periods(timing: Mapping[str, Any], times: LoopTimes) -> Figure:
    """Periods of the loop and ages of the observations [ms], turn by turn."""
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("turn", "ms")
        periods_ms = 1000 * np.array(times.periods_s[:TURNS])
        ages_ms = 1000 * np.array(times.ages_s[:TURNS])
        axes.plot(periods_ms, ".", ms=3, color=SERIES[0], label="period")
        axes.plot(ages_ms, ".", ms=3, color=SERIES[1], label="age of the observation")
        axes.axhline(1000 / timing["loop"]["rate_hz"], color=INK, lw=0.8)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right")
    return figure


def draw_commands(times: LoopTimes) -> Figure:
    """The numbers of the actions, turn by turn; held turns are shaded."""
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("turn", "action")
        actions = np.array(times.actions[:TURNS])
        for number in range(min(actions.shape[1], JOINTS)):
            color = SERIES[number % len(SERIES)]
            axes.plot(actions[:, number], lw=1, color=color, label=times.names[number])
        axes.legend(loc="upper right", fontsize=7, ncols=2)
        for turn, actor in enumerate(times.actors[:TURNS]):
            if actor == int(Actor.HOLD):
                axes.axvspan(turn - 0.5, turn + 0.5, color=INK, alpha=0.15, lw=0)
    return figure


def write_latencies(timing: Mapping[str, Any]) -> str:
    """Quantiles of everything that was timed."""
    rows = {
        "control period": timing["loop"]["period_ms"],
        "age of the observation": timing["loop"]["observation_age_ms"],
        "inference of a warm plan": timing["inference_ms"],
        "time to first action": timing["time_to_first_action_ms"],
        "reaction": timing["reaction_ms"],
    }
    names = ("p50", "p95", "p99", "max")
    for key, words in SERVO.items():
        servo = timing["robot"].get(key)
        if isinstance(servo, Mapping):
            rows[words] = {name: servo.get(f"{name}_ms") for name in names}
    cells = {}
    for name, quantiles in rows.items():
        cells[name] = [show_ms(quantiles.get(each)) for each in names]
    table = write_table([f"{name} [ms]" for name in names], cells)
    return f"<section>\n<h2>Latencies</h2>\n{table}\n</section>"


def show_ms(value: float | None) -> str:
    """A time with a digit behind the point; a dash for what was not measured."""
    if value is None:
        return "\u2013"
    return f"{value:.1f}"


def list_counts(timing: Mapping[str, Any]) -> dict[str, str]:
    """What was counted, by name."""
    found = {
        "late actions, dropped": str(timing["late_actions"]),
        "starved control periods": f"{timing['starved_ticks']:.1f}",
        "plans": str(timing["plans"]),
    }
    for name, value in timing["robot"].items():
        if not isinstance(value, Mapping):
            found[name.replace("_", " ")] = str(value)
    for reason, count in flatten_counts(timing["robot"].get("clamps", {})).items():
        found[f"clamped: {reason}"] = f"{count:g}"
    return found


def flatten_counts(counts: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """Counts above 0 by their path in a tree."""
    found: dict[str, float] = {}
    for name, value in counts.items():
        if isinstance(value, Mapping):
            found |= flatten_counts(value, f"{before}{name} ")
        elif sum_counts(value):
            found[before + name] = sum_counts(value)
    return found


def write_episodes(timing: Mapping[str, Any]) -> str:
    """A line for each episode."""
    cells = {}
    for number, episode in enumerate(timing["episodes"], start=1):
        word = {True: "success", False: "failure", None: "not reported"}[episode["success"]]
        cells[f"{number}"] = [
            str(episode["seed"]),
            word,
            f"{episode['score']:.3f}",
            str(episode["steps"]),
            str(episode["late_actions"]),
            f"{episode['starved_ticks']:.1f}",
        ]
    heads = ["seed", "outcome", "score", "periods", "late actions", "starved periods"]
    return f"<section>\n<h2>Episodes</h2>\n{write_table(heads, cells)}\n</section>"
