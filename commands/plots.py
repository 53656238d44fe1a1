"""Figures of runs and results: one plain style, colours that colour-blind people tell apart, SVG text or PNG bytes.

Figures are made without pyplot: nothing is shown, nothing is kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..evaluation.results import NOT_REPORTED, family, latency_words, settings

Measure = Literal["success", "score"]
Cost = Literal["nfe", "ms"]
Result = Mapping[str, Any]

INK, PAPER = "#1b1e24", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, the strongest ones first."""
MARKERS = "osD^vP"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollars in it is a name
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own letters
    "svg.hashsalt": "hotstart",
}
COSTS: dict[Cost, tuple[str, str, str]] = {
    "nfe": ("nfe", "per_action", "denoiser evaluations (NFE) per action"),
    "ms": ("inference_ms", "per_second_of_motion", "inference per second of motion [ms]"),
}
ESTIMATES: dict[Measure, str] = {"success": "rate", "score": "mean"}


def learning_curve(metrics: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss over the steps, on a log axis; records may lack either."""
    with mpl.rc_context(STYLE):
        figure, axes = _empty("training step", "loss", height=3.7)
        curves = (("loss", "training", 1.2), ("validation_loss", "validation", 1.8))
        for (key, name, width), color in zip(curves, SERIES, strict=False):
            points = []
            for record in metrics:
                if record.get(key, 0) > 0:
                    points.append((record["step"], record[key]))
            if points:
                if len(points) < 3:
                    few = "o"
                else:
                    few = None
                axes.plot(
                    *zip(*points, strict=True), color=color, lw=width, label=name, marker=few, ms=4
                )
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(loc="upper right")
        return figure


def expert_use(
    use: np.ndarray, levels: np.ndarray, metrics: Sequence[Mapping[str, float]]
) -> Figure:
    """Which experts work: a column for each layer, over the noise levels on top and over the training below.

    `use` (L, N, experts) at `levels` (N,) sums to one over the experts, or less where one alone is chosen; of `metrics` those
    records count that hold `experts/layer1/1` and so on.
    """
    layers, _, experts = use.shape
    records = [record for record in metrics if "experts/layer1/1" in record]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.8, 1.9 * layers), 4.2))
        for layer, columns in enumerate(figure.subplots(2, layers, sharey=True, squeeze=False).T):
            columns[0].stackplot(levels, use[layer].T, colors=SERIES, alpha=0.85)
            columns[0].set(
                title=f"layer {layer + 1}", xlabel="noise level", xlim=(0, 1), ylim=(0, 1)
            )
            over = []
            for expert in range(experts):
                over.append(
                    [record[f"experts/layer{layer + 1}/{expert + 1}"] for record in records]
                )
            if len(records) > 1:
                columns[1].stackplot(
                    [record["step"] for record in records], over, colors=SERIES, alpha=0.85
                )
                columns[1].xaxis.set_major_locator(MaxNLocator(2, integer=True))
            columns[1].set(xlabel="training step")
        figure.axes[0].set_ylabel("share of each expert")
        figure.axes[layers].set_ylabel("... over all levels")
        figure.tight_layout()
        return figure


def success_bars(
    results: Sequence[Result], names: Sequence[str], measure: Measure = "success"
) -> Figure:
    """Success rate or mean score of each result with its 95 % interval."""
    values, reaches = _estimates(results, measure)
    figure = _bars(
        names,
        values,
        f"{measure}, 95 % interval",
        lambda value: f"{value:.2f}",
        reaches,
        NOT_REPORTED,
    )
    ends = [0.0, *(values + reaches[1])[np.isfinite(values)]]
    begins = [0.0, *(values - reaches[0])[np.isfinite(values)]]
    figure.axes[0].set_xlim(1.02 * min(begins), max(1.0, 1.02 * max(ends)))
    return figure


def latency_bars(results: Sequence[Result], names: Sequence[str]) -> Figure:
    """Milliseconds of a call: the median as a bar, the 95th percentile as a whisker."""
    p50, p95 = (
        np.array([_number(r["inference_ms"][key]) for r in results]) for key in ("p50", "p95")
    )
    reaches = np.stack([np.zeros(len(p50)), np.maximum(p95 - p50, 0)])
    return _bars(
        names,
        p50,
        "inference call, median and 95th percentile [ms]",
        lambda value: f"{value:.3g} ms",
        reaches,
    )


def smoothness_bars(results: Sequence[Result], names: Sequence[str]) -> Figure:
    """Root mean square jerk of each result's commands."""
    jerk = np.array([_number(result["smoothness"]["jerk_rms"]) for result in results])
    return _bars(
        names, jerk, "jerk of the commands, RMS (less is smoother)", lambda value: f"{value:.3g}"
    )


def tradeoff(
    results: Sequence[Result], names: Sequence[str], cost: Cost, measure: Measure = "success"
) -> Figure:
    """Success or score with its interval against what it costs; up and to the left is better.

    One way in several numbers of steps is one line, each point marked with its number.
    """
    group, key, label = COSTS[cost]
    values, reaches = _estimates(results, measure)
    costs = np.array([_number(result[group][key]) for result in results])
    with mpl.rc_context(STYLE):
        figure, axes = _empty(label, f"{measure}, 95 % interval")
        shown = np.isfinite(costs) & np.isfinite(values)
        for number, (name, members) in enumerate(families(results, names).items()):
            drawn = sorted((i for i in members if shown[i]), key=lambda i: costs[i])
            if drawn:
                style: dict[str, Any] = {
                    "color": SERIES[number % len(SERIES)],
                    "ms": 6,
                    "capsize": 3,
                    "lw": 1.4,
                }
                style["marker"] = MARKERS[number % len(MARKERS)]
                axes.errorbar(
                    costs[drawn], values[drawn], yerr=reaches[:, drawn], label=name, **style
                )
            for i in drawn if len(members) > 1 else ():
                axes.annotate(
                    family(results[i])[1],
                    (costs[i], values[i]),
                    (5, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
        known = costs[np.isfinite(costs) & (costs > 0)]
        if known.size and known.max() > 8 * known.min():
            axes.set_xscale("log")
            _plain_numbers(axes.xaxis)
        else:
            axes.set_xlim(left=0)
        low, high = axes.get_ylim()
        axes.set_ylim(
            max(low, 0.0) if low > -0.05 else low, min(high, 1.03) if 0 < high < 1.1 else high
        )
        if shown.any():
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
        return figure


def families(results: Sequence[Result], names: Sequence[str]) -> dict[str, list[int]]:
    """Which results are one way in several numbers of steps: the family's name, as `ddim` for `ddim-10` and `ddim-4`, and they.

    A result that is alone keeps its own name, and so do two of the same number of steps, or of other checkpoints or settings.
    """

    def setup(result: Result) -> str:
        return str([result["task"], result["checkpoint"], latency_words(result), settings(result)])

    found: dict[str, list[int]] = {}
    for i, (result, name) in enumerate(zip(results, names, strict=True)):
        sampler, steps = family(result)
        shared = steps and name.startswith(result["inference"])
        found.setdefault(
            sampler + name.removeprefix(result["inference"]) if shared else name, []
        ).append(i)
    apart: dict[str, list[int]] = {}
    for name, members in found.items():
        several = len({results[i]["inference"] for i in members}) == len(members) > 1
        joined = several and len({setup(results[i]) for i in members}) == 1
        apart |= {name: members} if joined else {names[i]: [i] for i in members}
    return apart


def against_latency(results: Sequence[Result], measure: Measure = "success") -> Figure:
    """Success or score with its interval over what a plan was charged with: a line per way and manner of asking."""
    values, reaches = _estimates(results, measure)
    lines: dict[str, list[int]] = {}
    for i, result in enumerate(results):
        lines.setdefault(f"{result['inference']} {result.get('planner', 'sync')}", []).append(i)
    with mpl.rc_context(STYLE):
        figure, axes = _empty("time charged for a plan [ms]", f"{measure}, 95 % interval")
        for number, (name, members) in enumerate(lines.items()):
            members.sort(key=lambda i: results[i]["latency_s"])
            costs = [1000 * results[i]["latency_s"] for i in members]
            style = {
                "color": SERIES[number % len(SERIES)],
                "marker": MARKERS[number % len(MARKERS)],
                "capsize": 3,
                "lw": 1.4,
            }
            axes.errorbar(costs, values[members], yerr=reaches[:, members], label=name, **style)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
        return figure


def to_svg(figure: Figure, prefix: str = "", themed: bool = False) -> str:
    """The figure as an SVG element without size of its own (it fills its place), ready to stand inside a page.

    `prefix` keeps the ids of several figures on one page apart. `themed` hands the colours to the page: text and lines take
    `currentColor`, series take `--series-1` and so on, so that one figure serves light and dark.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None}
        )
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    if prefix:
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    else:
        text = text
    if themed:
        return _themed(text)
    return text


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor=PAPER, bbox_inches="tight")
    return buffer.getvalue()


def _themed(text: str) -> str:
    """Fixed colours replaced by the page's."""
    text = text.replace(INK, "currentColor")
    for i, color in enumerate(SERIES, start=1):
        text = text.replace(color, f"var(--series-{i}, {color})")
    return text


def _empty(x_label: str, y_label: str, height: float = 2.9) -> tuple[Figure, Axes]:
    """Axes of the one size that all figures share; call within the style."""
    figure = Figure(figsize=(4.8, height))
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def _plain_numbers(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1: our ranges are too narrow for powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _bars(
    names: Sequence[str],
    values: Any,
    label: str,
    write: Any,
    whiskers: Any = None,
    unknown: str = "not measured",
) -> Figure:
    """Lying bars, the first on top, each with its value, or what stands for an unknown one, at the end of its whisker."""
    places, colors = np.arange(len(values)), [SERIES[i % len(SERIES)] for i in range(len(values))]
    known = np.isfinite(values)
    shown = np.where(known, values, 0.0)
    if whiskers is None:
        ends = shown
    else:
        ends = shown + np.nan_to_num(whiskers[1])
    with mpl.rc_context(STYLE):
        figure, axes = _empty(label, "", height=0.75 + 0.42 * len(values))
        axes.barh(places, shown, color=colors, height=0.58)
        if whiskers is not None:
            axes.errorbar(
                shown,
                places,
                xerr=np.nan_to_num(whiskers),
                fmt="none",
                ecolor=INK,
                elinewidth=1.2,
                capsize=3,
            )
        for place, value, end in zip(places, values, ends, strict=True):
            if np.isfinite(value):
                text = write(value)
            else:
                text = unknown
            axes.annotate(
                text,
                (end, place),
                (5, 0),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
            )
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(0, 1.15 * max(float(ends.max()), 1e-9))
        return figure


def _estimates(results: Sequence[Result], measure: Measure) -> tuple[Any, Any]:
    """Estimates (n,) and how far their intervals reach below and above, (2, n); NaN where success is not reported."""
    triples = np.array(
        [[r[measure][key] for key in (ESTIMATES[measure], "low", "high")] for r in results],
        np.float64,
    )
    values, low, high = triples.T
    return values, np.maximum(np.stack([values - low, high - values]), 0.0)


def _number(value: float | None) -> float:
    """NaN for what was not measured."""
    if value is None:
        return float("nan")
    return float(value)
