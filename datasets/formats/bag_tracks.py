"""What the sources of a mapping say in one recording: rising times, with numbers or places."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, IntArray
from ..resampling import FloatArray, order_times
from .bag_mapping import Mapping, Marker, Source, check_topics, list_sources
from .bag_storage import BagFile, Message, open_file
from .message_types import (
    IMAGE_TYPES,
    Decoder,
    find_decoder,
    read_stamp_ns,
    short_type,
    take_field,
    take_joints,
    take_numbers,
)

NS = 1_000_000_000
LATEST_NS = 1 << 62


@dataclass(frozen=True)
class Track:
    """One source in one recording, in the order of its times.

    `times` (n,) are seconds since the recording's beginning. `values` are numbers (n, D); for
    pictures places (n, 3): the file's number, and what `BagFile.read` wants; for text a list.
    """

    source: Source | Marker
    times: FloatArray
    values: Any
    repeated: int
    """Messages at the time of another, which are left out."""


class Collector:
    """Gathers the values of one source, message by message."""

    def __init__(self, source: Source | Marker) -> None:
        self.source = source
        self._times = array("q")
        self._values = array("d")
        self._places = array("q")
        self._texts: list[Any] = []
        self._width = 0

    @property
    def is_image(self) -> bool:
        """Whether places are kept in place of values."""
        return isinstance(self.source, Source) and self.source.kind == "image"

    def add(self, message: dict[str, Any], log_ns: int, place: tuple[int, int, int]) -> None:
        """Take what the source wants of a message; DataError where it is not there."""
        values: NDArray[np.float64] | None = None
        source = self.source
        if isinstance(source, Marker) or source.kind == "text":
            self._texts.append(_take_mark(message, source.field))
        elif self.is_image:
            self._places.extend(place)
        elif source.joints:
            values = take_joints(message, source.field, source.joints)
        else:
            values = take_numbers(message, source.field)
        if values is not None:
            self._check_width(len(values))
            self._values.frombytes(values.tobytes())
        stamp = self._find_time(message, log_ns)
        if not 0 <= stamp < LATEST_NS:
            raise DataError(f"a message is of the impossible time {stamp:,} ns")
        self._times.append(stamp)

    def finish(self, start_ns: int) -> Track:
        """The track, its times counted from the recording's beginning."""
        stamps = np.array(self._times, np.int64)
        order = order_times(stamps)
        times = (stamps[order] - start_ns) / NS
        if isinstance(self.source, Source):
            times = times + self.source.offset_s
        values: Any
        if self._texts:
            values = [self._texts[place] for place in order]
        elif self.is_image:
            values = np.array(self._places, np.int64).reshape(-1, 3)[order]
        else:
            values = np.array(self._values).reshape(len(stamps), -1)[order]
        return Track(self.source, times, values, len(stamps) - len(order))

    def _find_time(self, message: dict[str, Any], log_ns: int) -> int:
        if isinstance(self.source, Marker) or self.source.time == "log":
            return log_ns
        stamp = read_stamp_ns(message)
        if stamp is None:
            if self.source.time == "header":
                raise DataError("its header has no time; use time: log")
            return log_ns
        return stamp

    def _check_width(self, width: int) -> None:
        self._width = self._width or width
        if width != self._width or width == 0:
            raise DataError(
                f"{self.source.field} has {width} numbers, and {self._width} in the first message"
            )


class Recording:
    """One recording, scanned once: its tracks, and its files for reading pictures."""

    def __init__(self, path: Path, files: Sequence[Path], mapping: Mapping) -> None:
        """Read through every message of the mapping's topics.

        Raises DataError where a file is damaged, a topic is missing or a message does not fit.
        """
        self.path = path
        self.files: list[BagFile] = [open_file(file) for file in files]
        self._collectors: dict[str, list[Collector]] = {}
        self._decoders: dict[str, Decoder] = {}
        wanted: list[Source | Marker] = [*list_sources(mapping)]
        if mapping.marker is not None:
            wanted.append(mapping.marker)
        collectors = [Collector(source) for source in wanted]
        for collector in collectors:
            self._collectors.setdefault(collector.source.topic, []).append(collector)
        self._start_ns: int | None = None
        names: set[str] = set()
        for number, file in enumerate(self.files):
            for message in file.scan():
                self._take(number, file, message)
            names |= {topic.name for topic in file.topics}
        check_topics(mapping, sorted(names), str(path))
        start_ns = self._start_ns or 0
        self.tracks: dict[Source | Marker, Track] = {}
        for collector in collectors:
            track = collector.finish(start_ns)
            if not len(track.times):
                raise DataError(f"{path}: {collector.source.topic} has no message")
            self.tracks[collector.source] = track
        self.notes = [note for file in self.files for note in file.notes]

    def read_message(self, topic: str, place: IntArray) -> dict[str, Any]:
        """A message again, by its place (3,)."""
        file = self.files[int(place[0])]
        return self._decoders[topic].decode(file.read((int(place[1]), int(place[2]))))

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()

    def _take(self, number: int, file: BagFile, message: Message) -> None:
        """Hand a message to the collectors of its topic."""
        if self._start_ns is None:
            self._start_ns = message.log_ns
        topic = file.topics[message.topic]
        collectors = self._collectors.get(topic.name)
        if not collectors:
            return
        if topic.name not in self._decoders:
            if any(collector.is_image for collector in collectors):
                _check_image(short_type(topic), topic.name)
            self._decoders[topic.name] = find_decoder(topic)
        decoded = self._decoders[topic.name].decode(message.data)
        try:
            for collector in collectors:
                collector.add(decoded, message.log_ns, (number, *message.place))
        except DataError as error:
            raise DataError(f"{file.path}: {topic.name}: {error}") from error


def _check_image(type: str, topic: str) -> None:
    if type not in IMAGE_TYPES:
        raise DataError(f"{topic} is {type}; pictures are read from {' and '.join(IMAGE_TYPES)}")


def _take_mark(message: dict[str, Any], path: str) -> bool | float | str:
    """A truth value, number or text."""
    found = take_field(message, path)
    if not isinstance(found, bool | int | float | str):
        raise DataError(f"{path} is no number, truth value or text")
    return found
