"""How fast robosuite's tasks reset, step and draw here, beside robosuite as it comes, in turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from ..commands.words import Word
from ..envs.cameras import Cameras
from ..envs.registry import make
from ..envs.rendering import SceneRenderer
from ..envs.robosuite.models import Picture, load_robosuite


@dataclass
class Words:
    """Time resets, steps and frames, in turns, so that a busy moment hits both; medians."""

    task: Annotated[str, Word("a robosuite task")] = "lift"
    camera: Annotated[str, Word("the camera whose frames are drawn")] = "agentview"
    size: Annotated[int, Word("side of a frame, in pixels")] = 84
    turns: Annotated[int, Word("turns")] = 5
    steps: Annotated[int, Word("steps and frames in a turn")] = 40


def run(words: Words) -> None:
    """Print a line per kind of work: ours, robosuite's own, and how many times faster ours is."""
    ours = make(words.task)
    ours.reset(seed=0)
    suite = load_robosuite()
    plain = suite.make(
        type(ours).task,
        robots="Panda",
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=True,
    )  # type: ignore[attr-defined]
    plain.reset()
    cheap, costly = _drawing(ours, plain, words)
    seeds = iter(range(10_000))
    action = np.zeros(ours.action_spec.width)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
        # Frames first: robosuite's reset ends the display that every drawing surface of the process belongs to.
        f"frame {words.size}x{words.size}": (cheap, costly, words.steps),
        "step": (lambda: ours.step(action), lambda: plain.step(action), words.steps),
        "reset that fixes the model": (lambda: ours.reset(seed=next(seeds)), plain.reset, 1),
    }
    print(f"{'':<30}{'ours':>14}{'robosuite':>14}{'ratio':>8}")
    for name, (our_work, their_work, count) in pairs.items():
        for work in (our_work, their_work):  # warm-up
            _timed(work, 1)
        times = [(_timed(our_work, count), _timed(their_work, count)) for _ in range(words.turns)]
        mine, theirs = np.median(np.array(times), axis=0)
        print(f"{name:<30}{1e3 * mine:>11.2f} ms{1e3 * theirs:>11.2f} ms{theirs / mine:>8.2f}")


def _drawing(ours: Any, plain: Any, words: Words) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Drawing the same camera in the same size: ours, and robosuite's own with its default flags."""
    cameras = Cameras.of({words.camera: words.size})
    picture = Picture(ours.simulation.full_xml)
    renderer = SceneRenderer(picture.model, words.camera, cameras.largest(), hidden=[0])

    def cheap() -> None:
        sim = ours.simulation.sim
        picture.pose(sim.model._model, sim.data._data)
        cameras.pictures(renderer, picture.data)

    return cheap, lambda: plain.sim.render(words.size, words.size, camera_name=words.camera)


def _timed(work: Callable[[], Any], count: int) -> float:
    """Seconds of one call, on average."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count
