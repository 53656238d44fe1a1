"""The demo's headline figure: success against evaluations, and under charged time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .demo_rows import DemoRow, Result
from .drawing import INK, MARKERS, SERIES, STYLE

SIZE = (4.8, 3.6)
DODGE = 0.16
"""Evaluations by which points of the same cost stand apart."""
SUCCESS_LABEL = "success [%], 95 % interval"
CONTROLLERS = {"sync": "waits", "async": "asks early"}
"""A controller holds while its plan is made, or executes the plan before meanwhile."""


def draw_evaluations(found: Mapping[DemoRow, Result]) -> Figure:
    """Success over the denoiser evaluations of a plan; plans take no time."""
    rows = [row for row in found if not row.planner]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="denoiser evaluations (NFE) of a later plan", ylabel=SUCCESS_LABEL)
        used: list[float] = []
        for row in rows:
            nfe = found[row]["nfe"]
            cost = float(nfe["warm"] or nfe["cold"])
            place = cost + DODGE * used.count(cost)
            used.append(cost)
            rate, reach = _read_percent(found[row])
            style = _style(row, found)
            axes.errorbar([place], [rate], yerr=reach, label=row.sampler.upper(), **style)
        axes.set_xlim(0, max(used, default=1) + 1)
        axes.set_ylim(0, 103)
        axes.legend(loc="lower center", ncols=2)
        return figure


def draw_charged(found: Mapping[DemoRow, Result]) -> Figure:
    """Success of every sampler and controller once evaluations take time.

    A hollow mark is the same sampler's success where plans take none.
    """
    rows = [row for row in found if row.planner]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(SIZE[0], 0.9 + 0.45 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            rate, reach = _read_percent(found[row])
            axes.errorbar([rate], [place], xerr=reach, **_style(row, found))
            _mark_free(axes, place, row, found)
        axes.set_yticks(range(len(rows)), list(map(name_row, rows)))
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 103)
        axes.set_xlabel(f"{SUCCESS_LABEL}\n(hollow: plans take no time)")
        return figure


def name_row(row: DemoRow) -> str:
    """A row in words."""
    if row.planner:
        return f"{row.sampler.upper()} ({CONTROLLERS[row.planner]})"
    return row.sampler.upper()


def _mark_free(axes: Axes, place: int, row: DemoRow, found: Mapping[DemoRow, Result]) -> None:
    """The hollow mark of a row, where its sampler was evaluated without charged time."""
    free = found.get(DemoRow(row.sampler))
    if free is None:
        return
    color = _style(row, found)["color"]
    axes.plot([_read_percent(free)[0]], [place], "o", ms=9, mfc="none", mec=color, mew=1.0)


def _read_percent(result: Result) -> tuple[float, list[list[float]]]:
    """A success rate, and how far its interval reaches below and above."""
    success = result["success"]
    rate = 100 * success["rate"]
    return rate, [[rate - 100 * success["low"]], [100 * success["high"] - rate]]


def _style(row: DemoRow, found: Mapping[DemoRow, Result]) -> dict[str, Any]:
    """A sampler's colour and mark, the same in both figures."""
    samplers = list_samplers(list(found))
    number = samplers.index(row.sampler)
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": MARKERS[number % len(MARKERS)],
        "ms": 6,
        "capsize": 3,
        "lw": 1.4,
        "mec": INK,
        "mew": 0.4,
    }


def list_samplers(rows: Sequence[DemoRow]) -> list[str]:
    """The samplers of some rows, each once, in order."""
    return list(dict.fromkeys(row.sampler for row in rows))
