"""The import graph of a source tree: circles, imports that run upward, rooms of a folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ._source import Source

Module = tuple[str, ...]
"""Folders and name, as ("policy", "model"); a folder's `__init__` bears the folder's name."""
Arrow = tuple[Module, Module]
"""The importing and the imported module."""


class Import(NamedTuple):
    """One import of a file: `import module`, or `from module import name`."""

    file: Path
    line: int
    relative: bool
    module: Module
    """From the root where relative; ("..",) stands for what lies above the root."""
    name: str
    """Empty for `import module`."""

    @property
    def target(self) -> Module:
        """Module and name; the name may be no module."""
        if self.name:
            return (*self.module, self.name)
        return self.module


def list_imports(source: Source) -> Iterator[Import]:
    """Every import of a file, those inside functions too; relative ones count from the root."""
    file, folder = source.file, source.file.parent.parts
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, False, tuple(alias.name.split(".")), "")
        elif isinstance(node, ast.ImportFrom):
            module = tuple(filter(None, (node.module or "").split(".")))
            if node.level:
                module = (*_climb(folder, node.level - 1), *module)
            for alias in node.names:
                yield Import(file, node.lineno, node.level > 0, module, alias.name)


def find_arrows(sources: list[Source], package: str) -> set[Arrow]:
    """Imports between the tree's own modules, those inside functions too.

    `package` is the name that absolute imports of the tree's own modules begin with.
    """
    modules = {_name_module(source.file) for source in sources}
    arrows: set[Arrow] = set()
    for source in sources:
        mine = _name_module(source.file)
        for target in _list_targets(source, package):
            found = _find_module(target, modules)
            if found is not None and found != mine:
                arrows.add((mine, found))
    return arrows


def find_circles(arrows: set[Arrow]) -> list[list[str]]:
    """Groups of modules that import each other, straight or through others."""
    modules = sorted(set().union(*arrows))
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


def find_upward(arrows: set[Arrow], floors: Mapping[str, float]) -> list[str]:
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
    for entry in list_imports(source):
        target = entry.target
        if entry.relative:
            yield target
        elif target[0] == package and len(target) > 1:
            yield target[1:]


def _climb(folder: Module, steps: int) -> Module:
    """The folder so many steps above; ("..",) for one above the root."""
    if steps > len(folder):
        return ("..",)
    return folder[: len(folder) - steps]


def _find_module(target: Module, modules: set[Module]) -> Module | None:
    """The deepest module that a path names."""
    for end in range(len(target), 0, -1):
        if target[:end] in modules:
            return target[:end]
    return None
