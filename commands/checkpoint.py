"""`hotstart checkpoint`: import other people's policies; give a policy what warm starts and anchored starts need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from ..datasets.store import Store
from ..policy import checkpoint
from ..policy.anchors import fit_anchors
from ..policy.calibrate import STARTS, calibrate
from ..policy.lerobot import import_policy
from ..policy.published_ckpt import import_ckpt
from ..policy.versions import versions
from ..spec import ConfigError, nearest
from .words import Word, help_text, parse_words, wants_help

USAGES = {
    "import": "hotstart checkpoint import SOURCE",
    "calibrate": "hotstart checkpoint calibrate RUN data=DATA",
    "anchors": "hotstart checkpoint anchors RUN data=DATA",
}
EXAMPLES = """
SOURCE is what LeRobot's save_pretrained wrote (config.json, model.safetensors and the processors' files), or a .ckpt of
Diffusion Policy, of which nothing but tensors is read. The policy needs no training to be warm-started:
hotstart evaluate OUT task=pusht inference=rti

  hotstart checkpoint import pretrained_model out=runs/imported names=observation.state:agent_pos,observation.image:image"""


@dataclass
class Import:
    """Take over LeRobot's DiffusionPolicy (a folder), or Diffusion Policy's own low-dim U-Net (a .ckpt file)."""

    source: Annotated[Path, Word("the folder or the .ckpt to import", positional=True)]
    out: Annotated[Path, Word("checkpoint to write")] = Path("runs/imported")
    fps: Annotated[float, Word("control rate that it was trained at [Hz]")] = 10.0
    task: Annotated[str, Word("task that `evaluate` takes unless told otherwise: its name")] = "pusht"
    names: Annotated[tuple[str, ...], Word("what its observations are called here, each as theirs:ours")] = ()
    planned: Annotated[int, Word("T of a .ckpt, which does not say it plainly")] = 16
    executed: Annotated[int, Word("Ta of a .ckpt")] = 8


@dataclass
class Calibrate:
    """Measure how much of a plan's error warm starts leave, and write the start to take beside the weights."""

    run: Annotated[Path, Word("a checkpoint or a run", positional=True)]
    data: Annotated[Path, Word("the store it was trained on")]
    steps: Annotated[int, Word("evaluations of a warm start")] = 2
    windows: Annotated[int, Word("moments of the data to sample at")] = 16
    samples: Annotated[int, Word("plans at each")] = 32


@dataclass
class FitAnchors:
    """Cluster a policy's data into anchors and train a head that chooses one by the observation, for inference=anchored."""

    run: Annotated[Path, Word("a checkpoint or a run", positional=True)]
    data: Annotated[Path, Word("the store it was trained on")]
    out: Annotated[Path, Word("checkpoint to write: the same weights, with anchors")] = Path("runs/anchored")
    count: Annotated[int, Word("how many anchors")] = 64
    steps: Annotated[int, Word("optimiser steps of the head")] = 2000


def run(words: Sequence[str]) -> int:
    """Run one of the actions with its words; returns the exit status."""
    if wants_help(words) or not words:
        texts = (help_text(Import, USAGES["import"]), EXAMPLES, help_text(Calibrate, USAGES["calibrate"]))
        texts = (*texts, help_text(FitAnchors, USAGES["anchors"]))
        print("\n".join(texts))
        return 0 if words else 2
    actions = {"import": _import, "calibrate": _calibrate, "anchors": _anchors}
    if words[0] not in actions:
        raise ConfigError(f"{words[0]!r} is unknown{nearest(words[0], list(actions))}; valid are {', '.join(actions)}")
    return actions[words[0]](words[1:])


def _calibrate(words: Sequence[str]) -> int:
    choice = parse_words(words, Calibrate)
    folder = checkpoint.find(choice.run)
    model, meta = checkpoint.load(folder)
    found = calibrate(model, Store.open(choice.data), choice.steps, choice.windows, choice.samples)
    print(f"samples spread by {found.spread:.3f} within a mode and drift by {found.drift:.3f} a call (half ranges)")
    for start, gain in zip(STARTS, found.gains, strict=True):
        print(f"  start {start:.2f}: {gain:.2f} of the drift is left" + ("   <- taken" if start == found.start else ""))
    checkpoint.write_meta(folder, {**meta, "warm_start": {**found.to_json(), "steps": choice.steps}})
    print(f"{folder}: inference=rti begins at {found.start} where no start is given, and higher where a gripper asks for it")
    return 0


def _anchors(words: Sequence[str]) -> int:
    choice = parse_words(words, FitAnchors)
    checkpoint.check_target(choice.out)
    model, meta = checkpoint.load(choice.run)
    found = fit_anchors(model, Store.open(choice.data), choice.count, choice.steps)
    checkpoint.save(choice.out, model, {**meta, "anchors": asdict(found)})
    print(
        f"{choice.out}: {choice.count} anchors; on held-out episodes a plan lies {found.distance:.3f} half ranges from its "
        f"nearest one and {found.chosen:.3f} from the one chosen, which is the nearest for {found.first:.0%}"
    )
    return 0


def _import(words: Sequence[str]) -> int:
    choice = parse_words(words, Import)
    checkpoint.check_target(choice.out)
    names = _names(choice.names)
    if choice.source.suffix == ".ckpt":
        model = import_ckpt(choice.source, names.get("obs", "obs"), choice.planned, choice.executed)
    else:
        model = import_policy(choice.source, names)
    meta = {
        "versions": versions(),
        "rate_hz": choice.fps,
        "step": None,
        "source": choice.source.name,
        "task": {
            "name": choice.task,
            "env": choice.task,
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


def _names(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.split(":") for pair in pairs]
    odd = [pair for pair, parts in zip(pairs, split, strict=True) if len(parts) != 2 or not all(parts)]
    if odd:
        raise ConfigError(f"names holds {odd[0]!r}; write theirs:ours, as observation.state:agent_pos")
    return dict(split)
