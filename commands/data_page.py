"""The page of a data set: what it holds, some of its episodes, statistics, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..datasets.checks.verify import Report, examine
from ..datasets.choosing import find_successes, list_instructions
from ..datasets.editing import folder_bytes
from ..datasets.episodes import Dataset, count_steps, episode_slice, lengths_of
from ..datasets.selection import Piece, choose_episodes, read_origin, select
from ..datasets.statistics import Statistics, dataset_statistics
from ..spec import DataError, IntArray
from . import next_steps
from .data_plots import (
    choose_stride,
    draw_curves,
    draw_lengths,
    embed_strip,
    film_episode,
    list_cameras,
    name_numbers,
    read_times,
)
from .drawing import to_svg
from .page import (
    embed_figure,
    embed_videos,
    join_parts,
    mark_outcome,
    write_commands,
    write_facts,
    write_foot,
    write_grid,
    write_note,
    write_page,
    write_table,
)
from .video import write_video

STATISTICS_STEPS = 300_000
"""Steps that statistics are taken from; of more, episodes are drawn."""
MOST_ROWS = 200
"""Numbers that the table of statistics has at most."""
MOST_FINDINGS = 40
Chosen = Mapping[int, str]
"""Episode -> why it is shown."""


@dataclass(frozen=True)
class Shown:
    """What the page is about."""

    dataset: Dataset
    path: Path
    episodes: Chosen
    video: bool


def write_data_page(page: Path, shown: Shown) -> None:
    """Write the page; it loads nothing, and its size is bounded whatever the data set holds."""
    origin = read_origin(shown.dataset)
    sections = [
        _write_overview(shown),
        _write_findings(shown.dataset),
        _write_films(shown),
        _write_episodes(shown),
        _write_statistics(shown.dataset),
        _write_next(shown.path),
    ]
    title = f"{shown.path.name}: {len(shown.dataset.episode_ends)} episodes"
    task = origin.task or "data set"
    write_page(page, title=title, task=task, sections=sections, foot=write_foot([]))


def _write_overview(shown: Shown) -> str:
    """Episodes, hours and keys, and how long episodes last."""
    dataset = shown.dataset
    steps = count_steps(dataset)
    lengths = lengths_of(dataset.episode_ends)
    facts = {
        "episodes": f"{len(lengths)}",
        "steps": f"{steps:,}, {lengths.min()} to {lengths.max()} an episode",
        "duration": f"{steps / dataset.fps / 3600:.2f} h at {dataset.fps:g} Hz",
        "on disk": f"{folder_bytes(shown.path) / 1e6:.1f} MB",
    }
    if "success" in dataset.keys:
        succeeded = find_successes(dataset)
        facts["success"] = f"{succeeded.sum()} of {len(succeeded)} ({succeeded.mean():.0%})"
    facts |= _tell_origin(dataset)
    rows: dict[str, list[str]] = {}
    for key in dataset.keys:
        spec = dataset.obs_spec.keys.get(key)
        first = dataset.rows(key, 0, 1)
        kind = "extra"
        if spec is not None:
            kind = spec.kind
        elif key == "action":
            kind = "action"
        shape = " x ".join(map(str, first.shape[1:])) or "one number"
        rows[key] = [kind, shape, str(first.dtype)]
    table = write_table(("kind", "shape", "dtype"), rows)
    plot = embed_figure("Lengths", draw_lengths(lengths / dataset.fps))
    plots = f'<section class="plots">\n{plot}\n<div><h3>Keys</h3>{table}</div>\n</section>'
    return join_parts([write_facts("What it holds", facts), plots])


def _tell_origin(dataset: Dataset) -> dict[str, str]:
    """Where it comes from, in what format, and what is done in it."""
    found: dict[str, str] = {}
    origin = read_origin(dataset)
    if origin.source:
        found["from"] = origin.source
    if hasattr(dataset, "format"):
        found["format"] = str(getattr(dataset, "format", ""))
    texts = dict.fromkeys(text for text in list_instructions(dataset) if text)
    if texts:
        told = "; ".join(list(texts)[:5])
        if len(texts) > 5:
            told += f"; and {len(texts) - 5} more"
        found["instructions"] = told
    return found


def list_findings(dataset: Dataset) -> Report:
    """The quick part of verify: bounded time, also for a large data set."""
    return examine(dataset, quick=True)


def _write_findings(dataset: Dataset) -> str:
    """What verify finds, errors first."""
    report = list_findings(dataset)
    lines: list[str] = []
    for finding in report.findings[:MOST_FINDINGS]:
        lines.append(f"<li>{escape(str(finding))}</li>")
    more = len(report.findings) - MOST_FINDINGS
    if more > 0:
        lines.append(f"<li>and {more} more: hotstart data verify lists them</li>")
    if not lines:
        lines.append("<li>nothing</li>")
    looked = f"{report.looked} of {report.episodes} episodes were read."
    parts = [f"<p class='soft'>{looked}</p>", "<ul>", *lines, "</ul>"]
    return f"<section>\n<h2>What verify finds</h2>\n{join_parts(parts)}\n</section>"


def _write_films(shown: Shown) -> str:
    """Small films of the chosen episodes, as many as the page can carry."""
    cameras = list_cameras(shown.dataset)
    if not shown.video or not cameras:
        return ""
    captions: dict[Path, str] = {}
    notes: list[str] = []
    with TemporaryDirectory() as folder:
        for number, reason in shown.episodes.items():
            film = Path(folder) / f"episode_{number}.mp4"
            if _film(shown.dataset, number, film):
                captions[film] = escape(f"episode {number} ({reason})")
            else:
                notes.append(f"Episode {number} is too long to film.")
        figures, said = embed_videos(captions)
    if said:
        notes.append(f"{len(captions) - len(figures)} films had no room on this page.")
    parts = [write_grid(figures), *map(write_note, notes)]
    shows = escape(", ".join(cameras))
    return f"<section>\n<h2>Films: {shows}</h2>\n{join_parts(parts)}\n</section>"


def _film(dataset: Dataset, number: int, path: Path) -> bool:
    """Write a film of an episode at its own speed; false where it is too long."""
    steps = episode_slice(dataset.episode_ends, number)
    stride = choose_stride(dataset, steps)
    if not stride:
        return False
    frames = list(film_episode(dataset, steps, stride))
    write_video(path, frames, max(dataset.fps / stride, 1.0), f"episode {number}")
    return True


def _write_episodes(shown: Shown) -> str:
    """Strips of the cameras and curves of the chosen episodes."""
    parts: list[str] = []
    for number, reason in shown.episodes.items():
        parts.append(_write_episode(shown.dataset, number, reason))
    heading = f"{len(shown.episodes)} of {len(shown.dataset.episode_ends)} episodes"
    return f"<section>\n<h2>{heading}</h2>\n{join_parts(parts)}\n</section>"


def _write_episode(dataset: Dataset, number: int, reason: str) -> str:
    steps = episode_slice(dataset.episode_ends, number)
    length = steps.stop - steps.start
    times = read_times(dataset, steps)
    text = f"{reason}: {length} steps, {times[-1] - times[0]:.2f} s"
    told = list_instructions(select(dataset, [Piece(dataset, steps.start, steps.stop)]))[0]
    if told:
        text += f", {told}"
    said = f"<span>{escape(text)}</span>"
    if "success" in dataset.keys:
        outcome = "failure"
        if dataset.rows("success", steps.start, steps.stop).any():
            outcome = "success"
        said = mark_outcome(outcome, text)
    parts = [f"<h3>Episode {number}</h3>", f"<p>{said}</p>"]
    for key in list_cameras(dataset):
        name = escape(key)
        address = embed_strip(dataset, key, steps)
        parts.append(
            f'<figure><img src="{address}" alt="{name}" style="width:100%">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    drawing = to_svg(draw_curves(dataset, steps), prefix=f"episode{number}-", themed=True)
    parts.append(f'<figure role="img" aria-label="Curves of episode {number}">{drawing}</figure>')
    return join_parts(parts)


def _write_statistics(dataset: Dataset) -> str:
    """Least, greatest, mean and standard deviation of every number of states and actions."""
    used = _draw_episodes(dataset)
    sample = select(dataset, choose_episodes(dataset, used))
    try:
        found = dataset_statistics(sample)
    except DataError as error:
        return f"<section>\n<h2>Statistics</h2>\n{write_note(str(error))}\n</section>"
    rows: dict[str, list[str]] = {}
    for key, statistics in found.items():
        rows |= _list_rows(key, name_numbers(dataset, key), statistics)
    parts = [write_table(("least", "greatest", "mean", "std", "1 %", "99 %"), _cut(rows))]
    if len(rows) > MOST_ROWS:
        parts.append(write_note(f"{len(rows) - MOST_ROWS} more numbers are left out."))
    if len(used) < len(dataset.episode_ends):
        parts.append(write_note(f"Taken from {len(used)} episodes, drawn by chance."))
    return f"<section>\n<h2>Statistics</h2>\n{join_parts(parts)}\n</section>"


def _draw_episodes(dataset: Dataset) -> IntArray:
    """All episodes, or as many as have STATISTICS_STEPS, drawn by chance."""
    lengths = lengths_of(dataset.episode_ends)
    if lengths.sum() <= STATISTICS_STEPS:
        return np.arange(len(lengths))
    order = np.random.default_rng(0).permutation(len(lengths))
    fit = int((np.cumsum(lengths[order]) <= STATISTICS_STEPS).sum())
    return np.sort(order[: max(fit, 1)])


def _list_rows(key: str, names: Sequence[str], found: Statistics) -> dict[str, list[str]]:
    columns = [np.ravel(found[name]) for name in ("min", "max", "mean", "std", "q01", "q99")]
    rows: dict[str, list[str]] = {}
    for dim, name in enumerate(names):
        rows[f"{key}: {name}"] = [f"{column[dim]:.4g}" for column in columns]
    return rows


def _cut(rows: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return dict(list(rows.items())[:MOST_ROWS])


def _write_next(path: Path) -> str:
    """What to do with a data set that was looked at."""
    data = next_steps.write_path(path)
    return write_commands(
        {
            "Every episode checked:": next_steps.write_command("data verify", data),
            "A policy trained on it:": next_steps.write_command("train", data),
        }
    )
