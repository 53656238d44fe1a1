"""The report of a run: one self-contained HTML page with the result, videos, table, plots and what
to try next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from ..evaluation.pairing import compare_successes, share_seeds
from ..evaluation.results import reports_success
from . import plots
from .curves import learning_curve
from .entries import name_results
from .page import (
    Result,
    caption_video,
    embed_figure,
    embed_videos,
    format_percent,
    join_parts,
    shorten_number,
    write_commands,
    write_facts,
    write_foot,
    write_grid,
    write_headline,
    write_note,
    write_page,
)

NO_VIDEO = (
    "There is no video: nothing was filmed. Filming needs a GL library; "
    "Debian and Ubuntu have `libegl1` and `libosmesa6`."
)
HEADS = ("", "success", "score", "NFE per plan", "call p50", "call p95", "per second<br>of motion")


def write_report(
    path: Path,
    *,
    title: str,
    task: str,
    results: Sequence[Result],
    metrics: Sequence[Mapping[str, float]],
    videos: Sequence[Path],
    facts: Mapping[str, str],
    notes: Sequence[str],
    figures: Mapping[str, Figure] | None = None,
    commands: Mapping[str, str] | None = None,
) -> None:
    """Write the page in one piece.

    It loads nothing, so it can be mailed, archived and read without a network.

    The first result is the headline. `metrics` are records of `metrics.jsonl`; `facts` are short
    lines on what was done, by name; `notes` are remarks for the reader; `figures` are further plots
    by their headings; `commands` are worth trying next, each by what it is for. A video's name may
    end in `_SEED_success`, `_SEED_failure` or `_SEED_unreported`, and the score.
    """
    names = name_results(results, [Path(str(result["checkpoint"])) for result in results])
    embedded, remarks = embed_videos({video: caption_video(video) for video in videos})
    sections = [
        write_headline(results, names),
        _write_videos(embedded, [*notes, *remarks]),
        _write_facts(results, facts),
        _write_table(results, names),
        _write_plots(results, names, metrics),
    ]
    for heading, figure in (figures or {}).items():
        sections.append(f'<section class="plots">\n{embed_figure(heading, figure)}\n</section>')
    sections.append(_write_meaning(results, names))
    sections.append(write_commands(commands or {}))
    write_page(path, title=title, task=task, sections=sections, foot=write_foot(results))


def _write_videos(figures: Sequence[str], notes: Sequence[str]) -> str:
    """Videos, and the notes under them."""
    if not figures and "video" not in " ".join(notes).lower():
        notes = [NO_VIDEO, *notes]
    shown = ""
    if figures:
        shown = f"<h2>Watch it</h2>\n{write_grid(figures)}"
    remarks = join_parts(map(write_note, notes))
    if shown or remarks:
        return f"<section>\n{shown}\n{remarks}\n</section>"
    return ""


def _write_facts(found: Sequence[Result], facts: Mapping[str, str]) -> str:
    """What was done, in a few short lines."""
    lines = dict(facts)
    if found:
        whole = lines.pop("everything", None)
        lines["evaluation"] = _describe_evaluation(found)
        if whole is not None:
            lines["everything"] = whole
    if not lines:
        return ""
    return write_facts("What was done", lines)


def _describe_evaluation(found: Sequence[Result]) -> str:
    """Episodes, samplers and minutes of all results."""
    seconds, episodes = 0.0, 0
    for result in found:
        seconds += result.get("wall_seconds") or 0
        episodes += result["episodes"]
    samplers = "1 sampler"
    if len(found) > 1:
        samplers = f"{len(found)} samplers"
    return f"{episodes} episodes, {samplers}, {seconds / 60:.1f} minutes"


def _write_table(found: Sequence[Result], names: Sequence[str]) -> str:
    """Every sampler with its success, score and cost."""
    if not found:
        return ""
    head = "".join(f'<th scope="col">{text}</th>' for text in HEADS)
    rows = "\n".join(map(_write_row, found, names))
    return f"""<section>
<h2>One checkpoint, every way of running it</h2>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="remark">In brackets: 95 % intervals (Wilson for success, bootstrap for the score).
NFE: denoiser evaluations of a plan. {_describe_rows(found[0])}</p>
</section>"""


def _write_row(result: Result, name: str) -> str:
    score, nfe = result["score"], result["nfe"]
    ms = result["inference_ms"]
    plan = shorten_number(nfe["cold"])
    if nfe["warm"] is not None and nfe["warm"] != nfe["cold"]:
        plan = f"{plan} then {shorten_number(nfe['warm'])}"
    cells = [
        format_percent(result["success"]),
        f"{score['mean']:.3f} <small>[{score['low']:.3f}, {score['high']:.3f}]</small>",
        plan,
    ]
    for key in ("p50", "p95", "per_second_of_motion"):
        cells.append(f"{shorten_number(ms[key])} ms")
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{columns}</tr>'


def _describe_rows(result: Result) -> str:
    """How many robots one call plans for: without it the milliseconds mean nothing."""
    rows = result["inference_ms"].get("rows")
    if rows is None:
        return ""
    if rows < 1.5:
        return "A call plans for one robot."
    return (
        f"A call plans for many robots at once, {rows:.0f} on average; the last column is one "
        "robot's share, so a single robot's call costs more than that."
    )


def _write_plots(
    found: Sequence[Result], names: Sequence[str], metrics: Sequence[Mapping[str, float]]
) -> str:
    """Success, latency and learning, side by side where there is room."""
    columns = []
    if found:
        measure: plots.Measure = "score"
        if any(map(reports_success, found)):
            measure = "success"
        estimates = plots.success_bars(found, names, measure)
        times = plots.latency_bars(found, names)
        left = embed_figure(measure.capitalize(), estimates)
        columns.append(f"<div>{left}\n{embed_figure('Inference time', times)}</div>")
    if any("loss" in record or "validation_loss" in record for record in metrics):
        curve = learning_curve(metrics)
        columns.append(f"<div>{embed_figure('Learning curve', curve)}</div>")
    if columns:
        return f'<section class="plots">\n{join_parts(columns)}\n</section>'
    return ""


def _write_meaning(found: Sequence[Result], names: Sequence[str]) -> str:
    """The figures in plain words."""
    if not found or not all(map(reports_success, found)):
        return ""
    first = found[0]
    low, high = 100 * first["success"]["low"], 100 * first["success"]["high"]
    lines = [
        f"With {first['episodes']} episodes, a true success rate between {low:.0f} and "
        f"{high:.0f} % fits what was seen. Four times as many episodes halve that range."
    ]
    for result, name in zip(found[1:], names[1:], strict=True):
        if share_seeds(result, first):
            lines.append(_describe_difference(result, name, first, names[0]))
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section>\n<h2>What this means</h2>\n<ul>\n{items}\n</ul>\n</section>"


def _describe_difference(result: Result, name: str, first: Result, first_name: str) -> str:
    """One sampler against the headline's, on the seeds that both have: success, then cost."""
    test = compare_successes(result, first)
    scenes = f"on the same {len(share_seeds(result, first))} scenes"
    points = 100 * test.difference.mean
    if test.p >= 0.05:
        text = f"{name} and {first_name} cannot be told apart by success {scenes}"
    elif points > 0:
        text = f"{name} succeeded more often than {first_name} {scenes}"
    else:
        text = f"{name} succeeded less often than {first_name} {scenes}"
    low, high = 100 * test.difference.low, 100 * test.difference.high
    interval = f"{points:+.0f} points, 95 % interval {low:+.0f} to {high:+.0f}"
    interval = interval.replace("-", "\u2212")
    cost = _describe_cost(result["inference_ms"], first["inference_ms"], first_name)
    return f"{text} (difference {interval}, p = {test.p:.2g}){cost}"


def _describe_cost(ours: Result, theirs: Result, first_name: str) -> str:
    """How much longer or shorter a call takes.

    Nothing where calls served other numbers of rows, or too few were made.
    """
    for key in ("p50", "p50_low", "p50_high", "rows"):
        if not ours.get(key) or not theirs.get(key):
            return "."
    if not 0.9 < ours["rows"] / theirs["rows"] < 1.1:
        return "."
    counted = f"medians of {ours['calls']} and {theirs['calls']} calls"
    if ours["p50_low"] <= theirs["p50_high"] and theirs["p50_low"] <= ours["p50_high"]:
        return f"; how long their calls take cannot be told apart ({counted})."
    times = ours["p50"] / theirs["p50"]
    low = ours["p50_low"] / theirs["p50_high"]
    high = ours["p50_high"] / theirs["p50_low"]
    return (
        f"; its calls took {times:.2g} times as long as those of {first_name} "
        f"({low:.2g} to {high:.2g}, {counted})."
    )
