"""What a fine-tuning in dreams was made of, what the dreams promised, and what came true."""

from __future__ import annotations

from ..evaluation.intervals import Interval
from ..finetuning.outcome import Dreamed, Finetuned
from .audit_page import describe_verdict

CLONED = "cloned"
"""The base after cloning the successes of recorded play, in a folder of the run."""
CLONING = "filtered behaviour cloning of the play's successes"


def describe_force(outcome: Finetuned) -> list[str]:
    """That a model was tuned in which fails its audit; empty where it passes."""
    dreams = outcome.get("dreams")
    if dreams is None or not dreams["forced"]:
        return []
    faults = "; ".join(dreams["audit"]["faults"])
    return [f"Forced: the world model fails its audit, and was tuned in all the same: {faults}."]


def describe_dreams(outcome: Finetuned) -> list[str]:
    """A run in dreams in sentences; empty for a run in the simulator."""
    dreams = outcome.get("dreams")
    if dreams is None:
        return []
    lines = [*describe_offline(outcome), describe_beginning(dreams)]
    if dreams["audit"]["passed"]:
        lines.append(describe_verdict(dreams["audit"])[0])
    return [*lines, *describe_promises(outcome)]


def describe_offline(outcome: Finetuned) -> list[str]:
    """That no real step was used, and what was used instead; empty for a run in the simulator."""
    dreams = outcome.get("dreams")
    if dreams is None:
        return []
    return [
        f"Real steps of training and selection: 0. Imagined: {dreams['imagined_steps']:,} control "
        f"periods, in a world model of {dreams['play_steps']:,} recorded steps of play."
    ]


def describe_beginning(dreams: Dreamed) -> str:
    """Which policy was tuned."""
    if dreams["begin"] == CLONED:
        return f"The tuning began with {CLONING}."
    return "The tuning began with the base itself."


def describe_promises(outcome: Finetuned) -> list[str]:
    """Success in dreams against success in truth, before and after; empty where not reported."""
    dreams = outcome.get("dreams")
    true, promised = list_true(outcome), list_promises(outcome)
    if dreams is None or not {dreams["begin"], "tuned"} <= promised.keys():
        return []
    before, imagined = dreams["begin"], dreams["imagined"]
    return [
        f"In dreams success went from {imagined[before]:.3f} to {imagined['tuned']:.3f}, "
        f"in truth from {true[before].rate:.3f} to {true['tuned'].rate:.3f}.",
        f"Bias of the dreams: {promised[before]:+.3f} before the tuning, "
        f"{promised['tuned']:+.3f} after it. {judge_promise(imagined['tuned'], true['tuned'])}",
    ]


def judge_promise(imagined: float, true: Interval) -> str:
    """Whether what dreams promise after a tuning has come true."""
    if imagined > true.high:
        return "They promise more than comes true: the tuning exploits the model."
    if imagined < true.low:
        return "They promise less than comes true: the tuning exploits nothing."
    return "What they promise lies within the interval of the true success."


def list_true(outcome: Finetuned) -> dict[str, Interval]:
    """True success of base, controls and tuned policy by name, where it is reported."""
    shown = {"base": outcome["base"], **outcome["controls"], "tuned": outcome["tuned"]}
    found: dict[str, Interval] = {}
    for name, each in shown.items():
        success = each["success"]
        rate, low = success["rate"], success["low"]
        high = success["high"]
        if rate is not None and low is not None and high is not None:
            found[name] = Interval(rate, low, high)
    return found


def list_promises(outcome: Finetuned) -> dict[str, float]:
    """By how much policies succeed more often in dreams than in truth, by name."""
    dreams = outcome.get("dreams")
    found: dict[str, float] = {}
    if dreams is not None:
        for name, true in list_true(outcome).items():
            if name in dreams["imagined"]:
                found[name] = dreams["imagined"][name] - true.rate
    return found


def list_gain_steps(outcome: Finetuned) -> dict[str, int | None]:
    """Real steps to a gain; empty for a run in dreams, which takes none."""
    if "dreams" in outcome:
        return {}
    return outcome["steps_to_gain"]


def read_baseline(outcome: Finetuned) -> float | None:
    """What the learning curve begins at: true success of the base, or that of what dreamed."""
    dreams = outcome.get("dreams")
    if dreams is None:
        return outcome["base"]["success"]["rate"]
    return dreams["imagined"][dreams["begin"]]
