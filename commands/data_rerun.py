"""Episodes as a recording for Rerun's viewer (rerun-sdk, extra `view`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.choosing import list_instructions
from ..datasets.episodes import Dataset, episode_slice
from ..datasets.selection import choose_episodes, select
from ..spec import ConfigError, DataError
from .data_plots import BLOCK_FRAMES, list_cameras, list_curves, name_numbers, read_times

JPEG_QUALITY = 85
TIME, STEP = "time", "step"


def check_rerun() -> None:
    """Raise ConfigError where the SDK is not installed."""
    if find_spec("rerun") is None:
        raise ConfigError("rerun= needs the extra `view`: pip install 'hotstart[view]'")


def write_recording(path: Path, dataset: Dataset, episodes: Sequence[int]) -> None:
    """Write episodes into a .rrd file: numbers as curves, pictures as JPEG, over time and steps.

    Each episode stands under its own name, at its own times. The file appears when it is whole.
    """
    rr = _load()
    half = path.with_name(path.name + ".writing")
    stream = rr.new_recording("hotstart", recording_id=path.stem)
    try:
        stream.save(str(half))
        for number in episodes:
            _log_episode(stream, dataset, number)
        stream.flush()
        stream.disconnect()
        half.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        half.unlink(missing_ok=True)


def _load() -> Any:
    """The SDK, which is imported when it is used."""
    return import_module("rerun")


def _log_episode(stream: Any, dataset: Dataset, number: int) -> None:
    rr = _load()
    steps = episode_slice(dataset.episode_ends, number)
    times = read_times(dataset, steps)
    count = steps.stop - steps.start
    indexes = [
        rr.TimeColumn(TIME, duration=times),
        rr.TimeColumn(STEP, sequence=np.arange(count)),
    ]
    root = f"episode_{number}"
    for key in list_curves(dataset):
        values = dataset.rows(key, steps.start, steps.stop).reshape(count, -1)
        stream.log(f"{root}/{key}", rr.SeriesLines(names=name_numbers(dataset, key)), static=True)
        columns = rr.Scalars.columns(scalars=values.astype(np.float64).ravel())
        sizes = [values.shape[1]] * count
        stream.send_columns(f"{root}/{key}", indexes, columns.partition(sizes))
    told = list_instructions(select(dataset, choose_episodes(dataset, [number])))[0]
    if told:
        stream.log(f"{root}/instruction", rr.TextDocument(told), static=True)
    for key in list_cameras(dataset):
        _log_pictures(stream, dataset, key, f"{root}/{key}", steps)


def _log_pictures(stream: Any, dataset: Dataset, key: str, name: str, steps: slice) -> None:
    rr = _load()
    times = read_times(dataset, steps)
    for start in range(steps.start, steps.stop, BLOCK_FRAMES):
        frames = dataset.rows(key, start, min(start + BLOCK_FRAMES, steps.stop))
        for place, frame in enumerate(frames, start - steps.start):
            stream.set_time(TIME, duration=float(times[place]))
            stream.set_time(STEP, sequence=place)
            picture = rr.Image(frame[:, :, :3].squeeze()).compress(jpeg_quality=JPEG_QUALITY)
            stream.log(name, picture)
