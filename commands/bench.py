"""`hotstart bench NAME`: measure a claim of BENCHMARKS.md again, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, resources
from typing import Any

from ..configs.help import describe_verb
from ..configs.reader import read_arguments, wants_help
from ..configs.renamed import refuse_renamed_benchmark
from ..spec import ConfigError, nearest

_PACKAGE = __name__.rsplit(".", 2)[0] + ".benchmarks"


def list_names() -> list[str]:
    """Every benchmark: a file of `benchmarks/` with a dataclass `Options` and a function `run`."""
    found = []
    for path in resources.files(_PACKAGE).iterdir():
        if path.name.endswith(".py") and not path.name.startswith("_"):
            found.append(path.name.removesuffix(".py"))
    return sorted(found)


def run(arguments: Sequence[str]) -> int:
    """Run the benchmark that the first argument names, with the other arguments."""
    if not arguments or wants_help(arguments[:1]):
        print("hotstart bench NAME [key=value ...]\n")
        for name in list_names():
            print(f"  {name:<16} {(_import(name).__doc__ or '').strip().splitlines()[0]}")
        return 0
    name, rest = arguments[0], arguments[1:]
    refuse_renamed_benchmark(name)
    if name not in list_names():
        valid = list_names()
        raise ConfigError(
            f"there is no benchmark {name!r}{nearest(name, valid)}; valid are {', '.join(valid)}"
        )
    module = _import(name)
    if wants_help(rest):
        print(describe_verb(f"hotstart bench {name}", module.Options))
        return 0
    module.run(read_arguments(rest, module.Options))
    return 0


def _import(name: str) -> Any:
    """A module with `Options` and `run`."""
    return import_module(f"{_PACKAGE}.{name}")
