"""hotstart's sharded data sets: files of tens of MB in a folder or on object storage.

`index.json` holds specifications, the lengths of the episodes, statistics, and for each shard its
length and sha256. It is written last, so a folder with an index is whole.

Pictures and all else lie in two groups of shards, so that the numbers of a large data set are read
without its pictures. Shard k of a group holds the steps k * rows to (k + 1) * rows - 1 and the
`lead` steps before them: so what a policy observes lies in one shard. It is a zip, GROUP-k-SHA256,
whose files KEY/n are the n-th `chunk` steps of a key: numbers in C order, little-endian, packed by
Zstandard.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import ActionSpec, DataError, HotstartError, IntArray, ObsKey, ObsSpec, shorten
from ...system.untrusted import JSON_BYTES, parse_json
from ..arrays import check_fps
from ..episodes import (
    check_choice,
    count_steps,
    extra_key,
    is_extra,
    is_image,
    list_arrays,
    list_extras,
)
from .codecs import COMPRESSORS
from .files import ZipFiles, check_inflation, check_memory
from .foreign_data import ReadOptions
from .remote import Place
from .shard_cache import Shard, ShardCache, find_cache_folder

INDEX = "index.json"
FORMAT = "hotstart-shards"
VERSION = 1
GROUPS = ("numbers", "pictures")
MOST_SHARD = 1 << 30
"""Bytes of a shard; it is fetched as a whole."""
MOST_STEPS = 1 << 40
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Group:
    """Keys that share their shards."""

    name: str
    keys: tuple[str, ...]
    rows: int
    """Steps of a shard, without its lead."""
    lead: int
    chunk: int
    """Steps that are packed together."""
    shards: tuple[Shard, ...] = ()

    def span(self, number: int, steps: int) -> tuple[int, int]:
        """The first step that a shard holds, and the one after its last; `steps` are all."""
        return max(number * self.rows - self.lead, 0), min((number + 1) * self.rows, steps)


def name_shard(group: str, number: int, sha256: str) -> str:
    """A shard's file; the checksum makes it one of its content."""
    return f"{group}-{number:06d}-{sha256}.zip"


class ShardData:
    """A sharded data set; shards are fetched, and chunks unpacked, when asked for."""

    format = "shards"

    def __init__(self, path: Path, index: Any, cache: ShardCache) -> None:
        """Use `open_shards`; `index` is what its file holds, not checked yet."""
        self.path, self.cache = path, cache
        self.notes: tuple[str, ...] = ()
        self.fps = check_fps(index["fps"])
        self.task = str(index["task"])
        self.attrs = {"source": str(index["source"]), "options": index["options"]}
        self.action_spec = ActionSpec.from_json(index["action_spec"])
        self.obs_spec = ObsSpec.from_json(index["obs_spec"])
        self.statistics: dict[str, Any] = index["statistics"]
        """Of `action` and every state over all steps, as lists: see datasets/statistics.py."""
        self.episode_ends = _read_ends(index["episode_lengths"])
        extras = list(index["extras"])
        if not all(isinstance(name, str) and is_extra(name) for name in extras):
            raise DataError(f"the extras are {shorten(extras)}")
        self._specs: dict[str, ObsKey] = list_arrays(self.action_spec, self.obs_spec)
        for name in list_extras(extras):
            self._specs[name] = extra_key(name)
        self.keys = tuple(self._specs)
        self._groups: dict[str, Group] = {}
        for name in GROUPS:
            keys = tuple(key for key in self.keys if is_image(self, key) == (name == "pictures"))
            if keys:
                group = self._read_group(name, keys, index["groups"][name])
                self._groups.update(dict.fromkeys(keys, group))
        self._last = -1
        text = json.dumps(index, sort_keys=True)
        self._hash = hashlib.sha256(text.encode()).hexdigest()

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError where a shard is damaged or out of reach."""
        check_choice(key, self.keys)
        start, stop = max(start, 0), min(stop, count_steps(self))
        check_memory(f"{self.path}: {key}", (stop - start) * self._row_bytes(key))
        spec, chunk = self._specs[key], self._groups[key].chunk
        parts = [np.empty((0, *spec.shape), spec.dtype)]
        for number in range(start // chunk, math.ceil(stop / chunk)):
            first = number * chunk
            parts.append(self._chunk(key, number)[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    def content_hash(self) -> str:
        """Hex digest of the index, which holds the checksums of all shards."""
        return self._hash

    def close(self) -> None:
        """Close the shards."""
        self.cache.close()

    @property
    def pictures(self) -> Group | None:
        """The shards that hold pictures; None where there are none."""
        for group in self._groups.values():
            if group.name == "pictures":
                return group
        return None

    @property
    def fits_cache(self) -> bool:
        """Whether all shards with pictures lie here, or may be kept here."""
        if self.cache.place.folder is not None or self.pictures is None:
            return True
        return sum(shard.bytes for shard in self.pictures.shards) <= self.cache.most_bytes

    def _row_bytes(self, key: str) -> int:
        spec = self._specs[key]
        return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize

    def _chunk(self, key: str, number: int) -> NDArray[Any]:
        """The steps of one chunk, counted over all steps, (rows, ...)."""
        group, spec = self._groups[key], self._specs[key]
        place = self._choose_shard(group, number)
        files = self._open_shard(group, place)
        first, stop = group.span(place, count_steps(self))
        start = number * group.chunk
        rows = min(group.chunk, stop - start)
        name = f"{key}/{(start - first) // group.chunk}"
        size = rows * self._row_bytes(key)
        packed = files.read(name, size + size // 8 + 1024)
        try:
            plain = COMPRESSORS["zstd"](packed, size)
            values = np.frombuffer(plain, np.dtype(spec.dtype).newbyteorder("<"))
            return values.reshape(rows, *spec.shape)
        except Exception as error:  # numcodecs hands on whatever its C code raises
            raise DataError(f"{files.path}: {name} is damaged ({shorten(str(error))})") from error

    def _choose_shard(self, group: Group, number: int) -> int:
        """The shard to read a chunk from: of two that hold it, one that is open."""
        step = number * group.chunk
        place = step // group.rows
        after = place + 1
        if after < len(group.shards) and step >= group.span(after, step)[0]:
            have, ahead = group.shards[place], group.shards[after]
            if self.cache.has(ahead) and not self.cache.has(have):
                return after
        return place

    def _open_shard(self, group: Group, place: int) -> ZipFiles:
        """A shard; where shards are read one after the other, the next one is fetched ahead."""
        if place == self._last + 1 and place + 1 < len(group.shards):
            self.cache.fetch_ahead(group.shards[place + 1])
        self._last = place
        return self.cache.open(group.shards[place])

    def _read_group(self, name: str, keys: tuple[str, ...], plain: Any) -> Group:
        """A group as the index describes it; DataError where its numbers cannot be."""
        listed = plain["shards"]
        rows = plain["rows"]
        lead = plain["lead"]
        chunk = plain["chunk"]
        steps = count_steps(self)
        whole = all(type(number) is int for number in (rows, lead, chunk))
        if not whole or not 0 <= lead <= rows or chunk < 1 or rows % chunk or lead % chunk:
            raise DataError(f"{name} has shards of {rows} steps in chunks of {chunk}, lead {lead}")
        if rows < 1 or len(listed) != math.ceil(steps / rows):
            raise DataError(f"{name} has {len(listed)} shards of {rows} steps for {steps} steps")
        shards: list[Shard] = []
        for number, (sha256, size) in enumerate(listed):
            if type(size) is not int or not 0 < size <= MOST_SHARD or not _SHA256.fullmatch(sha256):
                raise DataError(f"{name} has a shard {shorten([sha256, size])}")
            shards.append(Shard(name_shard(name, number, sha256), sha256, size))
        row_bytes = sum(self._row_bytes(key) for key in keys)
        check_inflation(name, steps * row_bytes, sum(shard.bytes for shard in shards))
        check_memory(f"a chunk of {name}", chunk * row_bytes)
        return Group(name, keys, rows, lead, chunk, tuple(shards))


def open_shards(path: Path, options: ReadOptions) -> ShardData:
    """Open a sharded data set in a folder or at an address.

    Raises DataError where there is none, where it is damaged or of a newer hotstart, and where the
    network or rights fail; ConfigError where the library for the address is not installed.
    """
    place = Place(path)
    where = f"{place.name}/{INDEX}"
    index = parse_json(place.read(INDEX, JSON_BYTES), where, DataError)
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise DataError(f"{where} is no index of a sharded data set")
    if index.get("version") != VERSION:
        raise DataError(
            f"{where} has version {shorten(index.get('version'))}, this hotstart reads {VERSION}: "
            "update hotstart"
        )
    folder = options.cache or find_cache_folder()
    cache = ShardCache(place, folder, int(options.cache_gb * 1e9))
    try:
        data = ShardData(path, index, cache)
    except HotstartError as error:
        raise DataError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{where} is wrong ({shorten(str(error))}): write it again") from error
    if options.task:
        data.task = options.task
    return data


def _read_ends(lengths: Any) -> IntArray:
    """First step after each episode, (E,), from their lengths."""
    if not all(type(length) is int and 0 < length < MOST_STEPS for length in lengths):
        raise DataError("an episode's length is no whole number above 0")
    ends = np.cumsum(np.asarray(lengths, np.int64))
    if len(ends) and not 0 < sum(lengths) < MOST_STEPS:
        raise DataError(f"there are {sum(lengths):,} steps; at most {MOST_STEPS:,} are read")
    return ends.astype(np.int64)
