"""What came of a fine-tuning: base, controls and tuned policy on the same fresh seeds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..checks import check_fit
from ..configs.compose import compose_config
from ..configs.schema import Compare
from ..envs.registry import make, options_of
from ..evaluation import results
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from . import compare
from .comparison_page import PAGE, Comparison
from .dreams_words import CLONED
from .entries import Entry
from .evaluate import choose_task, evaluate, identify
from .next_steps import keep_arguments, write_option, write_path

OWN = (
    *("name", "runs", "method", "episodes", "seed", "num_envs", "executed", "workers"),
    *("checkpoint", "controls", "others", "other_tasks", "play", "world_model"),
)
"""Options of this verb that an evaluation gets from here, or not at all."""
START = "inference.start_noise="
SOLVER = "solver@inference.solver="
BASE = "base"
TUNED = "tuned"
CONTROLS = {"base zero start": 0.0, "base half start": 0.5}
"""The base with less starting noise, which alone may explain a gain; by the factor of the noise."""


@dataclass(frozen=True)
class Contender:
    """A policy in the comparison, and the composed configuration of its evaluation."""

    name: str
    config: Mapping[str, Any]

    @property
    def out(self) -> Path:
        """Its result."""
        return Path(self.config["out"])


@dataclass(frozen=True)
class Contest:
    """All that is evaluated after a fine-tuning."""

    own: Sequence[Contender]  # base, controls, tuned: with the sampler that was tuned for
    others: Mapping[str, Sequence[Contender]]  # base and tuned, by another sampler or task


def plan_contest(config: Mapping[str, Any], folder: Path) -> Contest:
    """What is to be evaluated, as the configuration of the fine-tuning says.

    The sampler that was tuned for is no other one. Raises ConfigError for a name that is none.
    """
    words = keep_words(config)
    others: dict[str, list[Contender]] = {}
    for name in config["others"]:
        chosen = [*keep_arguments(words, ("inference",)), *choose_sampler(name)]
        pair = _compose_pair(name, chosen, chosen, config, folder)
        if pair[0].config["inference"] != config["inference"]:
            others[name] = pair
    for name in config["other_tasks"]:
        chosen = [*keep_arguments(words, ("task",)), *f"task={name}".split()]
        others[name] = _compose_pair(name, chosen, choose_search(chosen, config), config, folder)
    return Contest(_list_own(words, config, folder), others)


def _list_own(words: Sequence[str], config: Mapping[str, Any], folder: Path) -> list[Contender]:
    """The base, its controls, and the tuned policy."""
    base, tuned = _compose_pair("", words, choose_search(words, config), config, folder)
    controls: list[Contender] = []
    if config["controls"]:
        kept = [word for word in words if not word.startswith(START)]
        place = write_path(config["checkpoint"])
        for name, noise in choose_noise(config["inference"]).items():
            narrowed = [place, *kept, f"{START}{noise}"]
            controls.append(_compose(name, narrowed, config, folder))
    if config["play"] and config["method"].get("clone_updates"):
        controls.append(_compose(CLONED, [write_path(folder / CLONED), *words], config, folder))
    return [base, *controls, tuned]


def choose_search(words: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The words with the search that a method's values are for; of other methods as they are.

    It draws plans with the sampler's own solver and steps. A fresh sampler that is not ddim is
    named after its solver.
    """
    search = config["method"].get("search")
    if not search:
        return [*words]
    kept = [word for word in words if not word.startswith(("inference=", "inference.steps="))]
    kept += [f"inference={search}", f"inference.steps={config['inference']['steps']}"]
    solver = config["choices"]["inference"]
    if solver != "ddim" and not any(word.startswith(SOLVER) for word in words):
        kept.append(f"{SOLVER}{solver}")
    return kept


def _compose_pair(
    name: str,
    words: Sequence[str],
    tuned: Sequence[str],
    config: Mapping[str, Any],
    folder: Path,
) -> list[Contender]:
    """The base with these words, and the policy that was tuned with its own."""
    chosen = ((BASE, config["checkpoint"], words), (TUNED, folder, tuned))
    pair: list[Contender] = []
    for who, place, own in chosen:
        pair.append(_compose(f"{who} {name}".strip(), [write_path(place), *own], config, folder))
    return pair


def _compose(name: str, words: Sequence[str], config: Mapping[str, Any], folder: Path) -> Contender:
    """A contender from its checkpoint and the words that choose its sampler and task."""
    file = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.json"
    chosen = [*words, write_option("out", folder / file), "overwrite=true"]
    for key in ("episodes", "seed", "num_envs", "workers"):
        chosen.append(f"{key}={config[key]}")
    if config["executed"] is not None:
        chosen.append(f"executed={config['executed']}")
    return Contender(name, compose_config("evaluate", chosen))


def check_contest(contest: Contest, config: Mapping[str, Any]) -> None:
    """Raise ConfigError, before anything is tuned, where the base cannot be evaluated so."""
    model, meta = checkpoint.load(config["checkpoint"])
    for name, group in {"": contest.own, **contest.others}.items():
        build_sampler(group[-1].config["inference"])
        for contender in group[:-1]:
            sampler = build_sampler(contender.config["inference"])
            policy = DiffusionPolicy(model, sampler, config["executed"])
            policy.rate_hz = float(meta["rate_hz"])
            if name in config["other_tasks"]:
                task = choose_task(contender.config, meta)
                env = make(task["env"], **options_of(task))
                check_fit(env, policy)
                env.close()


def choose_noise(inference: Mapping[str, Any]) -> dict[str, float]:
    """The starting noise of each control; empty for a sampler that has none."""
    own = inference.get("start_noise", 0.0)
    if not own or inference.get("renoise") is False:
        return {}
    return {name: factor * own for name, factor in CONTROLS.items()}


def choose_sampler(name: str) -> list[str]:
    """The words for a sampler, as `rti`, or with its steps, as `rti-2`."""
    parts = re.fullmatch(r"(.+)-(\d+)", name)
    if parts is None:
        return [f"inference={name}"]
    return [f"inference={parts[1]}", f"inference.steps={parts[2]}"]


def keep_words(config: Mapping[str, Any]) -> list[str]:
    """The arguments that say which sampler and which task: an evaluation takes the same."""
    named = [argument for argument in config["arguments"] if argument != config["checkpoint"]]
    return keep_arguments(named, OWN)


def evaluate_all(contenders: Sequence[Contender]) -> list[Entry]:
    """The contenders' results, which are written.

    A result that is there already is kept where it is of the same weights, settings and episodes.
    """
    entries: list[Entry] = []
    for contender in contenders:
        identity = _hash_evaluation(contender.config)
        result = _read_kept(contender.out, identity)
        if result is None:
            result, _ = evaluate(contender.config)
            result["identity"] = identity
            results.save(result, contender.out)
        entries.append(Entry(contender.name, contender.out, result))
    return entries


def _hash_evaluation(composed: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides the episodes of an evaluation."""
    meta = checkpoint.read_meta(checkpoint.find(composed["checkpoint"]))
    decides = identify(composed, meta, choose_task(composed, meta))
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _read_kept(out: Path, identity: str) -> Mapping[str, Any] | None:
    """The saved result of an evaluation; None where there is none, or that of another one."""
    if not out.is_file():
        return None
    result = results.load(out)
    if result.get("identity") != identity:
        return None
    print(f"{out}: evaluated before")
    return result


def write_comparison(entries: Sequence[Entry], folder: Path) -> Comparison:
    """Write the comparison of base, controls and tuned policy into the folder of the run."""
    comparison = compare_entries(entries)
    place = folder / "comparison"
    options = Compare(files=tuple(entry.path for entry in entries), out=place)
    compare.write_files(comparison, options, place)
    print(compare.describe_comparison(comparison))
    print(f"comparison: {place / PAGE}")
    return comparison


def compare_entries(entries: Sequence[Entry]) -> Comparison:
    """All paired with the first, which is the base; the last, the tuned policy, with each."""
    tuned = entries[-1]
    contrasts = [compare.compare([control, tuned], control) for control in entries[1:-1]]
    return replace(compare.compare(entries, entries[0]), contrasts=contrasts)
