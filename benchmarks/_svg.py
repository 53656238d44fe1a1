"""Small SVG drawings in colours that are read on light and on dark pages alike."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
text { font: 12px sans-serif; fill: #7d858f }
.small { font-size: 10px }
.level { fill: #4c8bf5 }
.chunk { fill: #e5a50a; opacity: .28 }
.chunk-text { fill: #b5830a }
.frozen { fill: #d9534f; opacity: .28 }
.frozen-text { fill: #d9534f }
.pull { stroke: #2e9e6b; stroke-width: 2 }
.pull-text { fill: #2e9e6b }
.axis { stroke: #7d858f; stroke-width: 1 }
.faint { stroke: #7d858f; stroke-width: 1; opacity: .45 }
.kept { stroke: #4c8bf5; stroke-width: 1.5 }
.best { stroke: #2e9e6b; stroke-width: 3 }
.old { stroke: #e5a50a; stroke-width: 3 }
.room { fill: #4c8bf5; fill-opacity: .12; stroke: #4c8bf5 }
.arrow { stroke: #7d858f; stroke-width: 1.2 }
.head { fill: #7d858f }
.name { font-weight: bold; fill: #4c8bf5 }
.middle { text-anchor: middle }
"""
Point = tuple[float, float]


class Drawing:
    """An SVG that is `width` times `height` units large and shown half as large again."""

    def __init__(self, width: float, height: float) -> None:
        self.size = (width, height)
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        """Write a text that begins at (x, y)."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a rectangle."""
        place = f'x="{x:g}" y="{y:.4g}" width="{width:g}" height="{height:.4g}"'
        self.parts.append(f'<rect {place} class="{kind}"/>')

    def line(self, points: Sequence[Point], kind: str) -> None:
        """Draw a line through the points."""
        path = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{kind}" fill="none"/>')

    def arrow(self, start: Point, end: Point) -> None:
        """Draw a straight line that ends in a point."""
        self.line([start, end], "arrow")
        across, down = end[0] - start[0], end[1] - start[1]
        length = (across**2 + down**2) ** 0.5
        across, down = 6 * across / length, 6 * down / length
        left = (end[0] - across - down / 2, end[1] - down + across / 2)
        right = (end[0] - across + down / 2, end[1] - down - across / 2)
        path = " ".join(f"{x:.4g},{y:.4g}" for x, y in (end, left, right))
        self.parts.append(f'<polygon points="{path}" class="head"/>')

    def finish(self) -> str:
        """The whole file."""
        width, height = self.size
        size = f'width="{1.5 * width:g}" height="{1.5 * height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {size}>'
        return "\n".join([head, f"<style>{STYLE}</style>", *self.parts, "</svg>"]) + "\n"
