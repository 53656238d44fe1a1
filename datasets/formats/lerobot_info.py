"""LeRobot's `meta/info.json`: what a data set says of itself, checked before anything else is
opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...spec import DataError, cut, shorten
from ...system.untrusted import read_json
from ..episodes import ACTION, LONGEST_NAME, MOST_KEYS, is_extra

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
"""What is read; v2.0 differs from v2.1 in its statistics only, which are not needed."""
OLDER = (
    "convert it by LeRobot first: its releases up to 0.3.3 hold "
    "lerobot.datasets.v2.convert_dataset_v1_to_v2"
)
MOST_AXES = 5
MOST_NUMBERS = 1 << 28
"""Numbers of one step of one feature."""
MOST_FPS = 1e5
MARK = "hotstart"
"""Key of a feature below which hotstart writes what the format has no word for."""
PICTURES = ("video", "image")
OBSERVATION = "observation."
IMAGES = "observation.images."
INSTRUCTION = "instruction"
TASK_INDEX = "task_index"
TRUE_TIME = "timestamp.recorded"
"""A column that hotstart writes: true times where LeRobot's must be frame / fps."""
RENAMED = {"next.reward": "reward", "next.success": "success"}
STRUCTURE = ("index", "frame_index", "episode_index", "task_index", "timestamp", "next.done")
"""Columns that say where a row stands; they are no keys of a data set."""


@dataclass(frozen=True)
class Feature:
    """One feature: a column of the tables, or a camera's videos."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()
    """Of the numbers of a step; empty where there is not exactly one each."""
    depth: bool = False
    """Whether pictures are distances, packed into 12 bits."""
    mark: Mapping[str, Any] | None = None
    """What hotstart wrote about its key, as in the file: not checked."""

    @property
    def is_picture(self) -> bool:
        """Whether a step is a picture."""
        return self.dtype in PICTURES

    @property
    def is_number(self) -> bool:
        """Whether a step is numbers of one type."""
        try:
            return np.dtype(self.dtype).kind in "fiub"
        except TypeError:
            return False


@dataclass(frozen=True)
class Info:
    """What `meta/info.json` says."""

    root: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    data_path: str
    video_path: str
    episodes: int | None
    """How many there should be; None where it is not said."""
    steps: int | None
    """Of all episodes, likewise."""
    robot: str

    @property
    def where(self) -> str:
        """The file in a message."""
        return f"{self.root / INFO}"

    def place(self, template: str, **numbers: int | str) -> Path:
        """The file that a template of paths names for these numbers."""
        return self.root / fill_path(template, numbers, self.where)


def read_info(root: Path) -> Info:
    """What a data set's folder holds; DataError where it is damaged or of a version not read."""
    content = read_json(root / INFO, DataError)
    where = f"{root / INFO}"
    if not isinstance(content, dict):
        raise DataError(f"{where} is {shorten(content)}; it must be a JSON object")
    version = _check_version(content.get("codebase_version"), where)
    if version == "v3.0":
        data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    else:
        data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    return Info(
        root=root,
        version=version,
        fps=_check_fps(content.get("fps"), where),
        features=_read_features(content.get("features"), where),
        data_path=_text(content.get("data_path"), data),
        video_path=_text(content.get("video_path"), video),
        episodes=_find_count(content, "total_episodes"),
        steps=_find_count(content, "total_frames"),
        robot=cut(_text(content.get("robot_type"), "")),
    )


def read_chunk_size(info: Info) -> int:
    """Episodes per folder in versions before 3."""
    content = read_json(info.root / INFO, DataError)
    size = content.get("chunks_size", 1000)
    if type(size) is not int or size < 1:
        raise DataError(f"{info.where}: chunks_size is {shorten(size)}; it is a number above 0")
    return size


def fill_path(template: str, values: Mapping[str, int | str], where: str) -> str:
    """A relative path: `{name}` and `{name:03d}` filled in.

    Raises DataError for other fields, and for a path that leads out of the folder.
    """
    filled = _FIELD.sub(lambda found: _fill_field(found, values, where), template)
    path = PurePosixPath(filled)
    hostile = path.is_absolute() or ".." in path.parts or "\0" in filled
    if hostile or "{" in filled or "}" in filled or not path.name:
        raise DataError(
            f"{where} names files {shorten(template)}; a path lies inside the folder, with fields "
            f"like {{{next(iter(values))}:03d}}"
        )
    return filled


def name_feature(theirs: str) -> str:
    """Our name for a feature; empty for one of which nobody knows what it is."""
    if theirs in RENAMED:
        return RENAMED[theirs]
    for start in (IMAGES, OBSERVATION):
        if theirs.startswith(start) and len(theirs) > len(start):
            return theirs.removeprefix(start)
    if theirs == ACTION or is_extra(theirs):
        return theirs
    return ""


def _fill_field(found: re.Match[str], values: Mapping[str, int | str], where: str) -> str:
    name, width = found.group(1), found.group(2)
    if name not in values:
        raise DataError(
            f"{where}: a path has the field {shorten(name)}; there are {', '.join(values)}"
        )
    if width is None:
        return str(values[name])
    return f"{int(values[name]):0{int(width)}d}"


_FIELD = re.compile(r"\{([a-z_]+)(?::0?(\d)d)?\}")


def _check_version(version: Any, where: str) -> str:
    if version in VERSIONS:
        return version
    if isinstance(version, str) and version.startswith(("v1.", "1.")):
        raise DataError(f"{where} is of LeRobot's version {shorten(version)}; {OLDER}")
    raise DataError(
        f"{where} is of LeRobot's version {shorten(version)}; read are {', '.join(VERSIONS)}"
    )


def _check_fps(fps: Any, where: str) -> float:
    if isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps <= MOST_FPS:
        return float(fps)
    raise DataError(f"{where}: fps is {shorten(fps)}; it is a positive number of steps per second")


def _find_count(content: Mapping[str, Any], name: str) -> int | None:
    """A number of things; None where it is not said."""
    count = content.get(name)
    if type(count) is int:
        return count
    return None


def _text(value: Any, otherwise: str) -> str:
    if isinstance(value, str) and value:
        return value
    return otherwise


def _read_features(features: Any, where: str) -> dict[str, Feature]:
    if not isinstance(features, dict) or not features:
        raise DataError(f"{where}: features is {shorten(features)}; it must name the columns")
    if len(features) > MOST_KEYS:
        raise DataError(f"{where} has {len(features):,} features; at most {MOST_KEYS} are read")
    found: dict[str, Feature] = {}
    for name, content in features.items():
        if "/" in name or len(name) > LONGEST_NAME:
            raise DataError(f"{where}: a feature is called {shorten(name)}; '/' is not possible")
        if not isinstance(content, dict):
            raise DataError(f"{where}: feature {name!r} is {shorten(content)}; an object is wanted")
        found[name] = _read_feature(name, content, where)
    return found


def _read_feature(name: str, content: Mapping[str, Any], where: str) -> Feature:
    dtype = content.get("dtype")
    if not isinstance(dtype, str):
        raise DataError(f"{where}: feature {name!r} has dtype {shorten(dtype)}; it is a word")
    shape = _check_shape(name, content.get("shape"), where)
    details: dict[str, Any] = {}
    for key in ("video_info", "info"):
        if isinstance(content.get(key), dict):
            details.update(content[key])
    mark = details.get(MARK)
    if not isinstance(mark, dict):
        mark = None
    depth = bool(details.get("is_depth_map") or details.get("video.is_depth_map"))
    names = _read_names(content.get("names"), shape)
    return Feature(name, dtype, shape, names, depth, mark)


def _check_shape(name: str, shape: Any, where: str) -> tuple[int, ...]:
    good = isinstance(shape, list) and len(shape) <= MOST_AXES
    size = 1
    for axis in shape if good else ():
        good = good and type(axis) is int and axis >= 1
        if good:
            size *= axis
    if not good or size > MOST_NUMBERS:
        raise DataError(
            f"{where}: feature {name!r} has shape {shorten(shape)}; it is a list of at most "
            f"{MOST_AXES} numbers, with at most {MOST_NUMBERS:,} in a step"
        )
    return tuple(shape)


def _read_names(names: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """One name for each number of a step: a list, or one below a word ({"motors": [...]}), or a
    dictionary of places.
    """
    if isinstance(names, dict):
        inner = list(names.values())
        if len(inner) == 1 and isinstance(inner[0], list):
            names = inner[0]
        else:
            names = list(names)
    if not isinstance(names, list) or len(shape) != 1 or len(names) != shape[0]:
        return ()
    for name in names:
        if not isinstance(name, str) or not name or len(name) > LONGEST_NAME:
            return ()
    if len(set(names)) != len(names):
        return ()
    return tuple(names)
