"""`hotstart checkpoint import FOLDER out=...`: other people's policies, run by our ways of inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..policy import checkpoint
from ..policy.lerobot import import_policy
from ..policy.versions import versions
from ..spec import ConfigError
from .words import Word, help_text, parse_words, wants_help

USAGE = "hotstart checkpoint import FOLDER"
EXAMPLES = """
FOLDER is what LeRobot's save_pretrained wrote: config.json, model.safetensors and the processors' files. The policy needs no
training to be warm-started: hotstart evaluate OUT task=pusht inference=rti inference.start=0.2

  hotstart checkpoint import pretrained_model out=runs/imported names=observation.state:agent_pos,observation.image:image"""


@dataclass
class Import:
    """Take over LeRobot's DiffusionPolicy."""

    folder: Annotated[Path, Word("the folder to import", positional=True)]
    out: Annotated[Path, Word("checkpoint to write")] = Path("runs/imported")
    fps: Annotated[float, Word("control rate that it was trained at [Hz]")] = 10.0
    task: Annotated[str, Word("task that `evaluate` takes unless told otherwise: its name")] = "pusht"
    names: Annotated[tuple[str, ...], Word("what its observations are called here, each as theirs:ours")] = ()


def run(words: Sequence[str]) -> int:
    """Run `import` with its words; returns the exit status."""
    if wants_help(words) or not words:
        print(help_text(Import, USAGE) + "\n" + EXAMPLES)
        return 0 if words else 2
    if words[0] != "import":
        raise ConfigError(f"{words[0]!r} is unknown; valid is import: {USAGE}")
    choice = parse_words(words[1:], Import)
    model = import_policy(choice.folder, _names(choice.names))
    meta = {
        "versions": versions(),
        "regimes": list(model.regimes or ()),
        "rate_hz": choice.fps,
        "step": None,
        "source": "LeRobot DiffusionPolicy",
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
