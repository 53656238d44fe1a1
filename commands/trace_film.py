"""Episodes as moving pictures of points: positions from above and from the side, with their trails.

Above them runs the success model's probability: players cover what stands below.
Letters: n ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..spec import FloatArray
from ..world_model.play import Play
from ..world_model.traces import Trace, list_states
from .drawing import INK, PAPER, SERIES
from .side_by_side import load_font

WIDTH = 264
PAD = 12
LINE = 14
"""Height of a line of text [pixels]."""
CHANCE = 40
"""Height of the probability's curve [pixels]."""
FINE = 2
"""Everything is drawn so many times as large, and then made smaller: lines become smooth."""
AXES = "xyz"
Frame = NDArray[np.uint8]
Corners = list[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """A position among the numbers of a state."""

    name: str
    key: str
    columns: dict[str, int]  # axis -> which of the key's numbers
    color: str


@dataclass(frozen=True)
class View:
    """Two axes of a picture, and where it lies in it."""

    name: str
    across: str
    up: str
    top: int  # its upper edge [pixels]
    height: int


@dataclass(frozen=True)
class Stage:
    """What is drawn, between which limits, and in which views."""

    points: Sequence[Point]
    low: dict[str, float]  # by axis, in the positions' own unit
    scale: float  # pixels per unit
    views: Sequence[View]

    @property
    def height(self) -> int:
        """Of a picture [pixels]."""
        last = self.views[-1]
        return last.top + last.height

    def place(self, view: View, across: FloatArray, up: FloatArray) -> Corners:
        """Where positions (n,), (n,) are in a view [fine pixels]."""
        x = PAD + (across - self.low[view.across]) * self.scale
        y = view.top + view.height - (up - self.low[view.up]) * self.scale
        return list(zip((FINE * x).tolist(), (FINE * y).tolist(), strict=True))


def list_points(play: Play) -> list[Point]:
    """The positions of a play that are no dummies: a position that is always 0 is one."""
    found: list[Point] = []
    for key in list_states(play):
        start = 0
        values = play.observations[key].reshape(len(play), -1)
        for part in play.obs_spec.keys[key].parts:
            own = values[:, start : start + part.size]
            if part.kind == "position" and own.any():
                columns = {axis: start + i for i, axis in enumerate(part.axes[: part.size])}
                color = SERIES[len(found) % len(SERIES)]
                found.append(Point(part.name, key, columns, color))
            start += part.size
    return found


def build_stage(play: Play) -> Stage | None:
    """A stage for the positions of a play; None where it has none in a plane."""
    points = list_points(play)
    low: dict[str, float] = {}
    span: dict[str, float] = {}
    for axis in AXES:
        values: list[FloatArray] = []
        for point in points:
            if axis in point.columns:
                flat = play.observations[point.key].reshape(len(play), -1)
                values.append(flat[:, point.columns[axis]])
        if values:
            ends = np.quantile(np.concatenate(values), [0.002, 0.998])
            room = 0.08 * max(float(ends[1] - ends[0]), 1e-6)
            low[axis] = float(ends[0]) - room
            span[axis] = float(ends[1] - ends[0]) + 2 * room
    if not {"x", "y"} <= low.keys():
        return None
    across, up = "xy"
    if span["y"] > span["x"]:
        across, up = "yx"
    scale = (WIDTH - 2 * PAD) / span[across]
    views = [View("from above", across, up, LINE + CHANCE + LINE, _fit(span[up] * scale))]
    if "z" in low:
        top = views[0].top + views[0].height + LINE
        views.append(View("from the side", across, "z", top, _fit(span["z"] * scale)))
    return Stage(points, low, scale, views)


def _fit(height: float) -> int:
    return round(max(40.0, min(height, 1.2 * WIDTH)))


def draw_trace(stage: Stage, trace: Trace) -> list[Frame]:
    """A picture (H, W, 3) for every tick of an episode, up to its first success."""
    last = trace.success
    if last is None:
        last = int(trace.ticks[-1])
    ticks = np.arange(last + 1)
    states = {key: trace.resample(key, ticks) for key in trace.states}
    background = _draw_background(stage)
    frames: list[Frame] = []
    for tick in ticks:
        picture = background.copy()
        draw = ImageDraw.Draw(picture)
        for view in stage.views:
            for point in stage.points:
                _draw_point(draw, stage, view, point, states[point.key][: tick + 1])
        _draw_chance(draw, trace, int(tick), last)
        frames.append(np.asarray(picture.reduce(FINE)))
    return frames


def _draw_background(stage: Stage) -> Image.Image:
    """What is the same in all pictures: names of the views and of the points."""
    picture = Image.new("RGB", (FINE * WIDTH, FINE * stage.height), PAPER)
    draw = ImageDraw.Draw(picture)
    font = load_font(FINE * (LINE - 4))
    grey = _mix(INK, 0.6)
    for view in stage.views:
        top = FINE * (view.top - LINE)
        draw.text((FINE * PAD, top), f"{view.name} ({view.across}, {view.up})", grey, font)
        edges = (FINE, FINE * view.top, FINE * (WIDTH - 2), FINE * (view.top + view.height))
        draw.rectangle(edges, outline=_mix(INK, 0.15))
    across = WIDTH - PAD
    names = FINE * (LINE + CHANCE)
    for point in reversed(stage.points):
        across -= draw.textlength(point.name, font) / FINE
        draw.text((FINE * across, names), point.name, _mix(point.color, 1.0), font)
        across -= 8
    draw.text((FINE * PAD, 0), "probability of success", grey, font)
    return picture


def _draw_point(
    draw: ImageDraw.ImageDraw, stage: Stage, view: View, point: Point, so_far: FloatArray
) -> None:
    """A position now, and the way it came; a line where one of the view's axes is not told."""
    axes = (view.across, view.up)
    known = [axis for axis in axes if axis in point.columns]
    values = {axis: so_far[:, point.columns[axis]] for axis in known}
    color = _mix(point.color, 1.0)
    if len(known) == 2:
        way = stage.place(view, values[view.across], values[view.up])
        draw.line(way, _mix(point.color, 0.45), FINE * 2)
        x, y = way[-1]
        radius = FINE * 4
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)
    elif known:
        (axis,) = known
        now = values[axis][-1:]
        edge = np.array([stage.low[view.across]])
        if axis == view.up:
            ((_, y),) = stage.place(view, edge, now)
            draw.line([(FINE, y), (FINE * (WIDTH - 2), y)], color, FINE)
        else:
            ((x, _),) = stage.place(view, now, np.array([stage.low[view.up]]))
            draw.line([(x, FINE * view.top), (x, FINE * (view.top + view.height))], color, FINE)


def _draw_chance(draw: ImageDraw.ImageDraw, trace: Trace, tick: int, last: int) -> None:
    """The probability of success so far, and the moment of success."""
    bottom = FINE * (LINE + CHANCE - 3)
    height = FINE * (CHANCE - 6)
    wide = FINE * (WIDTH - 2 * PAD) / max(1, last)
    left = FINE * PAD
    right = left + wide * last
    draw.line([(left, bottom), (right, bottom)], _mix(INK, 0.3), 1)
    draw.line([(left, bottom - height / 2), (right, bottom - height / 2)], _mix(INK, 0.15), 1)
    if trace.success is not None and tick >= trace.success:
        x = left + wide * trace.success
        draw.line([(x, bottom - height), (x, bottom)], _mix(SERIES[2], 1.0), FINE * 2)
    seen = trace.ticks <= tick
    x = left + wide * trace.ticks[seen]
    y = bottom - height * trace.chance[seen]
    corners = list(zip(x.tolist(), y.tolist(), strict=True))
    if len(corners) > 1:
        draw.line(corners, _mix(INK, 0.8), FINE * 2)


def _mix(color: str, strength: float) -> tuple[int, int, int]:
    """A colour on paper, as much of it as `strength` says."""
    one = np.array(to_rgb(color))
    paper = np.array(to_rgb(PAPER))
    mixed = np.rint(255 * (strength * one + (1 - strength) * paper)).astype(int)
    return int(mixed[0]), int(mixed[1]), int(mixed[2])
