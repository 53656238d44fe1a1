"""The part of a fine-tuning's page that tells of dreams: what they promised, and what came true."""

from __future__ import annotations

from html import escape

from ..finetuning.outcome import Finetuned
from .audit_page import draw_dream_against_truth, write_audit
from .curves import draw_disagreement
from .dreams_words import describe_beginning, describe_promises, list_promises, list_true
from .page import embed_figure, join_parts, write_table

PROMISES_NOTE = (
    "In dreams: from the recorded starts of the audit. In truth: the fresh seeds of the final "
    "evaluation, with 95 % intervals. Above the dotted line a policy is better than its dreams."
)
CURVE_NOTE = (
    "Points: success of each rollout of dreams, with the noise of exploration. Line: mean over the "
    "last 100 dreams or more. Dashed: what was tuned, before the tuning and without exploration."
)
DISAGREEMENT_NOTE = (
    "How far the members of the world model lie apart in these dreams. Where it grows, the policy "
    "goes where the model knows little."
)


def write_dreams(outcome: Finetuned) -> str:
    """Dream against truth, and the audit; empty for a run in the simulator."""
    dreams = outcome.get("dreams")
    if dreams is None:
        return ""
    lines = [describe_beginning(dreams), *describe_promises(outcome)]
    text = join_parts(f"<p>{escape(line)}</p>" for line in lines)
    shown = write_promises(outcome)
    section = f"<section>\n<h2>Dream against truth</h2>\n{text}\n{shown}\n</section>"
    return join_parts([section, write_audit(dreams["audit"])])


def write_promises(outcome: Finetuned) -> str:
    """Success in dreams and in truth of every policy: a plot beside a table; empty without any."""
    promised = list_promises(outcome)
    dreams = outcome.get("dreams")
    if dreams is None or not promised:
        return ""
    true = list_true(outcome)
    imagined = {name: dreams["imagined"][name] for name in promised}
    rows: dict[str, list[str]] = {}
    for name, bias in promised.items():
        rows[name] = [f"{imagined[name]:.3f}", f"{true[name].rate:.3f}", f"{bias:+.3f}"]
    table = write_table(("in dreams", "in truth", "bias"), rows)
    note = f'<p class="remark">{PROMISES_NOTE}</p>'
    figure = embed_figure("Dream and truth", draw_dream_against_truth(imagined, true))
    return f'<div class="plots">\n<div>{figure}</div>\n<div>{table}{note}</div>\n</div>'


def write_disagreement(outcome: Finetuned) -> str:
    """The remark on a learning curve in dreams, and the disagreement over the tuning."""
    figure = embed_figure("Disagreement over the tuning", draw_disagreement(outcome["curve"]))
    return (
        f'<p class="remark">{CURVE_NOTE}</p></div>\n'
        f'<div>{figure}<p class="remark">{DISAGREEMENT_NOTE}</p>'
    )
