"""Where the episodes of a LeRobot data set lie: rows of the tables, and stretches of the videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...spec import DataError, IntArray, cut, shorten
from ...system.untrusted import parse_json, read_text
from .files import AGAIN
from .lerobot_info import Info, read_chunk_size
from .parquet_tables import TableFile, Tables, read_footer, read_table

LINES_BYTES = 1 << 28
EPISODE_TABLES = "meta/episodes"
UNFINISHED = (
    "the recording program never finished it (LeRobot writes it at finalize()); record again, or "
    "give the rows of data/ to hotstart.Arrays"
)


@dataclass(frozen=True)
class Span:
    """The stretch of a video that belongs to an episode."""

    path: Path
    start: float = 0.0
    """[s] of the file."""
    stop: float | None = None
    """[s] of the file; None: to its end."""


@dataclass(frozen=True)
class Episodes:
    """What the files below `meta` say about the episodes, and the tables that hold their rows."""

    tables: Tables
    ends: IntArray
    """First row after each episode, (E,)."""
    spans: Mapping[str, Sequence[Span]]
    """By feature, for each episode."""
    tasks: Sequence[str]
    """By `task_index`."""
    used_tasks: Sequence[str]
    """Those that an episode says it has; all where none says anything."""
    notes: Sequence[str]
    numbers: Sequence[int]
    """The `episode_index` of each."""
    wrong_lengths: Sequence[int]
    """Episodes of which the list below `meta` says another length than their rows have."""


def read_episodes(info: Info, cameras: Sequence[str]) -> Episodes:
    """Find every episode; `cameras` are the features that are videos.

    Raises DataError where something is missing or damaged.
    """
    if info.version == "v3.0":
        return _read_joined(info, cameras)
    return _read_single(info, cameras)


def _read_joined(info: Info, cameras: Sequence[str]) -> Episodes:
    """Version 3: many episodes in a file; the rows themselves say where an episode ends."""
    rows = _read_episode_rows(info)
    places: dict[tuple[int, int], TableFile] = {}
    for row in rows:
        place = (_whole(row, "data/chunk_index", info), _whole(row, "data/file_index", info))
        if place not in places:
            path = info.place(info.data_path, chunk_index=place[0], file_index=place[1])
            places[place] = read_footer(path)
    tables = Tables([places[place] for place in sorted(places)])
    numbers, ends = _find_runs(info, tables)
    if numbers != [_whole(row, "episode_index", info) for row in rows]:
        raise DataError(
            f"{info.root}: {EPISODE_TABLES} lists {len(rows):,} episodes, the rows in data/ are "
            f"of {len(numbers):,}, or in another order; {AGAIN}"
        )
    notes: list[str] = []
    wrong = _find_wrong_lengths(rows, ends)
    if wrong:
        notes.append(
            f"{EPISODE_TABLES} gives other lengths than the rows for episodes {_list(wrong)}; the "
            "rows count"
        )
    spans: dict[str, list[Span]] = {}
    for name in cameras:
        spans[name] = [_make_span(info, name, row) for row in rows]
    tasks = _read_task_table(info)
    used = _list_used(rows, tasks)
    return Episodes(tables, ends, spans, tasks, used, notes, numbers, wrong)


def _read_episode_rows(info: Info) -> list[dict[str, Any]]:
    """The rows of the episodes' tables, by episode."""
    paths = find_episode_tables(info)
    if not paths:
        raise DataError(f"{info.root / EPISODE_TABLES} holds no table: {UNFINISHED}")
    rows: list[dict[str, Any]] = []
    for path in paths:
        table = read_table(path, lambda name: not name.startswith("stats/"))
        names = list(table)
        for values in zip(*table.values(), strict=True):
            rows.append(dict(zip(names, values, strict=True)))
    rows.sort(key=lambda row: _whole(row, "episode_index", info))
    return rows


def find_episode_tables(info: Info) -> list[Path]:
    """Version 3: the tables that list the episodes, in order."""
    return sorted((info.root / EPISODE_TABLES).glob("chunk-*/file-*.parquet"))


def _find_runs(info: Info, tables: Tables) -> tuple[list[int], IntArray]:
    """Which episodes follow each other in the rows, and where each ends."""
    numbers: list[int] = []
    begins: list[int] = []
    start = 0
    for file in tables.files:
        for length in file.groups:
            column = tables.numbers("episode_index", (), start, start + length)
            for first in np.flatnonzero(np.diff(column, prepend=-1)).tolist():
                if not numbers or numbers[-1] != int(column[first]):
                    numbers.append(int(column[first]))
                    begins.append(start + first)
            start += length
    if len(set(numbers)) != len(numbers):
        raise DataError(f"{info.root}: the rows of an episode do not stand together; {AGAIN}")
    return numbers, np.array([*begins, start][1:], np.int64)


def _find_wrong_lengths(rows: Sequence[Mapping[str, Any]], ends: IntArray) -> list[int]:
    wrong: list[int] = []
    lengths = np.diff(ends, prepend=0).tolist()
    for number, (row, length, end) in enumerate(zip(rows, lengths, ends.tolist(), strict=True)):
        said = {"length": length, "dataset_to_index": end}
        if any(row.get(name) not in (None, value) for name, value in said.items()):
            wrong.append(number)
    return wrong


def _make_span(info: Info, name: str, row: Mapping[str, Any]) -> Span:
    start = f"videos/{name}/"
    path = info.place(
        info.video_path,
        video_key=name,
        chunk_index=_whole(row, f"{start}chunk_index", info),
        file_index=_whole(row, f"{start}file_index", info),
    )
    begin, end = row.get(f"{start}from_timestamp"), row.get(f"{start}to_timestamp")
    if not isinstance(begin, float | int) or not np.isfinite(begin):
        raise DataError(
            f"{info.root / EPISODE_TABLES}: {start}from_timestamp is {shorten(begin)} in episode "
            f"{row.get('episode_index')}; it is a number of seconds"
        )
    if not isinstance(end, float | int) or not end > begin:
        end = None
    return Span(path, float(begin), end)


def _read_task_table(info: Info) -> list[str]:
    """Version 3: the column of text in `meta/tasks.parquet`, in the order of its indices."""
    path = info.root / "meta" / "tasks.parquet"
    if not path.exists():
        return []
    table = read_table(path)
    numbers = table.pop("task_index", [])
    for words in table.values():
        if all(isinstance(word, str) for word in words) and len(words) == len(numbers):
            return _order_tasks(dict(zip(numbers, words, strict=True)), f"{path}")
    raise DataError(f"{path} has no column of tasks beside task_index; {AGAIN}")


def _read_single(info: Info, cameras: Sequence[str]) -> Episodes:
    """Versions before 3: a file for each episode."""
    rows = read_lines(info, "episodes")
    rows.sort(key=lambda row: _whole(row, "episode_index", info))
    numbers = [_whole(row, "episode_index", info) for row in rows]
    if not numbers:
        raise DataError(f"{info.root / 'meta/episodes.jsonl'} lists no episodes: {UNFINISHED}")
    if len(set(numbers)) != len(numbers):
        raise DataError(f"{info.root / 'meta/episodes.jsonl'} lists an episode twice; {AGAIN}")
    chunk = read_chunk_size(info)
    files: list[TableFile] = []
    for number in numbers:
        files.append(read_footer(_place_single(info, info.data_path, number, chunk)))
    ends = np.cumsum([file.rows for file in files], dtype=np.int64)
    notes: list[str] = []
    wrong = _find_wrong_lengths(rows, ends)
    if wrong:
        notes.append(
            f"meta/episodes.jsonl gives other lengths than the rows for episodes {_list(wrong)}; "
            "the rows count"
        )
    if info.version == "v2.0":
        notes.append("v2.0 is read as v2.1; it has no statistics of single episodes")
    spans: dict[str, list[Span]] = {}
    for name in cameras:
        paths = [_place_single(info, info.video_path, number, chunk, name) for number in numbers]
        spans[name] = [Span(path) for path in paths]
    tasks = _read_task_lines(info)
    used = _list_used(rows, tasks)
    return Episodes(Tables(files), ends, spans, tasks, used, notes, numbers, wrong)


def _place_single(info: Info, template: str, number: int, chunk: int, camera: str = "") -> Path:
    return info.place(
        template, episode_chunk=number // chunk, episode_index=number, video_key=camera
    )


def _read_task_lines(info: Info) -> list[str]:
    found: dict[int, str] = {}
    for row in read_lines(info, "tasks"):
        if not isinstance(row.get("task"), str):
            raise DataError(f"{info.root / 'meta/tasks.jsonl'}: a task is {shorten(row)}; {AGAIN}")
        found[_whole(row, "task_index", info)] = row["task"]
    return _order_tasks(found, f"{info.root / 'meta/tasks.jsonl'}")


def read_lines(info: Info, name: str) -> list[dict[str, Any]]:
    """The JSON objects in the lines of a file below `meta`."""
    path = info.root / "meta" / f"{name}.jsonl"
    if not path.exists():
        raise DataError(f"{path} is missing: {UNFINISHED}")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path, DataError, LINES_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}, line {number}", DataError)
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is {shorten(row)}; an object is wanted")
        rows.append(row)
    return rows


def _order_tasks(found: Mapping[int, str], where: str) -> list[str]:
    """Tasks by index; indices without one are empty."""
    for number in found:
        if type(number) is not int or not 0 <= number < len(found) + 1000:
            raise DataError(f"{where}: a task has the index {shorten(number)}; {AGAIN}")
    tasks = [""] * (max(found, default=-1) + 1)
    for number, task in found.items():
        tasks[number] = task
    return tasks


def _list_used(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[str]:
    """The tasks that the episodes name, in order of appearance."""
    used: dict[str, None] = {}
    for row in rows:
        named = row.get("tasks")
        if isinstance(named, str):
            named = [named]
        if not isinstance(named, list) or not all(isinstance(task, str) for task in named):
            return list(tasks)
        used.update(dict.fromkeys(named))
    return list(used) or list(tasks)


def _whole(row: Mapping[str, Any], key: str, info: Info) -> int:
    """A number of a row of the episodes' or tasks' tables."""
    value = row.get(key)
    if type(value) is not int or value < 0:
        raise DataError(f"{info.root / 'meta'}: {cut(key)} is {shorten(value)} in a row; {AGAIN}")
    return value


def _list(numbers: Sequence[int], most: int = 8) -> str:
    """Numbers for a message, the first few of them."""
    text = ", ".join(map(str, numbers[:most]))
    if len(numbers) > most:
        return f"{text} and {len(numbers) - most} more"
    return text
