"""What `hotstart data verify` finds of faults that were planted, and what it finds without any."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.checks.finding import Finding
from ..datasets.checks.verify import verify
from ..evaluation.intervals import wilson
from ..spec import option
from ..system import outputs
from ..system.versions import versions
from ._planted_kinds import FAULTS, Fault
from ._planted_sets import Planted, make_arm, make_hand, make_pusht


@dataclass
class Options:
    """Each kind of fault is planted in three sizes, in a new clean set for every seed.

    Thresholds were chosen on the seeds 0 to 999; figures are of others.
    """

    sets: tuple[str, ...] = option(("arm", "hand"), "arm, hand (synthetic) or pusht (recorded)")
    kinds: tuple[str, ...] = option((), "kinds of faults; empty: all")
    draws: int = option(20, "clean sets of each name")
    seed: int = option(1000, "seed of the first one")
    data: Path = option(Path("../shared/data"), "the folder that holds pusht/")
    out: str = option("", "file for all figures; empty: not written")
    overwrite: bool = option(False, "whether that file may be replaced by a new one")


def run(options: Options) -> None:
    """Print one table for the planted faults, one for clean sets."""
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    figures: dict[str, Any] = {"versions": versions()}
    for name in options.sets:
        figures[name] = measure(name, options)
    if options.out:
        outputs.write_text(Path(options.out), json.dumps(figures, indent=1))


def measure(name: str, options: Options) -> dict[str, Any]:
    """Plant everything in one kind of set."""
    makers = {
        "arm": make_arm,
        "hand": make_hand,
        "pusht": partial(make_pusht, folder=options.data),
    }
    kinds = options.kinds or tuple(FAULTS)
    found: dict[str, list[list[bool]]] = {kind: [[], [], []] for kind in kinds}
    alarms: dict[str, int] = {}
    began = time.process_time()
    for seed in range(options.seed, options.seed + options.draws):
        clean = makers[name](seed)
        said = verify(clean)
        for code in {finding.code for finding in said}:
            alarms[code] = alarms.get(code, 0) + 1
        for kind in kinds:
            fault = FAULTS[kind]
            for place, size in enumerate(fault.sizes):
                rng = np.random.default_rng([seed, place])
                tried = try_fault(clean, fault, size, rng, said)
                if tried is not None:
                    found[kind][place].append(tried)
    print_found(name, found)
    print_alarms(name, alarms, options.draws)
    print(f"{time.process_time() - began:.0f} CPU seconds")
    return {"found": found, "alarms": alarms, "draws": options.draws}


def try_fault(
    clean: Planted, fault: Fault, size: float, rng: np.random.Generator, before: Sequence[Finding]
) -> bool | None:
    """Whether a planted fault is found in its episodes; None where the set cannot have it."""
    data = clean.copy()
    try:
        episodes = fault.plant(data, size, rng)
    except (KeyError, IndexError):
        return None
    if "statistics" not in fault.codes:
        data.stored = {}
    known = {finding.code for finding in before}
    hit: set[int] = set()
    for finding in verify(data):
        if finding.code in fault.codes:
            hit |= set(finding.episodes)
            if not episodes and finding.code not in known:
                return True
    return bool(episodes) and set(episodes) <= hit


def print_found(name: str, found: dict[str, list[list[bool]]]) -> None:
    """A row a kind, with what was missed of each size."""
    print(f"\n{name}: planted faults that are found [95 % interval], n in each column")
    for kind, parts in found.items():
        fault = FAULTS[kind]
        cells = [f"{kind:<26}"]
        for size, tried in zip(fault.sizes, parts, strict=True):
            cells.append(f"{_show(size, fault.unit, tried):>38}")
        print("".join(cells), flush=True)


def _show(size: float, unit: str, tried: Sequence[bool]) -> str:
    if not tried:
        return f"{size:g} {unit}: -"
    share = wilson(sum(tried), len(tried))
    return f"{size:g} {unit}: {sum(tried)}/{len(tried)} [{share.low:.2f}, {share.high:.2f}]"


def print_alarms(name: str, alarms: dict[str, int], draws: int) -> None:
    """Findings in sets without a fault."""
    print(f"{name}: clean sets with a finding, of {draws}")
    for code, count in sorted(alarms.items()):
        share = wilson(count, draws)
        print(f"  {code:<24} {count} [{share.low:.2f}, {share.high:.2f}]")
    if not alarms:
        print(f"  none, any check: 0 [0.00, {wilson(0, draws).high:.2f}]")
