"""Drawings for the HTML pages: parts of SVG as text, and the axes that plots share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#475569")
MORE_COLOURS = (*COLOURS, "#0891b2", "#65a30d", "#dc2626", "#a16207", "#1e3a8a", "#f472b6")

Point = tuple[float, float]


def svg(width: int, height: int, title: str, content: str) -> str:
    """A drawing of this size, in pixels."""
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )


def dot(x: float, y: float, radius: float, colour: str, *, hollow: bool = False) -> str:
    """A disc, or a ring."""
    look = f'fill="white" stroke="{colour}" stroke-width="1.5"' if hollow else f'fill="{colour}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}/>'


def line(points: Sequence[Point], colour: str, *, dashed: bool = False) -> str:
    """A line through these points; nothing through fewer than two."""
    if len(points) < 2:
        return ""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{_path(points)}" fill="none" stroke="{colour}"{dashes}/>'


def band(above: Sequence[Point], below: Sequence[Point], colour: str) -> str:
    """The area between two lines, tinted."""
    return f'<polygon points="{_path([*above, *reversed(below)])}" fill="{colour}" fill-opacity="0.15"/>'


def legend(entries: Sequence[tuple[str, str]], *, hollow: Sequence[str] = (), width: int = 760) -> str:
    """A drawing with a line for each (colour, text); the colours in `hollow` are rings."""
    shapes = "".join(
        f"{dot(8, 12 + 18 * place, 4, colour, hollow=colour in hollow)}"
        f'<text x="20" y="{16 + 18 * place}">{escape(text)}</text>'
        for place, (colour, text) in enumerate(entries)
    )
    return svg(width, 18 * len(entries) + 6, "what the marks are", shapes)


def ticks(low: float, high: float) -> list[float]:
    """Three to six round values from low to high."""
    least = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(least))
    step = next(times * unit for times in (1, 2, 5, 10) if times * unit >= least * (1 - 1e-9))
    return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True)
class Plot:
    """A plot of 660 by 345 pixels: where values lie in it, and its axes.

    Attributes:
        across, up: the least and the largest value of each axis.
        name: of the horizontal axis.
        show_across, show_up: a value as text.
    """

    across: Point
    up: Point
    name: str
    show_across: Callable[[float], str]
    show_up: Callable[[float], str]

    LEFT, RIGHT, TOP, BOTTOM = 70.0, 640.0, 20.0, 300.0

    def at(self, x: float, y: float) -> Point:
        """The place of a value, in pixels."""
        across = (x - self.across[0]) / (self.across[1] - self.across[0])
        up = (y - self.up[0]) / (self.up[1] - self.up[0])
        return self.LEFT + (self.RIGHT - self.LEFT) * across, self.BOTTOM - (self.BOTTOM - self.TOP) * up

    def drawn(self, title: str, shapes: Sequence[str]) -> str:
        """The plot with these shapes in it."""
        return svg(660, 345, title, self._grid() + "".join(shapes))

    def _grid(self) -> str:
        parts = []
        for value in ticks(*self.up):
            _, y = self.at(self.across[0], value)
            parts.append(
                f'<line x1="{self.LEFT}" y1="{y:.1f}" x2="{self.RIGHT}" y2="{y:.1f}" stroke="#e2e8f0"/>'
                f'<text x="{self.LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(self.show_up(value))}</text>'
            )
        for value in ticks(*self.across):
            x, _ = self.at(value, self.up[0])
            label = escape(self.show_across(value))
            parts.append(f'<text x="{x:.1f}" y="{self.BOTTOM + 18}" text-anchor="middle">{label}</text>')
        middle = (self.LEFT + self.RIGHT) / 2
        parts.append(f'<text x="{middle:.1f}" y="{self.BOTTOM + 38}" text-anchor="middle">{escape(self.name)}</text>')
        return "".join(parts)


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
