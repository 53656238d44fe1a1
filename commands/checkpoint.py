"""`hotstart checkpoint`: import other people's policies; give a policy what warm starts and anchored starts need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..datasets.store import Store
from ..envs import registry
from ..policy import checkpoint
from ..policy.fitting.anchors import fit_anchors
from ..policy.fitting.calibration import STARTS, calibrate
from ..policy.foreign.diffusion_policy import import_ckpt
from ..policy.foreign.lerobot import import_policy, trained_in
from ..spec import REQUIRED, ConfigError, nearest, option, shorten, unknown
from ..system.versions import versions
from .words import help_text, parse_words, wants_help

USAGES = {
    "import": "hotstart checkpoint import",
    "calibrate": "hotstart checkpoint calibrate",
    "anchors": "hotstart checkpoint anchors",
}
EXAMPLES = """
SOURCE is what LeRobot's save_pretrained wrote (config.json, model.safetensors and the processors' files), or a .ckpt of
Diffusion Policy, of which nothing but tensors is read. The policy needs no training to be warm-started:
hotstart evaluate OUT inference=rti. Its rate and its task are read from the folder's train_config.json where it names them.

  hotstart checkpoint import pretrained_model fps=10 task=pusht names=observation.state:agent_pos,observation.image:image
  hotstart checkpoint import latest.ckpt fps=10 task=pusht names=obs:keypoints"""


@dataclass
class Import:
    """Take over LeRobot's DiffusionPolicy (a folder), or Diffusion Policy's own low-dim U-Net (a .ckpt file)."""

    source: Path = option(REQUIRED, "the folder or the .ckpt to import", positional=True)
    out: Path = option(Path("runs/imported"), "checkpoint to write")
    fps: float | None = option(
        None, "control rate that it was trained at [Hz]; none: what the folder says"
    )
    task: str | None = option(
        None, "task that `evaluate` takes unless told otherwise; none: what the folder says"
    )
    names: tuple[str, ...] = option(
        (), "what its observations are called here, each as theirs:ours"
    )
    planned: int = option(16, "T of a .ckpt, which does not say it plainly")
    executed: int = option(8, "Ta of a .ckpt")


@dataclass
class Calibrate:
    """Measure how much of a plan's error warm starts leave, and write the start to take beside the weights."""

    run: Path = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: Path = option(REQUIRED, "the store it was trained on")
    steps: int = option(2, "evaluations of a warm start")
    windows: int = option(16, "moments of the data to sample at")
    samples: int = option(32, "plans at each")


@dataclass
class FitAnchors:
    """Cluster a policy's data into anchors and train a head that chooses one by the observation, for inference=anchored."""

    run: Path = option(REQUIRED, "a checkpoint or a run", positional=True)
    data: Path = option(REQUIRED, "the store it was trained on")
    out: Path = option(Path("runs/anchored"), "checkpoint to write: the same weights, with anchors")
    count: int = option(64, "how many anchors")
    steps: int = option(2000, "optimiser steps of the head")


def run(words: Sequence[str]) -> int:
    """Run one of the actions with its words; returns the exit status."""
    if wants_help(words) or not words:
        texts = (
            help_text(Import, USAGES["import"]),
            EXAMPLES,
            help_text(Calibrate, USAGES["calibrate"]),
        )
        texts = (*texts, help_text(FitAnchors, USAGES["anchors"]))
        print("\n".join(texts))
        if words:
            return 0
        return 2
    actions = {"import": _import, "calibrate": _calibrate, "anchors": _anchors}
    if words[0] not in actions:
        raise ConfigError(
            f"{shorten(words[0])} is unknown{nearest(words[0], list(actions))}; valid are {', '.join(actions)}"
        )
    return actions[words[0]](words[1:])


def _calibrate(words: Sequence[str]) -> int:
    choice = parse_words(words, Calibrate)
    folder = checkpoint.find(choice.run)
    model, meta = checkpoint.load(folder)
    found = calibrate(model, Store.open(choice.data), choice.steps, choice.windows, choice.samples)
    print(
        f"samples spread by {found.spread:.3f} within a mode and drift by {found.drift:.3f} a call (normalised units)"
    )
    for start, gain in zip(STARTS, found.gains, strict=True):
        print(
            f"  start {start:.2f}: {gain:.2f} of the drift is left"
            + ("   <- taken" if start == found.start else "")
        )
    checkpoint.write_meta(
        folder, {**meta, "warm_start": {**found.to_json(), "steps": choice.steps}}
    )
    print(
        f"{folder}: inference=rti begins at {found.start} where no start is given, and higher where a gripper asks for it"
    )
    return 0


def _anchors(words: Sequence[str]) -> int:
    choice = parse_words(words, FitAnchors)
    checkpoint.check_target(choice.out)
    model, meta = checkpoint.load(choice.run)
    found = fit_anchors(model, Store.open(choice.data), choice.count, choice.steps)
    checkpoint.save(choice.out, model, {**meta, "anchors": asdict(found)})
    print(
        f"{choice.out}: {choice.count} anchors; on held-out episodes a plan lies {found.distance:.3f} normalised units from its "
        f"nearest one and {found.chosen:.3f} from the one chosen, which is the nearest for {found.first:.0%}"
    )
    return 0


def _import(words: Sequence[str]) -> int:
    choice = parse_words(words, Import)
    checkpoint.check_target(choice.out)
    names = _names(choice.names)
    fps, task = _trained_in(choice)
    if choice.source.suffix == ".ckpt":
        model = import_ckpt(choice.source, names.get("obs", "obs"), choice.planned, choice.executed)
    else:
        model = import_policy(choice.source, names)
    meta = {
        "versions": versions(),
        "rate_hz": fps,
        "step": None,
        "source": choice.source.name,
        "task": {
            "name": task,
            "env": task,
            "options": {},
            "max_steps": 0,
            "obs_keys": list(model.config.obs_spec.keys),
        },
    }
    checkpoint.save(choice.out, model, meta)
    horizon = model.config.horizon
    print(
        f"{choice.out}: {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"To {horizon.observed}, T {horizon.planned}, Ta {horizon.executed}, observes {', '.join(model.config.obs_spec.keys)}"
    )
    return 0


def _trained_in(choice: Import) -> tuple[float, str]:
    """The rate [Hz] and the environment's name, by the user's words or the folder's; raises ConfigError where neither says."""
    if choice.source.suffix == ".ckpt":
        said = (None, None)
    else:
        said = trained_in(choice.source)
    if choice.fps is None:
        fps = said[0]
    else:
        fps = choice.fps
    if choice.task is None and said[1] in registry.names():
        task = said[1]
    else:
        task = choice.task
    missing = []
    for word, value in (("fps=RATE_HZ", fps), ("task=NAME", task)):
        if value is None:
            missing.append(word)
    if fps is None or task is None:
        raise ConfigError(
            f"{choice.source} does not say at which rate and for which task it was trained: give {' and '.join(missing)}; "
            f"environments are {', '.join(registry.names())}"
        )
    if task not in registry.names():
        raise ConfigError(unknown("environment task=", task, registry.names()))
    if not 0 < fps <= checkpoint.FASTEST_HZ:
        raise ConfigError(f"fps is {fps}; it must be above 0 and at most {checkpoint.FASTEST_HZ}")
    return fps, task


def _names(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.split(":") for pair in pairs]
    odd = [
        pair for pair, parts in zip(pairs, split, strict=True) if len(parts) != 2 or not all(parts)
    ]
    if odd:
        raise ConfigError(
            f"names holds {shorten(odd[0])}; write theirs:ours, as observation.state:agent_pos"
        )
    return dict(split)
