"""`hotstart collect`: demonstrations from a scripted expert, over several processes, resumable."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..datasets.store import Store
from ..envs.experts.demonstrate import Demonstrator, make_expert
from ..envs.registry import make
from ..spec import ConfigError, DataError
from .processes import ordered, worker_count

SEEDS = "seeds.json"
"""Beside the arrays: the seeds of the episodes kept, so that a collection can go on."""
HOPELESS = 0.05
"""Below this share of successes after 40 attempts the expert cannot do the task."""


def run(config: Mapping[str, Any]) -> int:
    """Collect as the configuration says and print what came of it."""
    facts = collect(config)
    print(
        f"{config['out']}: {facts['episodes']} episodes, {facts['steps']} steps; the expert succeeded in "
        f"{facts['kept']} of {facts['attempts']} attempts, {facts['seconds']:.0f} s"
    )
    print(f"next: hotstart train {config['out']} task={config['choices']['task']}")
    return 0


def collect(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the store up to `episodes` successes, taking seeds in order; returns counts and seconds."""
    began, task = time.monotonic(), config["task"]
    if config["episodes"] < 1:
        raise ConfigError(f"episodes is {config['episodes']}; at least 1 is wanted")
    store, seeds = _open(config)
    first = seeds[-1] + 1 if seeds else int(config["seed"])
    attempts, kept = 0, 0
    arguments = (task["env"], {**task["options"], "max_steps": task["max_steps"]}, config["noise"])
    results = ordered(Demonstrator, arguments, itertools.count(first), worker_count(config["workers"]))
    with tqdm(total=config["episodes"], initial=len(seeds), desc="collecting", unit="episode") as bar:
        while len(seeds) < config["episodes"]:
            episode, success = next(results)
            attempts += 1
            if success:
                kept += 1
                _keep(store, seeds, first + attempts - 1, episode)
                bar.update()
            bar.set_postfix(success=f"{kept}/{attempts}", refresh=False)
            _check_hope(kept, attempts, task["env"])
        results.close()
    seconds = time.monotonic() - began
    return {"episodes": len(seeds), "steps": len(store), "attempts": attempts, "kept": kept, "seconds": seconds}


def _open(config: Mapping[str, Any]) -> tuple[Store, list[int]]:
    """The store to go on with, or a new one, and the seeds of the episodes that it holds."""
    path, task = Path(config["out"]), config["task"]
    source = f"expert {task['env']}, noise {config['noise']}, options {json.dumps(task['options'], sort_keys=True)}"
    if path.exists():
        store = Store.open(path)
        if store.attrs["source"] != source:
            raise DataError(f"{path} holds other data ({store.attrs['source']}): choose another out=, or delete it")
        listed = json.loads((path / SEEDS).read_text()) if (path / SEEDS).exists() else []
        return store, listed[: len(store.episode_ends)]
    make_expert(task["env"], config["noise"])  # fails early where there is none
    env = make(task["env"], **task["options"])
    spec = {"fps": env.rate_hz, "action_spec": env.action_spec, "obs_spec": env.obs_spec}
    env.close()
    return Store.create(path, **spec, task=task["name"], source=source), []


def _keep(store: Store, seeds: list[int], seed: int, episode: Mapping[str, Any]) -> None:
    """Append an episode; its seed is listed first, so that a kill in between leaves at most one name too many."""
    seeds.append(seed)
    writing = store.path / (SEEDS + ".writing")
    writing.write_text(json.dumps(seeds))
    writing.replace(store.path / SEEDS)
    store.append(episode)


def _check_hope(kept: int, attempts: int, env: str) -> None:
    if attempts >= 40 and kept < HOPELESS * attempts:
        raise DataError(
            f"the expert of {env!r} succeeded in {kept} of {attempts} attempts: lower noise=, or look at the options"
        )
