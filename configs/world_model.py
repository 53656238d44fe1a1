"""The options of `hotstart world-model`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..spec import REQUIRED, option


@dataclass
class LearnWorldModel:
    """Learn a world model from recorded play.

    A fifth or more of the episodes is held out for the audit, undisturbed ones of the policy first.

      hotstart world-model train data/push_play.zarr checkpoint=runs/push out=runs/push_world
    """

    play: Path = option(REQUIRED, "the store of play to learn from", positional=True)
    out: Path = option(Path("runs/world_model"), "folder of the world model")
    checkpoint: str = option(
        "", "policy whose observations and Ta the model shall have; empty: all, and jump"
    )
    keys: tuple[str, ...] = option(
        (), "observations to learn from, without a checkpoint; empty: all"
    )
    unseen: tuple[str, ...] = option(
        (), "kind=latent: states that are learned and decoded, but that no filter reads"
    )
    jump: int = option(8, "control periods that a step goes ahead, without a checkpoint", "ticks")
    kind: Literal["auto", "jump", "latent"] = option(
        "auto", "jump (states), latent (pictures); auto: latent where there are pictures"
    )
    updates: int = option(6000, "optimiser steps")
    seed: int = option(0, "seed of all that is random, and of the split")
    members: int = option(3, "networks of the ensemble")
    hidden: int = option(192, "width of the networks; of a latent model that of its state")
    stride: int = option(
        0, "kind=jump: control periods that the network itself goes ahead; 0: all of jump", "ticks"
    )
    set_points: bool = option(True, "kind=jump: whether what increments add up to is an input")
    differences: bool = option(True, "kind=jump: whether differences of positions are inputs")
    score: bool = option(False, "whether the score is learned too, for method.reward=score")
    overwrite: bool = option(False, "whether a world model at out may be replaced by the new one")


@dataclass
class DrawStrip:
    """Draw what a latent world model imagines below what was recorded, as a strip of pictures.

    The model sees an episode that was held out up to a step, and then its actions alone.

      hotstart world-model strip runs/push_world play=data/push_play.zarr out=push.png
    """

    model: Path = option(REQUIRED, "folder of the world model", positional=True)
    play: Path = option(REQUIRED, "the store that it was learned from")
    episodes: int = option(3, "held-out episodes to draw, from the first that are long enough")
    start: int = option(8, "step of an episode up to which the model sees it", "ticks")
    steps: int = option(40, "imagined steps", "ticks")
    every: int = option(4, "steps from one picture to the next", "ticks")
    zoom: int = option(3, "side of a pixel in the drawing", "px")
    out: Path = option(Path("imagined.png"), "the drawing")
    overwrite: bool = option(False, "whether a drawing at out may be replaced")


@dataclass
class AuditWorldModel:
    """Judge a world model by play that it has not learned from; the exit status is 1 if it fails.

    The base's success in dreams is compared with that of its recorded, undisturbed episodes. A base
    that follows the model's filter came after it: it is judged by play of its own.

      hotstart world-model audit runs/push_world play=data/push_play.zarr checkpoint=runs/push
    """

    model: Path = option(REQUIRED, "folder of the world model", positional=True)
    play: Path = option(
        REQUIRED, "the store that it was learned from; of a base with its filter also another"
    )
    checkpoint: str = option(REQUIRED, "the policy that the play was recorded around")
    inference: str = option("ddim-10", "its sampler with its steps, as ddim-10, rti-2 or sdp-4")
    max_steps: int = option(0, "length of a dream; 0: that of the checkpoint's task", "ticks")
    repeats: int = option(4, "dreams from every recorded start")
    policies: tuple[str, ...] = option(
        (), "further checkpoints, whose success in dreams is told beside the base's"
    )
    out: str = option("", "file of the figures; empty: audit.json beside the model")
    overwrite: bool = option(False, "whether figures at out may be replaced by new ones")


@dataclass
class ViewWorldModel:
    """Write a page that shows recorded episodes beside what a world model imagines of them.

    Its episodes are held out: half of them fulfil the task, half do not.

      hotstart world-model view runs/push_world play=data/push_play.zarr checkpoint=runs/push
    """

    model: Path = option(REQUIRED, "folder of the world model", positional=True)
    play: Path = option(REQUIRED, "the store that it was learned from")
    checkpoint: str = option(REQUIRED, "the policy that dreams, as the one that the play is around")
    inference: str = option("ddim-10", "its sampler with its steps, as ddim-10, rti-2 or sdp-4")
    max_steps: int = option(0, "length of a dream; 0: that of the checkpoint's task", "ticks")
    episodes: int = option(4, "episodes to show")
    seed: int = option(0, "seed of the policy's noise in its dreams")
    audit: str = option(
        "", "figures of `hotstart world-model audit`; empty: audit.json beside or above the model"
    )
    out: Path = option(Path("world_model_view"), "folder of page and videos")
    overwrite: bool = option(False, "whether a page at out may be replaced by the new one")


@dataclass
class DreamDemo:
    """Record play, learn a world model, audit it, tune in its dreams; the page has it all.

    Every stage is a command that is printed, and a stopped demo goes on where it was.

      hotstart demo world-model
    """

    name: str = option("world_model_demo", "the demo's name", positional=True)
    runs: Path = option(Path("runs"), "folder of all runs")
    task: str = option(
        "push-v3", "a Meta-World task, as push-v3 or pick-place-v3; or gate, which is arithmetic"
    )
    demonstrations: int = option(7, "scripted demonstrations to collect: few, for a weak base")
    noise: float = option(
        0.12,
        "standard deviation of noise on the demonstrator's actions",
        "share of the action's range",
    )
    training_steps: int = option(2000, "optimiser steps of the base")
    play_episodes: int = option(300, "episodes of play around the base")
    model_updates: int = option(6000, "optimiser steps of the world model")
    iterations: int = option(40, "rollouts in dreams, each followed by an update")
    force: bool = option(False, "whether to tune in a model that fails its audit")
    episodes: int = option(100, "episodes of each final evaluation")
    seed: int = option(100000, "seed of the first final episode")
    workers: int = option(-1, "processes to simulate in; 0 is this one, -1 one per core")
