"""Frames of videos by their number, at random or one after the other.

Only MP4 files are opened, whatever a file holds, so that no playlist leads elsewhere. Videos have
no checksums: a flipped bit may show as a wrong picture, not as an error.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, IntArray, cut
from .files import AGAIN, check_memory

if TYPE_CHECKING:
    import av

CONTAINER = "mp4"
ORDERED = ("av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9")
"""Decoders whose frames are shown in the order in which they are stored."""
KEPT_DECODERS = 16
"""Open files that are kept for the next call."""
MOST_INDICES = 4096
MOST_SIDE = 1 << 14
SEEKS = 4
"""How often a keyframe further ahead is tried for a frame that does not come."""


@dataclass(frozen=True)
class VideoIndex:
    """Every frame of a video, in the order in which they are shown, (F,)."""

    pts: IntArray
    """Times in units of `unit`, ascending."""
    keys: IntArray
    """Numbers of the frames at which decoding can begin, ascending, the first frame among them."""
    unit: float
    """[s]"""
    height: int
    width: int
    lost: IntArray
    """Numbers of the frames whose bytes lie beyond the end of the file, ascending."""

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from the file's beginning."""
        return self.pts * self.unit

    def key_before(self, number: int) -> int:
        """The last frame up to `number` at which decoding can begin."""
        return int(self.keys[np.searchsorted(self.keys, number, side="right") - 1])


class Videos:
    """Frames of many files, of which a few are open; may be asked from several threads."""

    def __init__(self) -> None:
        self._idle: list[_Decoder] = []
        self._indices: OrderedDict[Path, VideoIndex] = OrderedDict()
        self._lock = Lock()

    def index(self, path: Path) -> VideoIndex:
        """When the frames of a file are shown; DataError where it is missing or damaged."""
        with self._lock:
            if path in self._indices:
                return self._indices[path]
        decoder = _Decoder(path)
        self._put_back(decoder)
        with self._lock:
            self._indices[path] = decoder.index
            while len(self._indices) > MOST_INDICES:
                self._indices.popitem(last=False)
        return decoder.index

    def frames(self, path: Path, numbers: IntArray, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Frames of a file by their numbers, (n, *shape) with shape (height, width, 3 or 1).

        Raises DataError where a frame is missing, damaged, or of another size.
        """
        unique, places = np.unique(numbers, return_inverse=True)
        check_memory(f"{path}", len(unique) * math.prod(shape))
        found = np.empty((len(unique), *shape), np.uint8)
        decoder = self._take(path)
        index = decoder.index
        if (index.height, index.width) != tuple(shape[:2]):
            raise DataError(
                f"{path} is {index.width} x {index.height}; meta/info.json says "
                f"{shape[1]} x {shape[0]}"
            )
        for place, number in enumerate(unique):
            found[place] = decoder.frame(int(number), shape[2])
        self._put_back(decoder)
        if np.array_equal(unique, numbers):
            return found
        return found[places]

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            for decoder in self._idle:
                decoder.close()
            self._idle.clear()

    def _take(self, path: Path) -> _Decoder:
        """An open decoder that nobody else uses meanwhile."""
        with self._lock:
            for decoder in reversed(self._idle):
                if decoder.path == path:
                    self._idle.remove(decoder)
                    return decoder
            known = self._indices.get(path)
        return _Decoder(path, known)

    def _put_back(self, decoder: _Decoder) -> None:
        with self._lock:
            self._idle.append(decoder)
            if len(self._idle) > KEPT_DECODERS:
                self._idle.pop(0).close()


class _Decoder:
    """One open file, and the frame that comes next; for one thread at a time."""

    def __init__(self, path: Path, index: VideoIndex | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self.path = path
        self._container = _open(path)
        try:
            self._stream = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1
            if index is None:
                index = _read_index(self._container, self._stream, path)
        except DataError:
            raise
        except _damage() as problem:
            raise _refuse(path, problem) from problem
        self.index = index
        self._reformatter = VideoReformatter()
        self._frames: Iterator[Any] = iter(())
        self._next: int | None = None

    def frame(self, number: int, channels: int) -> NDArray[np.uint8]:
        """The frame of that number, (height, width, channels)."""
        try:
            frame = self._find(number)
            self._check_size(frame)
            form = {1: "gray", 3: "rgb24"}[channels]
            picture: Any = self._reformatter.reformat(frame, format=form).to_ndarray()
        except DataError:
            raise
        except _damage() as problem:
            raise _refuse(self.path, problem) from problem
        return picture.reshape(self.index.height, self.index.width, channels)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _find(self, number: int) -> av.VideoFrame:
        """Decode up to a frame, from where decoding stands or from the keyframe before it."""
        key = self.index.key_before(number)
        target = int(self.index.pts[number])
        if self._next is None or not key <= self._next <= number:
            self._seek(key)
        for _ in range(SEEKS):
            frame = self._advance(target)
            if frame is not None and frame.pts == target:
                self._next = number + 1
                return frame
            # The container went to a later keyframe than was asked for.
            key = self.index.key_before(max(key - 1, 0))
            self._seek(key)
        self._next = None
        raise DataError(f"{self.path}: frame {number} cannot be decoded; {AGAIN}")

    def _advance(self, target: int) -> av.VideoFrame | None:
        """The next frame that is not shown before `target`; None at the end."""
        for frame in self._frames:
            if frame.pts is not None and frame.pts >= target:
                return frame
        return None

    def _seek(self, key: int) -> None:
        self._container.seek(int(self.index.pts[key]), stream=self._stream)
        self._frames = self._container.decode(self._stream)
        self._next = key

    def _check_size(self, frame: av.VideoFrame) -> None:
        if (frame.height, frame.width) != (self.index.height, self.index.width):
            raise DataError(
                f"{self.path}: a frame is {frame.width} x {frame.height}, the file says "
                f"{self.index.width} x {self.index.height}; {AGAIN}"
            )


def _open(path: Path) -> Any:
    import av

    if not path.is_file():
        raise DataError(f"{path} is missing or no ordinary file; {AGAIN}")
    try:
        container = av.open(str(path), format=CONTAINER)
    except _damage() as problem:
        raise _refuse(path, problem) from problem
    streams = container.streams.video
    if not streams or streams[0].codec_context is None:
        raise DataError(f"{path} holds no video that can be decoded; {AGAIN}")
    return container


def _read_index(container: Any, stream: Any, path: Path) -> VideoIndex:
    """When the frames are shown: from the table of contents where it says it, else from the
    packets, which all are read but not decoded.
    """
    context = stream.codec_context
    if not (0 < context.width <= MOST_SIDE and 0 < context.height <= MOST_SIDE):
        raise DataError(f"{path} is {context.width} x {context.height}; {AGAIN}")
    size = path.stat().st_size
    times: list[tuple[int, bool, bool]] = []
    if context.codec.name in ORDERED and hasattr(stream, "index_entries"):
        for entry in stream.index_entries:
            lost = entry.pos + entry.size > size
            times.append((entry.timestamp, entry.is_keyframe, lost))
    if not times or len(times) != stream.frames:
        times = []
        for packet in container.demux(stream):
            if packet.pts is not None:
                times.append((packet.pts, packet.is_keyframe, packet.is_corrupt))
    times.sort()
    pts = np.array([time for time, _, _ in times], np.int64)
    if not len(pts) or bool((np.diff(pts) <= 0).any()):
        raise DataError(f"{path} holds no frames, or several at the same time; {AGAIN}")
    starts = [number for number, (_, key, _) in enumerate(times) if key or number == 0]
    keys = np.array(starts, np.int64)
    beyond = np.flatnonzero([lost for _, _, lost in times])
    unit = float(stream.time_base)
    return VideoIndex(pts, keys, unit, context.height, context.width, beyond)


def _damage() -> tuple[type[BaseException], ...]:
    """What PyAV raises for damaged files."""
    from av.error import FFmpegError

    return (FFmpegError, OSError, EOFError, ValueError, LookupError, MemoryError, TypeError)


def _refuse(path: Path, problem: BaseException) -> DataError:
    """The error, to be raised, for a damaged video."""
    reason = cut(str(problem)) or type(problem).__name__
    return DataError(f"{path} cannot be read as a video: {reason}; {AGAIN}")
