"""Reads the Python files of a source tree and finds the places that a reader must unpack.

A **syntax node** is any node that Python's `ast.walk` yields: contexts (Load, Store), operators
and docstrings count too. A **code line** is not blank, does not begin with `#` and belongs to no
docstring. A docstring is any statement that is only a string.

By these definitions hotstart has 12.3 nodes a line, and 5.6 comprehensions and 3.0 conditional
expressions per 100 lines, at commit 08c7d6e; it has 11.6, 5.1 and 2.7 at 5cfe5df. mjlab 1.6.0 has
7.6 nodes a line, mink 1.3.0 7.9, rsl_rl 5.5.1 8.9 and smalldiffusion 0.5.0 10.2.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeGuard

ASIDE = {"build", "dist", "runs", "data", "outputs", "multirun", "docs", "__pycache__"}
"""Folders that hold no source of the package."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Kinds = tuple[type[ast.expr], ...]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LITERALS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.JoinedStr)
NESTED = {
    "comprehension in a comprehension": (COMPREHENSIONS, COMPREHENSIONS),
    "conditional in a conditional or comprehension": ((ast.IfExp, *COMPREHENSIONS), (ast.IfExp,)),
    "walrus in a literal or comprehension": ((*LITERALS, *COMPREHENSIONS), (ast.NamedExpr,)),
}
"""Kinds of packed lines: an expression of the second kinds inside one of the first kinds."""
IRREGULAR = """begun bound brought built caught done drawn felt found gone grown held hung kept
known laid led lost made met paid said sent shown sold sought spent stuck taught thought thrown told
torn unknown won worn wound"""
"""Participles without the usual ending; those that are plain verbs too (put, run) are left out."""
NO_PARTICIPLES = """bed bleed breed embed exceed feed heed need proceed red seed shed speed succeed
weed bring ceiling heading king learning meaning ping ring sing spring sting string swing thing
brighten broaden children darken deepen fasten flatten garden gen green happen jensen len lengthen
lighten listen loosen often open screen sharpen shorten siren soften straighten strengthen ten then
threaten tighten token weaken when widen"""
"""Words that end like participles and are verbs, nouns or small words."""
PARTICIPLE = re.compile(r"..(ed|ing|en)$")


class Place(NamedTuple):
    """A line worth a look: `kind` says why."""

    file: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}  [{self.kind}]"


@dataclass(frozen=True)
class Source:
    """A file that was read; `file` is relative to the root of its tree."""

    file: Path
    lines: list[str]
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every syntax node."""
        return list(ast.walk(self.tree))

    @cached_property
    def code(self) -> set[int]:
        """The numbers of the code lines; the first line is 1."""
        found = set()
        for number, line in enumerate(self.lines, start=1):
            text = line.strip()
            if text and not text.startswith("#"):
                found.add(number)
        for node in self.nodes:
            if _is_docstring(node):
                found.difference_update(range(node.lineno, _last_line(node) + 1))
        return found

    @property
    def functions(self) -> list[Function]:
        """Functions and methods, inner ones too."""
        found: list[Function] = []
        for node in self.nodes:
            if isinstance(node, Function):
                found.append(node)
        return found

    def length(self, function: Function) -> int:
        """Code lines of a function from its `def` to its end."""
        return len(self.code.intersection(range(function.lineno, _last_line(function) + 1)))

    def place(self, line: int, kind: str) -> Place:
        """A line of this file."""
        return Place(self.file, line, kind, self.lines[line - 1].strip())


def read_tree(root: Path, tests: bool = False) -> list[Source]:
    """Read the Python files below a folder, in order of their paths.

    Hidden folders, virtual environments and, unless asked for, folders named tests are left out.
    Raises SyntaxError for a file that Python cannot parse.
    """
    if tests:
        aside = ASIDE
    else:
        aside = ASIDE | {"tests"}
    sources = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if _holds_source(Path(folder, name), aside)]
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                text = path.read_text(encoding="utf-8")
                tree = ast.parse(text, str(path))
                sources.append(Source(path.relative_to(root), text.split("\n"), tree))
    return sorted(sources, key=lambda source: source.file)


def find_packed(source: Source) -> list[Place]:
    """Lines that hold more than one thought, in the order of the file.

    Counted are assignments to three or more names and chained ones (`a = b = 0`), nested
    comprehensions and conditional expressions, `:=` inside literals and comprehensions, and
    statements that share their line.
    """
    found = [*_find_wide_assignments(source), *_find_shared_lines(source)]
    for kind, (outer, inner) in NESTED.items():
        for node in _find_nested(source, outer, inner):
            found.append(source.place(node.lineno, kind))
    return sorted(found, key=lambda place: place.line)


def find_participles(source: Source) -> list[Place]:
    """Functions whose first word is a participle; properties, which no verb names, are left out."""
    found = []
    for function in source.functions:
        if is_participle(function.name) and not _is_property(function):
            found.append(source.place(function.lineno, "participle"))
    return found


def is_participle(name: str) -> bool:
    """Whether a name's first word is a participle: `shifted`, `going_on`, `_drawn_noise`."""
    word = name.strip("_").partition("_")[0]
    if word in NO_PARTICIPLES.split():
        return False
    return word in IRREGULAR.split() or PARTICIPLE.search(word) is not None


def find_any(source: Source) -> list[Place]:
    """Uses of `Any` in the annotations of arguments, results and variables; each use counts."""
    found = []
    for node in source.nodes:
        for annotation in _list_annotations(node):
            uses = sum(_is_any(part) for part in ast.walk(annotation))
            found += [source.place(annotation.lineno, "Any")] * uses
    return found


def find_copied(sources: list[Source], block: int = 6) -> set[tuple[Path, int]]:
    """Lines in runs of `block` equal lines that stand twice or more in the tree, as (file, line).

    Only code lines are compared, without their indentation; import statements are left out.
    """
    windows: dict[tuple[str, ...], list[list[tuple[Path, int]]]] = {}
    for source in sources:
        numbers = sorted(source.code - _find_import_lines(source))
        for start in range(len(numbers) - block + 1):
            window = numbers[start : start + block]
            text = tuple(source.lines[number - 1].strip() for number in window)
            windows.setdefault(text, []).append([(source.file, number) for number in window])
    copied: set[tuple[Path, int]] = set()
    for places in windows.values():
        if len(places) > 1:
            copied.update(*places)
    return copied


def _holds_source(folder: Path, aside: set[str]) -> bool:
    hidden = folder.name.startswith(".")
    return folder.name not in aside and not hidden and not (folder / "pyvenv.cfg").exists()


def _last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def _is_property(function: Function) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def _is_any(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "Any"
    return isinstance(node, ast.Name) and node.id == "Any"


def _find_import_lines(source: Source) -> set[int]:
    lines: set[int] = set()
    for node in source.nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines.update(range(node.lineno, _last_line(node) + 1))
    return lines


def _list_annotations(node: ast.AST) -> list[ast.expr]:
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return list(filter(None, found))


def _find_wide_assignments(source: Source) -> Iterator[Place]:
    for node in source.nodes:
        if not isinstance(node, ast.Assign):
            continue
        if len(node.targets) > 1:
            yield source.place(node.lineno, "chained assignment")
        elif _count_names(node.targets[0]) > 2:
            yield source.place(node.lineno, "assignment of three or more names")


def _count_names(target: ast.expr) -> int:
    if isinstance(target, (ast.Tuple, ast.List)):
        return sum(_count_names(part) for part in target.elts)
    return 1


def _find_shared_lines(source: Source) -> Iterator[Place]:
    for node in source.nodes:
        if isinstance(node, ast.stmt) and not _is_ellipsis(node):
            before = source.lines[node.lineno - 1][: node.col_offset]
            if before.strip():
                yield source.place(node.lineno, "several statements on a line")


def _is_ellipsis(node: ast.stmt) -> bool:
    """Whether it is the body `...`, which formatters put on the line of the `def`."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return node.value.value is ...


def _find_nested(source: Source, outer: Kinds, inner: Kinds) -> set[ast.expr]:
    found: set[ast.expr] = set()
    for node in source.nodes:
        if isinstance(node, outer):
            parts = set(ast.walk(node)) - {node}
            found.update(part for part in parts if isinstance(part, inner))
    return found
