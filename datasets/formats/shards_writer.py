"""Writes a data set as shards, the index last; a killed writing goes on where it was.

Shards are made from the data alone, bit by bit the same each time, and their names hold their
checksums. So whoever goes on finds in the folder's listing what is done.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, ObsKey
from ...system.untrusted import JSON_BYTES
from ..episodes import (
    BLOCK_ROWS,
    TIMESTAMP,
    Dataset,
    count_steps,
    extra_key,
    first_not_finite,
    is_image,
    lengths_of,
    list_arrays,
    list_extras,
)
from ..selection import read_origin
from ..statistics import dataset_statistics
from ..store import refuse_full_disk
from ..store_format import IMAGES_PER_CHUNK
from ..writing import describe_form, name_unfinished
from .foreign_data import Progress
from .remote import Place, find_url
from .shards import FORMAT, GROUPS, INDEX, VERSION, Group, Shard, name_shard

UNFINISHED = "unfinished.json"
"""Says of which data the shards are while there is no index."""
SHARD_BYTES = 1 << 26
"""Bytes of a shard before it is packed."""
DATE = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(rf"({'|'.join(GROUPS)})-(\d{{6,9}})-([0-9a-f]{{64}})\.zip")


@dataclass(frozen=True)
class _Source:
    """What is written."""

    dataset: Dataset
    specs: Mapping[str, ObsKey]
    """Every key, with the timestamps that the data set may lack."""


def write_shards(
    dataset: Dataset,
    target: Path,
    task: str,
    progress: Progress,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a data set to a folder or an address in shards of about `shard_bytes` before packing.

    An address may hold the shards of a writing that was stopped. Raises DataError where it holds
    another data set, where numbers are not finite, and where writing fails.
    """
    making = target
    if find_url(target) is None:
        making = name_unfinished(target)
        making.mkdir(parents=True, exist_ok=True)
    place = Place(making)
    source = _Source(dataset, _list_specs(dataset))
    groups = _plan_groups(source, shard_bytes)
    found = _find_finished(place, describe_form(dataset), shard_bytes)
    total = sum(_count_shards(dataset, group) for group in groups)
    count = len(dataset.episode_ends)
    done = 0
    written: list[Group] = []
    for group in groups:
        shards: list[Shard] = []
        for number in range(_count_shards(dataset, group)):
            newest = (group.name, number) == max(found, key=_in_order, default=None)
            shard = found.get((group.name, number))
            if shard is None or newest:
                shard = _write_shard(source, group, number, place, shard)
            shards.append(shard)
            done += 1
            progress(count * done // (total + 1), count)
        written.append(replace(group, shards=tuple(shards)))
    index = json.dumps(_describe(source, task, written)).encode()
    if len(index) > JSON_BYTES:
        raise DataError(f"the index has {len(index):,} bytes; at most {JSON_BYTES:,} are read")
    place.write(INDEX, index)
    place.remove(UNFINISHED)
    if making != target:
        with refuse_full_disk(f"{target} cannot be made"):
            making.rename(target)
    progress(count, count)


def _list_specs(dataset: Dataset) -> dict[str, ObsKey]:
    specs = list_arrays(dataset.action_spec, dataset.obs_spec)
    for name in list_extras((*dataset.keys, TIMESTAMP)):
        specs[name] = extra_key(name)
    return specs


def _plan_groups(source: _Source, shard_bytes: int) -> list[Group]:
    """How the keys lie in shards; a group without keys is left out."""
    groups: list[Group] = []
    for name in GROUPS:
        pictures = name == "pictures"
        keys = tuple(key for key in source.specs if is_image(source.dataset, key) == pictures)
        if not keys:
            continue
        row_bytes = 0
        for key in keys:
            spec = source.specs[key]
            row_bytes += math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        chunk, lead = IMAGES_PER_CHUNK, IMAGES_PER_CHUNK
        if not pictures:
            fitting = shard_bytes // row_bytes
            chunk, lead = min(max(fitting, 1), BLOCK_ROWS), 0
        rows = max(shard_bytes // row_bytes // chunk, 1) * chunk
        groups.append(Group(name, keys, rows, lead, chunk))
    return groups


def _count_shards(dataset: Dataset, group: Group) -> int:
    return math.ceil(count_steps(dataset) / group.rows)


def _in_order(place: tuple[str, int]) -> tuple[int, int]:
    return GROUPS.index(place[0]), place[1]


def _find_finished(place: Place, form: str, shard_bytes: int) -> dict[tuple[str, int], Shard]:
    """The shards of a writing of the same data that was stopped, by group and number.

    Says at the place what is being written. Raises DataError where something else is there.
    """
    told = json.dumps({"data": form, "shard_bytes": shard_bytes}).encode()
    sizes = place.list_sizes()
    if INDEX in sizes:
        raise DataError(f"{place.name} is there already: choose another target, or delete it")
    if UNFINISHED not in sizes:
        place.write(UNFINISHED, told)
    elif place.read(UNFINISHED, JSON_BYTES) != told:
        raise _refuse_other(place)
    found: dict[tuple[str, int], Shard] = {}
    for name, size in sizes.items():
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        where = (match[1], int(match[2]))
        if where in found:
            raise _refuse_other(place)
        found[where] = Shard(name, match[3], size)
    return found


def _refuse_other(place: Place) -> DataError:
    return DataError(
        f"{place.name} holds the unfinished shards of other data: choose another target, or "
        "delete them"
    )


def _write_shard(
    source: _Source, group: Group, number: int, place: Place, found: Shard | None
) -> Shard:
    """Write a shard; where one was `found`, make it again and see that the data are the same."""
    start, stop = group.span(number, count_steps(source.dataset))
    raw = pack_shard(source.specs, group, lambda key: _read_rows(source, key, start, stop))
    sha256 = hashlib.sha256(raw).hexdigest()
    shard = Shard(name_shard(group.name, number, sha256), sha256, len(raw))
    if found is None:
        place.write(shard.name, raw)
    elif found != shard:
        raise _refuse_other(place)
    return shard


def pack_shard(
    specs: Mapping[str, ObsKey], group: Group, read: Callable[[str], NDArray[Any]]
) -> bytes:
    """A shard's file; `read` gives a key's steps, (rows, ...)."""
    codec = numcodecs.Zstd(level=3, checksum=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for key in group.keys:
            dtype = np.dtype(specs[key].dtype).newbyteorder("<")
            values = np.ascontiguousarray(read(key), dtype)
            for number, start in enumerate(range(0, len(values), group.chunk)):
                chunk = values[start : start + group.chunk].tobytes()
                archive.writestr(zipfile.ZipInfo(f"{key}/{number}", DATE), codec.encode(chunk))
    return packed.getvalue()


def _read_rows(source: _Source, key: str, start: int, stop: int) -> NDArray[Any]:
    """The steps of a key as its specification says; DataError where they are otherwise."""
    dataset, spec = source.dataset, source.specs[key]
    if key not in dataset.keys:
        return _make_times(dataset, start, stop)
    rows = dataset.rows(key, start, stop)
    if rows.shape != (stop - start, *spec.shape) or rows.dtype != np.dtype(spec.dtype):
        raise DataError(
            f"{key} is {rows.dtype} {rows.shape} at steps {start} to {stop}, the specification "
            f"says {spec.dtype} {spec.shape} a step"
        )
    bad = first_not_finite(rows)
    if bad:
        raise DataError(f"{key} is {bad[1]} at step {start + bad[0][0]}; only finite numbers are")
    return rows


def _make_times(dataset: Dataset, start: int, stop: int) -> NDArray[np.float64]:
    """frame / fps of some steps, from their episodes' beginnings [s]."""
    ends = np.asarray(dataset.episode_ends)
    steps = np.arange(start, stop)
    begins = (ends - lengths_of(ends))[np.searchsorted(ends, steps, "right")]
    return (steps - begins) / dataset.fps


def _describe(source: _Source, task: str, groups: list[Group]) -> dict[str, Any]:
    """The index."""
    dataset = source.dataset
    origin = read_origin(dataset)
    plain: dict[str, Any] = {}
    for group in groups:
        plain[group.name] = {
            "rows": group.rows,
            "lead": group.lead,
            "chunk": group.chunk,
            "shards": [[shard.sha256, shard.bytes] for shard in group.shards],
        }
    counted: dict[str, Any] = {}
    for key, values in dataset_statistics(dataset).items():
        counted[key] = {word: array.tolist() for word, array in values.items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "fps": dataset.fps,
        "task": task,
        "source": origin.source,
        "options": origin.options,
        "action_spec": dataset.action_spec.to_json(),
        "obs_spec": dataset.obs_spec.to_json(),
        "extras": list_extras(source.specs),
        "episode_lengths": lengths_of(dataset.episode_ends).tolist(),
        "groups": plain,
        "statistics": counted,
    }
