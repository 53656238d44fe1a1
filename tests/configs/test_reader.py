"""Arguments key=value: every type is read, and mistakes are refused with what would be right."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hotstart.configs.help import describe_verb
from hotstart.configs.reader import read_arguments, wants_help
from hotstart.spec import REQUIRED, ConfigError, Part, option


@dataclass(frozen=True)
class Choices:
    """Do something."""

    source: Path = option(REQUIRED, "where from", positional=True)
    target: str = option("out", "where to", positional=True)
    rate: float = option(0.5, "how often", "Hz")
    count: int = 3
    quick: bool = option(False, "make haste")
    mode: Literal["slow", "fast", 2] = "slow"
    limit: float | None = None
    seeds: tuple[int, ...] = (1, 2)
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Several:
    """Do something with several files."""

    files: tuple[Path, ...] = option(REQUIRED, "files", positional=True)
    runs: tuple[str, ...] = option((), "runs")


def test_every_type_is_read():
    arguments = [
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
    assert read_arguments(arguments, Choices) == Choices(
        Path("a/b"), "x=y", 1e-3, 7, True, 2, 4.0, (5, 6), {"a": "b", "c": "d:e"}
    )


def test_defaults_and_positions():
    assert read_arguments(["a", "b"], Choices) == Choices(Path("a"), "b")
    assert read_arguments(["source=a", "limit=none", "quick=no"], Choices) == Choices(Path("a"))
    assert read_arguments(["./a=b/c"], Choices).source == Path("./a=b/c")
    assert read_arguments(["a", "seeds=[5, 6]"], Choices).seeds == (5, 6)


def test_a_positional_tuple_takes_every_argument_without_a_name():
    found = read_arguments(["a,b", "runs=x,y", "c"], Several)
    assert found == Several((Path("a,b"), Path("c")), ("x", "y"))


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (["a", "b", "c"], "'c' is one argument too many"),
        (["a", "source=b"], "'source' is given twice"),
        (["count=3"], "source must be given: where from"),
        (["a", "--count", "3"], "'--count' is not understood; options are written key=value"),
        (["a", "slots=3"], "slots has another name now: write num_envs=3"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        read_arguments(arguments, Choices)


def test_help_shows_every_option():
    shown = describe_verb("hotstart do", Choices)
    assert shown.startswith("hotstart do SOURCE [TARGET] [key=value ...]\n\nDo something.")
    lines = {line.split()[0]: line for line in shown.splitlines() if line.startswith("  ")}
    assert list(lines) == [f"{name}=" for name in Choices.__dataclass_fields__]
    assert "where from (path; must be given)" in lines["source="]
    assert "how often [Hz] (number; default 0.5)" in lines["rate="]
    assert "make haste (true or false; default false)" in lines["quick="]
    assert "(number or none; default none)" in lines["limit="]
    assert "default 1,2" in lines["seeds="]
    assert describe_verb("hotstart do", Several).startswith("hotstart do FILES ... [key=value ...]")


def test_help_is_asked_for_in_three_ways():
    assert all(wants_help(["a", text]) for text in ("--help", "-h", "help"))
    assert not wants_help(["a", "helpful"])


@dataclass(frozen=True)
class Robots:
    """Do something with a robot."""

    robot: Part = option(REQUIRED, "which robot")
    teleop: Part = option(Part("keyboard"), "who moves it")
    cameras: dict[str, str] = option({}, "cameras by name")


def test_a_part_has_a_name_and_options_of_its_own():
    arguments = ["robot=ur5e", "robot.host=10.0.0.2", "robot.servo_hz=125", "robot.dry=true"]
    arguments += ["teleop.step=0.1", "cameras=wrist:opencv:1", "cameras.front=http://a:1/b=c"]
    found = read_arguments(arguments, Robots)
    assert found.robot == Part("ur5e", {"host": "10.0.0.2", "servo_hz": 125, "dry": True})
    assert found.teleop == Part("keyboard", {"step": 0.1})
    assert found.cameras == {"wrist": "opencv:1", "front": "http://a:1/b=c"}
    assert "(default keyboard)" in describe_verb("hotstart move", Robots)
    with pytest.raises(ConfigError, match="robot must be given, as robot=NAME: which robot"):
        read_arguments(["robot.host=a"], Robots)
    with pytest.raises(ConfigError, match=r"'robot\.host' is given twice"):
        read_arguments([*arguments, "robot.host=b"], Robots)
