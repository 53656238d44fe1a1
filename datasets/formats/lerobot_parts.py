"""Single episodes on their way into LeRobot's format: each is written once, and outlives a kill.

An episode is a folder with its rows (`rows.parquet`), one video per camera, its statistics
(`statistics.npz`) and `about.json`. The folder gets its name when it is whole.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, IntArray, bytes_to_text
from ...system.untrusted import read_json
from ..episodes import ACTION, TIMESTAMP, episode_slice
from . import lerobot_statistics as statistics
from .lerobot_info import INSTRUCTION, TASK_INDEX, TRUE_TIME
from .lerobot_plan import Plan
from .lerobot_statistics import Statistics
from .video_writer import write_video

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 1 << 26
"""Pictures are read up to so many at a time."""
PNG_LEVEL = 3


@dataclass(frozen=True)
class Part:
    """One finished episode."""

    folder: Path
    number: int
    length: int
    tasks: tuple[str, ...]

    @property
    def rows(self) -> Path:
        """Its table."""
        return self.folder / "rows.parquet"

    def video(self, place: int) -> Path:
        """The video of a camera, by its place in the plan."""
        return self.folder / f"camera_{place}.mp4"

    def statistics(self) -> dict[str, Statistics]:
        """By feature."""
        found: dict[str, Statistics] = {}
        with np.load(self.folder / "statistics.npz", allow_pickle=False) as held:
            for name in held.files:
                feature, measure = name.rsplit("/", 1)
                found.setdefault(feature, {})[measure] = held[name]
        return found


def open_part(plan: Plan, folder: Path, number: int) -> Part | None:
    """An episode that is finished; None where it is not, or is of other actions."""
    try:
        about = read_json(folder / "about.json", DataError)
        same = about["actions"] == _sum_actions(plan, number)
        part = Part(folder, number, about["length"], tuple(about["tasks"]))
    except (DataError, KeyError, TypeError):
        return None
    if same:
        return part
    return None


def write_part(plan: Plan, folder: Path, number: int, tasks: dict[str, int]) -> Part:
    """Write an episode into a folder; new tasks are added to `tasks` (words -> index)."""
    making = folder.with_suffix(".partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    columns = _read_columns(plan, number, tasks)
    found: dict[str, Statistics] = {}
    for name, values in columns.items():
        found[name] = _describe(plan, values)
    encoded: dict[str, list[bytes]] = {}
    for key, name in plan.pictures.items():
        samples = Samples(_length(plan, number))
        encoded[name] = [
            _encode_png(picture)
            for block in samples.watch(_read_blocks(plan, key, number))
            for picture in block
        ]
        found[name] = samples.describe(plan.version)
    for place, (key, name) in enumerate(plan.videos.items()):
        samples = Samples(_length(plan, number))
        blocks = samples.watch(_read_blocks(plan, key, number))
        write_video(making / f"camera_{place}.mp4", blocks, plan.dataset.fps)
        found[name] = samples.describe(plan.version)
    _write_rows(making / "rows.parquet", columns, encoded, plan.version)
    _save_statistics(making / "statistics.npz", found)
    used = list(dict.fromkeys(columns[TASK_INDEX].tolist()))
    words = list(tasks)
    about = {
        "length": _length(plan, number),
        "tasks": [words[index] for index in used],
        "actions": _sum_actions(plan, number),
    }
    (making / "about.json").write_text(json.dumps(about))
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)
    return Part(folder, number, about["length"], tuple(about["tasks"]))


class Samples:
    """Pictures of an episode that pass by, of which some are described."""

    def __init__(self, length: int) -> None:
        self._wanted = statistics.choose_samples(length)
        self._kept: list[NDArray[np.uint8]] = []

    def watch(self, blocks: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """The same blocks (n, H, W, C); the wanted pictures of each are kept."""
        start = 0
        for block in blocks:
            inside = (self._wanted >= start) & (self._wanted < start + len(block))
            chosen = self._wanted[inside] - start
            self._kept.append(statistics.thin_out(block[chosen]).copy())
            start += len(block)
            yield block

    def describe(self, version: str) -> Statistics:
        """Statistics of the kept pictures."""
        frames = np.concatenate(self._kept)
        if version == "v3.0":
            return statistics.describe_frames(frames)
        return statistics.describe_frames_v2(frames)


def _describe(plan: Plan, values: NDArray[Any]) -> Statistics:
    if plan.version == "v3.0":
        return statistics.describe_numbers(values)
    return statistics.describe_numbers_v2(values)


def _read_columns(plan: Plan, number: int, tasks: dict[str, int]) -> dict[str, NDArray[Any]]:
    """Every column of numbers of an episode, in the types in which LeRobot describes them."""
    steps = episode_slice(plan.dataset.episode_ends, number)
    length = steps.stop - steps.start
    columns: dict[str, NDArray[Any]] = {}
    for key, name in plan.numbers.items():
        columns[name] = plan.dataset.rows(key, steps.start, steps.stop)
    if plan.true_times:
        columns[TRUE_TIME] = plan.dataset.rows(TIMESTAMP, steps.start, steps.stop)
    columns["timestamp"] = np.arange(length) / plan.dataset.fps
    columns["frame_index"] = np.arange(length)
    columns["episode_index"] = np.full(length, number)
    columns["index"] = np.arange(steps.start, steps.stop)
    columns[TASK_INDEX] = _find_tasks(plan, steps, tasks)
    return columns


def _find_tasks(plan: Plan, steps: slice, tasks: dict[str, int]) -> IntArray:
    """The index of each step's task, (n,); new ones get the next index."""
    if not plan.has_instruction:
        words = [plan.task] * (steps.stop - steps.start)
    else:
        texts = plan.dataset.rows(INSTRUCTION, steps.start, steps.stop)
        words = [bytes_to_text(text) for text in texts]
    found: list[int] = []
    for word in words:
        found.append(tasks.setdefault(word, len(tasks)))
    return np.array(found, np.int64)


def _read_blocks(plan: Plan, key: str, number: int) -> Iterator[NDArray[np.uint8]]:
    """The pictures of an episode (n, H, W, 3), some at a time; gray ones become three channels."""
    steps = episode_slice(plan.dataset.episode_ends, number)
    shape = plan.dataset.obs_spec.keys[key].shape
    most = max(1, BLOCK_BYTES // int(np.prod(shape)))
    for start in range(steps.start, steps.stop, most):
        block = plan.dataset.rows(key, start, min(start + most, steps.stop))
        if shape[2] == 1:
            block = np.repeat(block, 3, axis=3)
        if block.shape[3] != 3:
            raise DataError(f"{key!r} has {shape[2]} channels; LeRobot holds pictures of 1 or 3")
        yield block


def _write_rows(
    path: Path,
    columns: Mapping[str, NDArray[Any]],
    encoded: Mapping[str, list[bytes]],
    version: str,
) -> None:
    """The table of an episode."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    made: dict[str, pa.Array] = {}
    for name, values in columns.items():
        if name == "timestamp":
            values = values.astype(np.float32)
        made[name] = _make_column(values)
    for name, pictures in encoded.items():
        paths = [f"frame-{place:06d}.png" for place in range(len(pictures))]
        fields = [pa.array(pictures, pa.binary()), pa.array(paths)]
        made[name] = pa.StructArray.from_arrays(fields, ["bytes", "path"])
    pq.write_table(pa.table(made), path, compression="snappy", write_page_checksum=True)


def _make_column(values: NDArray[Any]) -> pa.Array:
    """Steps (n, ...) as a column: numbers, lists of a fixed length, or lists of lists."""
    import pyarrow as pa

    column = pa.array(np.ascontiguousarray(values).ravel())
    shape = values.shape[1:]
    if shape in ((), (1,)):
        return column
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(column, shape[0])
    for axis in reversed(shape):
        offsets = np.arange(0, len(column) + 1, axis, dtype=np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    return column


def _encode_png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


def _save_statistics(path: Path, found: Mapping[str, Statistics]) -> None:
    flat: dict[str, Any] = {}
    for feature, measures in found.items():
        for measure, values in measures.items():
            flat[f"{feature}/{measure}"] = values
    np.savez(path, **flat)


def _sum_actions(plan: Plan, number: int) -> float:
    """A number that tells an episode from an edited one."""
    steps = episode_slice(plan.dataset.episode_ends, number)
    actions = plan.dataset.rows(ACTION, steps.start, steps.stop).astype(np.float64)
    return float((actions.ravel() * np.arange(1, actions.size + 1)).sum())


def _length(plan: Plan, number: int) -> int:
    steps = episode_slice(plan.dataset.episode_ends, number)
    return steps.stop - steps.start
