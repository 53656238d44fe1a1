"""Writes frames as MP4 videos, and joins videos without encoding them again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, cut

PIXELS = "yuv420p"
LEAST_SIDE = 16
MOST_DENOMINATOR = 1001


@dataclass(frozen=True)
class Encoder:
    """An encoder of ffmpeg with its settings."""

    codec: str
    """What it makes, as ffmpeg calls it."""
    name: str
    options: tuple[tuple[str, str], ...]


ENCODERS = {
    "av1": Encoder(
        "av1",
        "libsvtav1",
        (("g", "2"), ("crf", "30"), ("preset", "12"), ("svtav1-params", "fast-decode=0")),
    ),
    "h264": Encoder("h264", "libx264", (("g", "2"), ("crf", "30"))),
}
"""LeRobot's settings: a keyframe every second frame, for fast reading at random."""
CODEC = "av1"
"""Which of the encoders is used."""


def choose_encoder() -> Encoder:
    """The encoder that CODEC names."""
    return ENCODERS[CODEC]


def can_encode(shape: Sequence[int]) -> bool:
    """Whether frames (height, width, channels) fit into a video: even sides, not too small."""
    height, width = shape[:2]
    small = min(height, width) < LEAST_SIDE
    return not small and height % 2 == 0 and width % 2 == 0 and shape[2] in (1, 3)


def frame_rate(fps: float) -> Fraction:
    """Frames per second as the fraction that the file holds."""
    return Fraction(fps).limit_denominator(MOST_DENOMINATOR)


def write_video(path: Path, blocks: Iterable[NDArray[np.uint8]], fps: float) -> int:
    """Encode blocks of frames (n, H, W, 3); returns how many there were.

    Raises DataError where the encoder is missing or refuses them.
    """
    import av
    from av.error import FFmpegError

    os.environ.setdefault("SVT_LOG", "1")  # errors only; the library prints its settings else
    encoder = choose_encoder()
    rate = frame_rate(fps)
    count = 0
    try:
        with av.open(str(path), "w") as output:
            stream: Any = output.add_stream(encoder.name, rate, options=dict(encoder.options))
            stream.pix_fmt = PIXELS
            for block in blocks:
                if count == 0:
                    stream.height, stream.width = block.shape[1:3]
                for picture in block:
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts = count
                    frame.time_base = 1 / rate
                    output.mux(stream.encode(frame))
                    count += 1
            output.mux(stream.encode())
    except (FFmpegError, ValueError) as problem:
        raise DataError(
            f"{path.name} cannot be encoded by {encoder.name}: {cut(str(problem))}"
        ) from problem
    return count


def join_videos(parts: Sequence[tuple[Path, int]], target: Path, fps: float) -> None:
    """Put videos of one kind after each other; with each its number of frames.

    The frames keep their times, moved on by those of the videos before.
    """
    import av

    before = 0
    with av.open(str(target), "w", options={"movflags": "faststart"}) as output:
        stream: Any = None
        for path, frames in parts:
            with av.open(str(path), format="mp4") as source:
                theirs: Any = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(theirs, opaque=True)
                    stream.time_base = theirs.time_base
                offset = round(before / frame_rate(fps) / Fraction(theirs.time_base))
                for packet in source.demux(theirs):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    output.mux(packet)
            before += frames
