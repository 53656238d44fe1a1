"""Videos of rollouts: MP4 for pages, GIF for a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray
from PIL import Image


def write_video(
    path: Path, frames: Sequence[NDArray[np.uint8]], fps: float, title: str = ""
) -> None:
    """Frames (H, W, 3) as an MP4 (H.264, 4:2:0) that every browser plays.

    Odd sizes lose a row or column.

    Players show the `title`, which is written into the file. Raises OSError where the file cannot
    be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _encode(path, frames, fps, title)
    except FFmpegError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _encode(path: Path, frames: Sequence[NDArray[np.uint8]], fps: float, title: str) -> None:
    height = frames[0].shape[0] // 2 * 2
    width = frames[0].shape[1] // 2 * 2
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        file.metadata["title"] = title
        stream: Any = file.add_stream("libx264", rate=round(fps))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "23"}
        for frame in frames:
            file.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.ascontiguousarray(frame[:height, :width]), format="rgb24"
                    )
                )
            )
        file.mux(stream.encode())


def write_gif(path: Path, frames: Sequence[NDArray[np.uint8]], fps: float, width: int) -> None:
    """Frames (H, W, 3) as a GIF that repeats for ever, at most `width` pixels wide.

    All frames share one palette of 255 colours without dithering: what stands still costs nothing.
    """
    pictures = [_shrink(frame, width) for frame in frames]
    sample = np.concatenate(
        [np.asarray(picture) for picture in pictures[:: len(pictures) // 8 + 1]]
    )
    palette = Image.fromarray(sample).quantize(255, Image.Quantize.MEDIANCUT)
    mapped = []
    for picture in pictures:
        mapped.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    path.parent.mkdir(parents=True, exist_ok=True)
    shown_ms = round(100 / fps) * 10  # GIF counts in hundredths of a second
    mapped[0].save(path, save_all=True, append_images=mapped[1:], duration=shown_ms, loop=0)


def _shrink(frame: NDArray[np.uint8], width: int) -> Image.Image:
    """A picture of at most this width, in its own proportions."""
    picture = Image.fromarray(frame)
    picture.thumbnail((width, picture.height), Image.Resampling.LANCZOS)
    return picture
