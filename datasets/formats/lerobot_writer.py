"""Writes any data set as LeRobotDataset v3.0 or v2.1.

Episodes are written one by one beside the target, then put together: a killed writing goes on
behind the last finished one. In version 3 tables and videos of many episodes are joined into files
of at most 100 and 200 MB, as LeRobot does.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...spec import DataError
from ...system.untrusted import read_json
from ..episodes import Dataset, count_steps
from ..store import refuse_full_disk
from ..writing import describe_form, name_unfinished
from .foreign_data import Progress
from .lerobot_info import MARK
from .lerobot_parts import Part, open_part, write_part
from .lerobot_plan import CHUNK, TABLE_MB, VIDEO_MB, Plan, make_plan
from .lerobot_statistics import Statistics, join_statistics, to_plain
from .video_writer import choose_encoder, join_videos

DATA_V3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_V3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_V3 = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_V2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_V2 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
EPISODES_PER_FILE = 10_000
EPISODES_PER_GROUP = 100
MB = 1 << 20


def write_lerobot_v3(dataset: Dataset, target: Path, task: str, progress: Progress) -> None:
    """Write version 3.0; a `foreign_data.Writer`."""
    _write(make_plan(dataset, task, "v3.0"), target, progress)


def write_lerobot_v2(dataset: Dataset, target: Path, task: str, progress: Progress) -> None:
    """Write version 2.1; a `foreign_data.Writer`."""
    _write(make_plan(dataset, task, "v2.1"), target, progress)


def _write(plan: Plan, target: Path, progress: Progress) -> None:
    working = name_unfinished(target)
    with refuse_full_disk(f"{target} cannot be made"):
        _prepare(plan, working)
        tasks: dict[str, int] = {}
        parts = list(_write_parts(plan, working / "episodes", tasks, progress))
        whole = working / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        (whole / "meta").mkdir(parents=True)
        if plan.version == "v3.0":
            _put_together_v3(plan, parts, list(tasks), whole)
        else:
            _put_together_v2(plan, parts, list(tasks), whole)
        whole.rename(target)
        shutil.rmtree(working)


def _prepare(plan: Plan, working: Path) -> None:
    """Keep what a killed writing of the same data left; delete that of another."""
    told = {
        "data": describe_form(plan.dataset),
        "task": plan.task,
        "version": plan.version,
        "codec": choose_encoder().codec,
    }
    place = working / "plan.json"
    try:
        if read_json(place, DataError) == told:
            return
    except DataError:
        pass
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    place.write_text(json.dumps(told))


def _write_parts(
    plan: Plan, folder: Path, tasks: dict[str, int], progress: Progress
) -> Iterator[Part]:
    """Every episode; those that are finished are not written again."""
    count = len(plan.dataset.episode_ends)
    if count == 0:
        raise DataError("the data set has no episodes; there is nothing to write")
    for number in range(count):
        place = folder / f"{number:06d}"
        part = open_part(plan, place, number)
        if part is None:
            part = write_part(plan, place, number, tasks)
        for words in part.tasks:
            tasks.setdefault(words, len(tasks))
        yield part
        progress(number + 1, count)


def _put_together_v3(plan: Plan, parts: Sequence[Part], tasks: Sequence[str], whole: Path) -> None:
    rows: list[dict[str, Any]] = []
    for part in parts:
        rows.append(
            {"episode_index": part.number, "tasks": list(part.tasks), "length": part.length}
        )
    _join_tables(parts, rows, whole)
    for place, name in enumerate(plan.videos.values()):
        _join_cameras(plan, parts, rows, whole, place, name)
    total: dict[str, Statistics] = {}
    for part, row in zip(parts, rows, strict=True):
        for feature, found in part.statistics().items():
            if feature in total:
                total[feature] = join_statistics(total[feature], found)
            else:
                total[feature] = found
            for measure, values in to_plain(found).items():
                row[f"stats/{feature}/{measure}"] = values
    _write_episode_rows(rows, whole)
    _write_task_table(tasks, whole)
    plain = {feature: to_plain(found) for feature, found in total.items()}
    _write_json(whole / "meta" / "stats.json", plain)
    info = _make_info(plan, parts, tasks)
    info |= {"data_files_size_in_mb": TABLE_MB, "video_files_size_in_mb": VIDEO_MB}
    info |= {"data_path": DATA_V3, "video_path": None}
    if plan.videos:
        info["video_path"] = VIDEO_V3
    _write_json(whole / "meta" / "info.json", info)


def _split_by_size(paths: Sequence[Path], most_mb: int) -> list[list[int]]:
    """Consecutive files, grouped so that each group stays below a size."""
    groups: list[list[int]] = []
    size = 0
    for number, path in enumerate(paths):
        own = path.stat().st_size
        if not groups or size + own >= most_mb * MB:
            groups.append([])
            size = 0
        groups[-1].append(number)
        size += own
    return groups


def _place(number: int) -> dict[str, int]:
    """Folder and number in it of the n-th file."""
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


def _join_tables(parts: Sequence[Part], rows: list[dict[str, Any]], whole: Path) -> None:
    """Put the episodes' tables into files, a row group each."""
    import pyarrow.parquet as pq

    first = 0
    for number, group in enumerate(_split_by_size([part.rows for part in parts], TABLE_MB)):
        place = _place(number)
        path = whole / DATA_V3.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = pq.read_schema(parts[group[0]].rows)
        with pq.ParquetWriter(
            path, schema, compression="snappy", write_page_checksum=True
        ) as writer:
            for member in group:
                writer.write_table(pq.read_table(parts[member].rows, schema=schema))
                last = first + parts[member].length
                rows[member] |= {f"data/{key}": value for key, value in place.items()}
                rows[member] |= {"dataset_from_index": first, "dataset_to_index": last}
                first = last


def _join_cameras(
    plan: Plan,
    parts: Sequence[Part],
    rows: list[dict[str, Any]],
    whole: Path,
    camera: int,
    name: str,
) -> None:
    """Put one camera's videos into files."""
    fps = plan.dataset.fps
    videos = [part.video(camera) for part in parts]
    for number, group in enumerate(_split_by_size(videos, VIDEO_MB)):
        place = _place(number)
        path = whole / VIDEO_V3.format(video_key=name, **place)
        path.parent.mkdir(parents=True, exist_ok=True)
        join_videos([(videos[member], parts[member].length) for member in group], path, fps)
        frames = 0
        for member in group:
            start = f"videos/{name}/"
            rows[member] |= {start + key: value for key, value in place.items()}
            rows[member][f"{start}from_timestamp"] = frames / fps
            frames += parts[member].length
            rows[member][f"{start}to_timestamp"] = frames / fps


def _write_episode_rows(rows: Sequence[dict[str, Any]], whole: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for first in range(0, len(rows), EPISODES_PER_FILE):
        place = _place(first // EPISODES_PER_FILE)
        own = rows[first : first + EPISODES_PER_FILE]
        for row in own:
            row |= {f"meta/episodes/{key}": value for key, value in place.items()}
        path = whole / EPISODES_V3.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(own)
        pq.write_table(table, path, row_group_size=EPISODES_PER_GROUP, compression="snappy")


def _write_task_table(tasks: Sequence[str], whole: Path) -> None:
    """Tasks as pandas writes them, with the words as the index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: list[dict[str, Any]] = []
    for name, kind, dtype in (("task_index", "int64", "int64"), ("task", "unicode", "object")):
        columns.append(
            {
                "name": name,
                "field_name": name,
                "pandas_type": kind,
                "numpy_type": dtype,
                "metadata": None,
            }
        )
    told = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    told |= {"creator": {"library": MARK}, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": list(tasks)})
    table = table.replace_schema_metadata({"pandas": json.dumps(told)})
    pq.write_table(table, whole / "meta" / "tasks.parquet")


def _put_together_v2(plan: Plan, parts: Sequence[Part], tasks: Sequence[str], whole: Path) -> None:
    episodes: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []
    for part in parts:
        place = {"episode_chunk": part.number // CHUNK, "episode_index": part.number}
        _link(part.rows, whole / DATA_V2.format(**place))
        for camera, name in enumerate(plan.videos.values()):
            _link(part.video(camera), whole / VIDEO_V2.format(video_key=name, **place))
        own = {"episode_index": part.number}
        episodes.append({**own, "tasks": list(part.tasks), "length": part.length})
        found = part.statistics()
        plain = {feature: to_plain(measures) for feature, measures in found.items()}
        described.append({**own, "stats": plain})
    listed = [{"task_index": number, "task": words} for number, words in enumerate(tasks)]
    for name, rows in (
        ("episodes", episodes),
        ("episodes_stats", described),
        ("tasks", listed),
    ):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (whole / "meta" / f"{name}.jsonl").write_text(text)
    info = _make_info(plan, parts, tasks)
    info["total_videos"] = len(parts) * len(plan.videos)
    info["total_chunks"] = (len(parts) - 1) // CHUNK + 1
    info |= {"data_path": DATA_V2, "video_path": None}
    if plan.videos:
        info["video_path"] = VIDEO_V2
    _write_json(whole / "meta" / "info.json", info)


def _link(source: Path, target: Path) -> None:
    """The same file at another place, without a copy where the disk can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _make_info(plan: Plan, parts: Sequence[Part], tasks: Sequence[str]) -> dict[str, Any]:
    fps: int | float = plan.dataset.fps
    if fps == int(fps):
        fps = int(fps)
    return {
        "codebase_version": plan.version,
        "robot_type": None,
        "total_episodes": len(parts),
        "total_frames": count_steps(plan.dataset),
        "total_tasks": len(tasks),
        "chunks_size": CHUNK,
        "fps": fps,
        "splits": {"train": f"0:{len(parts)}"},
        "features": plan.features(),
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=4))
