"""Two rollouts of one seed in one picture: each with its label, the time, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]
PAPER: Colour = (20, 22, 26)
INK: Colour = (233, 231, 226)
SOFT: Colour = (162, 168, 180)
GOOD: Colour = (127, 220, 185)
BAD: Colour = (255, 176, 138)
GAP = 8
"""Pixels between two panels."""
HOLD_S = 1.5
"""How long the last picture stays."""


@dataclass(frozen=True)
class Panel:
    """A rollout: its frames (H, W, 3), one a tick, and what is written above it."""

    frames: Sequence[Frame]
    title: str
    subtitle: str
    success: bool


def join_panels(panels: Sequence[Panel], rate_hz: float) -> list[Frame]:
    """Pictures of all panels beside each other, (H', W', 3).

    A rollout that has ended shows its last frame, and the mark of its outcome.
    """
    longest = max(len(panel.frames) for panel in panels)
    whole = longest + round(HOLD_S * rate_hz)
    return [_draw_tick(panels, tick, rate_hz) for tick in range(whole)]


def _draw_tick(panels: Sequence[Panel], tick: int, rate_hz: float) -> Frame:
    """One picture."""
    drawn = [_draw_panel(panel, tick, rate_hz) for panel in panels]
    gap = np.full((drawn[0].shape[0], GAP, 3), PAPER, np.uint8)
    parts = [drawn[0]]
    for picture in drawn[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=1)


def _draw_panel(panel: Panel, tick: int, rate_hz: float) -> Frame:
    """A rollout's frame at a tick under three lines: players cover what stands below."""
    last = len(panel.frames) - 1
    frame = panel.frames[min(tick, last)]
    height, width = frame.shape[:2]
    line = width // 11
    picture = Image.new("RGB", (width, height + 4 * line), PAPER)
    picture.paste(Image.fromarray(frame), (0, 4 * line))
    draw = ImageDraw.Draw(picture)
    draw.text((line // 3, line // 5), panel.title, INK, load_font(int(0.9 * line), "bold"))
    draw.text((line // 3, int(1.35 * line)), panel.subtitle, SOFT, load_font(int(0.72 * line)))
    text, colour = _describe_state(panel, tick, last, rate_hz)
    draw.text((line // 3, int(2.5 * line)), text, colour, load_font(int(0.85 * line), "bold"))
    return np.asarray(picture)


def _describe_state(panel: Panel, tick: int, last: int, rate_hz: float) -> tuple[str, Colour]:
    """The third line: the time, and the outcome once there is one."""
    seconds = f"{min(tick, last) / rate_hz:.1f} s"
    if tick < last:
        return seconds, INK
    if panel.success:
        return f"\u2714 success after {seconds}", GOOD
    return f"\u2718 no success in {seconds}", BAD


@cache
def load_font(size: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings, so that labels look alike everywhere."""
    path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(path, size)
