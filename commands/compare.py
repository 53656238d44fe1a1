"""`hotstart compare A.json B.json ...`: results of evaluations in one table, and differences paired by seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import rates_differ
from ..configs.schema import Compare
from ..evaluation import results
from ..evaluation.intervals import Interval, mcnemar, paired_bootstrap
from ..spec import ConfigError
from ..system import outputs
from . import plots

NOT_GIVEN = "not given"
"""What an option that a result does not tell reads as."""
COLUMNS = (
    *("name", "task", "n", "success", "score", "NFE cold/warm", "latency", "reaction"),
    *("ms p50/p95", "rows", "ms per s", "jerk", "step"),
)
LEGEND = """  [ ]       95 % interval
  NFE       denoiser evaluations of a row's first plan and of its later ones
  latency   what a plan was charged with [ms], and whether the controller asked early (async)
  reaction  mean time from a moment to the first action that has seen it [ms]
  ms        one inference call, which serves so many rows (mean)
  ms per s  a row's share of inference per second of motion
  jerk      RMS of the commands, in normalised units of the training data's actions
  step      largest change from one command to the next, chunk boundaries included, in normalised units"""


@dataclass(frozen=True)
class Entry:
    """A result and what it is called in the table."""

    name: str
    path: Path
    result: dict[str, Any]


def run(options: Compare) -> int:
    """Print the comparison; returns the exit status. Raises DataError for wrong files."""
    if options.out:
        outputs.check_folder(options.out)
    entries = read(options.files)
    base = _baseline(entries, options.baseline)
    text = comparison(entries, base)
    print(text)
    if options.out:
        outputs.write_text(options.out / "comparison.txt", text + "\n")
        written = write_plots(entries, options.out, options.measure)
        print(f"\n{options.out}: {', '.join(['comparison.txt', *written])}")
    return 0


def read(files: Sequence[Path]) -> list[Entry]:
    """Load results and give them names that tell them apart; the same file twice is refused."""
    if len({file.resolve() for file in files}) < len(files):
        raise ConfigError("a result file is given twice; give each once")
    loaded = [results.load(file) for file in files]
    return [Entry(*three) for three in zip(names(loaded, files), files, loaded, strict=True)]


def names(loaded: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> list[str]:
    """The shortest names that differ: the sampler alone, or with its latency, settings, task, checkpoint or file."""
    samplers = [str(result["inference"]) for result in loaded]
    parts: tuple[list[str], ...] = (
        [""] * len(samplers),
        [results.latency_words(result) for result in loaded],
        own_settings(loaded),
        [str(result["task"]) for result in loaded],
        [str(result["checkpoint"]) for result in loaded],
        [file.stem for file in files],
        [str(file) for file in files],
    )
    tries = []
    for other in parts:
        tries.append(
            [f"{sampler} {part}".strip() for sampler, part in zip(samplers, other, strict=True)]
        )
    return next((names for names in tries if len(set(names)) == len(names)), tries[-1])


def own_settings(loaded: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each result sets otherwise than another one of its way, as `start=0.5 weights=bf16`."""
    said, samplers = (
        [results.settings(result) for result in loaded],
        [results.family(result)[0] for result in loaded],
    )

    def own(number: int) -> str:
        peers = []
        for other, sampler in zip(said, samplers, strict=True):
            if sampler == samplers[number]:
                peers.append(other)
        return " ".join(
            f"{k}={v}"
            for k, v in said[number].items()
            if any(peer.get(k, v) != v for peer in peers)
        )

    return [own(number) for number in range(len(loaded))]


VIEWS = ("render_size", "cameras", "obs", "rotation", "control")
"""Options of a task that leave its scenes as they are: what a policy sees of them, and the form of its actions."""


def comparison(entries: Sequence[Entry], base: Entry) -> str:
    """Table, paired differences with `base`, and what forbids or weakens the comparison, in plain words."""
    checkpoints = list(dict.fromkeys(_checkpoint(entry.result) for entry in entries))
    head = f"{len(entries)} results of {_counted(checkpoints, 'checkpoint')}"
    parts = [head, "", _aligned([COLUMNS, *map(_row, entries)]), "", LEGEND]
    others = [entry for entry in entries if entry is not base]
    pairs = [_paired_row(entry, base) for entry in others if not _hindrance(entry, base)]
    if pairs:
        header = ("name", "seeds", "success", "p", "score", "only this / only base succeeded")
        parts += [
            "",
            f"Difference from {base.name}, same seeds (more than 0: better than {base.name})",
        ]
        parts += ["", _aligned([header, *pairs])]
    remarks = [
        *(line for entry in others if (line := _hindrance(entry, base))),
        *_cautions(entries),
    ]
    return "\n".join([*parts, *(["", *(f"Note: {line}" for line in remarks)] if remarks else [])])


def write_plots(
    entries: Sequence[Entry], folder: Path, measure: plots.Measure = "success"
) -> list[str]:
    """Success or score against both costs, and smoothness, each as PNG and SVG; returns the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    found, called = [entry.result for entry in entries], [entry.name for entry in entries]
    figures = {
        f"{measure}_nfe": plots.tradeoff(found, called, "nfe", measure),
        f"{measure}_ms": plots.tradeoff(found, called, "ms", measure),
        "smoothness": plots.smoothness_bars(found, called),
    }
    if len({result["latency_s"] for result in found}) > 1:
        figures["latency"] = plots.against_latency(found, measure)
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(plots.to_png(figure))
        (folder / f"{name}.svg").write_text(plots.to_svg(figure))
    return [f"{name}.{ending}" for name in figures for ending in ("png", "svg")]


def _baseline(entries: Sequence[Entry], wanted: str | None) -> Entry:
    """The result that the others are compared with: by name, by file, or the first."""
    if wanted is None:
        return entries[0]
    for entry in entries:
        if wanted in (
            entry.name,
            entry.result["inference"],
            str(entry.path),
            entry.path.name,
            entry.path.stem,
        ):
            return entry
    raise ConfigError(
        f"baseline={wanted} is none of the results; valid are {', '.join(entry.name for entry in entries)}"
    )


def _row(entry: Entry) -> tuple[str, ...]:
    """One result's line of the table."""
    result = entry.result
    nfe, ms, score = (result[key] for key in ("nfe", "inference_ms", "score"))
    return (
        entry.name,
        str(result["task"]),
        str(result["episodes"]),
        results.success_words(result["success"]),
        _interval(Interval(score["mean"], score["low"], score["high"])),
        f"{_short(nfe['cold'])} / {_short(nfe['warm'])}",
        results.latency_words(result),
        _short(None if result["reaction_s"] is None else 1000 * result["reaction_s"]),
        f"{_short(ms['p50'])} / {_short(ms['p95'])}",
        _short(ms.get("rows")),
        _short(ms["per_second_of_motion"]),
        _short(result["smoothness"]["jerk_rms"]),
        _short(result["smoothness"]["max_step"]),
    )


def _paired_row(entry: Entry, base: Entry) -> tuple[str, ...]:
    """One result's difference from the baseline, over the seeds that both have."""
    seeds = _shared(entry, base)
    ours, theirs = (_by_seed(one) for one in (entry, base))
    reported = results.reports_success(entry.result) and results.reports_success(base.result)
    if reported:
        test = mcnemar([ours[s]["success"] for s in seeds], [theirs[s]["success"] for s in seeds])
    else:
        test = None
    score = paired_bootstrap([ours[s]["score"] for s in seeds], [theirs[s]["score"] for s in seeds])
    episodes = max(len(ours), len(theirs))
    if len(seeds) == episodes:
        count = str(len(seeds))
    else:
        count = f"{len(seeds)} of {episodes}"
    if test is None:
        return (entry.name, count, results.NOT_REPORTED, "-", _interval(score, "+"), "-")
    if test.p < 0.001:
        p = "< 0.001"
    else:
        p = f"{test.p:.3f}"
    discordant = f"{test.only_a} / {test.only_b}"
    return (
        entry.name,
        count,
        _interval(test.difference, "+"),
        p,
        _interval(score, "+"),
        discordant,
    )


def _hindrance(entry: Entry, base: Entry) -> str:
    """Why two results cannot be paired; empty where they can."""
    pair = f"{entry.name} is not paired with {base.name}"
    if entry.result["task"] != base.result["task"]:
        return f"{pair}: the tasks differ ({entry.result['task']}, {base.result['task']})"
    changed = [key for key in _differing_options([entry, base]) if key not in VIEWS]
    if changed:
        said = "; ".join(f"{key} {_option(entry, key)} and {_option(base, key)}" for key in changed)
        return f"{pair}: the same seed is another scene, the options of {entry.result['task']} differ ({said})"
    if not _shared(entry, base):
        ours, theirs = (f"{min(_by_seed(one))}..{max(_by_seed(one))}" for one in (entry, base))
        return f"{pair}: they share no seed ({ours}, {theirs}); evaluate with the same seed="
    return ""


def _differing_options(entries: Sequence[Entry]) -> list[str]:
    """Options of the task in which results differ; a result that does not tell its options differs in none."""
    told = [entry for entry in entries if "task_options" in entry.result]
    return sorted(_differing_keys([entry.result["task_options"] for entry in told], NOT_GIVEN))


def _differing_keys(said: Sequence[Mapping[str, Any]], missing: Any) -> list[str]:
    """Keys whose values do not read the same in all mappings; one that lacks a key has the value `missing`."""
    found: list[str] = []
    for key in dict.fromkeys(itertools.chain.from_iterable(said)):
        values = {str(one.get(key, missing)) for one in said}
        if len(values) > 1:
            found.append(key)
    return found


def _option(entry: Entry, key: str) -> Any:
    return entry.result["task_options"].get(key, NOT_GIVEN)


def _checkpoint(result: Mapping[str, Any]) -> str:
    """A result's checkpoint with its step, where it is told: the same folder may have been trained on."""
    step = result.get("checkpoint_step")
    return str(result["checkpoint"]) + ("" if step is None else f" at step {step}")


def _cautions(entries: Sequence[Entry]) -> list[str]:
    """What weakens a comparison."""
    return [*_unequal(entries), *_own_remarks(entries), *_weak_times(entries)]


def _own_remarks(entries: Sequence[Entry]) -> list[str]:
    """What must be known of single results: episodes that were solved at reset, another rate than the data's."""
    found = [
        f"{entry.name}: {words}"
        for entry in entries
        if (words := results.solved_words(entry.result))
    ]
    for entry in entries:
        rates = [entry.result.get(key) for key in ("rate_hz", "data_rate_hz")]
        if rates_differ(*rates):
            found.append(f"{entry.name} ran at {rates[0]:g} Hz, on data of {rates[1]:g} Hz")
    return found


def _unequal(entries: Sequence[Entry]) -> list[str]:
    """In what results differ that should perhaps be the same: views of the task, rates, checkpoints, settings of one way."""
    found = [
        f"the option {key} of the task differs: {_each(entries, lambda entry, key=key: _option(entry, key))}"
        for key in _differing_options(entries)
        if key in VIEWS
    ]
    if (
        len({entry.result["data_rate_hz"] for entry in entries if "data_rate_hz" in entry.result})
        > 1
    ):
        found.append(
            f"the data's rates differ: {_each(entries, lambda entry: entry.result.get('data_rate_hz'))} Hz"
        )
    untold = [entry.name for entry in entries if "task_options" not in entry.result]
    if untold and len(entries) > 1:
        found.append(
            f"{', '.join(untold)}: written by an older hotstart, which did not note the task's options; check them"
        )
    return [*found, *_changed_checkpoints(entries), *_changed_settings(entries)]


def _changed_checkpoints(entries: Sequence[Entry]) -> list[str]:
    """Checkpoints that were trained on between two results."""
    found = []
    for path in dict.fromkeys(str(entry.result["checkpoint"]) for entry in entries):
        mine = [
            entry
            for entry in entries
            if str(entry.result["checkpoint"]) == path and "checkpoint_step" in entry.result
        ]
        if (
            len(
                {
                    (entry.result["checkpoint_step"], entry.result.get("weights_hash"))
                    for entry in mine
                }
            )
            > 1
        ):
            steps = _each(mine, lambda entry: entry.result["checkpoint_step"])
            found.append(f"{path} held other weights for each of: {steps} (steps of training)")
    return found


def _changed_settings(entries: Sequence[Entry]) -> list[str]:
    """Samplers of one name that were run with different settings, given or left by a calibration."""
    found = []
    for sampler in dict.fromkeys(str(entry.result["inference"]) for entry in entries):
        mine = [
            entry
            for entry in entries
            if entry.result["inference"] == sampler and "sampler_settings" in entry.result
        ]
        said = [
            results.settings({"sampler_settings": entry.result["sampler_settings"]})
            for entry in mine
        ]
        differing = _differing_keys(said, None)
        if differing:
            found.append(
                f"results of {sampler} were made with different settings: {', '.join(differing)}"
            )
    return found


def _each(entries: Sequence[Entry], read: Callable[[Entry], Any]) -> str:
    """What each result says, as `NAME 10, OTHER 20`."""
    return ", ".join(f"{entry.name} {read(entry)}" for entry in entries)


def _weak_times(entries: Sequence[Entry]) -> list[str]:
    """What weakens a comparison of times."""

    def differs(read: Callable[[Mapping[str, Any]], Any]) -> bool:
        return len({str(read(entry.result)) for entry in entries}) > 1

    checks = (
        (lambda r: r.get("machine"), "times come from different machines; compare NFE instead"),
        (
            lambda r: round(r["inference_ms"].get("rows") or 0),
            "calls served different numbers of rows (mean in the table): p50 and p95 do not compare",
        ),
        (lambda r: r["versions"].get("torch"), "times come from different versions of torch"),
    )
    return [text for read, text in checks if differs(read)]


def _shared(a: Entry, b: Entry) -> list[int]:
    """Seeds that both results have, in order."""
    return sorted(_by_seed(a).keys() & _by_seed(b).keys())


def _by_seed(entry: Entry) -> dict[int, dict[str, Any]]:
    return {episode["seed"]: episode for episode in entry.result["per_episode"]}


def _interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _short(value: float | None) -> str:
    """Three digits, or a dash for what was not measured."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _counted(items: Sequence[str], name: str) -> str:
    """`checkpoint X`, or how many there are."""
    if len(items) == 1:
        return f"{name} {items[0]}"
    return f"{len(items)} {name}s: {', '.join(items)}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table with aligned columns: the first to the left, the others to the right."""
    widths = np.array([[len(cell) for cell in row] for row in rows]).max(axis=0)
    lines = [
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  " + "  ".join(line) for line in lines)
