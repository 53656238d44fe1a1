"""`hotstart world-model`: learn a world model from recorded play, judge it, and look at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave

from ..configs.compose import compose_config
from ..configs.world_model import AuditWorldModel, DrawStrip, LearnWorldModel, ViewWorldModel
from ..datasets.store import Store
from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..spec import CheckpointError, ConfigError, DataError
from ..system import outputs
from ..system.untrusted import read_json
from ..world_model import files
from ..world_model.audit import AuditSettings, audit
from ..world_model.fitting import FitSettings
from ..world_model.jump import JumpSettings
from ..world_model.latent import LatentOptions
from ..world_model.latent_training import LatentSettings
from ..world_model.latent_view import predict_strip
from ..world_model.latents import check_filter
from ..world_model.learning import learn
from ..world_model.play import Play, read_play
from .after_finetuning import BASE, choose_noise, choose_sampler
from .dreaming import AUDIT
from .next_steps import write_command, write_path
from .world_view import Shown, write_world_view


def train(options: LearnWorldModel) -> int:
    """Learn a world model and write it; the next line judges it."""
    if options.out.exists() and not (options.out / files.FACTS).is_file():
        raise ConfigError(
            f"{options.out} is there already and is no world model: choose another out="
        )
    outputs.check_free(options.out, options.overwrite, options.out)
    keys = list(options.keys)
    jump = options.jump
    if options.checkpoint:
        model, _ = checkpoint.load(options.checkpoint)
        keys = list(model.observed_spec.keys)
        jump = model.config.horizon.executed
    play = read_play(Store.open(options.play), keys)
    learned, held_out = learn(
        play,
        jump,
        options.kind,
        FitSettings(updates=options.updates, seed=options.seed, score=options.score),
        JumpSettings(
            options.members,
            options.hidden,
            stride=options.stride,
            set_points=options.set_points,
            differences=options.differences,
        ),
        LatentOptions(members=options.members, hidden=options.hidden, unseen=options.unseen),
        LatentSettings(steps=options.updates, seed=options.seed),
    )
    files.save(options.out, learned)
    print(
        f"{options.out}: learned from {len(play) - len(held_out):,} steps of play; "
        f"{len(held_out.episode_ends)} episodes, {len(held_out):,} steps, are held out"
    )
    words = [write_path(options.out), f"play={options.play}"]
    if options.checkpoint:
        words.append(f"checkpoint={options.checkpoint}")
    print(f"next: {write_command('world-model audit', *words)}")
    return 0


def judge(options: AuditWorldModel) -> int:
    """Print the audit and write it; 1 where the model fails it."""
    out = Path(options.out or options.model / AUDIT)
    outputs.check_file(out, options.overwrite or not options.out)
    learned = files.load(options.model)
    play = read_play(Store.open(options.play), list(learned.model.obs_spec.keys))
    variants, meta = choose_variants(options)
    followed = variants[BASE].model.filter
    held_out = play
    if followed is not None:
        check_filter(followed, learned.model)
    if followed is None or learned.facts["play"]["hash"] == play.content_hash:
        held_out = split_as(learned, play)[1]
    length = options.max_steps or find_length(meta)
    settings = AuditSettings(repeats=options.repeats)
    report = audit(learned.model, learned.judge, held_out, variants, length, settings)
    outputs.write_text(out, json.dumps(report, indent=2) + "\n")
    print(describe_audit(report))
    print(f"figures: {out}")
    words = [write_path(options.model), f"play={options.play}", f"checkpoint={options.checkpoint}"]
    print(f"next: {write_command('world-model view', *words)}")
    return int(not report["passed"])


def view(options: ViewWorldModel) -> int:
    """Write the page of a world model."""
    outputs.check_free(options.out, options.overwrite, options.out)
    learned = files.load(options.model)
    play = read_play(Store.open(options.play), list(learned.model.obs_spec.keys))
    held_out = split_as(learned, play)[1]
    words = choose_sampler(options.inference)
    config = compose_config("evaluate", [write_path(options.checkpoint), *words])["inference"]
    base, meta = checkpoint.load(options.checkpoint)
    shown = Shown(
        learned,
        held_out,
        {"dreamed": DiffusionPolicy(base, build_sampler(config))},
        options.max_steps or find_length(meta),
        find_audit(options),
    )
    command = write_command(
        "world-model view",
        write_path(options.model),
        *(f"{key}={getattr(options, key)}" for key in ("play", "checkpoint", "out")),
    )
    page = write_world_view(shown, options.out, options.episodes, options.seed, command)
    print(f"page: {page}")
    return 0


def find_audit(options: ViewWorldModel) -> Mapping[str, Any] | None:
    """The audit that was named, or the one beside the model or above it; None where none is."""
    places = [options.model / AUDIT, options.model.parent / AUDIT]
    if options.audit:
        places = [Path(options.audit)]
    for place in places:
        if place.is_file() or options.audit:
            found = read_json(place, DataError)
            if isinstance(found, dict) and "faults" in found:
                return found
            raise DataError(f"{place} is no audit of a world model")
    return None


def find_length(meta: Mapping[str, Any]) -> int:
    """Control periods of a dream, as the checkpoint's task says."""
    length = int((meta.get("task") or {}).get("max_steps", 0))
    if not length:
        raise ConfigError("a dream needs an end: say max_steps=")
    return length


def draw_strip(options: DrawStrip) -> int:
    """Draw what the model imagines of held-out episodes."""
    outputs.check_file(options.out, options.overwrite)
    learned = files.load(options.model)
    play = read_play(Store.open(options.play), list(learned.model.obs_spec.keys))
    held_out = split_as(learned, play)[1]
    lengths = held_out.episode_ends - held_out.first
    chosen = np.flatnonzero(lengths > options.start + options.steps)[: options.episodes]
    if not len(chosen):
        raise ConfigError(
            f"no held-out episode has {options.start + options.steps} steps and one more; "
            f"the longest has {lengths.max()}: say steps= or start="
        )
    rows = []
    for episode in chosen:
        rows.append(
            predict_strip(
                learned.model, held_out, int(episode), options.start, options.steps, options.every
            )
        )
    drawn = np.concatenate(rows).repeat(options.zoom, 0).repeat(options.zoom, 1)
    imsave(options.out, drawn)
    print(f"recorded above imagined, every {options.every} steps: {options.out}")
    return 0


def split_as(learned: files.Learned, play: Play) -> tuple[Play, Play]:
    """What a model has learned from, and what was held out; CheckpointError for other play."""
    if learned.facts["play"]["hash"] != play.content_hash:
        raise CheckpointError(
            "the world model was learned from other play: its held-out episodes are not known"
        )
    return play.split(int(learned.facts["fitting"]["seed"]))


def choose_variants(
    options: AuditWorldModel,
) -> tuple[dict[str, DiffusionPolicy], Mapping[str, Any]]:
    """The base, the base with less starting noise, and the further policies; the base's meta."""
    words = choose_sampler(options.inference)
    config = compose_config("evaluate", [write_path(options.checkpoint), *words])["inference"]
    model, meta = checkpoint.load(options.checkpoint)
    variants = {BASE: DiffusionPolicy(model, build_sampler(config))}
    for name, noise in choose_noise(config).items():
        sampler = build_sampler({**config, "start_noise": noise})
        variants[name] = DiffusionPolicy(model, sampler)
    for place in options.policies:
        other, _ = checkpoint.load(place)
        variants[place] = DiffusionPolicy(other, build_sampler(config))
    return variants, meta


def describe_audit(report: Mapping[str, Any]) -> str:
    """The figures of an audit in words, its verdict last."""
    lines = ["open loop, error and that of standing still:"]
    lines += _describe_open_loop(report["open_loop"])
    judged = report["success_model"]
    base = report["base"]
    lines += [
        f"success model: {judged['episodes_right']:.2f} of the held-out episodes judged right, "
        f"{judged['replays_right']:.2f} when their actions are replayed in the model",
        f"the base from {base['starts']} recorded starts: {base['imagined']:.3f} in dreams, "
        f"{base['true']:.3f} [{base['true_low']:.3f}, {base['true_high']:.3f}] as recorded, "
        f"{base['agreement']:.2f} of the dreams end as recorded, {base['self_agreement']:.2f} as "
        "another dream from the same start",
    ]
    for name, rate in base["variants"].items():
        lines.append(f"  {name}: {rate:.3f} in dreams")
    if report["passed"]:
        lines.append("passed")
    for fault in report["faults"]:
        lines.append(f"fails: {fault}")
    return "\n".join(lines)


def _describe_open_loop(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every part of the states."""
    parts: dict[str, list[str]] = {}
    for row in rows:
        cell = f"{row['steps']}: {row['error']:.3g} / {row['persistence']:.3g}"
        parts.setdefault(row["part"], []).append(cell)
    return [f"  {part} after steps " + ", ".join(cells) for part, cells in parts.items()]


ACTIONS: dict[str, Callable[[Any], int]] = {
    "train": train,
    "audit": judge,
    "view": view,
    "strip": draw_strip,
}
