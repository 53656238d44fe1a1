"""The page of `hotstart demo world-model`: the story in four steps, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..finetuning.outcome import Finetuned
from ..world_model.play import Play
from .audit_page import write_audit
from .dream_demo_film import BeforeAfter
from .dreams_page import write_promises
from .dreams_words import describe_force, describe_promises
from .finetuned_page import write_curve, write_gains, write_ledger
from .finetuned_words import describe_controls, describe_headline, describe_rate
from .page import (
    embed_videos,
    join_parts,
    write_commands,
    write_facts,
    write_note,
    write_page,
)
from .world_view import write_films, write_versions


@dataclass(frozen=True)
class DreamStory:
    """All that the page tells."""

    task: str
    demonstrations: int
    play: Play
    held_out: Play
    audit: Mapping[str, Any]
    refused: str  # why nothing was tuned; empty where it was
    outcome: Finetuned | None  # None where nothing was tuned
    videos: Mapping[Path, str]  # truth and dream, with captions (HTML)
    film: BeforeAfter | None
    facts: Mapping[str, Any]  # of the world model
    seconds: Mapping[str, float]  # by stage
    commands: Sequence[str]


def write_story(path: Path, story: DreamStory) -> Path:
    """Write the page in one piece; it loads nothing. Returns it."""
    sections = [
        write_result(story),
        write_step(1, "A weak policy", describe_base(story)),
        write_step(2, "It plays", describe_play(story)),
        write_step(3, "A world model is learned, and audited", describe_model(story)),
        write_films(story.held_out, story.videos),
        write_audit(story.audit),
        *write_tuning(story),
        write_facts("Time", list_times(story)),
        write_commands(name_commands(story), "The same by hand"),
    ]
    title = f"{story.task}: a policy that was tuned in dreams"
    if story.outcome is None:
        title = f"{story.task}: a world model that may not be tuned in"
    foot = write_versions(story.facts)
    write_page(path, title=title, task=story.task, sections=sections, foot=foot)
    return path


def write_result(story: DreamStory) -> str:
    """What came of it, in large type where there is a gain."""
    outcome = story.outcome
    if outcome is None:
        return write_note(f"Nothing was tuned: {story.refused}")
    large = ""
    gain = outcome["gains"].get("base")
    if gain is not None and gain["success"] is not None:
        points = f"{100 * gain['success']['mean']:+.0f}".replace("-", "\u2212")
        large = f'<div class="rate">{points}<small>points</small></div>\n'
    lead = f'<p class="lead">{escape(describe_headline(outcome))}</p>'
    soft = '<p class="soft">No real step was used for the tuning or to choose a checkpoint.</p>'
    for line in describe_controls(outcome):
        soft += f'\n<p class="soft">{escape(line)}</p>'
    forced = join_parts(map(write_note, describe_force(outcome)))
    return f'{forced}<section class="hero">\n{large}<div>\n{lead}{soft}\n</div>\n</section>'


def write_step(number: int, heading: str, lines: Sequence[str]) -> str:
    """A step of the story: its heading, and a paragraph for each line."""
    text = join_parts(f"<p>{escape(line)}</p>" for line in lines)
    return f"<section>\n<h2>{number}. {heading}</h2>\n{text}\n</section>"


def describe_base(story: DreamStory) -> list[str]:
    """The base, and how good it is."""
    lines = [
        f"A diffusion policy learns from {story.demonstrations} scripted demonstrations by "
        "imitation. They are few on purpose: there shall be room above the policy."
    ]
    if story.outcome is not None:
        base = story.outcome["base"]
        lines.append(f"It succeeds in {describe_rate(base)} of {base['episodes']} fresh episodes.")
    return lines


def describe_play(story: DreamStory) -> list[str]:
    """What was recorded."""
    play = story.play
    count = len(play.episode_ends)
    fulfilled = len(np.unique(play.episode_of[play.reached]))
    disturbed = int(play.explored[play.first].sum())
    return [
        f"The policy acts in {count} episodes, {len(play):,} control periods in all. In "
        f"{disturbed} of them its actions are disturbed by noise and by holding still, or come "
        "from a disturbed demonstrator.",
        f"{fulfilled} episodes fulfil the task. Failures are kept, and an episode goes on for a "
        "while after success: the model must know both sides. These are the last real steps "
        "that anything learns from.",
    ]


def describe_model(story: DreamStory) -> list[str]:
    """What was learned, and why it is judged."""
    return [
        "An ensemble of networks learns where a chunk of actions leads, and a second ensemble "
        "what success looks like. A quarter of the episodes is held out.",
        "An audit asks the held-out episodes whether the model may be trusted. Where it fails, "
        "tuning is refused.",
    ]


def write_tuning(story: DreamStory) -> list[str]:
    """The fourth step with its curves, tables and costs; empty where nothing was tuned."""
    outcome = story.outcome
    if outcome is None:
        return []
    lines = [
        "The policy acts in dreams that begin at recorded steps, and learns from their success by "
        "PPO over its last denoising steps. Dreams that the model is unsure of are cut or cost.",
        *describe_promises(outcome),
    ]
    return [
        write_step(4, "It trains in dreams", lines),
        write_curve(outcome),
        f"<section>\n<h2>Dream against truth</h2>\n{write_promises(outcome)}\n</section>",
        write_gains(outcome),
        write_film(story.film),
        write_ledger(outcome),
    ]


def write_film(film: BeforeAfter | None) -> str:
    """Base and tuned policy in the real task."""
    if film is None:
        return ""
    if film.video is None:
        return write_note(film.caption)
    figures, notes = embed_videos({film.video: escape(film.caption)})
    remarks = join_parts(map(write_note, notes))
    return (
        f'<section class="film">\n<h2>Before and after</h2>\n{join_parts(figures)}\n{remarks}\n'
        "</section>"
    )


def list_times(story: DreamStory) -> dict[str, str]:
    """Wall time of every stage, and of all."""
    times: dict[str, str] = {}
    for name, seconds in story.seconds.items():
        times[name] = f"{seconds / 60:.1f} minutes"
    times["all"] = f"{sum(story.seconds.values()) / 60:.1f} minutes"
    return times


def name_commands(story: DreamStory) -> dict[str, str]:
    """The commands of the stages, in their order."""
    purposes = ("Demonstrations:", "The base:", "Play:", "World model, audit, tuning, comparison:")
    return dict(zip(purposes, story.commands, strict=True))
