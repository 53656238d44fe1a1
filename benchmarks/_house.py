"""The house as a picture: folders and root files on their floors, and who imports whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..spec import ConfigError
from ._imports import find_arrows, read_floors
from ._source import read_tree
from ._svg import Drawing

PLACES = {
    "cli": 1.8,
    "benchmarks": 3.4,
    "commands": 3.4,
    "configs": 1.8,
    "finetuning": 2.5,
    "world_model": 0.6,
    "policy": 1.8,
    "envs": 3.2,
    "real_robot": 0.6,
    "arms": 1.4,
    "datasets": 2.6,
    "evaluation": 4.3,
    "planners": 3.2,
    "control": 4.3,
    "system": 0.3,
    "rows": 1.3,
    "seeds": 2.4,
    "checks": 3.6,
    "spec": 2.0,
}
"""Room -> its place from left to right, so that arrows pass between the rooms."""
ACROSS = 112
DOWN = 50
WIDE = 88
HIGH = 24
Edge = tuple[str, str]


def read_edges(root: Path) -> set[Edge]:
    """Imports from one top folder or root file to another one, but for `__init__` and `__main__`"""
    edges = set()
    for mine, target in find_arrows(read_tree(root), root.name):
        if mine[0] != target[0] and not mine[0].startswith("__"):
            edges.add((mine[0], target[0]))
    return edges


def leave_out_implied(edges: set[Edge]) -> set[Edge]:
    """The edges whose end is reached by no other way from their start."""
    kept = set()
    for start, end in edges:
        if end not in _reach(start, edges - {(start, end)}):
            kept.add((start, end))
    return kept


def draw_house(root: Path) -> str:
    """The picture of a checkout, as an SVG."""
    floors = read_floors(root)
    edges = leave_out_implied(read_edges(root))
    points = place_rooms({name for edge in edges for name in edge}, floors)
    drawing = Drawing(560, 42 + DOWN * len({floors[name] for name in points}))
    for start, end in sorted(edges):
        above, below = points[start], points[end]
        drawing.arrow((above[0], above[1] + HIGH), (below[0], below[1] - 1))
    for name, (middle, top) in points.items():
        drawing.box(middle - WIDE / 2, top, WIDE, HIGH, "room")
        drawing.text(middle, top + 16, name, "name middle")
    return drawing.finish()


def place_rooms(names: set[str], floors: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Middle and top of each room, the highest floor first."""
    levels = sorted({floors[name] for name in names}, reverse=True)
    points = {}
    for name in sorted(names):
        if name not in PLACES:
            raise ConfigError(f"{name} has no place in the picture: add it to PLACES in {__file__}")
        points[name] = (ACROSS * PLACES[name] + 30, 20.0 + DOWN * levels.index(floors[name]))
    return points


def _reach(start: str, edges: set[Edge]) -> set[str]:
    """Every room that edges lead to from `start`."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        room = waiting.pop()
        for mine, target in edges:
            if mine == room and target not in found:
                found.add(target)
                waiting.append(target)
    return found
