"""Pictures of a data set: curves of an episode, strips and films of its cameras, lengths."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ..datasets.episodes import ACTION, TIMESTAMP, Dataset
from ..datasets.selection import make_times
from ..spec import FloatArray, ObsPart
from .drawing import SERIES, STYLE, make_axes

LINES = 12
"""Numbers of a key that are drawn at most: those that move most."""
POINTS = 200
"""Points of a line; of longer episodes, the least and greatest numbers of as many parts."""
STRIP_FRAMES = 8
STRIP_HEIGHT = 96
FILM_FRAMES = 240
FILM_HEIGHT = 144
FILM_BYTES = 1 << 30
"""Pictures of an episode that are read for its film at most, as they are in memory."""
BLOCK_FRAMES = 32
Frame = NDArray[np.uint8]
DRAWN_EXTRAS = ("reward", "score")


def list_cameras(dataset: Dataset) -> list[str]:
    """The keys that hold pictures."""
    return [name for name, key in dataset.obs_spec.keys.items() if key.kind == "image"]


def list_curves(dataset: Dataset) -> list[str]:
    """The keys that are drawn as curves: states, actions, and rewards."""
    states = [name for name, key in dataset.obs_spec.keys.items() if key.kind == "state"]
    return [*states, ACTION, *(key for key in DRAWN_EXTRAS if key in dataset.keys)]


def name_numbers(dataset: Dataset, key: str) -> list[str]:
    """A name for each number of a key, as its specification says."""
    if key == ACTION:
        names: list[str] = []
        for dim in dataset.action_spec.dims:
            unit = ""
            if dim.unit:
                unit = f" [{dim.unit}]"
            names.append(dim.name + unit)
        return names
    spec = dataset.obs_spec.keys.get(key)
    if spec is None or spec.shape == ():
        return [key]
    if spec.parts:
        return _name_parts(spec.parts)
    return [f"{key} {i}" for i in range(int(np.prod(spec.shape)))]


def _name_parts(parts: Sequence[ObsPart]) -> list[str]:
    names: list[str] = []
    for part in parts:
        if part.kind == "position":
            names += [f"{part.name} {axis}" for axis in part.axes[: part.size]]
        elif part.size == 1:
            names.append(part.name)
        else:
            names += [f"{part.name} {i}" for i in range(part.size)]
    return names


def read_times(dataset: Dataset, steps: slice) -> FloatArray:
    """When the steps of an episode began, (n,) [s]."""
    if TIMESTAMP in dataset.keys:
        return dataset.rows(TIMESTAMP, steps.start, steps.stop)
    return make_times(steps.stop - steps.start, dataset.fps)


def draw_curves(dataset: Dataset, steps: slice) -> Figure:
    """States, actions and rewards of an episode over time, a panel for each key."""
    keys = list_curves(dataset)
    times = read_times(dataset, steps)
    with mpl.rc_context(STYLE):
        rows = -(-len(keys) // 2)
        figure = Figure(figsize=(9.6, 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
        for axes in grid[len(keys) :]:
            axes.set_visible(False)
        for axes, key in zip(grid, keys, strict=False):
            values = dataset.rows(key, steps.start, steps.stop)
            _draw_key(axes, times, values.reshape(len(values), -1), name_numbers(dataset, key))
            axes.set_title(key)
        for axes in grid[max(len(keys) - 2, 0) : len(keys)]:
            axes.set_xlabel("time [s]")
            axes.tick_params(labelbottom=True)
    return figure


def _draw_key(axes: Axes, times: FloatArray, values: FloatArray, names: Sequence[str]) -> None:
    """The numbers (n, D) of a key that move most, with their names where they are few."""
    moves = values.astype(np.float64).std(0)
    shown = np.sort(np.argsort(-moves, kind="stable")[:LINES])
    for place, dim in enumerate(shown.tolist()):
        x, y = thin_out(times, values[:, dim])
        style = ("-", "--")[place // len(SERIES) % 2]
        color = SERIES[place % len(SERIES)]
        axes.plot(x, y, style, color=color, lw=1.1, label=names[dim])
    if len(shown) <= 8:
        axes.legend(fontsize=7, loc="upper right", ncols=2, handlelength=1.2)
    if len(shown) < values.shape[1]:
        text = f"{len(shown)} of {values.shape[1]} numbers"
        axes.text(0.0, -0.02, text, transform=axes.transAxes, fontsize=7, va="top")


def thin_out(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A line (n,) with at most 2 * POINTS points: the extremes of every part are kept."""
    if len(values) <= 2 * POINTS:
        return times, values
    kept: list[int] = []
    for part in np.array_split(np.arange(len(values)), POINTS):
        ends = {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
        kept += sorted(ends)
    return times[kept], values[kept]


def draw_lengths(seconds: FloatArray) -> Figure:
    """How long the episodes (E,) last [s]."""
    with mpl.rc_context(STYLE):
        figure, axes = make_axes("length of an episode [s]", "episodes", height=2.4)
        axes.hist(seconds, bins=min(30, max(5, len(seconds))), color=SERIES[0])
    return figure


def embed_strip(dataset: Dataset, key: str, steps: slice) -> str:
    """Pictures of a camera, evenly over an episode, beside each other: the address of a JPEG."""
    count = min(STRIP_FRAMES, steps.stop - steps.start)
    numbers = np.linspace(steps.start, steps.stop - 1, count).round().astype(int)
    pictures: list[Frame] = []
    for number in numbers.tolist():
        frame = dataset.rows(key, number, number + 1)[0]
        pictures.append(shrink(frame, STRIP_HEIGHT))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(pictures, axis=1)).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def shrink(frame: Frame, height: int) -> Frame:
    """A picture (H, W, 1, 3 or 4) as colours (h, w, 3), at most so high; even sizes."""
    if frame.shape[2] == 1:
        frame = np.repeat(frame, 3, axis=2)
    picture = Image.fromarray(np.ascontiguousarray(frame[:, :, :3]))
    high = max(min(height, picture.height) // 2 * 2, 2)
    wide = max(round(picture.width * high / picture.height / 2) * 2, 2)
    return np.asarray(picture.resize((wide, high), Image.Resampling.BILINEAR))


def choose_stride(dataset: Dataset, steps: slice) -> int:
    """Of so many pictures one is shown; 0 where an episode has too many pictures to read."""
    length = steps.stop - steps.start
    cameras = list_cameras(dataset)
    size = sum(int(np.prod(dataset.obs_spec.keys[key].shape)) for key in cameras)
    if length * size > FILM_BYTES:
        return 0
    return -(-length // FILM_FRAMES)


def film_episode(dataset: Dataset, steps: slice, stride: int) -> Iterator[Frame]:
    """All cameras beside each other, every `stride`-th step of an episode, (h, w, 3)."""
    cameras = list_cameras(dataset)
    for start in range(steps.start, steps.stop, BLOCK_FRAMES * stride):
        stop = min(start + BLOCK_FRAMES * stride, steps.stop)
        blocks = [dataset.rows(key, start, stop)[::stride] for key in cameras]
        for frames in zip(*blocks, strict=True):
            yield _join([shrink(frame, FILM_HEIGHT) for frame in frames])


def _join(pictures: Sequence[Frame]) -> Frame:
    """Pictures beside each other, small ones on black."""
    height = max(len(picture) for picture in pictures)
    filled: list[Frame] = []
    for picture in pictures:
        room = ((0, height - len(picture)), (0, 0), (0, 0))
        filled.append(np.pad(picture, room))
    return np.concatenate(filled, axis=1)
