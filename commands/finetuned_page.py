"""The page of a fine-tuning: what it gained, against what, what it forgot, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from ..evaluation.intervals import Interval
from ..finetuning.ledger import PURPOSES, Ledger
from ..finetuning.outcome import Finetuned, Gain, Kept, Shown
from .comparison_page import format_p, judge
from .curves import tuning_curve
from .dreams_page import write_disagreement, write_dreams
from .dreams_words import (
    CLONED,
    CLONING,
    describe_force,
    describe_offline,
    list_gain_steps,
    read_baseline,
)
from .finetuned_words import (
    describe_controls,
    describe_headline,
    describe_rate,
    describe_steps,
    read_difference,
)
from .page import (
    Result,
    embed_figure,
    format_percent,
    join_parts,
    write_commands,
    write_facts,
    write_foot,
    write_note,
    write_page,
    write_table,
)

PAGE = "page.html"
GAINS_NOTE = (
    "The same fresh seeds and the same sampler for all. A control is the base with less starting "
    "noise, without any tuning: what it reaches is no gain of the tuning. Differences are tuned "
    "less this one, paired by seed; p is McNemar's exact test."
)
CURVE_NOTE = (
    "Points: success of each rollout, with the noise of exploration. Line: mean over the last "
    "100 episodes or more. Dashed: the base without exploration, in the final evaluation."
)
KEPT_NOTE = "What was not tuned for, before and after, on the same seeds."


def write_finetuned_page(
    path: Path, outcome: Finetuned, found: Sequence[Result], commands: Mapping[str, str]
) -> None:
    """Write the page; `found` are the results of all evaluations, the tuned policy's first."""
    sections = [
        *map(write_note, describe_force(outcome)),
        _write_headline(outcome),
        write_gains(outcome),
        write_dreams(outcome),
        write_curve(outcome),
        _write_kept(outcome["others"]),
        _write_tasks(outcome),
        write_ledger(outcome),
        write_facts("What it cost", _list_costs(outcome)),
        write_facts("Settings of the method", _list_settings(outcome)),
        write_commands(commands),
    ]
    write_page(
        path,
        title=f"{outcome['task']} tuned with {outcome['method']} for {outcome['inference']}",
        task=outcome["task"],
        sections=sections,
        foot=write_foot(found),
    )


def _write_headline(outcome: Finetuned) -> str:
    """The gain in large type, and the sentence that says it with its intervals."""
    large = ""
    gain = outcome["gains"].get("base")
    if gain is not None and gain["success"] is not None:
        points = f"{100 * gain['success']['mean']:+.0f}".replace("-", "\u2212")
        large = f'<div class="rate">{points}<small>points</small></div>\n'
    soft = ""
    for line in [*describe_controls(outcome), *describe_offline(outcome)]:
        soft += f'\n<p class="soft">{escape(line)}</p>'
    lead = f'<p class="lead">{escape(describe_headline(outcome))}</p>'
    return f'<section class="hero">\n{large}<div>\n{lead}{soft}\n</div>\n</section>'


def write_gains(outcome: Finetuned) -> str:
    """The table of base, controls and tuned policy, with what the tuned one gains over each."""
    rows: dict[str, list[str]] = {}
    for name, shown in {"base": outcome["base"], **outcome["controls"]}.items():
        rows[name] = [*_list_cells(shown), *_judge_gain(outcome["gains"].get(name))]
    rows["tuned"] = [*_list_cells(outcome["tuned"]), "\u2013", "\u2013"]
    table = write_table(("episodes", "success", "score", "tuned less this", "p"), rows)
    note = f'<p class="remark">{GAINS_NOTE}</p>'
    if CLONED in outcome["controls"]:
        note += f'\n<p class="remark">{CLONED}: {CLONING}, without any dream.</p>'
    return f"<section>\n<h2>Before, after, and controls</h2>\n{table}\n{note}\n</section>"


def _list_cells(shown: Shown) -> list[str]:
    """Episodes, success and score of an evaluation."""
    score = shown["score"]
    interval = f"<small>[{score['low']:.3f}, {score['high']:.3f}]</small>"
    success = format_percent(shown["success"])
    return [str(shown["episodes"]), success, f"{score['mean']:.3f} {interval}"]


def _judge_gain(gain: Gain | None) -> list[str]:
    """A paired difference with its interval and a word for it, and p, as HTML."""
    if gain is None:
        return ["not paired", "\u2013"]
    p = "\u2013"
    if gain["success"] is not None:
        p = escape(format_p(gain["success"]["p"]))
    shown = read_difference(gain)
    difference = Interval(shown["mean"], shown["low"], shown["high"])
    return [judge(difference, ("higher", "lower")), p]


def write_curve(outcome: Finetuned) -> str:
    """The learning curve with the base and the gains."""
    figure = tuning_curve(outcome["curve"], read_baseline(outcome), outcome["steps_to_gain"])
    drawing = embed_figure("Learning curve", figure)
    note = f'<p class="remark">{CURVE_NOTE}</p>'
    if "dreams" in outcome:
        note = write_disagreement(outcome)
    return f'<section class="plots">\n<div>{drawing}{note}</div>\n</section>'


def _write_kept(others: Mapping[str, Kept]) -> str:
    """Other samplers and tasks before and after; empty where none was asked for."""
    if not others:
        return ""
    rows: dict[str, list[str]] = {}
    for name, kept in others.items():
        before, after = describe_rate(kept["base"]), describe_rate(kept["tuned"])
        rows[name] = [before, after, *_judge_gain(kept["gain"])]
    table = write_table(("base", "tuned", "difference", "p"), rows)
    note = f'<p class="remark">{KEPT_NOTE}</p>'
    return f"<section>\n<h2>What was forgotten</h2>\n{table}\n{note}\n</section>"


def _write_tasks(outcome: Finetuned) -> str:
    """Success of every single task before and after, where a policy has several."""
    pairs = [(outcome["base"], outcome["tuned"])]
    for kept in outcome["others"].values():
        pairs.append((kept["base"], kept["tuned"]))
    tables: list[str] = []
    for base, tuned in pairs:
        before, after = base.get("tasks", {}), tuned.get("tasks", {})
        rows: dict[str, list[str]] = {}
        for task in before.keys() & after.keys():
            rows[task] = [format_percent(before[task]), format_percent(after[task])]
        if rows:
            table = write_table(("base", "tuned"), dict(sorted(rows.items())))
            tables.append(f"<h3>{escape(base['task'])}, {escape(base['inference'])}</h3>\n{table}")
    if not tables:
        return ""
    return f"<section>\n<h2>Task by task</h2>\n{join_parts(tables)}\n</section>"


def write_ledger(outcome: Finetuned) -> str:
    """The ledger of the whole run, with all of its evaluations."""
    ledger = Ledger.from_json(outcome["ledger"])
    facts = dict(zip(PURPOSES, ledger.describe(), strict=True))
    return write_facts("Real control periods", facts)


def _list_costs(outcome: Finetuned) -> dict[str, str]:
    """Steps and time, by name."""
    facts = {"tuning": _write_minutes(outcome["seconds"])}
    facts["evaluations"] = _write_minutes(outcome["evaluation_seconds"])
    for points, steps in list_gain_steps(outcome).items():
        facts[f"real steps to +{points} points"] = describe_steps(steps)
    return facts


def _write_minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"


def _list_settings(outcome: Finetuned) -> dict[str, str]:
    return {name: str(value) for name, value in outcome["settings"].items()}
