"""How fast robosuite's tasks reset, step and draw here, beside robosuite as it comes, in turns in
one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..arms.rendering import SceneRenderer
from ..envs.cameras import Cameras
from ..envs.registry import make
from ..envs.robosuite.env import RobosuiteEnv
from ..envs.robosuite.models import Picture, load_robosuite
from ..spec import option


@dataclass
class Options:
    """Time resets, steps and frames, in turns, so that a busy moment hits both; medians."""

    task: str = option("lift", "a robosuite task")
    camera: str = option("agentview", "the camera whose frames are drawn")
    size: int = option(84, "side of a frame, in pixels")
    turns: int = option(5, "turns")
    steps: int = option(40, "steps and frames in a turn")


def run(options: Options) -> None:
    """Print a line per kind of work: ours, robosuite's own, and how many times faster ours is."""
    ours = cast(RobosuiteEnv, make(options.task))
    ours.reset(seed=0)
    suite = load_robosuite()
    plain = suite.make(
        type(ours).task,
        robots="Panda",
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=True,
    )
    plain.reset()
    cheap, costly = _drawing(ours, plain, options)
    seeds = iter(range(10_000))
    action = np.zeros(ours.action_spec.width)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
        # Frames first: robosuite's reset ends the display that every drawing surface of the process
        # belongs to.
        f"frame {options.size}x{options.size}": (cheap, costly, options.steps),
        "step": (lambda: ours.step(action), lambda: plain.step(action), options.steps),
        "reset that fixes the model": (lambda: ours.reset(seed=next(seeds)), plain.reset, 1),
    }
    print(f"{'':<30}{'ours':>14}{'robosuite':>14}{'ratio':>8}")
    for name, (our_work, their_work, count) in pairs.items():
        for work in (our_work, their_work):  # warm-up
            _timed(work, 1)
        times = [(_timed(our_work, count), _timed(their_work, count)) for _ in range(options.turns)]
        mine, theirs = np.median(np.array(times), axis=0)
        print(f"{name:<30}{1e3 * mine:>11.2f} ms{1e3 * theirs:>11.2f} ms{theirs / mine:>8.2f}")


def _drawing(
    ours: Any, plain: Any, options: Options
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Drawing the same camera in the same size: ours, and robosuite's own with its default
    flags.
    """
    cameras = Cameras.of({options.camera: options.size})
    picture = Picture(ours.simulation.full_xml)
    renderer = SceneRenderer(picture.model, options.camera, cameras.largest(), hidden=[0])

    def cheap() -> None:
        sim = ours.simulation.sim
        picture.pose(sim.model._model, sim.data._data)
        cameras.pictures(renderer, picture.data)

    return cheap, lambda: plain.sim.render(options.size, options.size, camera_name=options.camera)


def _timed(work: Callable[[], Any], count: int) -> float:
    """Seconds of one call, on average."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count
