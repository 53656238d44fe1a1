"""What `hotstart finetune method=diwa` does before it dreams: world model, cloning, audit.

Everything lies in the folder of the run and is taken up again by the same command: `world_model/`
with its `audit.json`, and `cloned/`, the base after cloning the play's successes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ..datasets.store import Store
from ..finetuning.diwa import DreamSettings, check_offline, choose_beginning
from ..finetuning.ledger import Ledger
from ..finetuning.outcome import DREAMS, Dreamed
from ..finetuning.play_cloning import PlayCloning, clone_play
from ..finetuning.sources import Reward
from ..finetuning.tuner import MethodSettings, Setup, Tuner
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.model import PolicyModel
from ..spec import CheckpointError, ConfigError, DataError
from ..system import outputs
from ..system.untrusted import read_json
from ..world_model import files
from ..world_model.audit import audit, compare_base
from ..world_model.dreams import DreamSource, Pessimism, Starts
from ..world_model.files import Learned
from ..world_model.latent import LatentModel
from ..world_model.latents import add_latents, check_filter
from ..world_model.learning import learn
from ..world_model.play import Play, read_play
from .after_finetuning import BASE, TUNED, choose_noise
from .dreams_words import CLONED

AUDIT = "audit.json"
PLAYS = "plays"
"""Key of a checkpoint's meta.json: content hashes of the play that its ledger counts."""


class AuditFailed(ConfigError):
    """A world model that may not be tuned in."""


@dataclass(frozen=True)
class Dreaming:
    """All that a run in dreams begins with."""

    policies: Mapping[str, PolicyModel]  # the base, and its clone where there is one
    learned: Learned
    begun_at: Play  # what the model has learned from: dreams begin at its steps
    held_out: Play  # what it is judged by
    report: Mapping[str, Any]  # the audit, and `begin`: the policy that dreams


def tune_in_dreams(
    config: Mapping[str, Any], folder: Path, method: MethodSettings, task: Mapping[str, Any]
) -> Tuner[Any]:
    """Run the whole fine-tuning but for its evaluation; nothing real is simulated.

    Methods other than diwa dream with its default options, from the base.
    """
    if isinstance(method, DreamSettings):
        settings = method
    else:
        settings = DreamSettings(rows=method.rows, clone_updates=0, begin="base")
    base, meta = checkpoint.load(config["checkpoint"])
    named = None
    if config["world_model"]:
        named = files.load(config["world_model"])
    play = open_play(config, base, named)
    meta = count_play({**meta, "task": dict(task)}, play)
    meta["tuned_from"] = str(config["checkpoint"])
    dreaming = prepare(config, folder, settings, base, meta, play)
    report = dreaming.report
    if not report["passed"] and not settings.force:
        raise AuditFailed(refuse(report, folder))
    horizon = base.config.horizon
    pessimism = settings.choose(Pessimism)
    if pessimism.limit == 0:
        pessimism = settings.with_limit(report["base"]["disagreement"])
    source = DreamSource(
        dreaming.learned.model,
        dreaming.learned.judge,
        Starts(dreaming.begun_at, settings.key_frames),
        settings.rows,
        find_length(task),
        check_reward(method.reward),
        pessimism,
        horizon.observed,
        base.filter is not None,
    )
    begin = dreaming.policies[report["begin"]]
    sampler = build_sampler(config["inference"])
    dreams = {"audit": dict(report), "forced": not report["passed"]}
    setup = Setup(begin, sampler, source, folder, {**meta, "dreams": dreams}, config["executed"])
    tuner = method.make_tuner(setup)
    tuner.run()
    check_offline(Ledger.from_json(meta["ledger"]), tuner.ledger)
    note_dreams(config, settings, dreaming, tuner, len(play))
    return tuner


def check_reward(reward: Reward) -> Literal["success", "score"]:
    """The reward of a dream; raises ConfigError for one that no world model knows."""
    if reward == "environment":
        raise ConfigError("method.reward=environment is none that a dream pays: success or score")
    return reward


def note_dreams(
    config: Mapping[str, Any],
    settings: DreamSettings,
    dreaming: Dreaming,
    tuner: Tuner[Any],
    play_steps: int,
) -> Dreamed:
    """Write what came of a run in dreams, with the tuned policy's success in them.

    It dreams from the recorded starts that the audit dreamed from. No step of it is real.
    """
    place = tuner.folder / DREAMS
    report = dreaming.report
    if place.is_file():
        found = read_json(place, DataError)
        if isinstance(found, dict) and found.get("imagined_steps") == tuner.imagined:
            return cast(Dreamed, found)
    sampler = build_sampler(config["inference"])
    tuned = DiffusionPolicy(tuner.model, sampler, config["executed"])
    learned = dreaming.learned
    compared = compare_base(
        learned.model,
        learned.judge,
        dreaming.held_out,
        {TUNED: tuned},
        find_length(tuner.meta["task"]),
        settings.audit_settings(),
    )
    dreamed = Dreamed(
        offline=True,
        forced=not report["passed"],
        audit=dict(report),
        begin=report["begin"],
        imagined={**report["base"]["variants"], **compared["variants"]},
        imagined_steps=tuner.imagined,
        play_steps=play_steps,
    )
    outputs.write_text(place, json.dumps(dreamed, indent=2) + "\n")
    return dreamed


def open_play(config: Mapping[str, Any], base: PolicyModel, named: Learned | None = None) -> Play:
    """The play, with what the base observes and what the world model that is `named` reads.

    Of a base with a filter it also holds what the filter says. Raises ConfigError where no play is
    named.
    """
    if not config["play"]:
        raise ConfigError(
            "method=diwa learns from recorded play: name its store, as play=data/play.zarr; "
            "`hotstart collect play=true demonstrator=CHECKPOINT` records it"
        )
    store = Store.open(config["play"])
    if base.filter is None:
        keys = list(base.config.obs_spec.keys)
        if named is not None:
            keys = list(dict.fromkeys((*keys, *named.model.obs_spec.keys)))
        return read_play(store, keys)
    if named is None or not isinstance(named.model, LatentModel):
        raise ConfigError(
            "the policy follows the filter of a latent world model: name it, as world_model=FOLDER"
        )
    check_filter(base.filter, named.model)
    return add_latents(named.model, read_play(store, list(named.model.obs_spec.keys)))


def find_length(task: Mapping[str, Any]) -> int:
    """Control periods of an episode."""
    if not task["max_steps"]:
        raise ConfigError("a dream needs an end: say task.max_steps")
    return int(task["max_steps"])


def count_play(meta: Mapping[str, Any], play: Play) -> dict[str, Any]:
    """Meta data whose ledger counts the steps of the play, once."""
    counted = dict(meta)
    plays = list(meta.get(PLAYS, []))
    if play.content_hash not in plays:
        ledger = Ledger.from_json(meta.get("ledger", {})).add("play", len(play))
        counted["ledger"] = ledger.to_json()
        counted[PLAYS] = [*plays, play.content_hash]
    return counted


def prepare(
    config: Mapping[str, Any],
    folder: Path,
    settings: DreamSettings,
    base: PolicyModel,
    meta: Mapping[str, Any],
    play: Play,
) -> Dreaming:
    """World model, clone and audit, from the run's folder or made now."""
    learned = find_world_model(config, folder, settings, base, play)
    known, held_out = play.split(int(learned.facts["fitting"]["seed"]))
    policies = {BASE: base}
    if settings.clone_updates:
        policies[CLONED] = find_clone(folder, settings, base, meta, play)
    report = find_audit(config, folder, settings, policies, learned, held_out, meta)
    return Dreaming(policies, learned, known, held_out, report)


def find_world_model(
    config: Mapping[str, Any],
    folder: Path,
    settings: DreamSettings,
    base: PolicyModel,
    play: Play,
) -> Learned:
    """The model that was named, the one in the run's folder, or a new one."""
    place = folder / "world_model"
    if config["world_model"]:
        place = Path(config["world_model"])
    elif not (place / files.FACTS).is_file():
        jump = config["executed"] or base.config.horizon.executed
        learned, _ = learn(play, jump, fitting=settings.fit_settings())
        files.save(place, learned)
    learned = files.load(place)
    if base.filter is None:
        check_play(learned, place, play)  # of a filter's world model all other play is held out
    check_jump(learned, place, config["executed"] or base.config.horizon.executed)
    return learned


def check_play(learned: Learned, place: Path, play: Play) -> None:
    """Raise CheckpointError for a model of other play."""
    if learned.facts["play"]["hash"] != play.content_hash:
        raise CheckpointError(
            f"{place} was learned from other play than play=: its held-out episodes are not known; "
            "name that play, or leave world_model= out"
        )


def check_jump(learned: Learned, place: Path, jump: int) -> None:
    """Raise CheckpointError for a model that jumps another number of steps than a chunk has."""
    if learned.model.jump != jump:
        raise CheckpointError(
            f"{place} jumps {learned.model.jump} steps and the policy executes {jump} of a chunk; "
            f"say executed={learned.model.jump}, or train a model with jump={jump}"
        )


def find_clone(
    folder: Path,
    settings: DreamSettings,
    base: PolicyModel,
    meta: Mapping[str, Any],
    play: Play,
) -> PolicyModel:
    """The base after cloning the play's successes."""
    place = folder / CLONED
    if not place.exists():
        cloned = clone_play(base, meta, play, settings.choose(PlayCloning), settings.seed)
        checkpoint.save(place, cloned, meta)
    return checkpoint.load(place)[0]


def find_audit(
    config: Mapping[str, Any],
    folder: Path,
    settings: DreamSettings,
    policies: Mapping[str, PolicyModel],
    learned: Learned,
    held_out: Play,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """The audit in the run's folder, or a new one; with the policy that shall dream."""
    place = folder / AUDIT
    if place.is_file():
        found = read_json(place, DataError)
        if isinstance(found, dict) and "passed" in found:
            return found
        raise DataError(f"{place} is no audit: delete it, and it is made anew")
    variants = build_variants(config, policies)
    length = find_length(meta["task"])
    report = audit(
        learned.model, learned.judge, held_out, variants, length, settings.audit_settings()
    )
    report["begin"] = choose_beginning(settings, report["base"]["variants"], CLONED, BASE)
    outputs.write_text(place, json.dumps(report, indent=2) + "\n")
    return report


def build_variants(
    config: Mapping[str, Any], policies: Mapping[str, PolicyModel]
) -> dict[str, DiffusionPolicy]:
    """The base as it is deployed, with less starting noise, and its clone."""
    own = config["inference"]
    base = policies[BASE]
    executed = config["executed"]
    variants = {BASE: DiffusionPolicy(base, build_sampler(own), executed)}
    for name, noise in choose_noise(own).items():
        sampler = build_sampler({**own, "start_noise": noise})
        variants[name] = DiffusionPolicy(base, sampler, executed)
    if CLONED in policies:
        variants[CLONED] = DiffusionPolicy(policies[CLONED], build_sampler(own), executed)
    return variants


def refuse(report: Mapping[str, Any], folder: Path) -> str:
    """Why the world model may not be tuned in, and what to do."""
    faults = "; ".join(report["faults"])
    return (
        f"the world model fails its audit ({folder / AUDIT}): {faults}. Record more play, or tune "
        "in it all the same with method.force=true; the result will say so"
    )
