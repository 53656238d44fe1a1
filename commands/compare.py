"""`hotstart compare A.json B.json ...`: results in one table, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..configs.schema import Compare
from ..evaluation import results
from ..evaluation.intervals import Interval
from ..evaluation.pairing import PairedDifference, pair_results
from ..finetuning.ledger import PURPOSES, Ledger
from ..spec import ConfigError
from ..system import outputs
from . import plots
from .cautions import explain_unpaired, find_cautions
from .comparison_page import (
    PAGE,
    Comparison,
    count_seeds,
    format_p,
    name_checkpoints,
    write_comparison_page,
)
from .drawing import to_png, to_svg
from .entries import Entry, read_entries, read_ledgers
from .next_steps import write_command, write_path
from .page import shorten_number

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
  jerk      RMS of the commands [normalised units of the training data's actions / s^3];
            of actions that are speeds already [/ s^2]
  step      largest change from one command to the next, in normalised units"""


def run(options: Compare) -> int:
    """Print the comparison; returns the exit status. Raises DataError for wrong files."""
    if options.out:
        check_place(options.out, options.overwrite)
    entries = read_entries(options.files)
    comparison = compare(entries, find_base(entries, options.baseline))
    print(describe_comparison(comparison))
    if not options.out:
        place = outputs.choose_name(Path("comparison"))
        print(f"\nnext: {write_call(options, place)}   # plots and a page")
        return 0
    written = write_files(comparison, options, options.out)
    print(f"\n{options.out}: {', '.join(written)}")
    print(f"next: open {options.out / PAGE} in a browser")
    return 0


def check_place(folder: Path, overwrite: bool) -> None:
    """Raise ConfigError for a folder that cannot be written, or shows a comparison already."""
    outputs.check_folder(folder)
    outputs.check_free(folder / PAGE, overwrite, folder)


def write_files(comparison: Comparison, options: Compare, folder: Path) -> list[str]:
    """The table, a page and the plots of a comparison, in `folder`; returns the file names."""
    outputs.write_text(folder / "comparison.txt", describe_comparison(comparison) + "\n")
    figures = draw_figures(comparison.entries, options.measure)
    written = write_figures(figures, folder)
    call = f"{write_call(options, folder)} overwrite=true"
    write_comparison_page(folder / PAGE, comparison, figures, call)
    return ["comparison.txt", PAGE, *written]


def compare(entries: Sequence[Entry], base: Entry) -> Comparison:
    """Every other result paired with the `base`, and what forbids or weakens the comparison."""
    paired: list[tuple[Entry, PairedDifference]] = []
    remarks: list[str] = []
    for entry in entries:
        if entry is base:
            continue
        unpaired = explain_unpaired(entry, base)
        if unpaired:
            remarks.append(unpaired)
        else:
            paired.append((entry, pair_results(entry.result, base.result)))
    remarks += find_cautions(entries)
    return Comparison(entries, base, paired, remarks)


def describe_comparison(comparison: Comparison) -> str:
    """Table, paired differences with the base, and what forbids or weakens the comparison."""
    entries = comparison.entries
    table = align([COLUMNS, *map(_list_cells, entries)])
    parts = [f"{len(entries)} results of {name_checkpoints(entries)}", "", table, "", LEGEND]
    for each in (comparison, *comparison.contrasts):
        if each.paired:
            parts += ["", describe_paired(each)]
    ledgers = read_ledgers(entries)
    if ledgers:
        parts += ["", describe_ledgers(ledgers)]
    if comparison.remarks:
        parts.append("")
    for remark in comparison.remarks:
        parts.append(f"Note: {remark}")
    return "\n".join(parts)


def describe_paired(comparison: Comparison) -> str:
    """Paired differences from the base."""
    base = comparison.base
    head = f"Difference from {base.name}, same seeds (more than 0: better than {base.name})"
    pairs = [_list_paired_cells(entry, paired) for entry, paired in comparison.paired]
    return "\n".join([head, "", align([PAIRED_COLUMNS, *pairs])])


def describe_ledgers(ledgers: Mapping[str, Ledger]) -> str:
    """Real control periods by what they were spent on, a line for each policy."""
    rows = [[name, *ledger.describe()] for name, ledger in ledgers.items()]
    table = align([["name", *PURPOSES], *rows])
    return f"Real control periods that each policy has spent\n\n{table}"


def write_call(options: Compare, out: Path) -> str:
    """The command that compares these files into a folder."""
    words = [*map(write_path, options.files), f"out={out}"]
    if options.baseline is not None:
        words.append(f"baseline={options.baseline}")
    if options.measure != "success":
        words.append(f"measure={options.measure}")
    return write_command("compare", *words)


def draw_figures(entries: Sequence[Entry], measure: plots.Measure) -> dict[str, Figure]:
    """Success or score against both costs and the latency, and smoothness, by file name."""
    found = [entry.result for entry in entries]
    names = [entry.name for entry in entries]
    figures = {
        f"{measure}_nfe": plots.tradeoff(found, names, "nfe", measure),
        f"{measure}_ms": plots.tradeoff(found, names, "ms", measure),
        "smoothness": plots.smoothness_bars(found, names),
    }
    if len({result["latency_s"] for result in found}) > 1:
        figures["latency"] = plots.against_latency(found, names, measure)
    return figures


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[str]:
    """Write each figure as PNG and SVG; returns the file names."""
    written: list[str] = []
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(to_png(figure))
        (folder / f"{name}.svg").write_text(to_svg(figure))
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


def find_base(entries: Sequence[Entry], wanted: str | None) -> Entry:
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


def _list_paired_cells(entry: Entry, paired: PairedDifference) -> tuple[str, ...]:
    """One result's difference from the baseline, over the seeds that both have."""
    count = count_seeds(paired)
    score = _format_interval(paired.score, "+")
    test = paired.success
    if test is None:
        return (entry.name, count, results.NOT_REPORTED, "-", score, "-")
    p = format_p(test.p)
    success = _format_interval(test.difference, "+")
    return (entry.name, count, success, p, score, f"{test.only_a} / {test.only_b}")


def _format_interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _shorten(value: float | None) -> str:
    return shorten_number(value, "-")
