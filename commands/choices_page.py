"""The page on which a person chooses the better of two episodes, pair by pair."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from ..envs.simulated_robot import SimulatedRobot
from ..finetuning.choices import ChoicesWanted
from ..finetuning.preferences import PreferenceSettings
from ..finetuning.tuner import MethodSettings
from ..system import outputs
from .page import HERE, join_parts
from .video import write_video

PAGE = "choose.html"
SIDES = ("left", "right")
BUTTONS = {"left": "Left is better", "same": "Same", "right": "Right is better"}


def list_filmed_rows(settings: MethodSettings) -> range:
    """The rows that a person will want to see: all where one chooses, none otherwise."""
    if isinstance(settings, PreferenceSettings) and settings.by == "file":
        return range(settings.rows)
    return range(0)


def write_choices(wanted: ChoicesWanted, robot: SimulatedRobot, task: str) -> Path:
    """Write the videos of the episodes that the robot's rows have just run, and their page."""
    for row in robot.record_rows:
        frames = robot.frames(row)
        path = wanted.folder / name_video(row // 2, SIDES[row % 2])
        write_video(path, frames, robot.rate_hz, title=f"pair {row // 2}, {SIDES[row % 2]}")
    page = Template((HERE / "choices.html").read_text(encoding="utf-8")).substitute(
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        task=escape(task),
        folder=escape(str(wanted.folder)),
        pairs=join_parts([write_pair(pair) for pair in range(wanted.pairs)]),
    )
    outputs.write_text(wanted.folder / PAGE, page)
    return wanted.folder / PAGE


def name_video(pair: int, side: str) -> str:
    """The file of one episode, beside the page."""
    return f"{pair:03d}_{side}.mp4"


def write_pair(pair: int) -> str:
    """Both videos of a pair and its buttons, as HTML."""
    videos: list[str] = []
    for side in SIDES:
        source = name_video(pair, side)
        videos.append(f'<video autoplay loop muted playsinline controls src="{source}"></video>')
    buttons: list[str] = []
    for word, text in BUTTONS.items():
        buttons.append(f'<button data-word="{word}" aria-pressed="false">{text}</button>')
    return f"""<section>
<h2>Pair {pair}</h2>
<div class="pair">
{join_parts(videos)}
</div>
<div class="answers" data-pair="{pair}">
{join_parts(buttons)}
</div>
</section>"""
