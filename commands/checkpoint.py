"""`hotstart checkpoint`: import other people's policies; measure where a policy's warm starts should begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..datasets.store import Store
from ..policy import checkpoint
from ..policy.calibrate import STARTS, calibrate
from ..policy.lerobot import import_policy
from ..policy.published_ckpt import import_ckpt
from ..policy.versions import versions
from ..spec import ConfigError, nearest
from .words import Word, help_text, parse_words, wants_help

USAGES = {"import": "hotstart checkpoint import SOURCE", "calibrate": "hotstart checkpoint calibrate RUN data=DATA"}
EXAMPLES = """
SOURCE is what LeRobot's save_pretrained wrote (config.json, model.safetensors and the processors' files), or a .ckpt of
Diffusion Policy, of which nothing but tensors is read. The policy needs no training to be warm-started:
hotstart evaluate OUT task=pusht inference=rti inference.start=0.2

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


def run(words: Sequence[str]) -> int:
    """Run `import` or `calibrate` with its words; returns the exit status."""
    if wants_help(words) or not words:
        texts = (help_text(Import, USAGES["import"]), EXAMPLES, help_text(Calibrate, USAGES["calibrate"]))
        print("\n".join(texts))
        return 0 if words else 2
    actions = {"import": _import, "calibrate": _calibrate}
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
    print(f"{folder}: inference=rti inference.start=null takes {found.start}")
    return 0


def _import(words: Sequence[str]) -> int:
    choice = parse_words(words, Import)
    names = _names(choice.names)
    if choice.source.suffix == ".ckpt":
        model = import_ckpt(choice.source, names.get("obs", "obs"), choice.planned, choice.executed)
    else:
        model = import_policy(choice.source, names)
    meta = {
        "versions": versions(),
        "regimes": list(model.regimes or ()),
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
