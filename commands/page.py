"""What every HTML page shares: frame, style, and the parts that several pages show.

Text that comes from results, checkpoints and file names is escaped here, or by the page that adds
it. A page loads nothing, so it can be mailed, archived and read without a network.
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

from ..evaluation.results import NOT_REPORTED, reports_success, solved_words
from ..system import outputs
from .drawing import to_svg

HERE = Path(__file__).parent
VIDEO_BYTES = 5_500_000
"""Videos of one page together.

Base64 makes a third more of them, and the page is to stay below 8 MB.
"""
NO_RESULT = "Nothing was evaluated yet, so there is no success rate."
MARKS = {
    "success": "\u2713 Success",
    "failure": "\u2715 Failure",
    "unreported": "Success not reported",
}
VIDEO_NAME = re.compile(
    r"(?P<sampler>.+)_(?P<seed>\d+)_(?P<outcome>success|failure|unreported)"
    r"(?:_(?P<score>-?[\d.]+))?"
)
"""The name of an episode's video, without its ending."""
Result = Mapping[str, Any]


def write_page(path: Path, *, title: str, task: str, sections: Iterable[str], foot: str) -> None:
    """Write a page in one piece: `title` and `task` as text, `sections` and `foot` as HTML."""
    page = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        task=escape(task),
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        sections=join_parts(sections),
        foot=foot,
    )
    outputs.write_text(path, page)


def join_parts(parts: Iterable[str]) -> str:
    """The parts that are not empty, each on lines of its own."""
    return "\n".join(filter(None, parts))


def write_headline(found: Sequence[Result], names: Sequence[str]) -> str:
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


def _has_scores(found: Sequence[Result]) -> bool:
    """Whether the score says more than success does."""
    for result in found:
        for episode in result["per_episode"]:
            if episode["score"] != float(bool(episode["success"])):
                return True
    return False


def write_grid(figures: Sequence[str]) -> str:
    """Videos beside each other; few of them are shown larger."""
    kind = "videos"
    if len(figures) < 4:
        kind = "videos few"
    return f'<div class="{kind}">\n{join_parts(figures)}\n</div>'


def embed_videos(captions: Mapping[Path, str]) -> tuple[list[str], list[str]]:
    """Videos with their captions (HTML), as many as the page can carry, and a note on those that
    it cannot.
    """
    figures: list[str] = []
    left_out: list[Path] = []
    room = VIDEO_BYTES
    for video, caption in captions.items():
        data = video.read_bytes()
        if len(data) > room:
            left_out.append(video)
            continue
        room -= len(data)
        source = "data:video/mp4;base64," + base64.b64encode(data).decode()
        tags = "autoplay loop muted playsinline controls"
        shown = f'<video {tags} src="{source}"></video>'
        figures.append(f"<figure>{shown}<figcaption>{caption}</figcaption></figure>")
    if not left_out:
        return figures, []
    count = "1 video was"
    if len(left_out) > 1:
        count = f"{len(left_out)} videos were"
    folders = ", ".join(dict.fromkeys(str(video.parent) for video in left_out))
    return figures, [f"{count} too large for this page; see {folders}."]


def caption_video(video: Path) -> str:
    """How the episode of a video went, and which it was, as the file's name says."""
    parts = VIDEO_NAME.fullmatch(video.stem)
    if not parts:
        return escape(video.stem)
    text = f"seed {parts['seed']}, {parts['sampler']}"
    if parts["score"] is not None:
        text += f", score {parts['score']}"
    return mark_outcome(parts["outcome"], text)


def mark_outcome(outcome: str, text: str) -> str:
    """A badge for the outcome of an episode, a key of `MARKS`, and a text beside it."""
    badge = f'<span class="badge {outcome}">{MARKS[outcome]}</span>'
    return f"{badge} <span>{escape(text)}</span>"


def embed_figure(heading: str, figure: Figure) -> str:
    """A plot under its heading, in the page's colours."""
    drawing = to_svg(figure, prefix=heading.split()[0].lower() + "-", themed=True)
    name = escape(heading)
    return f'<figure role="img" aria-label="{name}"><h3>{name}</h3>{drawing}</figure>'


def write_note(text: str) -> str:
    """A remark for the reader, with `code` set as code."""
    return f'<p class="note">{format_code(text)}</p>'


def write_facts(heading: str, facts: Mapping[str, str]) -> str:
    """Short lines by name."""
    items: list[str] = []
    for name, text in facts.items():
        broken = escape(text).replace("/", "/<wbr>")  # a path may go on in the next line
        items.append(f"<div><dt>{escape(name)}</dt><dd>{broken}</dd></div>")
    return f"<section>\n<h2>{heading}</h2>\n<dl>\n{join_parts(items)}\n</dl>\n</section>"


def write_table(heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table with a line for each name; cells are HTML. A narrow page shows a block for each.

    A name may occur once.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("", *heads))
    lines: list[str] = []
    for name, cells in rows.items():
        columns: list[str] = []
        for text, cell in zip(heads, cells, strict=True):
            columns.append(f'<td data-label="{escape(text)}"><div>{cell}</div></td>')
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{join_parts(columns)}</tr>')
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{join_parts(lines)}\n</tbody>"
    return f'<div class="scroll"><table class="blocks">\n{body}\n</table></div>'


def write_commands(commands: Mapping[str, str], heading: str = "What to try next") -> str:
    """Commands for a shell, each under what it is for."""
    if not commands:
        return ""
    blocks = []
    for purpose, text in commands.items():
        blocks.append(f"<p>{escape(purpose)}</p>\n<pre><code>{escape(text)}</code></pre>")
    head = f'<section class="commands">\n<h2>{heading}</h2>'
    return f"{head}\n{join_parts(blocks)}\n</section>"


def write_foot(found: Sequence[Result]) -> str:
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


def format_code(text: str) -> str:
    """Text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def format_percent(success: Mapping[str, float | None]) -> str:
    """A success rate in percent with its interval."""
    rate = success["rate"]
    low, high = success["low"], success["high"]
    if rate is None or low is None or high is None:
        return NOT_REPORTED
    return f"{100 * rate:.0f} % <small>[{100 * low:.0f}\u2013{100 * high:.0f}]</small>"


def shorten_number(value: float | None, missing: str = "\u2013") -> str:
    """Three digits, or `missing`, a dash, for what was not measured."""
    if value is None:
        return missing
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
