"""What to do after a verb: commands that run when they are copied into a shell."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configs.compose import list_choices, read_task
from ..configs.reader import KEY
from ..datasets.opening import Opened
from ..datasets.store import Store
from ..spec import ObsSpec
from ..system import outputs

PLAIN = re.compile(r"[\w./+-]*( [\w./+-]+)*")
"""Values that the command line reads as they stand; others are quoted."""
OUTPUTS = ("out", "overwrite", "video", "videos")
"""Options of an evaluation that say where it writes."""


def write_command(verb: str, *words: str) -> str:
    """A line for a shell; words with spaces or signs are quoted."""
    return shlex.join(["hotstart", *verb.split(), *words])


def write_option(name: str, value: object) -> str:
    """`name=value`, quoted where Hydra would otherwise read signs of its own in the value."""
    text = str(value)
    if PLAIN.fullmatch(text):
        return f"{name}={text}"
    escaped = text.replace("'", "\\'")
    return f"{name}='{escaped}'"


def write_path(path: Path | str) -> str:
    """A path as an argument without a name, also where it looks like an option."""
    text = str(path)
    if text.startswith("-") or _name_option(text):
        return f"./{text}"
    return text


def _name_option(argument: str) -> str:
    """The option that an argument sets; empty for an argument without a name."""
    name = argument.partition("=")[0]
    if name != argument and KEY.fullmatch(name):
        return name
    return ""


def keep_arguments(arguments: Iterable[str], dropped: Sequence[str]) -> list[str]:
    """The arguments but those of the options and axes `dropped`."""
    kept = []
    for argument in arguments:
        name = _name_option(argument).lstrip("+~")
        axis = name.rpartition("@")[2].partition(".")[0]
        if name not in dropped and axis not in dropped:
            kept.append(argument)
    return kept


def compare_files(files: Sequence[Path]) -> str:
    """The command that compares results, and writes the page beside the last one."""
    folder = outputs.choose_name(files[-1].parent / "comparison")
    return write_command("compare", *map(write_path, files), f"out={folder}")


def more_episodes(config: Mapping[str, Any]) -> str:
    """The same evaluation with at least four times the episodes, for half the interval."""
    kept = keep_arguments(config["arguments"], ("episodes", *OUTPUTS))
    count = max(500, 4 * config["episodes"])
    out = outputs.free_name(Path(config["out"] or "result.json"))
    return write_command("evaluate", *kept, f"episodes={count}", write_option("out", out))


def evaluate_run(folder: Path, *words: str) -> str:
    """The evaluation of a run, whose checkpoint knows its task; the result is kept in the run."""
    out = outputs.choose_name(folder / "result.json")
    return write_command("evaluate", write_path(folder), *words, write_option("out", out))


def go_on_training(config: Mapping[str, Any]) -> str:
    """The same training with twice the steps, which goes on with the run."""
    kept = keep_arguments(config["arguments"], ("training.steps",))
    return write_command("train", *kept, f"training.steps={2 * config['training']['steps']}")


def train_another(config: Mapping[str, Any], folder: Path) -> str:
    """The same training as a run of its own, beside the one in `folder`."""
    kept = keep_arguments(config["arguments"], ("name",))
    return write_command("train", *kept, write_option("name", outputs.free_name(folder).name))


def train_on(store: Opened) -> str:
    """The training on a data set: of its own task where hotstart has it, else of its own keys."""
    words = [write_path(store.path)]
    name = str(store.task)
    if name in list_choices("task"):
        task = read_task(name)
        words.append(f"task={name}")
        if isinstance(store, Store):
            words += _write_changed(task["options"], store.attrs.get("options") or {})
        used = task["obs_keys"]
    else:
        used = list(store.obs_spec.keys)
        words.append(write_option("task.name", store.path.stem))
        words.append(f"task.obs_keys=[{','.join(used)}]")
    return write_command("train", *words, *choose_encoder(store.obs_spec, used))


def _write_changed(own: Mapping[str, Any], collected: Mapping[str, Any]) -> list[str]:
    """Options of the environment that the data was collected with, unless they are the task's."""
    changed = []
    for key, value in collected.items():
        if own.get(key) != value:
            written = value
            if not isinstance(value, str):
                written = json.dumps(value, separators=(",", ":"))
            changed.append(f"task.options.{key}={written}")
    return changed


def choose_encoder(obs_spec: ObsSpec, used: Iterable[str]) -> list[str]:
    """The argument for an encoder that reads the observations `used`; empty for the usual one."""
    kinds = set()
    for name in used or obs_spec.keys:
        if name in obs_spec.keys:
            kinds.add(obs_spec.keys[name].kind)
    if "image" in kinds:
        return ["encoder=image"]
    if "language" in kinds:
        return ["encoder=language"]
    return []
