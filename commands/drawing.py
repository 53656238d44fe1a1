"""How all figures look, in colours for the colour-blind, and how they become SVG text or PNG bytes.

Figures are made without pyplot: nothing is shown, nothing is kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK, PAPER = "#1b1e24", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, the strongest ones first."""
MARKERS = "osD^vP"
GAP = 6.0
"""Distance of a label from its point [points]."""
LETTER = 5.2
LINE = 10.5
"""Width of a label's letter and height of its line [points]."""
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


def make_axes(x_label: str, y_label: str, height: float = 2.9) -> tuple[Figure, Axes]:
    """Axes of the one size that all figures share; call within the style."""
    figure = Figure(figsize=(4.8, height))
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def label_points(axes: Axes, labels: Sequence[tuple[float, float, str]]) -> None:
    """Write texts beside points (x, y, text), on the side that has room, and none over another.

    Call it when the axes have their limits.
    """
    placed: list[tuple[float, float, float]] = []  # left, right, height [pixels]
    scale = axes.figure.dpi / 72
    left, right = axes.get_window_extent().intervalx
    for x, y, text in sorted(labels, key=lambda label: label[1]):
        across, height = axes.transData.transform((x, y))
        width = LETTER * scale * len(text)
        beside = "left"
        begin = across + GAP * scale
        if begin + width > right and across - GAP * scale - width > left:
            beside = "right"
            begin = across - GAP * scale - width
        wanted = height + GAP / 2 * scale
        for other_left, other_right, other in placed:
            if begin < other_right and other_left < begin + width:
                wanted = max(wanted, other + LINE * scale)
        placed.append((begin, begin + width, wanted))
        offset = (GAP, (wanted - height) / scale)
        if beside == "right":
            offset = (-GAP, offset[1])
        axes.annotate(
            text,
            (x, y),
            offset,
            textcoords="offset points",
            ha=beside,
            fontsize=9,
            annotation_clip=False,
        )


def label_plainly(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1: our ranges are too narrow for powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


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


def _theme(text: str) -> str:
    """Fixed colours replaced by the page's."""
    text = text.replace(INK, "currentColor")
    for i, color in enumerate(SERIES, start=1):
        text = text.replace(color, f"var(--series-{i}, {color})")
    return text


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor=PAPER, bbox_inches="tight")
    return buffer.getvalue()
