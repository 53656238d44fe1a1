"""Arguments `key=value` as the options of a dataclass: the one place that reads and refuses them.

Types may be str, int, float, bool, Path, Literal, X | None, tuple[X, ...] (written a,b,c or
[a,b,c]), dict[str, X] (written name:value,name:value or KEY.name=value) and Part (written KEY=name
KEY.option=value). A positional tuple takes every argument without a name, paths with their commas.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ..spec import REQUIRED, ConfigError, Part, nearest
from ..system.options import Option, read_options
from ..system.untrusted import parse_yaml
from .renamed import refuse_renamed

T = TypeVar("T")
HELP = ("--help", "-h", "help")
KEY = re.compile(r"[~+]{0,2}[A-Za-z_]\w*([.@][\w.@]+)?")
"""The name of an option before its `=`; dots lead into parts, as in denoiser.groups."""
TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
PLAIN_TYPES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
}


@dataclass(frozen=True)
class Argument:
    """An argument with the name of its option; `bare` where it was given without the name."""

    name: str
    text: str
    bare: bool

    @property
    def quoted(self) -> str:
        """The text as Hydra reads it: bare arguments are no grammar of Hydra's."""
        if not self.bare:
            return self.text
        escaped = self.text.replace("'", "\\'")
        return f"'{escaped}'"


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for an explanation."""
    return any(text in HELP for text in arguments)


def read_arguments(arguments: Sequence[str], cls: type[T]) -> T:
    """Make the dataclass `cls` from arguments like `episodes=100`.

    Arguments without `=` fill the positional options in order. Raises ConfigError for unknown,
    repeated, missing and superfluous arguments, for values of a wrong type, and for names that an
    option had before.
    """
    options = read_options(cls)
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, str]] = {}
    for argument in name_arguments(arguments, options):
        head = argument.name.partition(".")[0]
        if head != argument.name and head in options and _has_inner(options[head]):
            inner.setdefault(head, {})[argument.name.removeprefix(f"{head}.")] = argument.text
            continue
        if argument.name not in options:
            raise ConfigError(explain_unknown(argument.name, options))
        values.setdefault(argument.name, []).append(argument.text)
    for name, texts in values.items():
        values[name] = _read_texts(name, texts, options[name])
    for name, texts in inner.items():
        values[name] = _join_inner(name, values.get(name, options[name].default), texts, options)
    missing = []
    for option in options.values():
        if option.default is REQUIRED and option.name not in values:
            missing.append(f"{option.name} must be given: {option.meaning}")
    if missing:
        raise ConfigError("; ".join(missing))
    return cls(**values)


def _has_inner(option: Option) -> bool:
    """Whether an option may be written KEY.name=value."""
    return option.hint is Part or typing.get_origin(option.hint) is dict


def _join_inner(
    name: str, value: Any, texts: Mapping[str, str], options: Mapping[str, Option]
) -> Any:
    """The value of an option with what was written as KEY.name=value."""
    if options[name].hint is not Part:
        kind = typing.get_args(options[name].hint)[1]
        return dict(value or {}) | {k: read_value(f"{name}.{k}", t, kind) for k, t in texts.items()}
    if value is REQUIRED:
        raise ConfigError(f"{name} must be given, as {name}=NAME: {options[name].meaning}")
    given = {key: parse_yaml(text, f"{name}.{key}", ConfigError) for key, text in texts.items()}
    return Part(value.name, {**value.options, **given})


def _read_texts(name: str, texts: Sequence[str], option: Option) -> Any:
    """The value of an option from its arguments; a positional tuple takes several."""
    if option.positional and option.hint == tuple[Path, ...]:
        return tuple(Path(text) for text in texts)
    return read_value(name, ",".join(texts), option.hint)


def name_arguments(arguments: Sequence[str], options: Mapping[str, Option]) -> list[Argument]:
    """The arguments with their names.

    ConfigError for flags, old names, repeated and superfluous ones.
    """
    refuse_renamed(arguments)
    free = [option for option in options.values() if option.positional]
    named: list[Argument] = []
    for given in arguments:
        name = given.partition("=")[0]
        text = given.removeprefix(f"{name}=")
        if given.startswith("-"):
            raise ConfigError(
                f"{given!r} is not understood; options are written key=value, and --help lists them"
            )
        bare = name == given or not KEY.fullmatch(name)
        if bare and not free:
            raise ConfigError(
                f"{given!r} is one argument too many; options are written key=value, "
                "and --help lists them"
            )
        if bare:
            name, text = free[0].name, given
            if typing.get_origin(free[0].hint) is not tuple:
                free.pop(0)
        elif any(name == other.name for other in named):
            raise ConfigError(f"{name!r} is given twice; give it once")
        named.append(Argument(name, text, bare))
    return named


def explain_unknown(name: str, names: Iterable[str]) -> str:
    """The message for an option that does not exist."""
    valid = list(names)
    near = nearest(name.rpartition(".")[2], valid)
    return f"there is no {name!r} here{near}; valid are {', '.join(valid)}"


def read_value(name: str, text: str, hint: Any) -> Any:
    """The text as the type `hint`; ConfigError, naming the option, when it is not one."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if text.lower() in ("none", "null"):
            return None
        inner = [part for part in parts if part is not type(None)]
        return read_value(name, text, inner[0])
    if origin is Literal:
        return _read_choice(name, text, parts)
    if origin is tuple:
        return _read_tuple(name, text, parts[0])
    if origin is dict:
        return _read_pairs(name, text, parts[1])
    if hint is Part:
        return Part(text)
    return _read_plain(name, text, hint)


def _read_plain(name: str, text: str, hint: Any) -> Any:
    """A single str, int, float, bool or Path."""
    try:
        if hint is bool:
            return TRUTHS[text.lower()]
        return hint(text)
    except (ValueError, KeyError):
        wanted = PLAIN_TYPES[hint]
        raise ConfigError(f"{name}={text} does not fit; it must be a {wanted}") from None


def _read_choice(name: str, text: str, choices: tuple[Any, ...]) -> Any:
    """One of a Literal's choices."""
    for choice in choices:
        if str(choice) == text:
            return choice
    names = [str(choice) for choice in choices]
    raise ConfigError(
        f"{name}={text} is not possible{nearest(text, names)}; valid are {', '.join(names)}"
    )


def _read_tuple(name: str, text: str, hint: Any) -> tuple[Any, ...]:
    """Values with commas between them, within brackets or without."""
    values = []
    for part in text.removeprefix("[").removesuffix("]").split(","):
        if part:
            values.append(read_value(name, part.strip(), hint))
    return tuple(values)


def _read_pairs(name: str, text: str, hint: Any) -> dict[str, Any]:
    """All name:value of a dict, each name once."""
    pairs: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key = part.partition(":")[0]
        value = part.partition(":")[2]
        if not (key and value):
            raise ConfigError(f"{name} has {part!r}; it is written {name}=name:value,name:value")
        if key in pairs:
            raise ConfigError(f"{name} names {key!r} twice: only one could be kept")
        pairs[key] = read_value(name, value, hint)
    return pairs
