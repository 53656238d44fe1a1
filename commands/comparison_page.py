"""The page of a comparison: results side by side, and paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.intervals import Interval, bootstrap_mean
from ..evaluation.pairing import PairedDifference, pair_numbers, read_jerks
from ..evaluation.results import NOT_REPORTED
from ..finetuning.ledger import PURPOSES, Ledger
from .entries import Entry, read_ledgers
from .page import (
    Result,
    embed_figure,
    join_parts,
    shorten_number,
    write_commands,
    write_foot,
    write_note,
    write_page,
    write_table,
)

PAGE = "comparison.html"
HEADINGS = {
    "success_nfe": "Success against evaluations",
    "success_ms": "Success against inference time",
    "score_nfe": "Score against evaluations",
    "score_ms": "Score against inference time",
    "latency": "Under charged latency",
    "smoothness": "Smoothness of the commands",
}
COLUMNS = ("episodes", "success", "score", "NFE per plan", "ms per call", "jerk")
PAIRED = ("seeds", "success", "p", "score", "jerk")
NO_DIFFERENCE = "no difference shown"
RESULTS_NOTE = (
    "In brackets: 95 % intervals (Wilson for success, bootstrap for score and jerk, order "
    "statistics for the median of a call). NFE: denoiser evaluations of a row's first plan, then "
    "of its later ones. ms: median of an inference call, which serves that many rows. "
    "Jerk: RMS of the commands [normalised units / s\u00b3]."
)
PAIRED_NOTE = (
    "Only seeds that both results have count. In brackets: 95 % intervals (Newcombe for success, "
    "bootstrap for score and jerk). Where 0 lies inside an interval, no difference is shown. "
    "p: McNemar's exact test. A dash: not recorded."
)
LEDGER_NOTE = (
    "What each policy has cost: control periods of the real task, by what they were spent on. "
    "Demonstrations are all frames of the data set that the base was trained on."
)


@dataclass(frozen=True)
class Comparison:
    """Results, each but the `base` paired with it where that is possible, and remarks."""

    entries: Sequence[Entry]
    base: Entry
    paired: Sequence[tuple[Entry, PairedDifference]]
    remarks: Sequence[str]
    contrasts: Sequence[Comparison] = ()
    """Some of the entries paired with another base; their remarks are not shown."""
    text: str = ""
    """The tables as `hotstart compare` prints them; only `hotstart.compare` fills it."""

    def __str__(self) -> str:
        return self.text

    @property
    def differences(self) -> dict[str, PairedDifference]:
        """The difference of each paired result from the base, by the result's name."""
        return {entry.name: paired for entry, paired in self.paired}


def write_comparison_page(
    path: Path, comparison: Comparison, figures: Mapping[str, Figure], command: str
) -> None:
    """Write the page: tables, plots, remarks, and the command that made it."""
    found = [entry.result for entry in comparison.entries]
    tasks = ", ".join(dict.fromkeys(str(result["task"]) for result in found))
    plots: list[str] = []
    for name, figure in figures.items():
        plots.append(f"<div>{embed_figure(HEADINGS[name], figure)}</div>")
    sections = [
        _write_results(comparison.entries),
        *map(_write_paired, [comparison, *comparison.contrasts]),
        write_ledgers(read_ledgers(comparison.entries)),
        f'<section class="plots">\n{join_parts(plots)}\n</section>',
        _write_remarks(comparison.remarks),
        write_commands({"The same files give the same page:": command}, "How it was made"),
    ]
    write_page(
        path,
        title=f"{tasks}: {len(found)} results compared",
        task=tasks,
        sections=sections,
        foot=write_foot(found),
    )


def name_checkpoints(entries: Sequence[Entry]) -> str:
    """The checkpoint of all results, or the list of them, each with its step."""
    names: list[str] = []
    for entry in entries:
        name = str(entry.result["checkpoint"])
        step = entry.result.get("checkpoint_step")
        if step is not None:  # the same folder may have been trained on
            name = f"{name} at step {step}"
        names.append(name)
    apart = list(dict.fromkeys(names))
    if len(apart) == 1:
        return f"checkpoint {apart[0]}"
    return f"{len(apart)} checkpoints: {', '.join(apart)}"


def count_seeds(paired: PairedDifference) -> str:
    """The seeds that two results share, of how many."""
    if paired.seeds < paired.episodes:
        return f"{paired.seeds} of {paired.episodes}"
    return str(paired.seeds)


def format_p(p: float) -> str:
    """A p-value with three digits."""
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}"


def write_ledgers(ledgers: Mapping[str, Ledger]) -> str:
    """The table of real control periods, a line for each policy; empty without policies."""
    if not ledgers:
        return ""
    table = write_table(PURPOSES, {name: each.describe() for name, each in ledgers.items()})
    note = f'<p class="remark">{LEDGER_NOTE}</p>'
    return f"<section>\n<h2>Real control periods</h2>\n{table}\n{note}\n</section>"


def _write_results(entries: Sequence[Entry]) -> str:
    """The table of all results."""
    rows = {entry.name: _list_cells(entry.result) for entry in entries}
    where = f'<p class="soft">Evaluated: {escape(name_checkpoints(entries))}.</p>'
    table = write_table(COLUMNS, rows)
    note = f'<p class="remark">{RESULTS_NOTE}</p>'
    return f"<section>\n<h2>Results</h2>\n{where}\n{table}\n{note}\n</section>"


def _list_cells(result: Result) -> list[str]:
    """A result's cells as HTML."""
    success, score = result["success"], result["score"]
    nfe, calls = result["nfe"], result["inference_ms"]
    rate = NOT_REPORTED
    if success["rate"] is not None:
        rate = _format_interval(success["rate"], success["low"], success["high"])
    plans = shorten_number(nfe["cold"])
    if nfe["warm"] is not None and nfe["warm"] != nfe["cold"]:
        plans = f"{plans} then {shorten_number(nfe['warm'])}"
    return [
        str(result["episodes"]),
        rate,
        _format_interval(score["mean"], score["low"], score["high"]),
        plans,
        _describe_calls(calls),
        _describe_jerk(result),
    ]


def _describe_calls(calls: Mapping[str, Any]) -> str:
    """The median time of a call with its interval, and the rows that a call serves."""
    text = shorten_number(calls["p50"])
    rows = f"{shorten_number(calls.get('rows'))} rows"
    if calls.get("p50_low") is None or calls.get("p50_high") is None:
        return f"{text} <small>{rows}</small>"
    low, high = shorten_number(calls["p50_low"]), shorten_number(calls["p50_high"])
    return f"{text} <small>[{low}, {high}], {rows}</small>"


def _describe_jerk(result: Result) -> str:
    """The mean jerk of the episodes with its interval; of an older result the jerk of all."""
    jerks = read_jerks(result)
    if not jerks:
        return shorten_number(result["smoothness"]["jerk_rms"])
    mean = bootstrap_mean(list(jerks.values()))
    low, high = shorten_number(mean.low), shorten_number(mean.high)
    return f"{shorten_number(mean.mean)} <small>[{low}, {high}]</small>"


def _write_paired(comparison: Comparison) -> str:
    """The table of paired differences from the base; empty where nothing could be paired."""
    if not comparison.paired:
        return ""
    base = comparison.base
    rows: dict[str, list[str]] = {}
    for entry, paired in comparison.paired:
        rows[entry.name] = _list_paired_cells(entry.result, base.result, paired)
    heading = f"<h2>Difference from {escape(base.name)}</h2>"
    table = write_table(PAIRED, rows)
    note = f'<p class="remark">{PAIRED_NOTE}</p>'
    return f"<section>\n{heading}\n{table}\n{note}\n</section>"


def _list_paired_cells(result: Result, base: Result, paired: PairedDifference) -> list[str]:
    """Differences with their intervals and what they show, as HTML."""
    success, p = NOT_REPORTED, "\u2013"
    if paired.success is not None:
        success = judge(paired.success.difference, ("higher", "lower"))
        p = escape(format_p(paired.success.p))
    score = judge(paired.score, ("higher", "lower"))
    return [count_seeds(paired), success, p, score, _compare_jerk(result, base)]


def _compare_jerk(result: Result, base: Result) -> str:
    """The paired difference of the episodes' jerk; a dash where it is not known per episode."""
    difference = pair_numbers(read_jerks(result), read_jerks(base))
    if difference is None:
        return "\u2013"
    return judge(difference, ("less smooth", "smoother"), ".3g")


def judge(difference: Interval, words: tuple[str, str], digits: str = ".3f") -> str:
    """A difference with its interval and a word for it: more, less, or that none is shown."""
    verdict, kind = NO_DIFFERENCE, "none"
    if difference.low > 0:
        verdict, kind = words[0], "shown"
    elif difference.high < 0:
        verdict, kind = words[1], "shown"
    interval = f"[{difference.low:+{digits}}, {difference.high:+{digits}}]"
    text = f"{difference.mean:+{digits}} <small>{interval}</small>".replace("-", "\u2212")
    return f'{text} <span class="verdict {kind}">{verdict}</span>'


def _format_interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} <small>[{low:.3f}, {high:.3f}]</small>"


def _write_remarks(remarks: Sequence[str]) -> str:
    """What forbids or weakens the comparison."""
    if not remarks:
        return ""
    notes = join_parts(map(write_note, remarks))
    return f"<section>\n<h2>What weakens the comparison</h2>\n{notes}\n</section>"
