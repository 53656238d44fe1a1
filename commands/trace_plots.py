"""Episodes as curves over time: recorded numbers beside imagined ones, and the success model."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..spec import FloatArray
from ..world_model.play import Play
from ..world_model.traces import Trace, list_states
from .drawing import INK, SERIES, STYLE
from .trace_film import list_points

CURVES = 6
"""Numbers that are drawn at most."""
COLUMNS = 4


@dataclass(frozen=True)
class Number:
    """One number of a state, and its name in a figure."""

    name: str
    key: str
    column: int

    def read(self, play: Play) -> FloatArray:
        """Its values in a play, (N,)."""
        return play.observations[self.key].reshape(len(play), -1)[:, self.column]


def choose_numbers(play: Play) -> list[Number]:
    """The coordinates of the positions, or else all numbers: those that move most, in order.

    How much a number moves is its standard deviation within episodes over all episodes together.
    """
    named: list[Number] = []
    for point in list_points(play):
        for axis, column in point.columns.items():
            named.append(Number(f"{point.name} {axis}", point.key, column))
    if not named:
        for key in list_states(play):
            width = int(np.prod(play.obs_spec.keys[key].shape))
            named += [Number(f"{key} {column}", key, column) for column in range(width)]
    moves = [_measure_motion(play, number) for number in named]
    order = np.argsort(moves, kind="stable")[::-1][:CURVES]
    return [named[number] for number in sorted(order) if moves[number] > 0]


def _measure_motion(play: Play, number: Number) -> float:
    values = number.read(play)
    starts = values[play.first][play.episode_of]
    return float(np.std(values - starts))


def draw_curves(play: Play, recorded: Trace, imagined: Trace) -> Figure:
    """A panel for each of the numbers that move most, and one for the probability of success.

    Grey is what was recorded, blue what the model imagines under the same actions. An axis reaches
    over the whole play, so that small errors look small, and episodes compare.
    """
    numbers = [number for number in choose_numbers(play) if number.key in imagined.states]
    panels = len(numbers) + 1
    lines = -(-panels // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 1.9 * lines))
        grid = figure.subplots(lines, COLUMNS, squeeze=False, sharex=True).ravel()
        for axes in grid[panels:]:
            axes.set_visible(False)
        for axes, number in zip(grid, numbers, strict=False):
            _draw_both(
                axes,
                (recorded, recorded.states[number.key][:, number.column]),
                (imagined, imagined.states[number.key][:, number.column]),
            )
            low, high = np.quantile(number.read(play), [0.002, 0.998])
            room = 0.05 * (high - low)
            axes.set(title=number.name, ylim=(low - room, high + room))
        last = grid[panels - 1]
        _draw_both(last, (recorded, recorded.chance), (imagined, imagined.chance))
        last.set(title="probability of success", ylim=(-0.05, 1.05))
        for axes in grid[max(0, panels - COLUMNS) : panels]:
            axes.set_xlabel("control period")
            axes.tick_params(labelbottom=True)
        figure.tight_layout()
        return figure


def _draw_both(
    axes: Axes, recorded: tuple[Trace, np.ndarray], imagined: tuple[Trace, np.ndarray]
) -> None:
    """What was recorded under what is imagined, each with its moment of success."""
    for (trace, values), color, style in ((recorded, INK, "--"), (imagined, SERIES[0], ":")):
        strength = 0.5
        if color != INK:
            strength = 1.0
        axes.plot(trace.ticks, values, color=color, alpha=strength, lw=1.6)
        if trace.success is not None:
            axes.axvline(trace.success, color=color, alpha=strength, lw=1.0, ls=style)
