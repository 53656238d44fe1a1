"""`hotstart collect`: demonstrations or play, from a demonstrator or a policy, in processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from ..checks import check_fit
from ..configs.compose import fill
from ..configs.schema import PlaySettings
from ..datasets.locks import hold
from ..datasets.store import Store, refuse_full_disk
from ..envs.demonstrators.demonstrate import (
    DEMONSTRATORS,
    KINDS,
    Demonstration,
    DemonstrationRunner,
    Kind,
    make_demonstrator,
)
from ..envs.registry import options_of
from ..envs.workers import WorkerError
from ..spec import ConfigError, DataError, ObsSpec, shorten, unknown
from ..system.interrupts import explain
from ..system.untrusted import read_json
from .next_steps import choose_encoder, write_command, write_option, write_path
from .play import PolicyDemonstrator, name_play, player, settle_play
from .processes import ordered, worker_count

KEEP = ("success", "all")
SEEDS = "seeds.json"
"""Beside the arrays: the seeds of the episodes kept, so that a collection can go on."""
HOPELESS = 0.05
"""Below this share of successes after 40 attempts the demonstrator cannot do the task."""


def run(config: Mapping[str, Any]) -> int:
    """Collect as the configuration says and print what came of it."""
    config = settle_play(config)
    facts = collect(config)
    print(
        f"{config['out']}: {facts['episodes']} episodes, {facts['steps']} steps; "
        f"the demonstrator succeeded in {facts['succeeded']} of "
        f"{facts['attempts']} attempts, {facts['seconds']:.0f} s"
    )
    if config["play"]["on"]:
        place = write_path(config["out"])
        base = write_option("checkpoint", config["demonstrator"])
        following = write_command("world-model train", place, base)
    else:
        following = next_command(config, Store.open(config["out"]).obs_spec)
    print(f"next: {following}")
    return 0


def next_command(config: Mapping[str, Any], obs_spec: ObsSpec) -> str:
    """The line that trains on what was collected: the same task, and an encoder that fits."""
    task = f"task={config['choices']['task']}"
    changed = [argument for argument in config["arguments"] if argument.startswith("task.")]
    encoder = choose_encoder(obs_spec, config["task"]["obs_keys"])
    return write_command("train", write_path(config["out"]), task, *changed, *encoder)


def collect(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the store up to `episodes`, taking seeds in order; returns counts and seconds."""
    if config["episodes"] < 1:
        raise ConfigError(f"episodes is {config['episodes']}; at least 1 is wanted")
    if config["keep"] not in KEEP:
        raise ConfigError(unknown("choice for keep", config["keep"], KEEP))
    with hold(config["out"], shared=True):
        return _collect(config)


def _collect(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the store, which this process has locked."""
    began = time.monotonic()
    store, seeds = _open(config)
    try:
        attempts, succeeded = _fill(store, seeds, config)
    except KeyboardInterrupt as interrupt:
        raise explain(interrupt, f"stopped; {_kept(config)}") from None
    except WorkerError as error:
        raise WorkerError(f"{error}; {_kept(config)}") from error
    seconds = time.monotonic() - began
    return {
        "episodes": len(seeds),
        "steps": len(store),
        "attempts": attempts,
        "succeeded": succeeded,
        "seconds": seconds,
    }


def _fill(store: Store, seeds: list[int], config: Mapping[str, Any]) -> tuple[int, int]:
    """Append episodes until there are enough.

    Returns how many were tried and how many of those succeeded.
    """
    task = config["task"]
    if seeds:
        first = seeds[-1] + 1
    else:
        first = int(config["seed"])
    attempts = 0
    succeeded = 0
    build, arguments = _choose_runner(config)
    results = ordered(build, arguments, itertools.count(first), worker_count(config["workers"]))
    bar = tqdm(total=config["episodes"], initial=len(seeds), desc="collecting", unit="episode")
    with contextlib.closing(results), bar:
        while len(seeds) < config["episodes"]:
            shown: Demonstration = next(results)
            attempts, succeeded = attempts + 1, succeeded + shown.success
            if shown.success or config["keep"] == "all":
                _keep(store, seeds, first + attempts - 1, shown.arrays)
                bar.update()
            bar.set_postfix(success=f"{succeeded}/{attempts}", steps=len(store), refresh=False)
            if config["keep"] == "success":
                _check_hope(succeeded, attempts, task["env"], shown.reports_success)
    return attempts, succeeded


def _kept(config: Mapping[str, Any]) -> str:
    """What is in the store, and how to go on."""
    kept = len(Store.open(Path(config["out"])).episode_ends)
    return (
        f"{config['out']} keeps {kept} of {config['episodes']} episodes; "
        "the same command goes on from there"
    )


def _choose_runner(
    config: Mapping[str, Any],
) -> tuple[Callable[..., DemonstrationRunner], tuple[Any, ...]]:
    """What makes an episode of a seed in a process, and its arguments."""
    task = config["task"]
    acting = (task["env"], options_of(task), config["demonstrator"], config["inference"])
    if config["play"]["on"]:
        return player, (*acting, fill(PlaySettings, config["play"]))
    return demonstrator, (*acting, config["noise"])


def demonstrator(
    env: str,
    options: dict[str, Any],
    demonstrator: str,
    inference: Mapping[str, Any] | None,
    noise: float,
) -> DemonstrationRunner:
    """The environment and who acts in it: one of our demonstrators, or a checkpoint's policy."""
    if demonstrator in KINDS:
        acting = make_demonstrator(env, noise, cast("Kind", demonstrator))
    else:
        acting = PolicyDemonstrator(demonstrator, inference, noise)
    made = DemonstrationRunner(env, options, acting)
    if isinstance(acting, PolicyDemonstrator):
        check_fit(made.env, acting.agent.policy)
    return made


def _open(config: Mapping[str, Any]) -> tuple[Store, list[int]]:
    """The store to go on with, or a new one, and the seeds of the episodes that it holds."""
    path, task = Path(config["out"]), config["task"]
    source = _name_source(config)
    if path.exists():
        store = Store.open(path)
        if store.attrs["source"] != source:
            raise DataError(
                f"{path} holds other data ({store.attrs['source']}): choose another out=, "
                "or delete it"
            )
        return store, _read_seeds(path)[: len(store.episode_ends)]
    build, arguments = _choose_runner(config)
    env = build(*arguments).env  # fails early where it cannot be
    for note in env.notes:
        print(note)
    if config["play"]["on"] and config["play"]["scripted"] and task["env"] not in DEMONSTRATORS:
        print(f"{task['env']} has no scripted demonstrator: the policy acts in its share too")
    spec = {"fps": env.rate_hz, "action_spec": env.action_spec, "obs_spec": env.obs_spec}
    env.close()
    return Store.create(path, **spec, task=task["name"], source=source, options=task["options"]), []


def _name_source(config: Mapping[str, Any]) -> str:
    """Where the episodes come from, in words: all that decides them but the seeds."""
    task = config["task"]
    if config["play"]["on"]:
        acts = f"{name_play(config)} in {task['env']}"
    else:
        acts = (
            f"{config['demonstrator']} demonstrator in {task['env']}, keep {config['keep']}, "
            f"noise {config['noise']}"
        )
    if config["inference"] is not None:
        acts += f", inference {json.dumps(config['inference'], sort_keys=True)}"
    return f"{acts}, options {json.dumps(options_of(task), sort_keys=True)}"


def _read_seeds(path: Path) -> list[int]:
    """Seeds of the episodes in a store; DataError where the file holds other than whole numbers."""
    if not (path / SEEDS).exists():
        return []
    listed = read_json(path / SEEDS, DataError)
    if not isinstance(listed, list) or any(type(seed) is not int for seed in listed):
        raise DataError(f"{path / SEEDS} is {shorten(listed)}; it must be a list of whole numbers")
    return listed


def _keep(store: Store, seeds: list[int], seed: int, episode: Mapping[str, Any]) -> None:
    """Append an episode; its seed is listed first: a kill in between leaves one seed too many."""
    seeds.append(seed)
    writing = store.path / (SEEDS + ".writing")
    with refuse_full_disk(
        f"{store.path / SEEDS} cannot be written; {len(store.episode_ends)} episodes are kept"
    ):
        writing.write_text(json.dumps(seeds))
        writing.replace(store.path / SEEDS)
    store.append(episode)


def _check_hope(succeeded: int, attempts: int, env: str, reported: bool) -> None:
    """Raise DataError where no, or hardly any, episode will ever be kept."""
    if not reported:
        raise DataError(
            f"{env!r} never says whether its task is fulfilled, so that no episode would be kept: "
            "say keep=all"
        )
    if attempts >= 40 and succeeded < HOPELESS * attempts:
        raise DataError(
            f"the demonstrator of {env!r} succeeded in {succeeded} of {attempts} attempts: "
            "lower noise=, look at the options, or keep=all"
        )
