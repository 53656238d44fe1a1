"""Results of evaluations with names that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation import results
from ..finetuning.ledger import Ledger
from ..spec import ConfigError


@dataclass(frozen=True)
class Entry:
    """A result and what it is called in tables and plots."""

    name: str
    path: Path
    result: Mapping[str, Any]


def read_entries(files: Sequence[Path]) -> list[Entry]:
    """Load results and name them; raises ConfigError for a file that is given twice."""
    if len({file.resolve() for file in files}) < len(files):
        raise ConfigError("a result file is given twice; give each once")
    return make_entries(list(map(results.load, files)), files)


def make_entries(loaded: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> list[Entry]:
    """Results with names that tell them apart; `files` names them where nothing else does."""
    entries = []
    for name, file, result in zip(name_results(loaded, files), files, loaded, strict=True):
        entries.append(Entry(name, file, result))
    return entries


def read_ledgers(entries: Sequence[Entry]) -> dict[str, Ledger]:
    """What each result's policy has spent, by name; empty where none of them was tuned.

    Raises CheckpointError where a result's ledger holds anything but counts.
    """
    found = {entry.name: Ledger.from_json(entry.result.get("ledger", {})) for entry in entries}
    if any(ledger.was_tuned for ledger in found.values()):
        return found
    return {}


def name_results(loaded: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> list[str]:
    """The shortest names that differ: the sampler, or with latency, settings, task, or file."""
    table = []
    for result, file, own in zip(loaded, files, list_own_settings(loaded), strict=True):
        latency = results.latency_words(result)
        parts = ("", latency, own, result["task"], result["checkpoint"], file.stem, file)
        table.append([f"{result['inference']} {part}".strip() for part in parts])
    names: list[str] = []
    for column in zip(*table, strict=True):
        names = list(column)
        if len(set(names)) == len(names):
            break
    return names


def list_own_settings(loaded: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each result sets otherwise than another one of its sampler, as `start=0.5`."""
    peers: dict[str, list[dict[str, Any]]] = {}
    for result in loaded:
        peers.setdefault(results.family(result)[0], []).append(results.settings(result))
    found = []
    for result in loaded:
        own = []
        for key, value in results.settings(result).items():
            if any(peer.get(key, value) != value for peer in peers[results.family(result)[0]]):
                own.append(f"{key}={value}")
        found.append(" ".join(own))
    return found
