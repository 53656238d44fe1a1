"""The import graph of a source tree: circles, imports that run upward, rooms of a folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ._source import Source

Module = tuple[str, ...]
"""Folders and name, as ("policy", "model"); a folder's `__init__` bears the folder's name."""
Arrow = tuple[Module, Module]
"""The importing and the imported module."""


def find_arrows(sources: list[Source], package: str) -> set[Arrow]:
    """Imports between the tree's own modules, those inside functions too.

    `package` is the name that absolute imports of the tree's own modules begin with.
    """
    modules = {_name_module(source.file) for source in sources}
    arrows = set()
    for source in sources:
        mine = _name_module(source.file)
        for target in _list_targets(source, package):
            found = _find_module(target, modules)
            if found not in (None, mine):
                arrows.add((mine, found))
    return arrows


def find_circles(arrows: set[Arrow]) -> list[list[str]]:
    """Groups of modules that import each other, straight or through others."""
    modules = sorted({module for arrow in arrows for module in arrow})
    index = {module: number for number, module in enumerate(modules)}
    rows = [index[mine] for mine, _ in arrows]
    columns = [index[target] for _, target in arrows]
    shape = (len(modules), len(modules))
    graph = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    _, labels = connected_components(graph, directed=True, connection="strong")
    groups: dict[int, list[str]] = {}
    for module, label in zip(modules, labels, strict=True):
        groups.setdefault(label, []).append(".".join(module))
    found: list[list[str]] = []
    for group in groups.values():
        if len(group) > 1:
            found.append(group)
    return found


def find_upward(arrows: set[Arrow], floors: dict[str, float]) -> list[str]:
    """Imports from a top folder or root file to another one on the same or a higher floor."""
    found = []
    for mine, target in sorted(arrows):
        if mine[0] == target[0] or mine[0] not in floors or target[0] not in floors:
            continue
        if floors[target[0]] >= floors[mine[0]]:
            found.append(f"{'.'.join(mine)} -> {'.'.join(target)}")
    return found


def read_floors(root: Path) -> dict[str, float]:
    """The table FLOORS of tests/test_floors.py; empty where a tree has none."""
    file = root / "tests" / "test_floors.py"
    if not file.exists():
        return {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return ast.literal_eval(node.value)
    return {}


def find_rooms(sources: list[Source], folder: str) -> list[str]:
    """The folders with code and the loose modules right inside a top folder."""
    rooms = set()
    for source in sources:
        parts = source.file.parts
        if parts[0] == folder and parts[1:] != ("__init__.py",):
            rooms.add(parts[1])
    return sorted(rooms)


def _name_module(file: Path) -> Module:
    parts = file.with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        return parts[:-1]
    return parts


def _list_targets(source: Source, package: str) -> Iterator[Module]:
    """What a file imports of its own tree, from the root; the last part may be no module."""
    folder = source.file.parent.parts
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _cut_package(alias.name, package)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = ".".join(filter(None, (node.module, alias.name)))
                if node.level:
                    yield (*folder[: len(folder) - node.level + 1], *name.split("."))
                else:
                    yield from _cut_package(name, package)


def _cut_package(name: str, package: str) -> Iterator[Module]:
    top, _, rest = name.partition(".")
    if top == package and rest:
        yield tuple(rest.split("."))


def _find_module(target: Module, modules: set[Module]) -> Module | None:
    """The deepest module that a path names."""
    for end in range(len(target), 0, -1):
        if target[:end] in modules:
            return target[:end]
    return None
