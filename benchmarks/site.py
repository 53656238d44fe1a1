"""The parts of the documentation that the code itself knows: option tables and pictures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path

from ..configs.compose import compose_parts, default_choices, describe_group, flatten_options
from ..configs.help import describe_type, describe_value
from ..configs.help_parts import list_part
from ..configs.schema import MISSING, VERBS
from ..envs import registry
from ..policy.samplers.anchored import Anchored
from ..policy.samplers.classifier_free import ClassifierFreeGuidance
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.real_time_chunking import RealTimeChunking
from ..policy.samplers.streaming import Streaming
from ..policy.samplers.warm_start import WarmStart
from ..spec import REQUIRED, ConfigError, option
from ..system.options import Option, read_options
from ._candidates import draw_best, draw_candidates
from ._house import draw_house
from ._levels import draw_levels, weigh_prefix
from ._search import draw_search

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- made by hotstart bench site: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A part of a page that is made anew: what it shows, and everything up to its end."""
LEARNING = ("training.", "horizon.", "prediction")
"""Options that every verb that trains has; they are listed with `train` alone."""
NOTHING = "nothing is remembered"
FROZEN = 3
PICTURES: dict[str, Callable[[], str]] = {
    "fresh": lambda: draw_levels(Fresh(10), NOTHING, "start: pure noise"),
    "rti": lambda: draw_levels(
        WarmStart(2), "the plan before: clean", "start: shifted, some noise"
    ),
    "sdp": lambda: draw_levels(
        Streaming(4), "the plan before: stairs", "start: shifted, a stair up"
    ),
    "rtc_trained": lambda: draw_levels(
        RealTimeChunking(10, "trained"), "the plan before: clean", "start: prefix clean", FROZEN
    ),
    "rtc_full": lambda: draw_levels(
        RealTimeChunking(10),
        "the plan before: clean",
        "start: pure noise, pulled",
        FROZEN,
        weigh_prefix(FROZEN),
    ),
    "bid": draw_candidates,
    "best_of": draw_best,
    "search": draw_search,
    "cfg": lambda: draw_levels(ClassifierFreeGuidance(10), NOTHING, "start: pure noise"),
    "anchored": lambda: draw_levels(
        Anchored(2), "an anchor is chosen", "start: anchor, some noise"
    ),
    "house": lambda: draw_house(ROOT),
}
"""File in docs/pictures -> what draws it."""


@dataclass
class Options:
    """Write the option tables in docs/**/*.md and the pictures in docs/pictures anew.

    Needs a checkout, and the extras pusht, metaworld and gymnasium-robotics.
    """

    root: Path = option(ROOT, "the checkout")


def run(options: Options) -> None:
    """Write what has changed, and say which files."""
    for path, text in list_outputs(options.root).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)


def list_outputs(root: Path) -> dict[Path, str]:
    """Every picture and every page with a block, as they should be."""
    outputs = {}
    for name, draw in PICTURES.items():
        outputs[root / "docs" / "pictures" / f"{name}.svg"] = draw()
    for page in sorted((root / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if BLOCK.search(text):
            outputs[page] = fill_blocks(text)
    return outputs


def fill_blocks(text: str) -> str:
    """A page with all of its blocks made anew."""
    return BLOCK.sub(lambda found: found[1] + make_block(found[2]) + found[3], text)


def make_block(words: str) -> str:
    """What a block shows: `options AXIS=CHOICE`, `environment NAME`, `choices AXIS` or `verb VERB`.

    Raises ConfigError for anything else.
    """
    kind, name = split_words(words)
    if kind == "options":
        return make_part_table(name)
    if kind == "environment":
        options = registry.list_options(name)
        options.pop("max_steps", None)  # said as task.max_steps, as on the command line
        return make_table("task.options.", options.values())
    if kind == "choices":
        return make_choices(describe_group(name))
    if kind == "verb":
        return make_verb_table(name)
    raise ConfigError(
        f"a page asks for {words!r}; options, environment, choices and verb can be made"
    )


def split_words(words: str) -> tuple[str, str]:
    """The first word and the others; these are empty where there is one only."""
    first = words.split(" ")[0]
    return first, words[len(first) + 1 :]


def make_part_table(words: str) -> str:
    """The options of a choice, as `inference=rti`."""
    axis = words.split("=")[0]
    for verb in ("train", "evaluate", "finetune"):
        if axis in default_choices(verb):
            (node,) = compose_parts(verb, [axis], [words]).values()
            return make_table("", list_part(axis, node))
    raise ConfigError(f"a page asks for the options of {words}; no verb has such an axis")


def make_verb_table(words: str) -> str:
    """What a verb or one of its actions does, as `data convert`, and its options."""
    name, action = split_words(words)
    verb = VERBS[name]
    cls = verb.options
    if action:
        cls = verb.actions[action]
    assert cls is not None
    meaning = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0] + "\n\n"
    if action or not verb.composed:
        return meaning + make_table("", read_options(cls).values())
    axes = default_choices(name)
    options = []
    elsewhere = ("task.",)
    if name != "train":
        elsewhere = ("task.", *LEARNING)
    for key, value in flatten_options(cls).items():
        if key not in axes and not key.startswith(elsewhere) and not is_dataclass(value.hint):
            options.append(replace(value, name=key))
    return meaning + make_table("", options)


def make_table(prefix: str, options: Iterable[Option]) -> str:
    """A row for each option: name, default, meaning with unit and type."""
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for each in options:
        default = "must be given"
        if each.default is not REQUIRED and str(each.default) != MISSING:
            default = f"`{describe_value(each.default)}`"
        meaning = each.meaning
        if each.unit:
            meaning = f"{meaning} [{each.unit}]"
        notes = describe_type(each.hint)
        if notes:
            meaning = f"{meaning} ({notes})"
        lines.append(f"| `{prefix}{each.name}` | {default} | {escape_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def make_choices(choices: Mapping[str, str]) -> str:
    """A row for each choice of an axis."""
    lines = ["| choice | what it is |", "|---|---|"]
    for name, meaning in choices.items():
        lines.append(f"| `{name}` | {escape_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def escape_cell(text: str) -> str:
    """A text that may stand in a table of Markdown."""
    return text.replace("|", "\\|").strip()
