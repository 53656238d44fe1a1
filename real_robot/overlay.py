"""The first picture of a demonstration over the live one: to put things back where they were."""

from __future__ import annotations

from pathlib import Path

from ..spec import ConfigError, Tick
from ..system.outputs import write_text
from .cameras.base import Picture
from .cameras.pictures import encode_jpeg, fit_picture, mix_pictures

EVERY_S = 0.5
PAGE = """<!doctype html>
<meta charset="utf-8"><title>Overlay</title>
<style>body { margin: 0; background: #222 } img { width: 100vmin }</style>
<img id="live" alt="the live picture with the first one of a demonstration">
<script>
const show = () => { live.src = "NAME?" + Date.now() };
show(); setInterval(show, 500);
</script>
"""


class Overlay:
    """A listener that writes both pictures, half and half, twice a second.

    No display is needed: a page beside the picture shows it in any browser.
    """

    def __init__(self, first: Picture, key: str, path: Path) -> None:
        """`first` (H, W, 3) over the observation `key`, to the JPEG at `path`.

        Raises ConfigError for another kind of file.
        """
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            raise ConfigError(f"the overlay is {path}; it must be a .jpg")
        self.first, self.key = first, key
        self.path = path
        self._due_s = 0.0
        write_text(path.with_suffix(".html"), PAGE.replace("NAME", path.name))

    def __call__(self, tick: Tick) -> None:
        """Write the picture when it is due."""
        now_s = float(tick.now_s[0])
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        live = tick.observation[self.key][0]
        first = fit_picture(self.first, *live.shape[:2])
        half = self.path.with_name(f".{self.path.name}")
        half.write_bytes(encode_jpeg(mix_pictures(live, first)))
        half.replace(self.path)
