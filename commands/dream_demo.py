"""`hotstart demo world-model`: a weak policy, its play, a world model, and tuning in dreams.

Every stage is a command that could be given by hand, and every stage can be resumed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.compose import compose_config
from ..configs.world_model import DreamDemo
from ..datasets.store import Store
from ..finetuning.outcome import Finetuned, load_finetuned
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..spec import DataError
from ..system import outputs
from ..system.untrusted import read_json
from ..world_model import files
from ..world_model.play import read_play
from . import collect, finetune, train
from .after_finetuning import BASE, TUNED, plan_contest
from .dream_demo_film import film_before_after
from .dream_demo_page import DreamStory, write_story
from .dreaming import AUDIT, AuditFailed
from .next_steps import write_command, write_option, write_path
from .world_view import Shown, film_episodes, trace_episodes

GATE = "gate"
MAX_STEPS = 160
"""Length of an episode of a Meta-World task."""
PLAY_SEED = 600_000
SHOWN = 4
"""Held-out episodes in the videos."""
STAGES = (
    "a few demonstrations, from a scripted demonstrator",
    "a base policy, trained on them by imitation",
    "play: the base acts, often disturbed, and fails and succeeds",
    "a world model of the play, its audit, and tuning in its dreams; then all on fresh seeds",
    "filming and writing the page",
)


@dataclass(frozen=True)
class Stage:
    """A command of the story."""

    verb: str
    words: list[str]
    run: Callable[[Mapping[str, Any]], int]

    @property
    def command(self) -> str:
        """As it is given in a shell."""
        return write_command(self.verb, *self.words)


def run(options: DreamDemo) -> int:
    """Run all stages, or go on where the demo of that name stopped, and write its page."""
    folder = options.runs / options.name
    stages = plan_stages(options, folder)
    refused = run_stages(stages, folder)
    print(f"\n[{len(STAGES)}/{len(STAGES)}] {STAGES[-1]}", flush=True)
    page = write_page(options, folder, stages, refused)
    print(f"\n{page} is ready: open it in a browser")
    return 0


def run_stages(stages: Sequence[Stage], folder: Path) -> str:
    """Run the commands in their order; returns why nothing was tuned, empty where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    refused = ""
    for number, stage in enumerate(stages):
        print(f"\n[{number + 1}/{len(STAGES)}] {STAGES[number]}\n    {stage.command}", flush=True)
        began = time.monotonic()
        try:
            stage.run(compose_config(stage.verb, stage.words))
        except AuditFailed as failed:
            refused = str(failed)
            print(refused)
        finally:
            add_seconds(folder, f"{number + 1} {stage.verb}", time.monotonic() - began)
    return refused


def plan_stages(options: DreamDemo, folder: Path) -> list[Stage]:
    """The commands, in their order."""
    task = [f"task={GATE}"]
    if options.task != GATE:
        task = [
            "task=metaworld",
            f"task.options.task={options.task}",
            f"task.max_steps={MAX_STEPS}",
        ]
    data, play = folder / "demonstrations.zarr", folder / "play.zarr"
    workers = f"workers={options.workers}"
    collecting = [write_path(data), *task, f"episodes={options.demonstrations}"]
    training = [
        *(write_path(data), *task, "denoiser=mlp", "denoiser.hidden=192", "denoiser.layers=2"),
        *("horizon.observed=1", "horizon.planned=12", "horizon.executed=4"),
        *("training.batch=256", "training.learning_rate=0.001"),
        *(f"training.steps={options.training_steps}", "name=base", write_option("runs", folder)),
    ]
    playing = [
        *(write_path(play), write_option("demonstrator", folder / "base"), "play.on=true"),
        *("play.undisturbed=0.3", f"episodes={options.play_episodes}", f"seed={PLAY_SEED}"),
    ]
    tuning = [
        *(write_path(folder / "base"), "method=diwa", write_option("play", play)),
        *("inference=ddim", "inference.steps=10", f"method.model_updates={options.model_updates}"),
        *(f"method.iterations={options.iterations}", f"method.force={str(options.force).lower()}"),
        *(f"episodes={options.episodes}", f"seed={options.seed}", "name=tuned"),
        write_option("runs", folder),
    ]
    return [
        Stage("collect", [*collecting, f"noise={options.noise}", workers], collect.run),
        Stage("train", training, train.run),
        Stage("collect", [*playing, workers], collect.run),
        Stage("finetune", [*tuning, workers], finetune.run),
    ]


def add_seconds(folder: Path, name: str, seconds: float) -> None:
    """Add to the time that a stage has taken, which a resumed demo goes on counting."""
    spent = read_seconds(folder)
    spent[name] = spent.get(name, 0.0) + seconds
    outputs.write_text(folder / "seconds.json", json.dumps(spent, indent=2) + "\n")


def read_seconds(folder: Path) -> dict[str, float]:
    """Seconds by stage."""
    place = folder / "seconds.json"
    if not place.is_file():
        return {}
    found = read_json(place, DataError)
    if not isinstance(found, dict):
        raise DataError(f"{place} is not what the demo writes: delete it")
    return {str(name): float(value) for name, value in found.items()}


def write_page(
    options: DreamDemo,
    folder: Path,
    stages: Sequence[Stage],
    refused: str,
    episodes: int = SHOWN,
) -> Path:
    """Videos and page of all that lies in the folder."""
    config = compose_config(stages[-1].verb, stages[-1].words)
    tuned = folder / "tuned"
    learned = files.load(tuned / "world_model")
    play = read_play(Store.open(folder / "play.zarr"), list(learned.model.obs_spec.keys))
    held_out = play.split(int(learned.facts["fitting"]["seed"]))[1]
    audit = read_json(tuned / AUDIT, DataError)
    base, meta = checkpoint.load(folder / "base")
    policies = {"base dreams": DiffusionPolicy(base, build_sampler(config["inference"]))}
    outcome: Finetuned | None = None
    if not refused:
        outcome = load_finetuned(tuned)
        model, _ = checkpoint.load(tuned)
        policies["tuned dreams"] = DiffusionPolicy(model, build_sampler(config["inference"]))
    shown = Shown(learned, held_out, policies, int(meta["task"]["max_steps"]), audit)
    videos = film_episodes(held_out, trace_episodes(shown, episodes, 0), folder / "videos")
    film = None
    if outcome is not None:
        own = {each.name: each for each in plan_contest(config, tuned).own}
        film = film_before_after(own[BASE], own[TUNED], folder / "videos")
    story = DreamStory(
        task=options.task,
        demonstrations=options.demonstrations,
        play=play,
        held_out=held_out,
        audit=audit,
        refused=refused,
        outcome=outcome,
        videos=videos,
        film=film,
        facts=learned.facts,
        seconds=read_seconds(folder),
        commands=[stage.command for stage in stages],
    )
    return write_story(folder / "page.html", story)
