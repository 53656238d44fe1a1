"""A world model on disk: a folder with its weights, and what they were learned from.

`model.safetensors` holds dynamics and judge, `world_model.json` everything else; the audit lies
beside them (`audit.json`). Nothing is unpickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ..policy.checkpoint.files import check_hash, hash_file, recover
from ..policy.checkpoint.outline import read_tensors
from ..policy.checkpoint.writer import replace_folder, save_tensors, save_text
from ..spec import CheckpointError, ConfigError, shorten
from ..system.untrusted import read_json
from .base import WorldModel
from .jump import JumpModel
from .latent import LatentModel
from .success import Judge

FORMAT = 1
WEIGHTS = "model.safetensors"
FACTS = "world_model.json"
KINDS: dict[str, Callable[[Mapping[str, Any]], WorldModel]] = {
    "jump": JumpModel.from_json,
    "latent": LatentModel.from_json,
}
"""Name of a kind of world model -> how one is built from plain values."""


@dataclass(frozen=True)
class Learned:
    """A world model with its judge, and what is known of them."""

    model: WorldModel
    judge: Judge
    facts: dict[str, Any] = field(default_factory=dict)
    """play (path, hash, steps, episodes), split, settings, records, versions."""


def save(folder: Path, learned: Learned) -> None:
    """Write a world model in place of the one at `folder`; CheckpointError where it cannot."""
    fresh = recover(folder).with_name(folder.name + ".writing")
    shutil.rmtree(fresh, ignore_errors=True)
    tensors: dict[str, Tensor] = {}
    for part, module in (("model", learned.model), ("judge", learned.judge)):
        for name, tensor in module.state_dict().items():
            tensors[f"{part}.{name}"] = tensor
    facts = {
        **learned.facts,
        "format": FORMAT,
        "kind": name_kind(learned.model),
        "model": learned.model.to_json(),
        "judge": learned.judge.to_json(),
    }
    try:
        fresh.mkdir(parents=True)
        save_tensors(tensors, fresh / WEIGHTS)
        hashes = {WEIGHTS: hash_file(fresh / WEIGHTS)}
        save_text(json.dumps({**facts, "sha256": hashes}, indent=2), fresh / FACTS)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise CheckpointError(f"the world model {folder} could not be written ({error})") from error
    replace_folder(fresh, folder)


def name_kind(model: WorldModel) -> str:
    """The name of a model's kind."""
    for name, build in KINDS.items():
        if getattr(build, "__self__", None) is type(model):
            return name
    raise ConfigError(
        f"{type(model).__name__} is no kind of world model; known: {', '.join(KINDS)}"
    )


def load(folder: Path | str) -> Learned:
    """Read a world model; raises CheckpointError for a folder that holds another thing."""
    folder = Path(folder)
    if not (folder / FACTS).is_file():
        raise CheckpointError(
            f"{folder} holds no world model ({FACTS} is missing); "
            "`hotstart world-model train PLAY` writes one"
        )
    facts = read_json(folder / FACTS, CheckpointError)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{folder / FACTS} is not that of a world model in format {FORMAT}")
    kind = facts.get("kind")
    if kind not in KINDS:
        raise CheckpointError(
            f"{folder / FACTS} says the model is {shorten(kind)}; known: {', '.join(KINDS)}"
        )
    check_hash(folder, facts, WEIGHTS)
    tensors = read_tensors(folder / WEIGHTS)
    try:
        model = KINDS[kind](facts["model"])
        judge = Judge.from_json(facts["judge"])
        for part, module in (("model", model), ("judge", judge)):
            own = {}
            for name, tensor in tensors.items():
                if name.startswith(f"{part}."):
                    own[name.removeprefix(f"{part}.")] = tensor
            module.load_state_dict(own)
            module.eval().requires_grad_(False)
    except (LookupError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{folder} cannot be read: {shorten(error)}") from error
    return Learned(model, judge, facts)
