"""The report of a run: one self-contained HTML page with the result, videos, table, plots and what
to try next.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.pairing import compare_successes, share_seeds
from ..evaluation.results import NOT_REPORTED, reports_success, solved_words
from ..system import outputs
from . import plots
from .entries import name_results

HERE = Path(__file__).parent
VIDEO_BYTES = 5_500_000
"""Videos of one page together.

Base64 makes a third more of them, and the page is to stay below 8 MB.
"""
NO_VIDEO = (
    "There is no video: nothing was filmed. Filming needs a GL library; "
    "Debian and Ubuntu have `libegl1` and `libosmesa6`."
)
NO_RESULT = "Nothing was evaluated yet, so there is no success rate."
MARKS = {
    "success": "\u2713 Success",
    "failure": "\u2715 Failure",
    "unreported": "Success not reported",
}
HEADS = ("", "success", "score", "NFE per plan", "call p50", "call p95", "per second<br>of motion")
Result = Mapping[str, Any]


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
    embedded, remarks = _embed_videos(videos)
    sections = [
        _write_headline(results, names),
        _write_videos(embedded, [*notes, *remarks]),
        _write_facts(results, facts),
        _write_table(results, names),
        _write_plots(results, names, metrics),
    ]
    for heading, figure in (figures or {}).items():
        sections.append(f'<section class="plots">\n{_embed_figure(heading, figure)}\n</section>')
    sections.append(_write_meaning(results, names))
    sections.append(_write_commands(commands or {}))
    page = Template((HERE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        task=escape(task),
        css=(HERE / "report.css").read_text(encoding="utf-8"),
        sections=_join(sections),
        foot=_write_foot(results),
    )
    outputs.write_text(path, page)


def _join(parts: Iterable[str]) -> str:
    """The parts that are not empty, each on lines of its own."""
    return "\n".join(filter(None, parts))


def _write_headline(found: Sequence[Result], names: Sequence[str]) -> str:
    """The success rate in large type, with its interval in words and as a strip."""
    if not found:
        return f'<section><p class="note">{NO_RESULT}</p></section>'
    first = found[0]
    success, score = first["success"], first["score"]
    count = first["episodes"]
    mean = (
        f"Mean score {score['mean']:.3f}, 95 % interval {score['low']:.3f} to {score['high']:.3f}."
    )
    if not reports_success(first):
        return f"""<section class="hero">
<div class="rate">{score["mean"]:.3g}</div>
<div>
<p class="lead">The mean score of {count} evaluated episodes; success is {NOT_REPORTED}.</p>
<p class="soft">{mean} Sampler: {escape(names[0])}.</p>
</div>
</section>"""
    low, high = 100 * success["low"], 100 * success["high"]
    rate = 100 * success["rate"]
    more = ""
    if _has_scores(found):
        more = f'\n<p class="soft">{mean}</p>'
    solved = solved_words(first)
    if solved:
        more += f'\n<p class="soft">{escape(solved)}.</p>'
    label = f"Success rate {rate:.0f} %, 95 % interval {low:.0f} to {high:.0f} %"
    return f"""<section class="hero">
<div class="rate">{rate:.0f}<small>%</small></div>
<div>
<p class="lead">of {count} evaluated episodes succeeded, seeds from {first["seed"]} on.</p>
<p class="soft">95 % interval: {low:.0f} to {high:.0f} %. Sampler: {escape(names[0])}.</p>{more}
<div class="strip" role="img" aria-label="{label}">
<i class="all"></i><i class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>
<i class="point" style="left:{rate:.1f}%"></i>
<span>0</span><span>100 %</span></div>
</div>
</section>"""


def _write_videos(figures: Sequence[str], notes: Sequence[str]) -> str:
    """Videos, and the notes under them."""
    if not figures and "video" not in " ".join(notes).lower():
        notes = [NO_VIDEO, *notes]
    kind = "videos"
    if len(figures) < 4:
        kind = "videos few"
    shown = ""
    if figures:
        shown = f'<h2>Watch it</h2>\n<div class="{kind}">\n' + "\n".join(figures) + "\n</div>"
    remarks = "\n".join(f'<p class="note">{_format_code(note)}</p>' for note in notes)
    if shown or remarks:
        return f"<section>\n{shown}\n{remarks}\n</section>"
    return ""


def _embed_videos(videos: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Figures with the videos inside, as many as the page can carry, and a note on those that it
    cannot.
    """
    figures, left_out = [], []
    room = VIDEO_BYTES
    for video in videos:
        data = video.read_bytes()
        if len(data) > room:
            left_out.append(video)
            continue
        room -= len(data)
        source = "data:video/mp4;base64," + base64.b64encode(data).decode()
        tags = "autoplay loop muted playsinline controls"
        caption = f"<figcaption>{_caption_video(video)}</figcaption>"
        figures.append(f'<figure><video {tags} src="{source}"></video>{caption}</figure>')
    if not left_out:
        return figures, []
    count = "1 video was"
    if len(left_out) > 1:
        count = f"{len(left_out)} videos were"
    folders = ", ".join(dict.fromkeys(str(video.parent) for video in left_out))
    return figures, [f"{count} too large for this page; see {folders}."]


def _caption_video(video: Path) -> str:
    """How the episode went, and which it was."""
    parts = re.fullmatch(r"(.+)_(\d+)_(success|failure|unreported)(?:_(-?[\d.]+))?", video.stem)
    if not parts:
        return escape(video.stem)
    outcome, score = parts[3], parts[4]
    text = f"seed {parts[2]}, {escape(parts[1])}"
    if score is not None:
        text += f", score {score}"
    return f'<span class="badge {outcome}">{MARKS[outcome]}</span> <span>{text}</span>'


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
    items = []
    for name, text in lines.items():
        items.append(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>")
    return f"<section>\n<h2>What was done</h2>\n<dl>\n{_join(items)}\n</dl>\n</section>"


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
    plan = _shorten(nfe["cold"])
    if nfe["warm"] is not None and nfe["warm"] != nfe["cold"]:
        plan = f"{plan} then {_shorten(nfe['warm'])}"
    cells = [
        _format_percent(result["success"]),
        f"{score['mean']:.3f} <small>[{score['low']:.3f}, {score['high']:.3f}]</small>",
        plan,
    ]
    for key in ("p50", "p95", "per_second_of_motion"):
        cells.append(f"{_shorten(ms[key])} ms")
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{columns}</tr>'


def _format_percent(success: Mapping[str, float | None]) -> str:
    """A success rate in percent with its interval."""
    rate = success["rate"]
    low, high = success["low"], success["high"]
    if rate is None or low is None or high is None:
        return NOT_REPORTED
    return f"{100 * rate:.0f} % <small>[{100 * low:.0f}\u2013{100 * high:.0f}]</small>"


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
        left = _embed_figure(measure.capitalize(), estimates)
        columns.append(f"<div>{left}\n{_embed_figure('Inference time', times)}</div>")
    if any("loss" in record or "validation_loss" in record for record in metrics):
        curve = plots.learning_curve(metrics)
        columns.append(f"<div>{_embed_figure('Learning curve', curve)}</div>")
    if columns:
        return f'<section class="plots">\n{_join(columns)}\n</section>'
    return ""


def _embed_figure(heading: str, figure: Figure) -> str:
    """A plot under its heading, in the page's colours."""
    drawing = plots.to_svg(figure, prefix=heading.split()[0].lower() + "-", themed=True)
    return f'<figure role="img" aria-label="{heading}"><h3>{heading}</h3>{drawing}</figure>'


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


def _describe_cost(ours: Mapping[str, Any], theirs: Mapping[str, Any], first_name: str) -> str:
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


def _write_commands(commands: Mapping[str, str]) -> str:
    """Commands worth trying now."""
    if not commands:
        return ""
    blocks = []
    for purpose, text in commands.items():
        blocks.append(f"<p>{escape(purpose)}</p>\n<pre><code>{escape(text)}</code></pre>")
    head = '<section class="commands">\n<h2>What to try next</h2>'
    return f"{head}\n{_join(blocks)}\n</section>"


def _write_foot(found: Sequence[Result]) -> str:
    """Machine, versions, date and checkpoint."""
    if not found:
        return "<p>Written by hotstart.</p>"
    first = found[0]
    machine = first.get("machine")
    text = "Machine not recorded"
    if machine:
        text = f"{machine['cpu']}, {machine['cores']} cores, inference on {machine['device']}"
    if first.get("date"):
        text = f"{str(first['date'])[:10]} \u00b7 {text}"
    used = ", ".join(f"{name} {number}" for name, number in first["versions"].items())
    checkpoint = f"Seeds from {first['seed']} \u00b7 checkpoint {first['checkpoint']}"
    return f"<p>{escape(text)}</p>\n<p>{escape(checkpoint)}</p>\n<p>{escape(used)}</p>"


def _has_scores(found: Sequence[Result]) -> bool:
    """Whether the score says more than success does."""
    for result in found:
        for episode in result["per_episode"]:
            if episode["score"] != float(bool(episode["success"])):
                return True
    return False


def _format_code(text: str) -> str:
    """Text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _shorten(value: float | None) -> str:
    """Three digits, or a dash for what was not measured."""
    if value is None:
        return "\u2013"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
