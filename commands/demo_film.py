"""The demo's moving picture: two samplers on one seed, beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.registry import options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation.pairing import list_episodes, share_seeds
from . import evaluate
from .demo_rows import DemoRow, Result, compose_row, count_evaluations, write_charges
from .processes import worker_count
from .side_by_side import Panel, join_panels
from .video import write_gif, write_video

PANEL_PX = 360
GIF_PX = 480
GIF_EVERY = 2
"""Of so many frames of the video one is in the GIF."""


@dataclass(frozen=True)
class Film:
    """A video and a GIF of the same frames, and what they show."""

    video: Path
    gif: Path
    caption: str


def choose_pair(rows: Sequence[DemoRow]) -> list[DemoRow]:
    """The first two rows whose controllers wait for their charged plans; fewer where there are
    none.
    """
    return [row for row in rows if row.planner == "sync"][:2]


def film_pair(
    pair: Sequence[DemoRow],
    found: Mapping[DemoRow, Result],
    config: Mapping[str, Any],
    folder: Path,
) -> Film:
    """Run two rows again on one seed and film them."""
    first, second = found[pair[0]], found[pair[1]]
    seed, reason = choose_seed(first, second)
    write_charges(config, found, folder)
    options = {**options_of(config["task"]), "render_size": PANEL_PX}
    panels = []
    workers = min(1, worker_count(config["workers"]))
    with SimulatedRobot(config["task"]["env"], options, 1, workers, (0,)) as robot:
        for row in pair:
            panels.append(_film_row(row, seed, robot, found, config, folder))
        rate_hz = robot.rate_hz
    frames = join_panels(panels, rate_hz)
    film = Film(folder / "side_by_side.mp4", folder / "side_by_side.gif", reason)
    write_video(film.video, frames, rate_hz, title=f"{panels[0].title} and {panels[1].title}")
    write_gif(film.gif, frames[::GIF_EVERY], rate_hz / GIF_EVERY, GIF_PX)
    return film


def _film_row(
    row: DemoRow,
    seed: int,
    robot: SimulatedRobot,
    found: Mapping[DemoRow, Result],
    config: Mapping[str, Any],
    folder: Path,
) -> Panel:
    """One episode of a row."""
    own = {**compose_row(row, config, folder), "seed": seed, "episodes": 1, "num_envs": 1}
    result, _ = evaluate.evaluate({**own, "out": ""}, shared=robot)
    evaluations = count_evaluations(row.sampler, found)[1]
    charged_ms = evaluations * config["evaluation_ms"]
    subtitle = f"{evaluations:g} evaluations, {charged_ms:g} ms a plan"
    success = bool(result["per_episode"][0]["success"])
    return Panel(robot.frames(0), row.sampler.upper(), subtitle, success)


def choose_seed(first: Result, second: Result) -> tuple[int, str]:
    """The first seed on which the outcomes differ, or the first of all, and why it was chosen."""
    ours, theirs = list_episodes(first), list_episodes(second)
    seeds = share_seeds(first, second)
    differ = [seed for seed in seeds if ours[seed]["success"] != theirs[seed]["success"]]
    if not differ:
        return seeds[0], f"Seed {seeds[0]}, the first one; on all {len(seeds)} both end alike."
    only_first = sum(bool(ours[seed]["success"]) for seed in differ)
    return differ[0], (
        f"Seed {differ[0]}, the first of {len(seeds)} on which the outcomes differ. "
        f"Only {first['inference'].upper()} succeeded on {only_first}, "
        f"only {second['inference'].upper()} on {len(differ) - only_first}."
    )
