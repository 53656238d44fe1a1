"""What came of a fine-tuning: base, controls and tuned policy on the same fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..configs.compose import compose_config
from ..configs.schema import Compare
from ..evaluation import results
from . import compare
from .comparison_page import PAGE, Comparison
from .entries import Entry
from .evaluate import evaluate
from .next_steps import keep_arguments, write_option, write_path

OWN = (
    *("name", "runs", "method", "episodes", "seed", "num_envs", "executed", "workers"),
    *("checkpoint", "controls"),
)
"""Options of this verb that an evaluation gets from here, or not at all."""
START = "inference.start_noise="
BASE = "base"
TUNED = "tuned"
CONTROLS = {"base zero start": 0.0, "base half start": 0.5}
"""The base with less starting noise, which alone may explain a gain; by the factor of the noise."""


@dataclass(frozen=True)
class Contender:
    """A policy in the comparison: a checkpoint, and the words that choose its sampler and task."""

    name: str
    checkpoint: Path
    words: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Its result, in the folder of the run."""
        return f"{self.name.replace(' ', '_')}.json"


def compare_with_base(config: Mapping[str, Any], folder: Path) -> None:
    """Evaluate base, controls and tuned policy on the same seeds, and compare them.

    The results lie in the run's folder; each holds the ledger of what its policy has spent.
    """
    entries = evaluate_all(list_contenders(config, folder), config, folder)
    comparison = compare_entries(entries)
    print(compare.describe_comparison(comparison))
    place = folder / "comparison"
    options = Compare(files=tuple(entry.path for entry in entries), out=place)
    compare.write_files(comparison, options, place)
    print(f"comparison: {place / PAGE}")


def list_contenders(config: Mapping[str, Any], folder: Path) -> list[Contender]:
    """The base, its controls, and the tuned policy, with the sampler that was tuned for."""
    base = Path(config["checkpoint"])
    words = keep_words(config)
    found = [Contender(BASE, base, tuple(words))]
    if config["controls"]:
        for name, noise in choose_noise(config["inference"]).items():
            kept = [word for word in words if not word.startswith(START)]
            found.append(Contender(name, base, (*kept, f"inference.start_noise={noise}")))
    return [*found, Contender(TUNED, folder, tuple(words))]


def choose_noise(inference: Mapping[str, Any]) -> dict[str, float]:
    """The starting noise of each control; empty for a sampler that has none."""
    own = inference.get("start_noise", 0.0)
    if not own or inference.get("renoise") is False:
        return {}
    return {name: factor * own for name, factor in CONTROLS.items()}


def keep_words(config: Mapping[str, Any]) -> list[str]:
    """The arguments that say which sampler and which task: an evaluation takes the same."""
    named = [argument for argument in config["arguments"] if argument != config["checkpoint"]]
    return keep_arguments(named, OWN)


def evaluate_all(
    contenders: Sequence[Contender], config: Mapping[str, Any], folder: Path
) -> list[Entry]:
    """The contenders' results, which are written into the folder."""
    entries: list[Entry] = []
    for contender in contenders:
        out = folder / contender.file_name
        result, _ = evaluate(compose_config("evaluate", write_words(contender, config, out)))
        results.save(result, out)
        entries.append(Entry(contender.name, out, result))
    return entries


def write_words(contender: Contender, config: Mapping[str, Any], out: Path) -> list[str]:
    """The arguments of an evaluation."""
    words = [write_path(contender.checkpoint), *contender.words]
    words += [write_option("out", out), "overwrite=true"]
    for key in ("episodes", "seed", "num_envs", "workers"):
        words.append(f"{key}={config[key]}")
    if config["executed"] is not None:
        words.append(f"executed={config['executed']}")
    return words


def compare_entries(entries: Sequence[Entry]) -> Comparison:
    """All paired with the first, which is the base; the last, the tuned policy, with each."""
    tuned = entries[-1]
    contrasts = [compare.compare([control, tuned], control) for control in entries[1:-1]]
    return replace(compare.compare(entries, entries[0]), contrasts=contrasts)
