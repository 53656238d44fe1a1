"""The demo's report: one self-contained HTML page with figure, film, tables and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from ..evaluation.intervals import Interval
from ..evaluation.pairing import read_jerks
from . import plots
from .curves import learning_curve
from .demo_claims import (
    JERK,
    MINUS,
    SECONDS,
    describe_number,
    describe_success,
    estimate,
    read_seconds,
    subtract_success,
)
from .demo_film import Film
from .demo_plots import draw_charged, draw_evaluations, name_row
from .demo_rows import DemoRow, Result
from .page import (
    embed_figure,
    embed_videos,
    format_percent,
    join_parts,
    shorten_number,
    write_commands,
    write_facts,
    write_foot,
    write_note,
    write_page,
    write_table,
)

BASE = "ddim-10"
"""The sampler that the others are compared with, where it was evaluated."""
HEADS = (
    "NFE of a plan",
    "charged for it",
    "success",
    "difference",
    "time to end [s]",
    "jerk [1/s\u00b2]",
    "n",
)
CALLS = "Planning call for all running episodes at once, on this machine"
NO_VIDEO = "There is no video: filming needs a GL library (`libegl1` or `libosmesa6` on Debian)."


@dataclass(frozen=True)
class DemoReport:
    """What the page tells."""

    title: str
    task: str
    found: Mapping[DemoRow, Result]
    evaluation_ms: float
    metrics: Sequence[Mapping[str, float]]
    film: Film | None
    facts: Mapping[str, str]
    commands: Mapping[str, str]
    notes: Sequence[str] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)


def write_demo(path: Path, report: DemoReport) -> None:
    """Write the page in one piece; it loads nothing."""
    sections = [
        _write_headline(report),
        _write_film(report.film, report.notes),
        _write_table(report),
        _write_details(report),
        write_facts("What was done", report.facts),
        write_commands(report.commands),
    ]
    foot = write_foot(list(report.found.values()))
    write_page(path, title=report.title, task=report.task, sections=sections, foot=foot)


def find_base(row: DemoRow, found: Mapping[DemoRow, Result]) -> DemoRow | None:
    """The row that a row is compared with.

    Without charged time it is DDIM-10, with it DDIM-10 whose controller waits; None for these.
    """
    base = DemoRow(BASE)
    if row.planner:
        base = DemoRow(BASE, "sync")
    if base == row or base not in found:
        return None
    return base


def find_fresh(row: DemoRow, found: Mapping[DemoRow, Result]) -> DemoRow | None:
    """DDIM with the steps and the controller of a warm start: the simplest row at its cost.

    None for other rows, and where it was not evaluated.
    """
    name, steps = row.sampler.rsplit("-", 1)
    fresh = DemoRow(f"ddim-{steps}", row.planner)
    if name == "rti" and fresh in found:
        return fresh
    return None


def _write_headline(report: DemoReport) -> str:
    """Both figures, each with the sentences that its differences bear out."""
    parts = []
    free = {row: result for row, result in report.found.items() if not row.planner}
    charged = {row: result for row, result in report.found.items() if row.planner}
    if free:
        figure = embed_figure("Success against evaluations", draw_evaluations(report.found))
        parts.append(_write_column(figure, free, report))
    if charged:
        heading = f"Success when each evaluation takes {report.evaluation_ms:g} ms"
        figure = embed_figure(heading, draw_charged(report.found))
        parts.append(_write_column(figure, charged, report))
    return f'<section class="plots headline">\n{join_parts(parts)}\n</section>'


def _write_column(figure: str, rows: Mapping[DemoRow, Result], report: DemoReport) -> str:
    """A figure with its sentences."""
    lines = []
    for row, result in rows.items():
        for other in (find_base(row, report.found), find_fresh(row, report.found)):
            if other is not None:
                against = report.found[other]
                lines.append(describe_success(result, name_row(row), against, name_row(other)))
    return f"<div>{figure}\n{_write_list(lines)}</div>"


def _write_list(lines: Sequence[str]) -> str:
    """Sentences as a list."""
    if not lines:
        return ""
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>\n{items}\n</ul>"


def _write_film(film: Film | None, notes: Sequence[str]) -> str:
    """The video, or why there is none."""
    remarks = join_parts(map(write_note, notes))
    if film is None:
        return f"<section>\n{remarks or write_note(NO_VIDEO)}\n</section>"
    caption = f"{escape(film.caption)} As a GIF: {escape(str(film.gif))}"
    shown, left_out = embed_videos({film.video: caption})
    remarks = join_parts([remarks, *map(write_note, left_out)])
    return f"""<section class="film">
<h2>The same seed, fresh and warm</h2>
{join_parts(shown)}
{remarks}
</section>"""


def _write_table(report: DemoReport) -> str:
    """Every row with its numbers and intervals."""
    rows = {name_row(row): _list_cells(row, report) for row in report.found}
    return f"""<section>
<h2>One checkpoint, every sampler</h2>
{write_table(HEADS, rows)}
<p class="remark">In brackets: 95 % intervals (Wilson for success, Newcombe for paired differences,
bootstrap for means). Differences in success are in percentage points to DDIM-10 on the same seeds;
with charged time, to DDIM-10 (waits). A controller that waits holds while its plan is made; one
that asks early executes the plan before. NFE: denoiser evaluations. An episode ends at success or
at its last tick. Jerk: root mean square over an episode, in normalised units of the training
data's actions; less is smoother.</p>
</section>"""


def _list_cells(row: DemoRow, report: DemoReport) -> list[str]:
    """One line of the table."""
    result = report.found[row]
    nfe = result["nfe"]
    later = nfe["warm"]
    if later is None:
        later = nfe["cold"]
    base, difference = find_base(row, report.found), "\u2013"
    if base is not None:
        value = subtract_success(result, report.found[base])
        difference = _write_mean(value, 0, "+")
    return [
        f"{shorten_number(nfe['cold'])} then {shorten_number(later)}",
        f"{shorten_number(1000 * result['latency_s'])} ms",
        format_percent(result["success"]),
        difference,
        _write_mean(estimate(result, read_seconds), 2),
        _write_mean(estimate(result, read_jerks), 0),
        str(result["episodes"]),
    ]


def _write_mean(value: Interval | None, digits: int, sign: str = "") -> str:
    """A number with its interval as a cell."""
    if value is None:
        return "\u2013"
    numbers = [f"{number:{sign}.{digits}f}".replace("-", MINUS) for number in value]
    return f"{numbers[0]} <small>[{numbers[1]}, {numbers[2]}]</small>"


def _write_details(report: DemoReport) -> str:
    """What differs beside success, and the plots of speed and learning."""
    lines = _compare_details(report)
    free = [row for row in report.found if not row.planner]
    columns: list[str] = []
    if free:
        times = plots.latency_bars([report.found[row] for row in free], list(map(name_row, free)))
        columns.append(f"<div>{embed_figure(CALLS, times)}</div>")
    if any("loss" in record or "validation_loss" in record for record in report.metrics):
        curve = learning_curve(report.metrics)
        columns.append(f"<div>{embed_figure('Learning curve', curve)}</div>")
    for heading, figure in report.figures.items():
        columns.append(f"<div>{embed_figure(heading, figure)}</div>")
    return f"""<section>
<h2>Time and smoothness</h2>
{_write_list(lines)}
<div class="plots">
{join_parts(columns)}
</div>
</section>"""


def _compare_details(report: DemoReport) -> list[str]:
    """Sentences on the time to the end and the jerk of every row, and on what the charge costs."""
    lines = []
    for row, result in report.found.items():
        base = find_base(row, report.found)
        free = DemoRow(row.sampler)
        if row.planner == "sync" and free in report.found:
            without = f"{free.sampler.upper()} without charged time"
            lines.append(describe_success(result, name_row(row), report.found[free], without))
        if base is None:
            continue
        names = (result, name_row(row), report.found[base], name_row(base))
        for measure in (SECONDS, JERK):
            lines.append(describe_number(measure, *names))
    return [line for line in lines if line]
