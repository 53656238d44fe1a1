"""Figures of runs and results as SVG text or PNG bytes, in colours for the colour-blind.

Figures are made without pyplot: nothing is shown, nothing is kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..evaluation.results import NOT_REPORTED, family, latency_words, settings
from ..spec import FloatArray

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
        figure, axes = _make_axes("training step", "loss", height=3.7)
        _draw_loss(axes, metrics, "loss", "training", SERIES[0], 1.2)
        _draw_loss(axes, metrics, "validation_loss", "validation", SERIES[1], 1.8)
        axes.set_yscale("log")
        _label_plainly(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(loc="upper right")
        return figure


def _draw_loss(
    axes: Axes,
    metrics: Sequence[Mapping[str, float]],
    key: str,
    name: str,
    color: str,
    width: float,
) -> None:
    """One curve; marked where it has so few points that a line alone would be lost."""
    steps, losses = [], []
    for record in metrics:
        if record.get(key, 0) > 0:
            steps.append(record["step"])
            losses.append(record[key])
    marker = None
    if len(steps) < 3:
        marker = "o"
    if steps:
        axes.plot(steps, losses, color=color, lw=width, label=name, marker=marker, ms=4)


def expert_use(
    use: np.ndarray, levels: np.ndarray, metrics: Sequence[Mapping[str, float]]
) -> Figure:
    """Which experts work, a column for each layer: over noise levels on top, over training below.

    `use` (L, N, experts) at `levels` (N,) sums to one over the experts, or less where one alone is
    chosen; of `metrics` those records count that hold `experts/layer1/1` and so on.
    """
    layers = len(use)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.8, 1.9 * layers), 4.2))
        grid = figure.subplots(2, layers, sharey=True, squeeze=False)
        for layer in range(layers):
            axes = grid[0, layer]
            axes.stackplot(levels, use[layer].T, colors=SERIES, alpha=0.85)
            axes.set(title=f"layer {layer + 1}", xlabel="noise level", xlim=(0, 1), ylim=(0, 1))
            _draw_training_use(grid[1, layer], metrics, layer, use.shape[2])
        grid[0, 0].set_ylabel("share of each expert")
        grid[1, 0].set_ylabel("... over all levels")
        figure.tight_layout()
        return figure


def _draw_training_use(
    axes: Axes, metrics: Sequence[Mapping[str, float]], layer: int, experts: int
) -> None:
    """Shares of a layer's experts over the training steps."""
    keys = [f"experts/layer{layer + 1}/{expert + 1}" for expert in range(experts)]
    steps, shares = [], []
    for record in metrics:
        if keys[0] in record:
            steps.append(record["step"])
            shares.append([record[key] for key in keys])
    if len(steps) > 1:
        axes.stackplot(steps, np.array(shares).T, colors=SERIES, alpha=0.85)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.set(xlabel="training step")


def success_bars(
    results: Sequence[Result], names: Sequence[str], measure: Measure = "success"
) -> Figure:
    """Success rate or mean score of each result with its 95 % interval."""
    values, reaches = _read_estimates(results, measure)
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
    p50 = _read_numbers(results, "inference_ms", "p50")
    p95 = _read_numbers(results, "inference_ms", "p95")
    reaches = np.stack([np.zeros(len(p50)), np.maximum(p95 - p50, 0)])
    label = "inference call, median and 95th percentile [ms]"
    return _bars(names, p50, label, lambda value: f"{value:.3g} ms", reaches)


def smoothness_bars(results: Sequence[Result], names: Sequence[str]) -> Figure:
    """Root mean square jerk of each result's commands."""
    jerk = _read_numbers(results, "smoothness", "jerk_rms")
    label = "jerk of the commands, RMS (less is smoother)"
    return _bars(names, jerk, label, lambda value: f"{value:.3g}")


def tradeoff(
    results: Sequence[Result], names: Sequence[str], cost: Cost, measure: Measure = "success"
) -> Figure:
    """Success or score with its interval against what it costs; up and to the left is better.

    One sampler in several numbers of steps is one line, each point marked with its number.
    """
    axis = COSTS[cost]
    values, reaches = _read_estimates(results, measure)
    costs = _read_numbers(results, axis[0], axis[1])
    with mpl.rc_context(STYLE):
        figure, axes = _make_axes(axis[2], f"{measure}, 95 % interval")
        shown = np.isfinite(costs) & np.isfinite(values)
        for number, (name, members) in enumerate(families(results, names).items()):
            drawn = np.array(members)[shown[members]]
            drawn = drawn[np.argsort(costs[drawn], kind="stable")]
            if not len(drawn):
                continue
            style = _style(number)
            axes.errorbar(
                costs[drawn], values[drawn], yerr=reaches[:, drawn], label=name, ms=6, **style
            )
            if len(members) > 1:
                for i in drawn:
                    point = (costs[i], values[i])
                    steps = family(results[i])[1]
                    axes.annotate(steps, point, (5, 4), textcoords="offset points", fontsize=8)
        _limit_axes(axes, costs)
        if shown.any():
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
        return figure


def _limit_axes(axes: Axes, costs: FloatArray) -> None:
    """Costs from 0, or logarithmic where they span a factor of 8; shares between 0 and 1."""
    known = costs[np.isfinite(costs) & (costs > 0)]
    if known.size and known.max() > 8 * known.min():
        axes.set_xscale("log")
        _label_plainly(axes.xaxis)
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


def against_latency(results: Sequence[Result], measure: Measure = "success") -> Figure:
    """Success or score with its interval over the latency, a line per sampler and planner."""
    values, reaches = _read_estimates(results, measure)
    latency_ms = 1000 * np.array([result["latency_s"] for result in results])
    lines: dict[str, list[int]] = {}
    for i, result in enumerate(results):
        lines.setdefault(f"{result['inference']} {result.get('planner', 'sync')}", []).append(i)
    with mpl.rc_context(STYLE):
        figure, axes = _make_axes("time charged for a plan [ms]", f"{measure}, 95 % interval")
        for number, (name, members) in enumerate(lines.items()):
            drawn = np.array(members)
            drawn = drawn[np.argsort(latency_ms[drawn], kind="stable")]
            axes.errorbar(
                latency_ms[drawn],
                values[drawn],
                yerr=reaches[:, drawn],
                label=name,
                **_style(number),
            )
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
        return figure


def _style(number: int) -> dict[str, Any]:
    """Colour and marker of a line."""
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": MARKERS[number % len(MARKERS)],
        "capsize": 3,
        "lw": 1.4,
    }


def to_svg(figure: Figure, prefix: str = "", themed: bool = False) -> str:
    """The figure as an SVG element for a page; it has no size of its own and fills its place.

    `prefix` keeps the ids of several figures on one page apart. `themed` hands the colours to the
    page: text and lines take `currentColor`, series take `--series-1` and so on, so that one figure
    serves light and dark.
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
    if themed:
        return _theme(text)
    return text


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor=PAPER, bbox_inches="tight")
    return buffer.getvalue()


def _theme(text: str) -> str:
    """Fixed colours replaced by the page's."""
    text = text.replace(INK, "currentColor")
    for i, color in enumerate(SERIES, start=1):
        text = text.replace(color, f"var(--series-{i}, {color})")
    return text


def _make_axes(x_label: str, y_label: str, height: float = 2.9) -> tuple[Figure, Axes]:
    """Axes of the one size that all figures share; call within the style."""
    figure = Figure(figsize=(4.8, height))
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def _label_plainly(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1: our ranges are too narrow for powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _bars(
    names: Sequence[str],
    values: FloatArray,
    label: str,
    write: Callable[[float], str],
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
        figure, axes = _make_axes("", "", height=0.75 + 0.42 * len(values))
        axes.set_xlabel(label)
        axes.barh(places, shown, color=SERIES, height=0.58)
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
