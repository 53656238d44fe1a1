"""`hotstart compare A.json B.json ...`: results in one table, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..configs.schema import Compare
from ..evaluation import results
from ..evaluation.intervals import Interval
from ..evaluation.pairing import pair_results
from ..spec import ConfigError
from ..system import outputs
from . import plots
from .cautions import explain_unpaired, find_cautions
from .entries import Entry, read_entries

COLUMNS = (
    *("name", "task", "n", "success", "score", "NFE cold/warm", "latency", "reaction"),
    *("ms p50/p95", "rows", "ms per s", "jerk", "step"),
)
PAIRED_COLUMNS = ("name", "seeds", "success", "p", "score", "only this / only base succeeded")
LEGEND = """  [ ]       95 % interval
  NFE       denoiser evaluations of a row's first plan and of its later ones
  latency   what a plan was charged with [ms], and whether the controller asked early (async)
  reaction  mean time from a moment to the first action that has seen it [ms]
  ms        one inference call, which serves so many rows (mean)
  ms per s  a row's share of inference per second of motion
  jerk      RMS of the commands, in normalised units of the training data's actions
  step      largest change from one command to the next, in normalised units"""


def run(options: Compare) -> int:
    """Print the comparison; returns the exit status. Raises DataError for wrong files."""
    if options.out:
        outputs.check_folder(options.out)
    entries = read_entries(options.files)
    base = _find_base(entries, options.baseline)
    text = describe_comparison(entries, base)
    print(text)
    if options.out:
        outputs.write_text(options.out / "comparison.txt", text + "\n")
        written = write_plots(entries, options.out, options.measure)
        print(f"\n{options.out}: {', '.join(['comparison.txt', *written])}")
    return 0


def describe_comparison(entries: Sequence[Entry], base: Entry) -> str:
    """Table, paired differences with `base`, and what forbids or weakens the comparison."""
    checkpoints = list(dict.fromkeys(_name_checkpoint(entry.result) for entry in entries))
    if len(checkpoints) == 1:
        counted = f"checkpoint {checkpoints[0]}"
    else:
        counted = f"{len(checkpoints)} checkpoints: {', '.join(checkpoints)}"
    table = align([COLUMNS, *map(_list_cells, entries)])
    parts = [f"{len(entries)} results of {counted}", "", table, "", LEGEND]
    pairs, remarks = [], []
    for entry in entries:
        if entry is base:
            continue
        unpaired = explain_unpaired(entry, base)
        if unpaired:
            remarks.append(unpaired)
        else:
            pairs.append(_list_paired_cells(entry, base))
    if pairs:
        head = f"Difference from {base.name}, same seeds (more than 0: better than {base.name})"
        parts += ["", head, "", align([PAIRED_COLUMNS, *pairs])]
    remarks += find_cautions(entries)
    if remarks:
        parts.append("")
    for remark in remarks:
        parts.append(f"Note: {remark}")
    return "\n".join(parts)


def write_plots(
    entries: Sequence[Entry], folder: Path, measure: plots.Measure = "success"
) -> list[str]:
    """Success or score against both costs, and smoothness, each as PNG and SVG.

    Returns the file names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = [entry.result for entry in entries]
    names = [entry.name for entry in entries]
    figures = {
        f"{measure}_nfe": plots.tradeoff(found, names, "nfe", measure),
        f"{measure}_ms": plots.tradeoff(found, names, "ms", measure),
        "smoothness": plots.smoothness_bars(found, names),
    }
    if len({result["latency_s"] for result in found}) > 1:
        figures["latency"] = plots.against_latency(found, measure)
    written = []
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(plots.to_png(figure))
        (folder / f"{name}.svg").write_text(plots.to_svg(figure))
        written += [f"{name}.png", f"{name}.svg"]
    return written


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width))
        lines.append("  " + "  ".join(cells))
    rule = "  ".join("-" * width for width in widths)
    lines.insert(1, f"  {rule}")
    return "\n".join(lines)


def _find_base(entries: Sequence[Entry], wanted: str | None) -> Entry:
    """The result that the others are compared with: by name, by file, or the first."""
    if wanted is None:
        return entries[0]
    for entry in entries:
        path = entry.path
        if wanted in (entry.name, entry.result["inference"], str(path), path.name, path.stem):
            return entry
    valid = ", ".join(entry.name for entry in entries)
    raise ConfigError(f"baseline={wanted} is none of the results; valid are {valid}")


def _list_cells(entry: Entry) -> tuple[str, ...]:
    """One result's line of the table."""
    result = entry.result
    nfe, score = result["nfe"], result["score"]
    ms = result["inference_ms"]
    reaction_ms = None
    if result["reaction_s"] is not None:
        reaction_ms = 1000 * result["reaction_s"]
    return (
        entry.name,
        str(result["task"]),
        str(result["episodes"]),
        results.success_words(result["success"]),
        _format_interval(Interval(score["mean"], score["low"], score["high"])),
        f"{_shorten(nfe['cold'])} / {_shorten(nfe['warm'])}",
        results.latency_words(result),
        _shorten(reaction_ms),
        f"{_shorten(ms['p50'])} / {_shorten(ms['p95'])}",
        _shorten(ms.get("rows")),
        _shorten(ms["per_second_of_motion"]),
        _shorten(result["smoothness"]["jerk_rms"]),
        _shorten(result["smoothness"]["max_step"]),
    )


def _list_paired_cells(entry: Entry, base: Entry) -> tuple[str, ...]:
    """One result's difference from the baseline, over the seeds that both have."""
    paired = pair_results(entry.result, base.result)
    count = str(paired.seeds)
    if paired.seeds < paired.episodes:
        count = f"{paired.seeds} of {paired.episodes}"
    score = _format_interval(paired.score, "+")
    test = paired.success
    if test is None:
        return (entry.name, count, results.NOT_REPORTED, "-", score, "-")
    p = f"{test.p:.3f}"
    if test.p < 0.001:
        p = "< 0.001"
    success = _format_interval(test.difference, "+")
    return (entry.name, count, success, p, score, f"{test.only_a} / {test.only_b}")


def _name_checkpoint(result: dict[str, Any]) -> str:
    """A result's checkpoint with its step: the same folder may have been trained on."""
    step = result.get("checkpoint_step")
    if step is None:
        return str(result["checkpoint"])
    return f"{result['checkpoint']} at step {step}"


def _format_interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _shorten(value: float | None) -> str:
    """Three digits, or a dash for what was not measured."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
