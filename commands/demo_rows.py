"""What the demo evaluates: samplers on one checkpoint, without and with charged time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.compose import compose_config
from ..envs.registry import options_of
from ..evaluation import results
from ..evaluation.latency import PLANNERS
from ..policy import checkpoint
from ..spec import ConfigError
from ..system import outputs
from . import evaluate
from .processes import worker_count
from .scenes import SharedScenes

CHARGES = "latency.json"
"""The profile of what the plans of each sampler are charged with."""
OWN_WORDS = {"rtc": ["inference.mode=identity"]}
"""Further words for a sampler; this mode of RTC takes one evaluation a step."""
Result = Mapping[str, Any]


@dataclass(frozen=True)
class DemoRow:
    """A row of the demo's table: `sampler` as `ddim-10`, and how its controller asks for plans.

    `planner` is empty where plans take no time.
    """

    sampler: str
    planner: str = ""

    @property
    def file_name(self) -> str:
        """Where the result is kept, in the folder of the run."""
        if self.planner:
            return f"result_{self.sampler}_{self.planner}.json"
        return f"result_{self.sampler}.json"

    def words(self) -> list[str]:
        """What chooses the sampler on the command line."""
        name, steps = self.sampler.rsplit("-", 1)
        return [f"inference={name}", f"inference.steps={steps}", *OWN_WORDS.get(name, [])]


def list_rows(config: Mapping[str, Any]) -> list[DemoRow]:
    """The rows of a configuration: those without charged time first.

    Raises ConfigError for names that are none.
    """
    rows: list[DemoRow] = []
    for name in config["inferences"]:
        rows.append(DemoRow(_check_sampler(name, name)))
    for word in config["charged"]:
        name, planner = [*word.split(":", 1), ""][:2]
        if planner not in PLANNERS:
            raise ConfigError(f"charged holds {word!r}; ddim-10:sync or rti-2:async would be right")
        rows.append(DemoRow(_check_sampler(name, word), planner))
    if not 0 < config["charged_episodes"] <= config["episodes"]:
        raise ConfigError(
            f"charged_episodes is {config['charged_episodes']}; "
            f"1 to episodes={config['episodes']} are possible"
        )
    return rows


def _check_sampler(name: str, word: str) -> str:
    if not re.fullmatch(r".+-\d+", name):
        raise ConfigError(f"{word!r} names no sampler with its steps, as ddim-10 does")
    return name


def evaluate_rows(config: Mapping[str, Any], folder: Path) -> dict[DemoRow, Result]:
    """Evaluate every row on the same seeds; a result that is there already is kept."""
    found: dict[DemoRow, Result] = {}
    waiting: list[DemoRow] = []
    rows = list_rows(config)
    for row in rows:
        kept = _read_kept(row, found, config, folder)
        if kept is None:
            waiting.append(row)
        else:
            found[row] = kept
            print(f"    {describe_row(row, config)}: done before", flush=True)
    if waiting:
        _evaluate_all(waiting, found, config, folder)
    return {row: found[row] for row in rows}


def _evaluate_all(
    rows: Sequence[DemoRow], found: dict[DemoRow, Result], config: Mapping[str, Any], folder: Path
) -> None:
    """Add the results of `rows` to `found`; all of them run in the same scenes."""
    task = config["task"]
    options = options_of(task)
    workers = worker_count(config["workers"])
    with SharedScenes(task["env"], options, config["episodes"], workers) as scenes:
        for number, row in enumerate(rows, start=1):
            title = describe_row(row, config)
            print(f"    {number} of {len(rows)}: {title}", flush=True)
            if row.planner:
                write_charges(config, found, folder)
            result, _ = evaluate.evaluate(compose_row(row, config, folder), shared=scenes)
            print(f"    {evaluate.headline(result)}", flush=True)
            results.save(result, folder / row.file_name)
            found[row] = result


def describe_row(row: DemoRow, config: Mapping[str, Any]) -> str:
    """The row in words, for the terminal."""
    if not row.planner:
        return f"{row.sampler}, plans take no time"
    return f"{row.sampler} {row.planner}, {config['evaluation_ms']:g} ms for each evaluation"


def compose_row(row: DemoRow, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration that `hotstart evaluate` would compose for a row."""
    words = [*row.words(), f"seed={config['seed']}", f"workers={config['workers']}"]
    words += [f"out='{folder / row.file_name}'", "overwrite=true", f"num_envs={config['episodes']}"]
    episodes = config["episodes"]
    if row.planner:
        episodes = config["charged_episodes"]
        words += ["latency=profile", f"profile='{folder / CHARGES}'", f"planner={row.planner}"]
    words.append(f"episodes={episodes}")
    return compose_config("evaluate", [str(folder / "checkpoints" / "last"), *words])


def write_charges(config: Mapping[str, Any], found: Mapping[DemoRow, Result], folder: Path) -> None:
    """Write the time of every sampler's plans: its evaluations, times `evaluation_ms`.

    A first plan is charged apart, since a warm start samples it whole.
    """
    seconds: dict[str, dict[str, list[float]]] = {}
    for row in list_rows(config):
        cold, warm = count_evaluations(row.sampler, found)
        each_s = config["evaluation_ms"] / 1000
        seconds[row.sampler] = {"cold": [cold * each_s], "warm": [warm * each_s]}
    outputs.write_text(folder / CHARGES, json.dumps({"seconds": seconds}, indent=1))


def count_evaluations(sampler: str, found: Mapping[DemoRow, Result]) -> tuple[float, float]:
    """Evaluations of a first plan and of a later one, as measured where plans take no time.

    A sampler that was not measured so makes as many as it has steps.
    """
    result = found.get(DemoRow(sampler))
    steps = float(sampler.rpartition("-")[2])
    if result is None:
        return steps, steps
    cold = float(result["nfe"]["cold"])
    return cold, float(result["nfe"]["warm"] or cold)


def _read_kept(
    row: DemoRow, found: Mapping[DemoRow, Result], config: Mapping[str, Any], folder: Path
) -> Result | None:
    """The saved result of a row, where it is of this checkpoint, these episodes and this charge."""
    path = folder / row.file_name
    if not path.is_file():
        return None
    result = results.load(path)
    meta = checkpoint.read_meta(checkpoint.find(folder))
    charge_s, episodes = 0.0, config["episodes"]
    if row.planner:
        episodes = config["charged_episodes"]
        charge_s = count_evaluations(row.sampler, found)[1] * (config["evaluation_ms"] / 1000)
    wanted = {
        "weights_hash": evaluate.find_weights_hash(meta),
        "inference": row.sampler,
        "episodes": episodes,
        "seed": config["seed"],
        "latency_s": charge_s,
    }
    for key, value in wanted.items():
        if result.get(key) != value:
            return None
    return result
