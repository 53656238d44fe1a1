"""The audit of a world model on a page: its verdict in words, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.intervals import Interval
from .drawing import INK, SERIES, STYLE, label_points, make_axes
from .page import embed_figure, join_parts, write_note

Audit = Mapping[str, Any]
COLUMNS = 3
PANELS = 6
"""Parts of the state whose open-loop error is drawn."""
JUDGED = {
    "precision": "steps: precision",
    "recall": "steps: recall",
    "episodes_right": "episodes, recorded states",
    "replays_right": "episodes, replayed actions",
}
"""Figures of the success model, and what they are called."""
OPEN_LOOP_NOTE = (
    "Open loop: the model is told a recorded step and the recorded actions after it. Blue: its "
    "error, averaged over the windows in which the part moves. Grey: the error of persistence, "
    "which says that nothing changes. The unit is that of the observation."
)
BASE_NOTE = (
    "Dreams begin at the first steps of held-out episodes in which the base acted undisturbed. "
    "The line is its recorded success there, with its 95 % interval. No real step is needed."
)


def describe_verdict(audit: Audit) -> list[str]:
    """Whether a model passes, with the figures that decide it, in sentences."""
    held_out, base = audit["held_out"], audit["base"]
    judge = audit["success_model"]
    lines = ["The world model passes its audit."]
    if not audit["passed"]:
        lines = [f"The world model fails its audit: {fault}." for fault in audit["faults"]]
    true = f"{base['true']:.3f} [{base['true_low']:.3f}, {base['true_high']:.3f}]"
    lines += [
        f"It is judged by {held_out['episodes']} episodes of play, {held_out['steps']:,} steps, "
        "from which it has not learned.",
        f"The base succeeds in {base['imagined']:.3f} of its dreams and in {true} of the "
        f"{base['starts']} recorded episodes from the same starts: bias {base['bias']:+.3f}.",
        f"{base['agreement']:.2f} of the dreams end as the recorded episode did{_bound(base)}.",
        f"{judge['replays_right']:.2f} of the held-out episodes end right when their actions are "
        f"replayed in the model; the success model alone judges {judge['episodes_right']:.2f} "
        "right.",
    ]
    return lines


def _bound(base: Mapping[str, Any]) -> str:
    """How often dreams agree with each other, where it was measured: no more can be asked."""
    if "self_agreement" not in base:
        return ""
    return f"; two dreams from the same start end alike in {base['self_agreement']:.2f}"


def write_audit(audit: Audit) -> str:
    """The audit as a section: sentences, and a figure for each question."""
    verdict, *more = describe_verdict(audit)
    parts = [f"<p><strong>{escape(verdict)}</strong></p>"]
    if not audit["passed"]:
        parts = [write_note(verdict)]
    items = "\n".join(f"<li>{escape(line)}</li>" for line in more)
    parts.append(f"<ul>\n{items}\n</ul>")
    columns = [
        _write_column("Success in dreams", draw_variants(audit["base"]), BASE_NOTE),
        _write_column("Success model", draw_success_model(audit["success_model"]), ""),
    ]
    parts.append(f'<div class="plots">\n{join_parts(columns)}\n</div>')
    if audit["open_loop"]:
        figure = embed_figure("Open-loop error", draw_open_loop(audit["open_loop"]))
        parts.append(f'{figure}\n<p class="remark">{OPEN_LOOP_NOTE}</p>')
    return f"<section>\n<h2>The audit</h2>\n{join_parts(parts)}\n</section>"


def _write_column(heading: str, figure: Figure, note: str) -> str:
    """A figure with its remark."""
    remark = ""
    if note:
        remark = f'<p class="remark">{note}</p>'
    return f"<div>{embed_figure(heading, figure)}{remark}</div>"


def draw_open_loop(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Error of the model and of persistence over the horizon, a panel for each part."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault(row["part"], []).append(row)
    shown = list(parts)[:PANELS]
    lines = -(-len(shown) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.2 * COLUMNS, 2.3 * lines))
        grid = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, name in zip(grid, shown, strict=False):
            _draw_part(axes, name, parts[name])
        figure.tight_layout()
        return figure


def _draw_part(axes: Axes, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One part of the state."""
    steps = [row["steps"] for row in rows]
    axes.plot(steps, [row["persistence"] for row in rows], color=INK, alpha=0.45, marker="o", ms=3)
    axes.plot(steps, [row["error"] for row in rows], color=SERIES[0], lw=1.8, marker="o", ms=4)
    axes.set(title=name, xlabel="control periods ahead")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def draw_variants(base: Mapping[str, Any]) -> Figure:
    """Imagined success of the base and of its variants, beside the base's recorded success."""
    figure = _draw_shares(base["variants"], "success", SERIES[0])
    axes = figure.axes[0]
    axes.axvspan(base["true_low"], base["true_high"], color=INK, alpha=0.1, lw=0)
    axes.axvline(base["true"], color=INK, lw=1.0, ls="--")
    return figure


def draw_success_model(judge: Mapping[str, float]) -> Figure:
    """What the success model gets right, step by step and episode by episode."""
    shares = {name: judge[key] for key, name in JUDGED.items()}
    return _draw_shares(shares, "share", SERIES[2])


def _draw_shares(shares: Mapping[str, float], label: str, color: str) -> Figure:
    """Bars from 0 to 1 by name, from the top down."""
    with mpl.rc_context(STYLE):
        figure, axes = make_axes(label, "", height=0.7 + 0.42 * len(shares))
        axes.barh(list(shares), list(shares.values()), color=color, height=0.6, alpha=0.85)
        for number, share in enumerate(shares.values()):
            axes.text(share + 0.01, number, f"{share:.2f}", va="center", fontsize=9)
        axes.set_xlim(0, 1.08)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        return figure


def draw_dream_against_truth(imagined: Mapping[str, float], true: Mapping[str, Interval]) -> Figure:
    """True success of policies with its interval over their success in dreams; both by name.

    On the diagonal dreams tell the truth; below it they promise too much.
    """
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("success in dreams", "true success, 95 % interval", height=3.6)
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        labels: list[tuple[float, float, str]] = []
        for number, name in enumerate(imagined):
            rate = true[name].rate
            reach = [[rate - true[name].low], [true[name].high - rate]]
            color = SERIES[number % len(SERIES)]
            axes.errorbar(imagined[name], rate, reach, color=color, marker="o", capsize=3)
            labels.append((imagined[name], rate, name))
        label_points(axes, labels)
        return figure
