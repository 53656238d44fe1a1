"""Base and tuned policy on one seed of the real task, beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..envs.registry import list_options, options_of
from ..envs.simulated_robot import SimulatedRobot
from ..evaluation import results
from ..policy import checkpoint
from ..spec import HotstartError
from .after_finetuning import Contender
from .demo_film import PANEL_PX, choose_seed
from .evaluate import choose_task, evaluate
from .side_by_side import Panel, join_panels
from .video import write_video
from .world_view import FPS


@dataclass(frozen=True)
class BeforeAfter:
    """A video of two policies in the real task, and what it shows."""

    video: Path | None  # None where it could not be filmed
    caption: str


def film_before_after(base: Contender, tuned: Contender, folder: Path) -> BeforeAfter:
    """Run both again on a seed on which they end differently, and film them."""
    found = {each.name: results.load(each.out) for each in (base, tuned)}
    seed, _ = choose_seed(found[base.name], found[tuned.name])
    task = choose_task(
        base.config, checkpoint.read_meta(checkpoint.find(base.config["checkpoint"]))
    )
    options = options_of(task)
    if "render_size" in list_options(task["env"]):
        options = {**options, "render_size": PANEL_PX}
    panels: list[Panel] = []
    try:
        with SimulatedRobot(task["env"], options, 1, 0, (0,)) as robot:
            for each in (base, tuned):
                own = {**each.config, "seed": seed, "episodes": 1, "num_envs": 1, "out": ""}
                result, _ = evaluate(own, shared=robot)
                success = bool(result["per_episode"][0]["success"])
                panels.append(Panel(robot.frames(0), each.name, "in the real task", success))
            rate_hz = robot.rate_hz
    except HotstartError as error:
        return BeforeAfter(None, f"There is no video of the real task: {error}")
    path = folder / "before_after.mp4"
    write_video(path, join_panels(panels, rate_hz), min(2 * FPS, rate_hz), title="base and tuned")
    return BeforeAfter(path, f"Seed {seed} of the final evaluation, in the real task.")
