"""The report of a run: one self-contained HTML page with the result, videos, table, plots and what to try next."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.intervals import mcnemar
from ..evaluation.results import NOT_REPORTED, reports_success, solved_words
from ..system import outputs
from . import plots
from .compare import names as names_of

HERE = Path(__file__).parent
VIDEO_BYTES = 5_500_000
"""Videos of one page together; base64 makes a third more of them, and the page is to stay below 8 MB."""
NO_VIDEO = "There is no video: nothing was filmed. Filming needs a GL library; Debian and Ubuntu have `libegl1` and `libosmesa6`."
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
    """Write the page in one piece; it loads nothing, so it can be mailed, archived and read without a network.

    The first result is the headline. `metrics` are records of `metrics.jsonl`; `facts` are short lines on what was done, by
    name; `notes` are remarks for the reader; `figures` are further plots by their headings; `commands` are worth trying next,
    each by what it is for. A video's name may end in `_SEED_success`, `_SEED_failure` or `_SEED_unreported`, and the score.
    """
    names = names_of(results, [Path(str(result["checkpoint"])) for result in results])
    watched, left_out = _videos(videos)
    sections = [
        _headline(results, names),
        _watch(watched, [*notes, *left_out]),
        _done(results, facts),
        _table(results, names),
        _plots(results, names, metrics),
        *(
            f'<section class="plots">\n{_figure(heading, figure)}\n</section>'
            for heading, figure in (figures or {}).items()
        ),
        _meaning(results, names),
        _next(commands or {}),
    ]
    page = Template((HERE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        task=escape(task),
        css=(HERE / "report.css").read_text(encoding="utf-8"),
        sections="\n".join(section for section in sections if section),
        foot=_foot(results),
    )
    outputs.write_text(path, page)


def _headline(found: Sequence[Result], names: Sequence[str]) -> str:
    """The success rate in large type, with its interval as words and as a strip."""
    if not found:
        return '<section><p class="note">Nothing was evaluated yet, so there is no success rate.</p></section>'
    success, score = found[0]["success"], found[0]["score"]
    mean = (
        f"Mean score {score['mean']:.3f}, 95 % interval {score['low']:.3f} to {score['high']:.3f}."
    )
    if not reports_success(found[0]):
        lead = f"The mean score of {found[0]['episodes']} evaluated episodes; success is {NOT_REPORTED}."
        sampler = f'<p class="soft">{mean} Way of inference: {escape(names[0])}.</p>'
        number = f'<div class="rate">{score["mean"]:.3g}</div>'
        return f'<section class="hero">\n{number}\n<div>\n<p class="lead">{lead}</p>\n{sampler}\n</div>\n</section>'
    low, high, rate = (100 * success[key] for key in ("low", "high", "rate"))
    if _scored(found):
        more = f'\n<p class="soft">{mean}</p>'
    else:
        more = ""
    solved = solved_words(found[0])
    more += f'\n<p class="soft">{escape(solved)}.</p>' if solved else ""
    return f"""<section class="hero">
<div class="rate">{rate:.0f}<small>%</small></div>
<div>
<p class="lead">of {found[0]["episodes"]} evaluated episodes succeeded, seeds from {found[0]["seed"]} on.</p>
<p class="soft">95 % interval: {low:.0f} to {high:.0f} %. Way of inference: {escape(names[0])}.</p>{more}
<div class="strip" role="img" aria-label="Success rate {rate:.0f} %, 95 % interval {low:.0f} to {high:.0f} %">
<i class="all"></i><i class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>
<i class="point" style="left:{rate:.1f}%"></i>
<span>0</span><span>100 %</span></div>
</div>
</section>"""


def _watch(figures: Sequence[str], notes: Sequence[str]) -> str:
    """Videos, and the notes under them."""
    if not figures and not any("video" in note.lower() for note in notes):
        notes = [NO_VIDEO, *notes]
    if len(figures) < 4:
        kind = "videos few"
    else:
        kind = "videos"
    if figures:
        shown = f'<h2>Watch it</h2>\n<div class="{kind}">\n' + "\n".join(figures) + "\n</div>"
    else:
        shown = ""
    remarks = "\n".join(f'<p class="note">{_inline(note)}</p>' for note in notes)
    if shown or remarks:
        return f"<section>\n{shown}\n{remarks}\n</section>"
    return ""


def _videos(videos: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Figures with the videos inside, as many as the page can carry, and a note on those that it cannot."""
    figures, left_out, room = [], [], VIDEO_BYTES
    for video in videos:
        data = video.read_bytes()
        if len(data) > room:
            left_out.append(video)
            continue
        room -= len(data)
        source = "data:video/mp4;base64," + base64.b64encode(data).decode()
        tags = "autoplay loop muted playsinline controls"
        figures.append(
            f'<figure><video {tags} src="{source}"></video><figcaption>{_caption(video)}</figcaption></figure>'
        )
    if len(left_out) == 1:
        many = "1 video was"
    else:
        many = f"{len(left_out)} videos were"
    where = ", ".join(dict.fromkeys(str(video.parent) for video in left_out))
    return figures, [f"{many} too large for this page; see {where}."] if left_out else []


def _caption(video: Path) -> str:
    """How the episode went, and which it was."""
    parts = re.fullmatch(r"(.+)_(\d+)_(success|failure|unreported)(?:_(-?[\d.]+))?", video.stem)
    if not parts:
        return escape(video.stem)
    sampler, seed, outcome, score = parts.groups()
    mark = {
        "success": "\u2713 Success",
        "failure": "\u2715 Failure",
        "unreported": "Success not reported",
    }[outcome]
    if score is None:
        said = ""
    else:
        said = f", score {score}"
    return f'<span class="badge {outcome}">{mark}</span> <span>seed {seed}, {escape(sampler)}{said}</span>'


def _done(found: Sequence[Result], facts: Mapping[str, str]) -> str:
    """What was done, in a few short lines."""
    lines = dict(facts)
    if found:
        minutes = sum(result.get("wall_seconds") or 0 for result in found) / 60
        if len(found) == 1:
            samplers = "1 sampler"
        else:
            samplers = f"{len(found)} samplers"
        if "everything" in lines:
            whole = {"everything": lines.pop("everything")}
        else:
            whole = {}
        lines["evaluation"] = (
            f"{sum(r['episodes'] for r in found)} episodes, {samplers}, {minutes:.1f} minutes"
        )
        lines |= whole
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in lines.items()
    )
    if lines:
        return f"<section>\n<h2>What was done</h2>\n<dl>\n{items}\n</dl>\n</section>"
    return ""


def _table(found: Sequence[Result], names: Sequence[str]) -> str:
    """Every sampler with its success, score and cost."""
    if not found:
        return ""
    heads = (
        "",
        "success",
        "score",
        "NFE per plan",
        "call p50",
        "call p95",
        "per second<br>of motion",
    )
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = "\n".join(_table_row(result, name) for result, name in zip(found, names, strict=True))
    return f"""<section>
<h2>One checkpoint, every way of running it</h2>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="remark">In brackets: 95 % intervals (Wilson for success, bootstrap for the score).
NFE: denoiser evaluations of a plan. {_rows_remark(found)}</p>
</section>"""


def _table_row(result: Result, name: str) -> str:
    success, score, ms, nfe = (result[key] for key in ("success", "score", "inference_ms", "nfe"))
    if nfe["warm"] is None:
        later = nfe["cold"]
    else:
        later = nfe["warm"]
    if later == nfe["cold"]:
        plan = _short(later)
    else:
        plan = f"{_short(nfe['cold'])} then {_short(later)}"
    cells = (
        _percent(success),
        f"{score['mean']:.3f} <small>[{score['low']:.3f}, {score['high']:.3f}]</small>",
        plan,
        *(f"{_short(ms[key])} ms" for key in ("p50", "p95", "per_second_of_motion")),
    )
    return (
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _percent(success: Mapping[str, float | None]) -> str:
    """A success rate in percent with its interval."""
    rate, low, high = (success[key] for key in ("rate", "low", "high"))
    if rate is None or low is None or high is None:
        return NOT_REPORTED
    return f"{100 * rate:.0f} % <small>[{100 * low:.0f}\u2013{100 * high:.0f}]</small>"


def _rows_remark(found: Sequence[Result]) -> str:
    """How many robots one call plans for: without it the milliseconds mean nothing."""
    rows = found[0]["inference_ms"].get("rows")
    if rows is None:
        return ""
    if rows < 1.5:
        return "A call plans for one robot."
    return (
        f"A call plans for many robots at once, {rows:.0f} on average; the last column is one robot's share, "
        "so a single robot's call costs more than that."
    )


def _plots(
    found: Sequence[Result], names: Sequence[str], metrics: Sequence[Mapping[str, float]]
) -> str:
    """Success, latency and learning, side by side where there is room."""
    if any(map(reports_success, found)):
        measure = "success"
    else:
        measure = "score"
    estimates = partial(plots.success_bars, measure=measure)
    if found:
        bars = {measure.capitalize(): estimates, "Inference time": plots.latency_bars}
    else:
        bars = {}
    left = [_figure(heading, draw(found, names)) for heading, draw in bars.items()]
    known = any("loss" in record or "validation_loss" in record for record in metrics)
    if known:
        right = [_figure("Learning curve", plots.learning_curve(metrics))]
    else:
        right = []
    columns = "\n".join(
        "<div>" + "\n".join(column) + "</div>" for column in (left, right) if column
    )
    if columns:
        return f'<section class="plots">\n{columns}\n</section>'
    return ""


def _figure(heading: str, figure: Figure) -> str:
    """A plot under its heading, in the page's colours."""
    drawing = plots.to_svg(figure, prefix=heading.split()[0].lower() + "-", themed=True)
    return f'<figure role="img" aria-label="{heading}"><h3>{heading}</h3>{drawing}</figure>'


def _meaning(found: Sequence[Result], names: Sequence[str]) -> str:
    """The figures in plain words."""
    if not found:
        return ""
    first = found[0]
    if not all(map(reports_success, found)):
        return ""
    low, high = (100 * first["success"][key] for key in ("low", "high"))
    lines = [
        f"With {first['episodes']} episodes, a true success rate between {low:.0f} and {high:.0f} % fits what was seen. "
        "Four times as many episodes halve that range."
    ]
    others = zip(found[1:], names[1:], strict=True)
    lines += [
        line for result, name in others if (line := _difference(result, name, first, names[0]))
    ]
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section>\n<h2>What this means</h2>\n<ul>\n{items}\n</ul>\n</section>"


def _difference(result: Result, name: str, first: Result, first_name: str) -> str:
    """One sampler against the headline's, on the seeds that both have: success, then cost."""
    ours, theirs = (
        {e["seed"]: e["success"] for e in one["per_episode"]} for one in (result, first)
    )
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return ""
    test = mcnemar([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    points, low, high = (100 * value for value in test.difference)
    if test.p >= 0.05:
        text = f"{name} and {first_name} cannot be told apart by success on the same {len(seeds)} scenes"
    else:
        if points > 0:
            more = "more"
        else:
            more = "less"
        text = f"{name} succeeded {more} often than {first_name} on the same {len(seeds)} scenes"
    range_text = f"{points:+.0f} points, 95 % interval {low:+.0f} to {high:+.0f}".replace(
        "-", "\u2212"
    )
    text += f" (difference {range_text}, p = {test.p:.2g})"
    return text + _cost(result["inference_ms"], first["inference_ms"], first_name)


def _cost(ours: Mapping[str, Any], theirs: Mapping[str, Any], first_name: str) -> str:
    """How much longer or shorter a call takes; nothing where calls served other numbers of rows, or too few were made."""
    known = all(
        ms.get(key) for ms in (ours, theirs) for key in ("p50", "p50_low", "p50_high", "rows")
    )
    if not known or not 0.9 < ours["rows"] / theirs["rows"] < 1.1:
        return "."
    counted = f"medians of {ours['calls']} and {theirs['calls']} calls"
    if ours["p50_low"] <= theirs["p50_high"] and theirs["p50_low"] <= ours["p50_high"]:
        return f"; how long their calls take cannot be told apart ({counted})."
    times = ours["p50"] / theirs["p50"]
    low, high = ours["p50_low"] / theirs["p50_high"], ours["p50_high"] / theirs["p50_low"]
    return f"; its calls took {times:.2g} times as long as those of {first_name} ({low:.2g} to {high:.2g}, {counted})."


def _next(commands: Mapping[str, str]) -> str:
    """Commands worth trying now."""
    if not commands:
        return ""
    blocks = "\n".join(
        f"<p>{escape(why)}</p>\n<pre><code>{escape(text)}</code></pre>"
        for why, text in commands.items()
    )
    return f'<section class="commands">\n<h2>What to try next</h2>\n{blocks}\n</section>'


def _foot(found: Sequence[Result]) -> str:
    """Machine, versions, date and checkpoint."""
    if not found:
        return "<p>Written by hotstart.</p>"
    machine, versions = found[0].get("machine") or {}, found[0]["versions"]
    if machine:
        cores = f"{machine['cpu']}, {machine['cores']} cores, inference on {machine['device']}"
    else:
        cores = "Machine not recorded"
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    if found[0].get("date"):
        when = f"{str(found[0].get('date', ''))[:10]} \u00b7 "
    else:
        when = ""
    checkpoint = f"Seeds from {found[0]['seed']} \u00b7 checkpoint {found[0]['checkpoint']}"
    return f"<p>{escape(when + cores)}</p>\n<p>{escape(checkpoint)}</p>\n<p>{escape(used)}</p>"


def _scored(found: Sequence[Result]) -> bool:
    """Whether the score says more than success does."""
    return any(
        episode["score"] != float(bool(episode["success"]))
        for result in found
        for episode in result["per_episode"]
    )


def _inline(text: str) -> str:
    """Text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _short(value: float | None) -> str:
    """Three digits, or a dash for what was not measured."""
    if value is None:
        return "\u2013"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
