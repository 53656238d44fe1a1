"""How much syntax a line carries, and other counts of a source tree, folder by folder."""

from __future__ import annotations

import ast
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..spec import ConfigError, option
from ..system import outputs
from . import _imports, _source
from ._source import Place, Source

PACKAGE = Path(__file__).parents[1]
COLUMNS = 100
LONG_FUNCTION = 50
"""Functions with more code lines are listed among the places."""


@dataclass
class Options:
    """Count the syntax of a source tree; folders named tests are left out.

    A node is any node of Python's ast.walk. A code line is neither blank nor a comment nor part of
    a docstring. A function's length is its code lines from `def` on. Copied are code lines, imports
    left out, in runs of six equal lines that stand twice or more in the tree.
    """

    root: Path = option(PACKAGE, "folder of the source; default: hotstart's own")
    tests: bool = option(False, "count folders named tests too")
    places: bool = option(False, "print the lines behind the counts too")
    allowed: bool = option(False, "print only what tests/density_allowed.json must hold")
    out: str = option("", "result file; empty: not written")
    overwrite: bool = option(False, "whether that file may be replaced by the new one")


@dataclass
class Counts:
    """Counts of the files of a folder."""

    code_lines: int = 0
    nodes: int = 0
    comprehensions: int = 0
    conditionals: int = 0
    long_lines: int = 0
    participles: int = 0
    any_uses: int = 0
    copied_lines: int = 0
    packed: int = 0
    function_lengths: list[int] = field(default_factory=list)


@dataclass
class Graph:
    """Imports between the modules of a tree; `upward` is None without a table of floors."""

    circles: list[list[str]]
    upward: list[str] | None
    policy_rooms: list[str]


def run(options: Options) -> None:
    """Print the table, or the allowances alone."""
    if options.out:
        outputs.check_file(Path(options.out), options.overwrite)
    sources = _source.read_tree(options.root, options.tests)
    if not sources:
        raise ConfigError(
            f"root={options.root} holds no Python files; give the folder of a package"
        )
    if options.allowed:
        print(json.dumps(count_packed(sources), indent=2))
        return
    counts = count_folders(sources)
    figures = {folder: summarise(counted) for folder, counted in counts.items()}
    graph = read_graph(sources, options.root)
    _print_table(figures)
    _print_graph(graph)
    longest: list[str] = []
    for length, place in find_longest(sources)[:3]:
        longest.append(f"{length} code lines: {place}")
    print("\n".join(longest))
    if options.places:
        for place in find_places(sources):
            print(place)
    if options.out:
        result = {"folders": figures, "graph": asdict(graph), "longest": longest}
        outputs.write_text(Path(options.out), json.dumps(result, indent=2) + "\n")


def count_packed(sources: list[Source]) -> dict[str, int]:
    """Packed lines per folder, by the folders' names; folders without any are left out."""
    counts: Counter[str] = Counter()
    for source in sources:
        counts[name_folder(source)] += len(_source.find_packed(source))
    found: dict[str, int] = {}
    for folder, count in sorted(counts.items()):
        if count:
            found[folder] = count
    return found


def name_folder(source: Source) -> str:
    """The folder that a file lies in, as `policy/diffusion`; `.` is the root."""
    return source.file.parent.as_posix()


def count_folders(sources: list[Source]) -> dict[str, Counts]:
    """Counts of every folder, and of all files under `total`."""
    total = Counts()
    folders: dict[str, Counts] = {}
    copied = _source.find_copied(sources)
    for source in sources:
        folder = folders.setdefault(name_folder(source), Counts())
        for counts in (folder, total):
            _add_file(counts, source)
            counts.copied_lines += sum(file == source.file for file, _ in copied)
    return {**folders, "total": total}


def summarise(counts: Counts) -> dict[str, float]:
    """The figures of some counts, as the table names them."""
    lines = max(counts.code_lines, 1)
    lengths = counts.function_lengths or [0]
    return {
        "lines": counts.code_lines,
        "nodes/line": counts.nodes / lines,
        "compr./100": 100 * counts.comprehensions / lines,
        "cond./100": 100 * counts.conditionals / lines,
        "packed": counts.packed,
        ">100 col.": counts.long_lines,
        "particip.": counts.participles,
        "Any": counts.any_uses,
        "functions": len(counts.function_lengths),
        "mean fn": sum(lengths) / len(lengths),
        "longest fn": max(lengths),
        "copied %": 100 * counts.copied_lines / lines,
    }


def read_graph(sources: list[Source], root: Path) -> Graph:
    """The import graph of a tree whose top package bears the name of `root`."""
    arrows = _imports.find_arrows(sources, root.resolve().name)
    floors = _imports.read_floors(root)
    if floors:
        upward = _imports.find_upward(arrows, floors)
    else:
        upward = None
    rooms = _imports.find_rooms(sources, "policy")
    return Graph(_imports.find_circles(arrows), upward, rooms)


def find_longest(sources: list[Source]) -> list[tuple[int, Place]]:
    """Every function with its code lines, the longest first."""
    found = []
    for source in sources:
        for function in source.functions:
            place = source.place(function.lineno, "function")
            found.append((source.length(function), place))
    return sorted(found, reverse=True)


def find_places(sources: list[Source]) -> list[Place]:
    """Packed lines, participles, uses of `Any` and long functions, file by file."""
    found = []
    for source in sources:
        found += _source.find_packed(source)
        found += _source.find_participles(source)
        found += _source.find_any(source)
    for length, place in find_longest(sources):
        if length > LONG_FUNCTION:
            found.append(place)
    return sorted(found)


def _add_file(counts: Counts, source: Source) -> None:
    counts.code_lines += len(source.code)
    counts.nodes += len(source.nodes)
    for node in source.nodes:
        counts.comprehensions += isinstance(node, _source.COMPREHENSIONS)
        counts.conditionals += isinstance(node, ast.IfExp)
    for line in source.lines:
        counts.long_lines += len(line) > COLUMNS
    counts.participles += len(_source.find_participles(source))
    counts.any_uses += len(_source.find_any(source))
    counts.packed += len(_source.find_packed(source))
    counts.function_lengths += [source.length(function) for function in source.functions]


def _print_table(figures: dict[str, dict[str, float]]) -> None:
    width = len(max(figures, key=len)) + 1
    names = list(figures["total"])
    print(" " * width + "".join(f"{name:>11}" for name in names))
    for folder, row in figures.items():
        cells = "".join(_format_cell(value) for value in row.values())
        print(f"{folder:<{width}}{cells}")


def _format_cell(value: float) -> str:
    if isinstance(value, int):
        return f"{value:11d}"
    return f"{value:11.2f}"


def _print_graph(graph: Graph) -> None:
    print(f"circles of imports: {len(graph.circles)}")
    for circle in graph.circles:
        print("  " + ", ".join(circle))
    if graph.upward is None:
        print("imports that run upward: no table of floors in tests/test_floors.py")
    else:
        print(f"imports that run upward: {len(graph.upward)}")
        for arrow in graph.upward:
            print("  " + arrow)
    if graph.policy_rooms:
        rooms = ", ".join(graph.policy_rooms)
        print(f"rooms of policy/: {len(graph.policy_rooms)} ({rooms})")
