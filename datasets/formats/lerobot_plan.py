"""What becomes of a data set's keys in LeRobot's format: features, their names, and `info.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...spec import DataError, ObsKey
from ..episodes import ACTION, TIMESTAMP, Dataset, episode_slice, extra_key
from .lerobot_info import (
    IMAGES,
    INSTRUCTION,
    MARK,
    MOST_AXES,
    OBSERVATION,
    RENAMED,
    TASK_INDEX,
    TRUE_TIME,
    name_feature,
)
from .video_writer import PIXELS, can_encode, choose_encoder

CHUNK = 1000
"""Files per folder."""
TABLE_MB = 100
VIDEO_MB = 200
LEROBOTS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every data set of LeRobot has, with their types."""


@dataclass(frozen=True)
class Plan:
    """A data set and what its keys become."""

    dataset: Dataset
    task: str
    version: str
    numbers: Mapping[str, str]
    """Our key -> the feature whose column holds it."""
    videos: Mapping[str, str]
    pictures: Mapping[str, str]
    """Our key -> the feature that holds its pictures as PNG in the tables."""
    true_times: bool
    """Whether the times are other than frame / fps, so that they need a column of their own."""

    @property
    def has_instruction(self) -> bool:
        """Whether the task is said step by step."""
        return _is_instruction(self.dataset, INSTRUCTION)

    def features(self) -> dict[str, dict[str, Any]]:
        """The features of `info.json`, in LeRobot's order: the data's own, then its own."""
        found: dict[str, dict[str, Any]] = {}
        for key in self.dataset.keys:
            if key in self.numbers:
                found[self.numbers[key]] = _describe_numbers(self.dataset, key)
            elif key in self.pictures:
                spec = self.dataset.obs_spec.keys[key]
                found[self.pictures[key]] = _describe_picture(spec, "image", {})
            elif key in self.videos:
                spec = self.dataset.obs_spec.keys[key]
                details = _describe_video(spec, self.dataset.fps)
                found[self.videos[key]] = _describe_picture(spec, "video", details)
        if self.true_times:
            found[TRUE_TIME] = {"dtype": "float64", "shape": [1], "names": None}
        for name, dtype in LEROBOTS.items():
            found[name] = {"dtype": dtype, "shape": [1], "names": None}
        if self.has_instruction:
            spec = self.dataset.obs_spec.keys[INSTRUCTION]
            found[TASK_INDEX]["info"] = {MARK: {**spec.to_json(), "task": self.task}}
        return found


def make_plan(dataset: Dataset, task: str, version: str) -> Plan:
    """Names and places of all keys; DataError for what the format cannot hold."""
    numbers: dict[str, str] = {}
    videos: dict[str, str] = {}
    pictures: dict[str, str] = {}
    for key in dataset.keys:
        if key == TIMESTAMP or _is_instruction(dataset, key):
            continue
        spec = dataset.obs_spec.keys.get(key)
        name = _name_key(key, spec)
        if spec is None or spec.kind != "image":
            numbers[key] = name
        elif can_encode(spec.shape):
            videos[key] = name
        else:
            pictures[key] = name
    true_times = not _has_nominal_times(dataset)
    return Plan(dataset, task, version, numbers, videos, pictures, true_times)


def _is_instruction(dataset: Dataset, key: str) -> bool:
    spec = dataset.obs_spec.keys.get(key)
    return key == INSTRUCTION and spec is not None and spec.kind == "language"


def _name_key(key: str, spec: ObsKey | None) -> str:
    """LeRobot's name for a key of ours, which is read back as the same."""
    if spec is None:
        for theirs, ours in RENAMED.items():
            if ours == key:
                return theirs
        return key
    if len(spec.shape) > MOST_AXES:
        raise DataError(f"{key!r} has {len(spec.shape)} axes; LeRobot holds at most {MOST_AXES}")
    name = OBSERVATION + key
    if spec.kind == "image" and key != "image":
        name = IMAGES + key
    if name_feature(name) != key:
        raise DataError(f"{key!r} would be read back as {name_feature(name)!r}: rename it")
    return name


def _has_nominal_times(dataset: Dataset) -> bool:
    """Whether every step's time is frame / fps."""
    if TIMESTAMP not in dataset.keys:
        return True
    for number in range(len(dataset.episode_ends)):
        steps = episode_slice(dataset.episode_ends, number)
        times = dataset.rows(TIMESTAMP, steps.start, steps.stop)
        if not np.array_equal(times, np.arange(len(times)) / dataset.fps):
            return False
    return True


def _describe_numbers(dataset: Dataset, key: str) -> dict[str, Any]:
    """A column of numbers; what our specification says more stands below `info`."""
    names = None
    if key == ACTION:
        spec = ObsKey((dataset.action_spec.width,))
        names = [dim.name for dim in dataset.action_spec.dims]
        mark: dict[str, Any] = {"dims": dataset.action_spec.to_json()}
    elif key in dataset.obs_spec.keys:
        spec = dataset.obs_spec.keys[key]
        mark = spec.to_json()
    else:
        spec = extra_key(key)
        mark = {}
    shape = list(spec.shape) or [1]
    found: dict[str, Any] = {"dtype": spec.dtype, "shape": shape, "names": names}
    if mark:
        found["info"] = {MARK: mark}
    return found


def _describe_picture(spec: ObsKey, dtype: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """A camera; gray pictures are held as three equal channels."""
    return {
        "dtype": dtype,
        "shape": [*spec.shape[:2], 3],
        "names": ["height", "width", "channels"],
        "info": {**details, "is_depth_map": False, MARK: spec.to_json()},
    }


def _describe_video(spec: ObsKey, fps: float) -> dict[str, Any]:
    encoder = choose_encoder()
    options = dict(encoder.options)
    found: dict[str, Any] = {
        "video.height": spec.shape[0],
        "video.width": spec.shape[1],
        "video.codec": encoder.codec,
        "video.pix_fmt": PIXELS,
        "video.fps": int(fps),
        "video.channels": 3,
        "has_audio": False,
        "video.g": int(options["g"]),
        "video.crf": int(options["crf"]),
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": {},
    }
    if "preset" in options:
        found["video.preset"] = int(options["preset"])
    return found
