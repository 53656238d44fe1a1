"""RLDS data sets (TFRecord shards with features.json, as TensorFlow Datasets writes them).

Every shard is read through once, for checksums and numbers; pictures are decoded when their rows
are asked for, from the record of their episode.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import (
    TEXT_BYTES,
    TEXT_KEY,
    ConfigError,
    DataError,
    IntArray,
    ObsKey,
    ObsSpec,
    text_to_bytes,
)
from ...system.untrusted import read_json
from ..episodes import ACTION, check_choice, count_steps, episode_slice
from ..kinds import decide_key
from .files import AGAIN, check_memory, hash_file
from .foreign_data import ReadOptions
from .pictures import Picture, decode_packed
from .rlds_features import (
    REWARD,
    STEPS,
    Choice,
    StepFeature,
    choose_features,
    make_action_spec,
    read_features,
)
from .tfrecord import Example, RecordFile, parse_example

SHARD = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d+)-of-(?P<count>\d+)")
TRAIN = "train"
INSTRUCTION = "instruction"
KEPT_RECORDS = 2


class RldsData:
    """An RLDS data set; numbers lie in memory, pictures on disk."""

    format = "rlds"

    def __init__(self, folder: Path, options: ReadOptions) -> None:
        """Read every record of the split; DataError where one is damaged."""
        if not options.fps:
            raise ConfigError("RLDS does not say how many steps a second has; give it, as in fps=5")
        self.path, self.fps = folder, options.fps
        self._choice = choose_features(read_features(folder), options)
        self._kinds = options.kinds or {}
        self.action_spec = make_action_spec(self._choice.action)
        split = find_split(folder)
        self._files = [RecordFile(shard) for shard in split.shards]
        self._records: list[tuple[int, int]] = []
        self._numbers: dict[str, list[NDArray[Any]]] = {}
        self._texts: list[list[str]] = []
        self._kept: OrderedDict[int, Example] = OrderedDict()
        self._lock = Lock()
        lengths: list[int] = []
        for number, file in enumerate(self._files):
            for place, raw in file.scan():
                self._records.append((number, place))
                lengths.append(self._add_episode(raw, f"{file.path}: episode {len(lengths)}"))
        self._check_count(split.name)
        self.episode_ends: IntArray = np.cumsum(lengths).astype(np.int64)
        self._arrays = {key: np.concatenate(parts) for key, parts in self._numbers.items()}
        notes = [*self._choice.notes, f"the split {split.name}"]
        if split.others:
            notes.append(f"left out: the splits {', '.join(split.others)}")
        self.notes = tuple(notes)
        self.task = options.task
        self.obs_spec = self._make_obs_spec()
        extras: list[str] = []
        if REWARD in self._arrays:
            extras.append(REWARD)
        self.keys = (*self.obs_spec.keys, ACTION, *extras)

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; pictures are decoded."""
        check_choice(key, self.keys)
        if key in self._arrays:
            return self._arrays[key][start:stop].copy()
        stop = min(stop, count_steps(self))
        shape = tuple(self.obs_spec.keys[key].shape)
        check_memory(f"{self.path}: {key}", (stop - start) * math.prod(shape))
        found = np.empty((max(stop - start, 0), *shape), np.uint8)
        for row in range(len(found)):
            found[row] = self._decode(key, start + row, shape)
        return found

    def content_hash(self) -> str:
        """Hex digest of the shards and of what is taken of them."""
        digest = hashlib.sha256(repr((self._choice, self.fps)).encode())
        for shard in self._files:
            hash_file(shard.path, digest)
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _add_episode(self, raw: bytes, where: str) -> int:
        """Keep the numbers and words of an episode; gives its steps."""
        example = parse_example(raw, where)
        choice = self._choice
        parts: list[NDArray[Any]] = []
        for feature in choice.action:
            values = _take_numbers(example, feature, where)
            parts.append(values.reshape(len(values), -1))
        length = len(parts[0])
        found = {ACTION: parts}
        for key, feature in choice.observation.items():
            if feature.kind == "number":
                found[key] = [_take_numbers(example, feature, where)]
            elif len(_take(example, feature, where)) != length:
                raise DataError(f"{where}: {key} has other than the {length} steps of the action")
        if choice.reward is not None:
            found[REWARD] = [_take_numbers(example, choice.reward, where).reshape(-1)]
        for key, arrays in found.items():
            if {len(array) for array in arrays} != {length} or length == 0:
                raise DataError(f"{where}: {key} has other than the {length} steps of the action")
            if key == ACTION:
                arrays = [np.concatenate(arrays, axis=1)]
            self._numbers.setdefault(key, []).append(arrays[0].astype(np.float32))
        self._texts.append(_take_texts(example, choice, length, where))
        return length

    def _check_count(self, split: str) -> None:
        """Compare the episodes with those that dataset_info.json counts."""
        place = self.path / "dataset_info.json"
        if not self._records:
            raise DataError(f"{self.path} has no episode in the split {split}")
        if not place.is_file():
            return
        info = read_json(place, DataError)
        for found in info.get("splits", []) if isinstance(info, dict) else []:
            if isinstance(found, dict) and found.get("name") == split:
                counts = [str(count) for count in found.get("shardLengths", [])]
                told = sum(int(count) for count in counts if count.isdecimal())
                if told != len(self._records):
                    raise DataError(
                        f"{self.path}: {len(self._records)} episodes are there, "
                        f"{place.name} says {told}; {AGAIN}"
                    )

    def _make_obs_spec(self) -> ObsSpec:
        keys: dict[str, ObsKey] = {}
        for key, feature in self._choice.observation.items():
            if feature.kind == "image":
                keys[key] = ObsKey(self._decode(key, 0, None).shape, "uint8", "image")
            else:
                kind = self._kinds.get(key)
                keys[key] = decide_key(key, feature.shape, np.dtype(np.float32), kind)
        words = {text for texts in self._texts for text in texts}
        if len(words) > 1:
            keys[INSTRUCTION] = TEXT_KEY
            self._arrays[INSTRUCTION] = self._write_texts()
        elif words:
            self.task = self.task or words.pop()
        return ObsSpec(keys)

    def _write_texts(self) -> NDArray[np.uint8]:
        """The words of every step, (N, bytes); too long ones are cut, with a note."""
        rows = np.zeros((count_steps(self), *TEXT_KEY.shape), np.uint8)
        known: dict[str, NDArray[np.uint8]] = {}
        row = 0
        for texts in self._texts:
            for text in texts:
                if text not in known:
                    short = text.encode()[:TEXT_BYTES].decode(errors="ignore")
                    known[text] = text_to_bytes(short)
                    if short != text:
                        self.notes = (*self.notes, f"cut to {TEXT_BYTES} bytes: {text[:200]!r}")
                rows[row] = known[text]
                row += 1
        return rows

    def _decode(self, key: str, step: int, shape: tuple[int, ...] | None) -> Picture:
        """The picture of a step."""
        episode = int(np.searchsorted(self.episode_ends, step, side="right"))
        steps = episode_slice(self.episode_ends, episode)
        where = f"{self.path}: {key} of episode {episode}, step {step - steps.start}"
        pictures = _take(self._read_record(episode), self._choice.observation[key], where)
        picture = decode_packed(bytes(pictures[step - steps.start]), where)
        if shape is not None and picture.shape != shape:
            raise DataError(f"{where} is {picture.shape}, the first one {shape}")
        return picture

    def _read_record(self, episode: int) -> Example:
        with self._lock:
            if episode in self._kept:
                self._kept.move_to_end(episode)
                return self._kept[episode]
        number, place = self._records[episode]
        file = self._files[number]
        example = parse_example(file.read(place), f"{file.path}: episode {episode}")
        with self._lock:
            self._kept[episode] = example
            if len(self._kept) > KEPT_RECORDS:
                self._kept.popitem(last=False)
        return example


def open_rlds(path: Path, options: ReadOptions) -> RldsData:
    """Open an RLDS data set: a folder with features.json, or one with such a folder in it.

    Raises DataError where it is damaged, and ConfigError without fps.
    """
    return RldsData(find_folder(path), options)


def find_folder(path: Path) -> Path:
    """The folder with features.json; DataError where there are several."""
    if (path / "features.json").is_file():
        return path
    found = sorted([*path.glob("*/features.json"), *path.glob("*/*/features.json")])
    if len(found) != 1:
        names = ", ".join(str(place.parent.relative_to(path)) for place in found)
        raise DataError(
            f"{path} holds {len(found)} RLDS data sets: choose one of {names or 'none'}"
        )
    return found[0].parent


@dataclass(frozen=True)
class Split:
    """One split: its shards in order, and the names of the other splits."""

    name: str
    shards: list[Path]
    others: list[str]


def find_split(folder: Path) -> Split:
    """The split that is read: `train` where there is one, else the first.

    Raises DataError where a shard is missing.
    """
    splits: dict[str, dict[int, Path]] = {}
    counts: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        found = SHARD.fullmatch(path.name)
        if found is not None:
            splits.setdefault(found["split"], {})[int(found["number"])] = path
            counts[found["split"]] = int(found["count"])
    if not splits:
        raise DataError(f"{folder} holds no NAME-SPLIT.tfrecord-00000-of-00001 files")
    names = sorted(splits)
    split = names[0]
    if TRAIN in splits:
        split = TRAIN
    shards = splits[split]
    if sorted(shards) != list(range(counts[split])):
        raise DataError(f"{folder}: {len(shards)} of {counts[split]} shards of {split} are there")
    order = [shards[number] for number in sorted(shards)]
    return Split(split, order, [name for name in names if name != split])


def _take(example: Example, feature: StepFeature, where: str) -> Any:
    """The values of all steps; DataError where the record lacks them."""
    name = STEPS + feature.name
    if name not in example:
        raise DataError(f"{where} has no {name}; {AGAIN}")
    return example[name]


def _take_numbers(example: Example, feature: StepFeature, where: str) -> NDArray[Any]:
    """The numbers of all steps, (n, ...)."""
    values = _take(example, feature, where)
    size = math.prod(feature.shape)
    if not isinstance(values, np.ndarray) or len(values) % size:
        raise DataError(f"{where}: {feature.name} is no numbers of shape {feature.shape} a step")
    return values.reshape(-1, *feature.shape)


def _take_texts(example: Example, choice: Choice, length: int, where: str) -> list[str]:
    """The instruction of every step; none where the data set has none."""
    if choice.instruction is None:
        return []
    values = _take(example, choice.instruction, where)
    if not isinstance(values, list) or len(values) != length:
        raise DataError(f"{where}: {choice.instruction.name} is no text a step")
    return [bytes(value).decode(errors="replace") for value in values]
