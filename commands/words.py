"""`key=value` words as a plain dataclass: one place that knows how words are read, refused and explained.

A verb's choices are a dataclass; a field that is to be explained, or given without its name, is written
`path: Path = option(REQUIRED, "the data set's folder", positional=True)`. Types may be str, int, float, bool, Path, Literal,
X | None, tuple[X, ...] (written a,b,c) and dict[str, X] (written name:value,name:value).
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ..spec import ConfigError, nearest

T = TypeVar("T")
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
HELP_WORDS = ("--help", "-h", "help")


@dataclass(frozen=True)
class Word:
    """What a field means, and whether it may be given without its name."""

    meaning: str = ""
    positional: bool = False


@dataclass(frozen=True)
class _Field:
    """A field as the parser sees it."""

    name: str
    hint: Any
    word: Word
    default: Any  # MISSING where it must be given


def parse_words(words: Sequence[str], cls: type[T]) -> T:
    """Make the dataclass `cls` from words like `episodes=100`; words without `=` fill the positional fields in order.

    Raises ConfigError for unknown, repeated, missing and superfluous words and for values of a wrong type.
    """
    fields = _fields(cls)
    values: dict[str, Any] = {}
    for name, text in _named(words, fields):
        if name not in fields:
            raise ConfigError(
                f"there is no {name!r} here{nearest(name, list(fields))}; valid are {_listed(fields)}"
            )
        if name in values:
            raise ConfigError(f"{name!r} is given twice; give it once")
        values[name] = read_value(name, text, fields[name].hint)
    missing = [
        field for field in fields.values() if field.default is MISSING and field.name not in values
    ]
    if missing:
        raise ConfigError(
            "; ".join(f"{field.name} must be given: {_line(field)}" for field in missing)
        )
    return cls(**values)


def read_value(name: str, text: str, wanted: Any) -> Any:
    """The text as the type that is wanted; ConfigError, naming the word, when it is not one."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (Union, types.UnionType):
        if text.lower() in ("none", "null") and type(None) in args:
            return None
        return read_value(name, text, next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return _read_choice(name, text, args)
    if origin is tuple:
        return tuple(read_value(name, part, args[0]) for part in text.split(",") if part)
    if origin is dict:
        return _read_pairs(name, text, args[1])
    return _read_plain(name, text, wanted)


def help_text(cls: type, usage: str = "") -> str:
    """What a verb does and takes, in plain words: the class's docstring, then every field with meaning, type and default."""
    fields = _fields(cls)
    positional = " ".join(name.upper() for name, field in fields.items() if field.word.positional)
    if all(field.word.positional for field in fields.values()):
        keyed = ""
    else:
        keyed = "[key=value ...]"
    head = [
        " ".join(part for part in (usage, positional, keyed) if part),
        "",
        inspect.cleandoc(cls.__doc__ or ""),
        "",
    ]
    width = max((len(name) for name in fields), default=0)
    return "\n".join(
        [*head, *(f"  {name:<{width}}  {_line(field)}" for name, field in fields.items())]
    )


def wants_help(words: Sequence[str]) -> bool:
    """Whether the words ask for an explanation."""
    return any(text in HELP_WORDS for text in words)


def _fields(cls: Any) -> dict[str, _Field]:
    """The fields of a dataclass, by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: _field(field, hints[field.name]) for field in dataclasses.fields(cls)}


def _field(field: dataclasses.Field[Any], hint: Any) -> _Field:
    """One field with its type, its explanation and its default taken apart."""
    if field.default_factory is MISSING:
        default = field.default
    else:
        default = field.default_factory()
    word = Word(field.metadata.get("help", ""), field.metadata.get("positional", False))
    return _Field(field.name, hint, word, default)


def _named(words: Sequence[str], fields: Mapping[str, _Field]) -> list[tuple[str, str]]:
    """Every word with the name of its field."""
    free = [name for name, field in fields.items() if field.word.positional]
    named: list[tuple[str, str]] = []
    for text in words:
        name, equals, value = text.partition("=")
        if text.startswith("-"):
            raise ConfigError(
                f"{text!r} is not understood; choices are written key=value, and --help explains them"
            )
        if equals and name.isidentifier():
            named.append((name, value))
        elif free:
            named.append((free.pop(0), text))
        else:
            raise ConfigError(
                f"{text!r} is one word too many; choices are written key=value, with {_listed(fields)}"
            )
    return named


def _read_plain(name: str, text: str, wanted: Any) -> Any:
    """A single str, int, float, bool or Path."""
    try:
        if wanted is bool:
            return TRUTHS[text.lower()]
        return wanted(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{name}={text} does not fit; it must be a {_plain(wanted)}") from None


def _read_choice(name: str, text: str, choices: tuple[Any, ...]) -> Any:
    """One of a Literal's choices."""
    for choice in choices:
        if str(choice) == text:
            return choice
    names = [str(choice) for choice in choices]
    raise ConfigError(
        f"{name}={text} is not possible{nearest(text, names)}; valid are {_listed(names)}"
    )


def _read_pairs(name: str, text: str, wanted: Any) -> dict[str, Any]:
    """All name:value of a dict, each name once."""
    pairs: dict[str, Any] = {}
    for part in text.split(","):
        if not part:
            continue
        key, value = _read_pair(name, part, wanted)
        if key in pairs:
            raise ConfigError(f"{name} names {key!r} twice: only one could be kept")
        pairs[key] = value
    return pairs


def _read_pair(name: str, text: str, wanted: Any) -> tuple[str, Any]:
    """One name:value of a dict."""
    key, colon, value = text.partition(":")
    if not (key and colon and value):
        raise ConfigError(f"{name} has {text!r}; it is written {name}=name:value,name:value")
    return key, read_value(name, value, wanted)


def _listed(names: Iterable[str]) -> str:
    """Names with commas between them."""
    return ", ".join(names)


def _line(field: _Field) -> str:
    """One field's meaning, type and default."""
    if field.default is MISSING:
        default = "must be given"
    else:
        default = f"default {_shown(field.default)}"
    return f"{field.word.meaning} [{_plain(field.hint)}; {default}]".strip()


def _shown(value: Any) -> str:
    """A default as the user would write it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_shown, value)) or "empty"
    return str(value) or "empty"


def _plain(hint: Any) -> str:
    """A type in plain words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if arg is type(None) else _plain(arg) for arg in args)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"{_plain(args[0])}, separated by commas"
    if origin is dict:
        return "name:value, separated by commas"
    return PLAIN.get(hint, str(hint))
