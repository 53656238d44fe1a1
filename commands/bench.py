"""`hotstart bench NAME`: measure a claim of BENCHMARKS.md again, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, resources

from ..spec import ConfigError, nearest
from .words import help_text, parse_words, wants_help

_PACKAGE = __name__.rsplit(".", 2)[0] + ".benchmarks"


def names() -> list[str]:
    """Every benchmark: a file of `benchmarks/` with a dataclass `Options` and a function `run(options)`."""
    files = (path.name for path in resources.files(_PACKAGE).iterdir())
    return sorted(
        name.removesuffix(".py")
        for name in files
        if name.endswith(".py") and not name.startswith("_")
    )


def run(words: Sequence[str]) -> int:
    """Run the benchmark that the first word names with the other words."""
    if not words or wants_help(words[:1]):
        lines = [
            f"  {name:<16} {(_module(name).__doc__ or '').strip().splitlines()[0]}"
            for name in names()
        ]
        print("\n".join(["hotstart bench NAME [key=value ...]", "", *lines]))
        return 0
    name, rest = words[0], words[1:]
    if name not in names():
        raise ConfigError(
            f"there is no benchmark {name!r}{nearest(name, names())}; valid are {', '.join(names())}"
        )
    module = _module(name)
    if wants_help(rest):
        print(help_text(module.Options, f"hotstart bench {name}"))
        return 0
    module.run(parse_words(rest, module.Options))
    return 0


def _module(name: str):  # noqa: ANN202 - a module with Options and run
    return import_module(f"{_PACKAGE}.{name}")
