"""Figures of results: success, cost and smoothness; a sampler has one colour in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.results import NOT_REPORTED, family, latency_words, settings
from ..spec import FloatArray
from .drawing import INK, MARKERS, SERIES, STYLE, label_plainly, label_points, make_axes

Measure = Literal["success", "score"]
Cost = Literal["nfe", "ms"]
Result = Mapping[str, Any]

COSTS: dict[Cost, tuple[str, str, str]] = {
    "nfe": ("nfe", "per_action", "denoiser evaluations (NFE) per executed action"),
    "ms": ("inference_ms", "per_second_of_motion", "inference per second of motion [ms]"),
}
AXIS: dict[Measure, str] = {
    "success": "success rate, 95 % interval",
    "score": "mean score, 95 % interval",
}
USUAL = ("ddim", "rti", "sdp", "rtc", "dpmpp", "ddpm")
"""Samplers that have the same colour on every page."""
ESTIMATES: dict[Measure, str] = {"success": "rate", "score": "mean"}


@dataclass(frozen=True)
class LineStyle:
    """How a sampler is drawn, in every plot."""

    color: str
    marker: str

    def draw(self) -> dict[str, Any]:
        """Arguments of `Axes.errorbar`."""
        return {"color": self.color, "marker": self.marker, "capsize": 3, "lw": 1.4, "ms": 6}


def choose_styles(results: Sequence[Result], names: Sequence[str]) -> dict[str, LineStyle]:
    """The style of each result by its name: a colour for each sampler, a marker for each line.

    Results of one sampler alone are told apart by colour too.
    """
    lines = families(results, names)
    colors = _choose_colors([family(results[members[0]])[0] for members in lines.values()])
    styles: dict[str, LineStyle] = {}
    for number, members in enumerate(lines.values()):
        style = LineStyle(colors[number], MARKERS[number % len(MARKERS)])
        for i in members:
            styles[names[i]] = style
    return styles


def _choose_colors(samplers: Sequence[str]) -> list[str]:
    """A colour for each line by its sampler: the sampler's usual colour, or one that is free."""
    if len(set(samplers)) == 1:
        return [SERIES[number % len(SERIES)] for number in range(len(samplers))]
    chosen: dict[str, str] = {}
    for sampler, color in zip(USUAL, SERIES, strict=True):
        if sampler in samplers:
            chosen[sampler] = color
    free = [color for color in SERIES if color not in chosen.values()]
    for sampler in dict.fromkeys(samplers):
        if sampler not in chosen:
            chosen[sampler] = SERIES[len(chosen) % len(SERIES)]
            if free:
                chosen[sampler] = free.pop(0)
    return [chosen[sampler] for sampler in samplers]


def _choose_bar_colors(results: Sequence[Result], names: Sequence[str]) -> list[str]:
    styles = choose_styles(results, names)
    return [styles[name].color for name in names]


def success_bars(
    results: Sequence[Result], names: Sequence[str], measure: Measure = "success"
) -> Figure:
    """Success rate or mean score of each result with its 95 % interval."""
    values, reaches = _read_estimates(results, measure)
    figure = _bars(
        names,
        values,
        AXIS[measure],
        lambda value: f"{value:.2f}",
        _choose_bar_colors(results, names),
        reaches,
        NOT_REPORTED,
    )
    ends = [0.0, *(values + reaches[1])[np.isfinite(values)]]
    begins = [0.0, *(values - reaches[0])[np.isfinite(values)]]
    figure.axes[0].set_xlim(1.02 * min(begins), max(1.0, 1.02 * max(ends)))
    return figure


def latency_bars(results: Sequence[Result], names: Sequence[str]) -> Figure:
    """Milliseconds of a call: the median as a bar, the 95th percentile as a whisker."""
    p50 = _read_numbers(results, "inference_ms", "p50")
    p95 = _read_numbers(results, "inference_ms", "p95")
    reaches = np.stack([np.zeros(len(p50)), np.maximum(p95 - p50, 0)])
    label = "inference call, median and 95th percentile [ms]"
    colors = _choose_bar_colors(results, names)
    return _bars(names, p50, label, lambda value: f"{value:.3g} ms", colors, reaches)


def smoothness_bars(results: Sequence[Result], names: Sequence[str]) -> Figure:
    """Root mean square jerk of each result's commands."""
    jerk = _read_numbers(results, "smoothness", "jerk_rms")
    label = "RMS jerk of the commands [normalised units / s\u00b3]"
    colors = _choose_bar_colors(results, names)
    return _bars(names, jerk, label, lambda value: f"{value:.3g}", colors)


def tradeoff(
    results: Sequence[Result], names: Sequence[str], cost: Cost, measure: Measure = "success"
) -> Figure:
    """Success or score with its interval against what it costs; up and to the left is better.

    One sampler in several numbers of steps is one line; each point bears its name.
    """
    axis = COSTS[cost]
    values, reaches = _read_estimates(results, measure)
    costs = _read_numbers(results, axis[0], axis[1])
    styles = choose_styles(results, names)
    with mpl.rc_context(STYLE):
        figure, axes = make_axes(axis[2], AXIS[measure], height=3.4)
        shown = np.isfinite(costs) & np.isfinite(values)
        labels: list[tuple[float, float, str]] = []
        for members in families(results, names).values():
            drawn = np.array(members)[shown[members]]
            drawn = drawn[np.argsort(costs[drawn], kind="stable")]
            if not len(drawn):
                continue
            style = styles[names[members[0]]].draw()
            axes.errorbar(costs[drawn], values[drawn], yerr=reaches[:, drawn], **style)
            for i in map(int, drawn):
                labels.append((costs[i], values[i], names[i]))
        _limit_axes(axes, costs)
        label_points(axes, labels)
        return figure


def _limit_axes(axes: Axes, costs: FloatArray) -> None:
    """Costs from 0, or logarithmic where they span a factor of 8; shares between 0 and 1."""
    known = costs[np.isfinite(costs) & (costs > 0)]
    if known.size and known.max() > 8 * known.min():
        axes.set_xscale("log")
        label_plainly(axes.xaxis)
    else:
        axes.set_xlim(left=0)
    low, high = axes.get_ylim()
    if low > -0.05:
        low = max(low, 0.0)
    if 0 < high < 1.1:
        high = min(high, 1.03)
    axes.set_ylim(low, high)


def families(results: Sequence[Result], names: Sequence[str]) -> dict[str, list[int]]:
    """Results of one sampler in several numbers of steps, under its name: `ddim` for `ddim-10`.

    A result that is alone keeps its own name, and so do two of the same number of steps, or of
    other checkpoints or settings.
    """
    found: dict[str, list[int]] = {}
    for i, (result, name) in enumerate(zip(results, names, strict=True)):
        sampler, steps = family(result)
        shared = name
        if steps and name.startswith(result["inference"]):
            shared = sampler + name.removeprefix(result["inference"])
        found.setdefault(shared, []).append(i)
    apart: dict[str, list[int]] = {}
    for name, members in found.items():
        if _is_family([results[i] for i in members]):
            apart[name] = members
            continue
        for i in members:
            apart[names[i]] = [i]
    return apart


def _is_family(results: Sequence[Result]) -> bool:
    """Whether results differ in their number of steps, and in nothing else that was set."""
    setups, steps = set(), set()
    for result in results:
        settled = [result["task"], result["checkpoint"], latency_words(result), settings(result)]
        setups.add(str(settled))
        steps.add(result["inference"])
    return len(setups) == 1 and len(steps) == len(results) > 1


def against_latency(
    results: Sequence[Result], names: Sequence[str], measure: Measure = "success"
) -> Figure:
    """Success or score with its interval over the latency, a line per sampler and planner.

    A controller that asks early (async) is a dashed line.
    """
    values, reaches = _read_estimates(results, measure)
    latency_ms = 1000 * np.array([result["latency_s"] for result in results])
    styles = choose_styles(results, names)
    lines: dict[tuple[str, str], list[int]] = {}
    for i, result in enumerate(results):
        key = (str(result["inference"]), str(result.get("planner", "sync")))
        lines.setdefault(key, []).append(i)
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("time charged for a plan [ms]", AXIS[measure], height=3.4)
        labels: list[tuple[float, float, str]] = []
        for (sampler, planner), members in lines.items():
            drawn = np.array(members)
            drawn = drawn[np.argsort(latency_ms[drawn], kind="stable")]
            style = styles[names[members[0]]].draw()
            if planner == "async":
                style["ls"] = "--"
            axes.errorbar(latency_ms[drawn], values[drawn], yerr=reaches[:, drawn], **style)
            last = int(drawn[-1])
            labels.append((latency_ms[last], values[last], f"{sampler} {planner}"))
        label_points(axes, labels)
        return figure


def _bars(
    names: Sequence[str],
    values: FloatArray,
    label: str,
    write: Callable[[float], str],
    colors: Sequence[str],
    whiskers: FloatArray | None = None,
    unknown: str = "not measured",
) -> Figure:
    """Horizontal bars, the first on top, each with its value at the end of its whisker."""
    places = np.arange(len(values))
    shown = np.where(np.isfinite(values), values, 0.0)
    reaches = np.zeros((2, len(values)))
    if whiskers is not None:
        reaches = np.nan_to_num(whiskers)
    ends = shown + reaches[1]
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("", "", height=0.75 + 0.42 * len(values))
        axes.set_xlabel(label)
        axes.barh(places, shown, color=colors, height=0.58)
        if whiskers is not None:
            lines = {"fmt": "none", "ecolor": INK, "elinewidth": 1.2, "capsize": 3}
            axes.errorbar(shown, places, xerr=reaches, **lines)
        for place, value, end in zip(places, values, ends, strict=True):
            text = unknown
            if np.isfinite(value):
                text = write(value)
            offset = {"xytext": (5, 0), "textcoords": "offset points"}
            axes.annotate(text, (end, place), va="center", annotation_clip=False, **offset)
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(0, 1.15 * max(float(ends.max()), 1e-9))
        return figure


def _read_estimates(results: Sequence[Result], measure: Measure) -> tuple[FloatArray, FloatArray]:
    """Estimates (n,) and how far their intervals reach below and above, (2, n).

    NaN where success is not reported.
    """
    values = _read_numbers(results, measure, ESTIMATES[measure])
    below = values - _read_numbers(results, measure, "low")
    above = _read_numbers(results, measure, "high") - values
    return values, np.maximum(np.stack([below, above]), 0.0)


def _read_numbers(results: Sequence[Result], group: str, key: str) -> FloatArray:
    """A number of each result, (n,); NaN for what was not measured."""
    return np.array([result[group][key] for result in results], np.float64)
