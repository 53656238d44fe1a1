"""Figures of a training: the loss, and which experts work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..finetuning.progress import CurvePoint, was_dreamed
from .drawing import INK, SERIES, STYLE, label_plainly, label_points, make_axes


def learning_curve(metrics: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss over the steps, on a log axis; records may lack either."""
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("training step", "loss [squared normalised units]", height=3.4)
        _draw_loss(axes, metrics, "loss", "training", SERIES[0], 1.2)
        _draw_loss(axes, metrics, "validation_loss", "validation", SERIES[1], 1.8)
        axes.set_yscale("log")
        label_plainly(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        labels: list[tuple[float, float, str]] = []
        for line in axes.lines:
            steps = np.asarray(line.get_xdata(), np.float64)
            losses = np.asarray(line.get_ydata(), np.float64)
            labels.append((steps[-1], losses[-1], str(line.get_label())))
        label_points(axes, labels)
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


def tuning_curve(
    curve: Sequence[CurvePoint],
    base: float | None = None,
    gains: Mapping[str, int | None] | None = None,
) -> Figure:
    """Success of a fine-tuning's rollouts over its steps, with exploration.

    The steps are real ones; of a run in dreams they are imagined, and so is the success.

    base: success of the base without exploration, a line; of a run in dreams, that in dreams
    gains: real steps until the running mean lay so many percentage points above it, as marks
    """
    x_label = "real control periods [thousands]"
    y_label = "success of rollouts, with exploration"
    name = "base"
    if was_dreamed(curve):
        x_label = "imagined control periods [thousands]"
        y_label = "success in dreams, with exploration"
        name = "before the tuning"
    with mpl.rc_context(STYLE):
        figure, axes = make_axes(x_label, y_label, height=3.4)
        steps = np.array([point["steps"] / 1000 for point in curve])
        shares = [point["success"] for point in curve]
        axes.plot(steps, shares, color=SERIES[0], lw=0.6, marker="o", ms=3, alpha=0.6)
        means = np.array([point["mean"] for point in curve], np.float64)  # None becomes NaN
        axes.plot(steps, means, color=SERIES[0], lw=1.8)
        axes.set_ylim(0, 1)
        if base is not None:
            _mark_gains(axes, base, name, gains or {})
        return figure


def draw_disagreement(curve: Sequence[CurvePoint]) -> Figure:
    """How far the members of a world model lie apart in the dreams of a fine-tuning."""
    with mpl.rc_context(STYLE):
        figure, axes = make_axes(
            "imagined control periods [thousands]", "disagreement [std of a change]", height=2.2
        )
        steps = [point["steps"] / 1000 for point in curve]
        apart = [point.get("disagreement", np.nan) for point in curve]
        axes.plot(steps, apart, color=SERIES[1], lw=1.8)
        axes.set_ylim(bottom=0)
        return figure


def _mark_gains(axes: Axes, base: float, name: str, gains: Mapping[str, int | None]) -> None:
    """The base as a line, and a mark where the running mean lay so many points above it."""
    axes.axhline(base, color=INK, lw=1.0, ls="--")
    labels = [(axes.get_xlim()[0], base, name)]
    for points, steps in gains.items():
        if steps is not None:
            across, height = steps / 1000, base + int(points) / 100
            axes.vlines(across, 0, height, color=SERIES[1], lw=1.0, ls=":")
            axes.plot(across, height, color=SERIES[1], marker="D", ms=6, ls="none")
            labels.append((across, 0.02, f"+{points} points"))
    label_points(axes, labels)


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
            _name_experts(axes, levels, use[layer])
            axes.set(title=f"layer {layer + 1}", xlabel="noise level", xlim=(0, 1), ylim=(0, 1))
            _draw_training_use(grid[1, layer], metrics, layer, use.shape[2])
        grid[0, 0].set_ylabel("share of each expert")
        grid[1, 0].set_ylabel("share over all levels")
        figure.tight_layout()
        return figure


def _name_experts(axes: Axes, levels: np.ndarray, use: np.ndarray) -> None:
    """Numbers in the bands of the experts, where each is widest; `use` is (N, experts)."""
    tops = np.cumsum(use, axis=1)
    for expert in range(use.shape[1]):
        widest = int(np.argmax(use[:, expert]))
        if use[widest, expert] > 0.08:
            middle = tops[widest, expert] - use[widest, expert] / 2
            at = float(np.clip(levels[widest], 0.06, 0.94))
            axes.text(at, middle, str(expert + 1), ha="center", va="center", fontsize=8)


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
