"""The outcome of a fine-tuning: gathered from its evaluations, written, and told."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..finetuning.ledger import Ledger
from ..finetuning.outcome import (
    FORMAT,
    Finetuned,
    Gain,
    Kept,
    Shown,
    describe_gain,
    describe_result,
    read_dreams,
    save_finetuned,
)
from ..finetuning.progress import find_gains, read_curve, was_dreamed
from ..policy import checkpoint
from ..policy.training.metrics import read_metrics
from .after_finetuning import (
    Contest,
    choose_search,
    evaluate_all,
    keep_words,
    write_comparison,
)
from .curves import tuning_curve
from .drawing import to_png
from .dreams_words import read_baseline
from .entries import Entry
from .finetuned_page import PAGE, write_finetuned_page
from .finetuned_words import describe_outcome
from .next_steps import write_command, write_option, write_path

ITERATIONS = "method.iterations="
Others = Mapping[str, Sequence[Entry]]


def evaluate_tuned(config: Mapping[str, Any], folder: Path, contest: Contest) -> Finetuned:
    """Evaluate base, controls and tuned policy, also on what was not tuned for, and write it all.

    Results, the comparison, the curve and the outcome lie in the folder of the run.
    """
    own = evaluate_all(contest.own)
    write_comparison(own, folder)
    others: dict[str, list[Entry]] = {}
    for name, pair in contest.others.items():
        others[name] = evaluate_all(pair)
    outcome = gather(config, folder, own, others)
    path = save_finetuned(outcome, folder)
    draw_curve(folder, outcome)
    results = [entry.result for entry in reversed(own)]
    write_finetuned_page(folder / PAGE, outcome, results, list_next(config, folder))
    print(f"\n{describe_outcome(outcome)}\noutcome: {path}")
    print(f"page: {folder / PAGE}")
    return outcome


def gather(
    config: Mapping[str, Any], folder: Path, own: Sequence[Entry], others: Others
) -> Finetuned:
    """The outcome, from the results of base, controls and tuned policy and from the run's files."""
    meta = checkpoint.read_meta(checkpoint.find(folder))
    metrics = read_metrics(folder)
    curve = read_curve(metrics)
    base, tuned = own[0], own[-1]
    evaluated = [*own]
    dreamed: dict[str, Any] = {}
    if was_dreamed(curve):
        dreamed["dreams"] = read_dreams(folder)
    for pair in others.values():
        evaluated += pair
    return Finetuned(
        format=FORMAT,
        method=config["choices"]["method"],
        settings=meta["finetuning"],
        task=str(tuned.result["task"]),
        inference=str(tuned.result["inference"]),
        base=_show(base),
        controls={entry.name: _show(entry) for entry in own[1:-1]},
        tuned=_show(tuned),
        gains=_list_gains(own),
        others=_list_kept(others),
        ledger=_count_spent(meta, evaluated).to_json(),
        seconds=_read_seconds(metrics),
        evaluation_seconds=sum(float(entry.result["wall_seconds"]) for entry in evaluated),
        curve=curve,
        steps_to_gain=find_gains(curve, base.result["success"]["rate"]),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **dreamed,
    )


def _show(entry: Entry) -> Shown:
    return describe_result(entry.result, entry.path.name)


def _list_gains(own: Sequence[Entry]) -> dict[str, Gain]:
    """The tuned policy less the base and less each control, by name."""
    found: dict[str, Gain] = {}
    for entry in own[:-1]:
        gain = describe_gain(own[-1].result, entry.result)
        if gain is not None:
            found[entry.name] = gain
    return found


def _list_kept(others: Others) -> dict[str, Kept]:
    """Base and tuned policy on what was not tuned for."""
    found: dict[str, Kept] = {}
    for name, (base, tuned) in others.items():
        gain = describe_gain(tuned.result, base.result)
        found[name] = Kept(base=_show(base), tuned=_show(tuned), gain=gain)
    return found


def _count_spent(meta: Mapping[str, Any], evaluated: Sequence[Entry]) -> Ledger:
    """The tuned checkpoint's ledger, and the control periods of all evaluations."""
    ledger = Ledger.from_json(meta.get("ledger", {}))
    for entry in evaluated:
        for episode in entry.result["per_episode"]:
            ledger = ledger.add("evaluation", episode["steps"])
    return ledger


def _read_seconds(metrics: Sequence[Mapping[str, float]]) -> float:
    """Wall time of the tuning."""
    seconds = 0.0
    for record in metrics:
        seconds = max(seconds, float(record.get("seconds", 0.0)))
    return seconds


def draw_curve(folder: Path, outcome: Finetuned | None = None) -> Path:
    """Draw the learning curve into the folder of the run, with the base where it was evaluated."""
    path = folder / "success.png"
    curve = read_curve(read_metrics(folder))
    if outcome is None:
        figure = tuning_curve(curve)
    else:
        figure = tuning_curve(curve, read_baseline(outcome), outcome["steps_to_gain"])
    path.write_bytes(to_png(figure))
    return path


def list_next(config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """What to do next, by what it is for."""
    own = choose_search(keep_words(config), config)
    words = [write_path(folder), *own, write_option("video", folder / "videos")]
    more = [word for word in config["arguments"] if not word.startswith(ITERATIONS)]
    iterations = 2 * config["method"]["iterations"]
    return {
        "Watch the tuned policy:": write_command("evaluate", *words),
        "Go on with the tuning, for twice the rounds:": write_command(
            "finetune", *more, f"{ITERATIONS}{iterations}"
        ),
    }
