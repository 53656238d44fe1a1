"""What a LeRobot data set says about itself, for `hotstart data verify`.

That are its videos, the lists below `meta`, and the statistics that it stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...spec import DataError, IntArray
from ...system.untrusted import read_json
from ..checks.finding import Finding, Severity, compare_count, list_episodes
from ..statistics import Statistics
from .lerobot_episodes import Episodes, find_episode_tables, read_lines
from .lerobot_info import INFO, Feature, Info
from .parquet_tables import read_table

MEASURES = ("min", "max", "mean", "std")
FAR_STEPS = 2.0
"""A video whose nearest frame is further away than that from a row does not show that row."""
STATS_BYTES = 1 << 26


@dataclass(frozen=True)
class Match:
    """Which frames of a video belong to the rows of an episode."""

    frames: IntArray
    """By row, (n,)."""
    count: int
    """Frames of the episode's stretch of the video."""
    distance: float
    """The largest between a row and its frame [s], where they are not as many."""
    lost: int = 0
    """Frames that lie beyond the end of the file."""


@dataclass(frozen=True)
class Misfit:
    """An episode whose video has another number of frames than it has rows, or cannot be read."""

    key: str
    number: int
    said: str
    far: bool
    """Whether some row is not shown at all."""


def explain_misfit(key: str, number: int, length: int, match: Match, fps: float) -> Misfit | None:
    """What is wrong with an episode's video; None where it fits."""
    if match.lost:
        said = f"{key} of episode {number}: the file ends before {match.lost} of its frames"
        return Misfit(key, number, said, True)
    if match.count == length:
        return None
    said = (
        f"{key} of episode {number} has {match.count} frames for {length} "
        f"rows: each row takes the nearest, at most {match.distance:.3f} s away"
    )
    return Misfit(key, number, said, match.distance > FAR_STEPS / fps)


def check_files(info: Info, episodes: Episodes, misfits: Sequence[Misfit]) -> Iterator[Finding]:
    """Videos that do not fit their tables, counts that are others, and files nobody names."""
    yield from _report_misfits([misfit for misfit in misfits if misfit.far], "frame-count", "error")
    near = [misfit for misfit in misfits if not misfit.far]
    yield from _report_misfits(near, "frames-near", "warning")
    if episodes.wrong_lengths:
        message = (
            "the list of episodes below meta/ gives other lengths or rows than data/ has, for "
            f"episodes {list_episodes(episodes.wrong_lengths)}: the rows of data/ count here, "
            "LeRobot goes by its list"
        )
        yield Finding("index-differs", "warning", message, "", episodes.wrong_lengths)
    yield from compare_count(INFO, "total_episodes", info.episodes, len(episodes.ends))
    yield from compare_count(INFO, "total_frames", info.steps, int(episodes.ends[-1]))
    yield from _find_unlisted(info, episodes)


def _report_misfits(misfits: Sequence[Misfit], code: str, severity: Severity) -> Iterator[Finding]:
    """One finding a camera."""
    for key in dict.fromkeys(misfit.key for misfit in misfits):
        own = [misfit for misfit in misfits if misfit.key == key]
        numbers = [misfit.number for misfit in own]
        message = own[0].said
        repair = ""
        if severity == "error":
            repair = "leave the episodes out (what=unreadable)"
        if len(own) > 1:
            message += f"; the like is so in episodes {list_episodes(numbers[1:])}"
        yield Finding(code, severity, message, key, numbers, repair=repair)


def _find_unlisted(info: Info, episodes: Episodes) -> Iterator[Finding]:
    """Tables and videos that no episode names: their steps are not read."""
    named = {file.path for file in episodes.tables.files}
    wanted = ["data/**/*.parquet"]
    if episodes.spans:
        wanted.append("videos/**/*.mp4")
    for spans in episodes.spans.values():
        named.update(span.path for span in spans)
    cameras = set(episodes.spans)
    lost: list[Path] = []
    for pattern in wanted:
        for path in sorted(info.root.glob(pattern)):
            of_camera = path.suffix != ".mp4" or cameras & set(path.parts)
            if path not in named and of_camera:
                lost.append(path.relative_to(info.root))
    if lost:
        message = f"no episode names {lost[0]}"
        if len(lost) > 1:
            message += f" and {len(lost) - 1} more files"
        message += ": what is in it is not read"
        yield Finding("unlisted-file", "warning", message, numbers={"files": len(lost)})


class StoredNumbers:
    """The statistics below `meta` of states and actions, read when first asked for."""

    def __init__(self, info: Info, episodes: Episodes, features: Mapping[str, Feature]) -> None:
        """`features` are those of numbers, by our names."""
        self._info = info
        self._episodes = episodes
        self._features = features

    @cached_property
    def whole(self) -> dict[str, Statistics]:
        """Those of all episodes by our names; none where the version stores none.

        Raises DataError where they cannot be read.
        """
        path = self._info.root / "meta" / "stats.json"
        if not path.is_file():
            return {}
        return self._pick(read_json(path, DataError, STATS_BYTES), f"{path}")

    def of_episode(self, number: int) -> dict[str, Statistics]:
        """Those of one episode by our names; DataError where they cannot be read."""
        return self._by_episode.get(self._episodes.numbers[number], {})

    @cached_property
    def _by_episode(self) -> dict[int, dict[str, Statistics]]:
        """By `episode_index`."""
        if self._info.version == "v3.0":
            return self._read_tables()
        found: dict[int, dict[str, Statistics]] = {}
        if (self._info.root / "meta" / "episodes_stats.jsonl").is_file():
            for row in read_lines(self._info, "episodes_stats"):
                number = row.get("episode_index")
                if type(number) is int:
                    where = f"meta/episodes_stats.jsonl, episode {number}"
                    found[number] = self._pick(row.get("stats"), where)
        return found

    def _read_tables(self) -> dict[int, dict[str, Statistics]]:
        """Version 3: columns of the episodes' tables, `stats/FEATURE/MEASURE`."""
        columns: dict[str, tuple[str, str]] = {}
        for feature in self._features.values():
            for measure in MEASURES:
                columns[f"stats/{feature.name}/{measure}"] = (feature.name, measure)
        found: dict[int, dict[str, Statistics]] = {}
        for path in find_episode_tables(self._info):
            table = read_table(path, lambda name: name in columns or name == "episode_index")
            for place, number in enumerate(table["episode_index"]):
                plain: dict[str, dict[str, Any]] = {}
                for column, (feature, measure) in columns.items():
                    if column in table:
                        plain.setdefault(feature, {})[measure] = table[column][place]
                found[number] = self._pick(plain, f"{path}, episode {number}")
        return found

    def _pick(self, plain: Any, where: str) -> dict[str, Statistics]:
        """The measures of our keys; DataError where they are no numbers."""
        if not isinstance(plain, dict):
            raise DataError(f"{where} holds no statistics by feature")
        found: dict[str, Statistics] = {}
        for key, feature in self._features.items():
            held = plain.get(feature.name)
            if isinstance(held, dict):
                found[key] = _read_measures(held, f"{where}: {feature.name}")
        return found


def _read_measures(held: Mapping[str, Any], where: str) -> Statistics:
    measures: Statistics = {}
    for name in MEASURES:
        if held.get(name) is None:
            continue
        try:
            measures[name] = np.asarray(held[name], np.float64)
        except (TypeError, ValueError, OverflowError) as problem:
            raise DataError(f"{where}: {name} is no list of numbers") from problem
    return measures
