"""What forbids a comparison of results, or weakens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..checks import rates_differ
from ..evaluation import results
from ..evaluation.pairing import list_episodes, share_seeds
from .entries import Entry

NOT_GIVEN = "not given"
"""What an option that a result does not tell reads as."""
VIEWS = ("render_size", "cameras", "obs", "rotation", "control")
"""Options of a task that leave its scenes as they are: what a policy sees, the form of actions."""


def explain_unpaired(entry: Entry, base: Entry) -> str:
    """Why two results cannot be paired; empty where they can."""
    pair = f"{entry.name} is not paired with {base.name}"
    task = entry.result["task"]
    if task != base.result["task"]:
        return f"{pair}: the tasks differ ({task}, {base.result['task']})"
    changed = []
    for key in _list_differing_options([entry, base]):
        if key not in VIEWS:
            changed.append(f"{key} {_read_option(entry, key)} and {_read_option(base, key)}")
    if changed:
        return (
            f"{pair}: the same seed is another scene, the options of {task} differ "
            f"({'; '.join(changed)})"
        )
    if not share_seeds(entry.result, base.result):
        ranges = f"{_name_seeds(entry)}, {_name_seeds(base)}"
        return f"{pair}: they share no seed ({ranges}); evaluate with the same seed="
    return ""


def find_cautions(entries: Sequence[Entry]) -> list[str]:
    """What weakens a comparison."""
    return [
        *_compare_views(entries),
        *_compare_data_rates(entries),
        *_find_untold(entries),
        *_find_changed_checkpoints(entries),
        *_find_changed_settings(entries),
        *_find_solved(entries),
        *_find_other_rates(entries),
        *_compare_times(entries),
    ]


def _compare_views(entries: Sequence[Entry]) -> list[str]:
    """Options that differ between results and change only what a policy sees or says."""
    found = []
    for key in _list_differing_options(entries):
        if key in VIEWS:
            values = _list_values(entries, lambda entry, key=key: _read_option(entry, key))
            found.append(f"the option {key} of the task differs: {values}")
    return found


def _compare_data_rates(entries: Sequence[Entry]) -> list[str]:
    """Rates of the training data, where they differ."""
    rates = set()
    for entry in entries:
        rates.add(entry.result.get("data_rate_hz"))
    if len(rates - {None}) < 2:
        return []
    values = _list_values(entries, lambda entry: entry.result.get("data_rate_hz"))
    return [f"the data's rates differ: {values} Hz"]


def _find_untold(entries: Sequence[Entry]) -> list[str]:
    """Results that do not say their task's options."""
    untold = []
    for entry in entries:
        if "task_options" not in entry.result:
            untold.append(entry.name)
    if not untold or len(entries) < 2:
        return []
    return [
        f"{', '.join(untold)}: written by an older hotstart, which did not note the task's "
        "options; check them"
    ]


def _find_changed_checkpoints(entries: Sequence[Entry]) -> list[str]:
    """Checkpoints that were trained on between two results."""
    by_path: dict[str, list[Entry]] = {}
    for entry in entries:
        mine = by_path.setdefault(str(entry.result["checkpoint"]), [])
        if "checkpoint_step" in entry.result:
            mine.append(entry)
    found = []
    for path, mine in by_path.items():
        weights = set()
        for entry in mine:
            weights.add((entry.result["checkpoint_step"], entry.result.get("weights_hash")))
        if len(weights) > 1:
            steps = _list_values(mine, lambda entry: entry.result["checkpoint_step"])
            found.append(f"{path} held other weights for each of: {steps} (steps of training)")
    return found


def _find_changed_settings(entries: Sequence[Entry]) -> list[str]:
    """Samplers of one name that ran with different settings, given or left by a calibration."""
    by_sampler: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        mine = by_sampler.setdefault(str(entry.result["inference"]), [])
        if "sampler_settings" in entry.result:
            own = {"sampler_settings": entry.result["sampler_settings"]}
            mine.append(results.settings(own))
    found = []
    for sampler, settings in by_sampler.items():
        differing = _list_differing_keys(settings, None)
        if differing:
            found.append(
                f"results of {sampler} were made with different settings: {', '.join(differing)}"
            )
    return found


def _find_solved(entries: Sequence[Entry]) -> list[str]:
    """Results with episodes that were solved at reset."""
    found = []
    for entry in entries:
        solved = results.solved_words(entry.result)
        if solved:
            found.append(f"{entry.name}: {solved}")
    return found


def _find_other_rates(entries: Sequence[Entry]) -> list[str]:
    """Results that ran at another rate than the training data."""
    found = []
    for entry in entries:
        ran_hz, data_hz = entry.result.get("rate_hz"), entry.result.get("data_rate_hz")
        if rates_differ(ran_hz, data_hz):
            found.append(f"{entry.name} ran at {ran_hz:g} Hz, on data of {data_hz:g} Hz")
    return found


def _compare_times(entries: Sequence[Entry]) -> list[str]:
    """What weakens a comparison of times."""
    found = []
    if _differ(entries, lambda result: result.get("machine")):
        found.append("times come from different machines; compare NFE instead")
    if _differ(entries, lambda result: round(result["inference_ms"].get("rows") or 0)):
        found.append(
            "calls served different numbers of rows (mean in the table): p50 and p95 do not compare"
        )
    if _differ(entries, lambda result: result["versions"].get("torch")):
        found.append("times come from different versions of torch")
    return found


def _differ(entries: Sequence[Entry], read: Callable[[Mapping[str, Any]], object]) -> bool:
    """Whether results do not all say the same."""
    return len({str(read(entry.result)) for entry in entries}) > 1


def _list_values(entries: Sequence[Entry], read: Callable[[Entry], object]) -> str:
    """What each result says, as `NAME 10, OTHER 20`."""
    return ", ".join(f"{entry.name} {read(entry)}" for entry in entries)


def _list_differing_options(entries: Sequence[Entry]) -> list[str]:
    """Options of the task in which results differ.

    A result that does not tell its options differs in none.
    """
    told = []
    for entry in entries:
        if "task_options" in entry.result:
            told.append(entry.result["task_options"])
    return sorted(_list_differing_keys(told, NOT_GIVEN))


def _list_differing_keys(mappings: Sequence[Mapping[str, Any]], missing: object) -> list[str]:
    """Keys whose values do not read the same in all mappings.

    One that lacks a key has the value `missing`.
    """
    keys: dict[str, None] = {}
    for mapping in mappings:
        keys |= dict.fromkeys(mapping)
    found = []
    for key in keys:
        if len({str(mapping.get(key, missing)) for mapping in mappings}) > 1:
            found.append(key)
    return found


def _read_option(entry: Entry, key: str) -> object:
    return entry.result["task_options"].get(key, NOT_GIVEN)


def _name_seeds(entry: Entry) -> str:
    """The first and last seed of a result."""
    seeds = list_episodes(entry.result)
    return f"{min(seeds)}..{max(seeds)}"
