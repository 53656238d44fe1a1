"""The outcome of a fine-tuning in words, for the terminal and the page."""

from __future__ import annotations

from ..evaluation.results import success_words
from ..finetuning.ledger import Ledger
from ..finetuning.outcome import Estimate, Finetuned, Gain, Shown
from .comparison_page import NO_DIFFERENCE, format_p
from .dreams_words import CLONED, CLONING, describe_dreams, describe_force, list_gain_steps


def describe_outcome(outcome: Finetuned) -> str:
    """The outcome in a few lines."""
    lines = [*describe_force(outcome), describe_headline(outcome), *describe_controls(outcome)]
    lines += describe_dreams(outcome)
    for name, kept in outcome["others"].items():
        before, after = describe_rate(kept["base"]), describe_rate(kept["tuned"])
        lines.append(f"{name}: {before} before, {after} after: {describe_gain(kept['gain'])}")
    for points, steps in list_gain_steps(outcome).items():
        lines.append(f"Real steps to +{points} points: {describe_steps(steps)}.")
    spent = Ledger.from_json(outcome["ledger"])
    lines.append(f"Real control periods in all: {spent.in_words()}.")
    return "\n".join(lines)


def describe_headline(outcome: Finetuned) -> str:
    """One sentence: before, after, and the paired difference with its interval."""
    base, tuned = outcome["base"], outcome["tuned"]
    measure = "score"
    if base["success"]["rate"] is not None:
        measure = "success"
    gain = outcome["gains"].get("base")
    verb = "went"
    if gain is not None and read_difference(gain)["low"] > 0:
        verb = "rose"
    if gain is not None and read_difference(gain)["high"] < 0:
        verb = "fell"
    return (
        f"{measure.capitalize()} {verb} from {describe_rate(base)} to {describe_rate(tuned)} on "
        f"{tuned['episodes']} fresh seeds: {describe_gain(gain)}."
    )


def describe_controls(outcome: Finetuned) -> list[str]:
    """A sentence for each control."""
    lines: list[str] = []
    for name, control in outcome["controls"].items():
        gain = describe_gain(outcome["gains"].get(name))
        lines.append(f"Against {name_control(name)}, {describe_rate(control)}: {gain}.")
    return lines


def name_control(name: str) -> str:
    """A control within a sentence."""
    if name == CLONED:
        return f"{CLONING} ({CLONED})"
    return f"the {name}"


def describe_rate(shown: Shown) -> str:
    """Success with its interval; the score where success is not reported."""
    if shown["success"]["rate"] is not None:
        return success_words(shown["success"])
    score = shown["score"]
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def describe_gain(gain: Gain | None) -> str:
    """A paired difference with its interval, and p where it is one of success."""
    if gain is None:
        return "not paired"
    difference = read_difference(gain)
    interval = f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
    text = f"{difference['mean']:+.3f} {interval}"
    if gain["success"] is not None:
        text += f", p {_write_p(gain['success']['p'])}"
    if difference["low"] <= 0 <= difference["high"]:
        text += f", {NO_DIFFERENCE}"
    return text


def _write_p(p: float) -> str:
    text = format_p(p)
    if text.startswith("<"):
        return text
    return f"= {text}"


def read_difference(gain: Gain) -> Estimate:
    """The difference of success; of the score where success is not reported."""
    return gain["success"] or gain["score"]


def describe_steps(steps: int | None) -> str:
    """Real steps to a gain."""
    if steps is None:
        return "not reached"
    return f"{steps:,}"
