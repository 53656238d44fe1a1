"""The page of a world model: recorded episodes beside imagined ones, and the audit."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..policy.diffusion_policy import DiffusionPolicy
from ..spec import ConfigError
from ..world_model.files import Learned
from ..world_model.latent_view import predict_strip
from ..world_model.play import Play
from ..world_model.traces import (
    Trace,
    choose_episodes,
    trace_dreamed,
    trace_recorded,
    trace_replayed,
)
from .audit_page import write_audit
from .page import (
    embed_figure,
    embed_videos,
    join_parts,
    mark_outcome,
    write_commands,
    write_facts,
    write_note,
    write_page,
)
from .side_by_side import Panel, join_panels
from .trace_film import Stage, build_stage, draw_trace
from .trace_plots import draw_curves
from .video import write_video

PAGE = "page.html"
FPS = 16
"""Pictures a second of a video: slower than the robot, so that an eye can follow."""
STRIP_STEPS = 40
EXPLANATION = (
    "Left: the episode as it was recorded. Then the model is given its first step and all of its "
    "recorded actions. On the right a policy acts in the model, from the same first step. Points "
    "are positions, with the way that they came. Above runs the success model's probability, and a "
    "green line marks success."
)
CURVES_NOTE = (
    "Grey: recorded. Blue: imagined under the recorded actions, a point for every chunk. Dashed "
    "and dotted: the first moment of success, recorded and imagined."
)
STRIP_NOTE = "Recorded pictures above, imagined ones below, under the recorded actions."


@dataclass(frozen=True)
class Shown:
    """What is looked at."""

    learned: Learned
    held_out: Play
    policies: Mapping[str, DiffusionPolicy]  # who dreams, by name
    max_steps: int  # of a dream
    audit: Mapping[str, Any] | None


@dataclass(frozen=True)
class Episode:
    """A held-out episode: recorded, imagined under its actions, and dreamed from its start."""

    number: int
    recorded: Trace
    replayed: Trace
    dreams: Mapping[str, Trace]  # by policy


def write_world_view(shown: Shown, folder: Path, count: int, seed: int, command: str) -> Path:
    """Write page and videos into a folder; returns the page.

    count: episodes to show
    seed: of the policy's noise in its dreams
    """
    episodes = trace_episodes(shown, count, seed)
    videos = film_episodes(shown.held_out, episodes, folder)
    audit = write_note("There is no audit yet: `hotstart world-model audit` judges the model.")
    if shown.audit is not None:
        audit = write_audit(shown.audit)
    sections = [
        audit,
        write_films(shown.held_out, videos),
        *(write_curves(shown.held_out, episode) for episode in episodes),
        write_strips(shown, episodes),
        write_facts("The world model", list_facts(shown.learned)),
        write_commands({"The same page again:": command}, "How it was made"),
    ]
    page = folder / PAGE
    title = f"What the world model imagines, beside {len(episodes)} recorded episodes"
    write_page(
        page,
        title=title,
        task="world model",
        sections=sections,
        foot=write_versions(shown.learned.facts),
    )
    return page


def trace_episodes(shown: Shown, count: int, seed: int) -> list[Episode]:
    """Held-out episodes, recorded and imagined; ConfigError where the play has none to show."""
    play, model = shown.held_out, shown.learned.model
    judge = shown.learned.judge
    numbers = choose_episodes(play, count)
    if not len(numbers):
        raise ConfigError("the held-out play has no episode that begins with its task unfulfilled")
    dreams: dict[str, list[Trace]] = {}
    for name, policy in shown.policies.items():
        dreams[name] = trace_dreamed(policy, model, judge, play, numbers, shown.max_steps, seed)
    found: list[Episode] = []
    for place, number in enumerate(numbers.tolist()):
        recorded = trace_recorded(model, judge, play, number)
        replayed = trace_replayed(model, judge, play, number)
        own = {name: traces[place] for name, traces in dreams.items()}
        found.append(Episode(number, recorded, replayed, own))
    return found


def film_episodes(play: Play, episodes: list[Episode], folder: Path) -> dict[Path, str]:
    """A video of every episode with its caption (HTML); none where there are no positions."""
    stage = build_stage(play)
    found: dict[Path, str] = {}
    if stage is None:
        return found
    for episode in episodes:
        path = folder / f"episode_{episode.number}.mp4"
        pictures = join_panels(list_panels(stage, episode), play.rate_hz)
        write_video(path, pictures, min(FPS, play.rate_hz), title=f"episode {episode.number}")
        found[path] = caption_episode(episode)
    return found


def list_panels(stage: Stage, episode: Episode) -> list[Panel]:
    """Recorded, replayed and dreamed, as panels of one video."""
    shown = {
        "recorded": ("what happened", episode.recorded),
        "imagined": ("the recorded actions", episode.replayed),
    }
    for name, trace in episode.dreams.items():
        shown[name] = ("the policy acts in the model", trace)
    panels: list[Panel] = []
    for title, (subtitle, trace) in shown.items():
        success = trace.success is not None
        panels.append(Panel(draw_trace(stage, trace), title, subtitle, success))
    return panels


def caption_episode(episode: Episode) -> str:
    """How an episode ended, and whether the model agrees, as HTML."""
    outcome = "failure"
    if episode.recorded.success is not None:
        outcome = "success"
    text = f"recorded in episode {episode.number}"
    for name, trace in {"imagined": episode.replayed, **episode.dreams}.items():
        end = "failure"
        if trace.success is not None:
            end = "success"
        text += f"; {name}: {end}"
    return mark_outcome(outcome, text)


def write_films(play: Play, videos: Mapping[Path, str]) -> str:
    """The videos, or why there are none."""
    if not videos:
        return write_note(
            "There are no videos: no position in a plane is named among the observation's parts."
        )
    figures, notes = embed_videos(videos)
    slow = ""
    if play.rate_hz > FPS:
        slow = f" Shown {play.rate_hz / FPS:.3g} times as slow as it was."
    remarks = join_parts(map(write_note, notes))
    return (
        f'<section class="film">\n<h2>Truth and dream</h2>\n<p>{EXPLANATION}{slow}</p>\n'
        f"{join_parts(figures)}\n{remarks}\n</section>"
    )


def write_curves(play: Play, episode: Episode) -> str:
    """An episode's numbers over time."""
    figure = draw_curves(play, episode.recorded, episode.replayed)
    drawing = embed_figure(f"Episode {episode.number}", figure)
    caption = f'<p class="remark">{caption_episode(episode)}. {CURVES_NOTE}</p>'
    return f"<section>\n{drawing}\n{caption}\n</section>"


def write_strips(shown: Shown, episodes: list[Episode]) -> str:
    """Recorded above imagined pictures; empty where the play has none."""
    play = shown.held_out
    if all(key.kind != "image" for key in play.obs_spec.keys.values()):
        return ""
    strips: list[str] = []
    for episode in episodes:
        steps = min(STRIP_STEPS, int(episode.recorded.ticks[-1]))
        strip = predict_strip(shown.learned.model, play, episode.number, steps=steps)
        buffer = io.BytesIO()
        Image.fromarray(strip).save(buffer, format="png")
        source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        caption = f"<figcaption>{caption_episode(episode)}</figcaption>"
        strips.append(f'<figure><img src="{source}" style="width:100%">{caption}</figure>')
    note = f'<p class="remark">{STRIP_NOTE}</p>'
    return f"<section>\n<h2>Pictures</h2>\n{note}\n{join_parts(strips)}\n</section>"


def list_facts(learned: Learned) -> dict[str, str]:
    """What the model is and what it has learned from."""
    play, model = learned.facts["play"], learned.model
    weights = sum(np.prod(weight.shape) for weight in model.parameters())
    return {
        "dynamics": f"{type(model).__name__}, {model.members} members, {weights / 1e6:.2f} M "
        "parameters",
        "a step": f"{model.jump} control periods at {model.rate_hz:g} Hz",
        "play": f"{play['episodes']} episodes, {play['steps']:,} steps",
        "held out": f"{play['held_out']} episodes",
    }


def write_versions(facts: Mapping[str, Any]) -> str:
    """The versions that a model was trained with."""
    versions = facts.get("versions", {})
    return f"<p>{escape(', '.join(f'{name} {number}' for name, number in versions.items()))}</p>"
