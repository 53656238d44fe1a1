from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hotstart.commands.words import help_text, parse_words, wants_help
from hotstart.spec import REQUIRED, ConfigError, option


@dataclass(frozen=True)
class Choices:
    """Do something."""

    source: Path = option(REQUIRED, "where from", positional=True)
    target: str = option("out", "where to", positional=True)
    rate: float = 0.5
    count: int = 3
    quick: bool = option(False, "make haste")
    mode: Literal["slow", "fast", 2] = "slow"
    limit: float | None = None
    seeds: tuple[int, ...] = (1, 2)
    names: dict[str, str] = field(default_factory=dict)


def test_every_type_is_read():
    words = [
        "a/b",
        "rate=1e-3",
        "count=7",
        "quick=True",
        "mode=2",
        "limit=4",
        "seeds=5,6",
        "names=a:b,c:d:e",
        "target=x=y",
    ]
    assert parse_words(words, Choices) == Choices(
        Path("a/b"), "x=y", 1e-3, 7, True, 2, 4.0, (5, 6), {"a": "b", "c": "d:e"}
    )


def test_defaults_and_positions():
    assert parse_words(["a", "b"], Choices) == Choices(Path("a"), "b")
    assert parse_words(["source=a", "limit=none", "quick=no"], Choices) == Choices(Path("a"))
    assert parse_words(["./a=b/c"], Choices).source == Path("./a=b/c")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["a", "cuont=3"],
            r"no 'cuont' here \(did you mean 'count'\?\); valid are source, target, rate",
        ),
        (["a", "count=3.5"], "count=3.5 does not fit; it must be a whole number"),
        (["a", "rate=fast"], "must be a number"),
        (["a", "quick=maybe"], "must be a true or false"),
        (["a", "mode=fats"], r"did you mean 'fast'\?\); valid are slow, fast, 2"),
        (["a", "seeds=1,b"], "seeds=b does not fit"),
        (["a", "names=ab"], "names=name:value"),
        (["a", "names=rgb:front,rgb:wrist"], "names names 'rgb' twice"),
        (["a", "b", "c"], "'c' is one word too many"),
        (["a", "source=b"], "'source' is given twice"),
        (["count=3"], "source must be given: where from"),
        (["a", "--count", "3"], "'--count' is not understood; choices are written key=value"),
    ],
)
def test_wrong_words_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_words(words, Choices)


def test_help_shows_every_field():
    shown = help_text(Choices, "hotstart do")
    assert shown.startswith("hotstart do SOURCE TARGET [key=value ...]\n\nDo something.")
    lines = {line.split()[0]: line for line in shown.splitlines() if line.startswith("  ")}
    assert list(lines) == [
        "source",
        "target",
        "rate",
        "count",
        "quick",
        "mode",
        "limit",
        "seeds",
        "names",
    ]
    assert "where from [path; must be given]" in lines["source"]
    assert "make haste [true or false; default false]" in lines["quick"]
    assert "[number or none; default none]" in lines["limit"]
    assert "default 1,2" in lines["seeds"]


def test_help_is_asked_for_in_three_ways():
    assert all(wants_help(["a", text]) for text in ("--help", "-h", "help"))
    assert not wants_help(["a", "helpful"])
