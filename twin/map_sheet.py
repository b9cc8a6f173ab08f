"""The sheet that the twin's picture is drawn on: colours, axes placed by inches, the width of a text, places for labels."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

WIDTH_IN, EDGE_IN, LEFT_IN, RIGHT_IN = 16.0, 0.45, 1.95, 2.55
"""of the sheet, its edge, and what stands left and right of everything that runs over time"""


MARK = "#11202b"
"""around what is slowed: dark in both themes, as it lies on the light end of the scale"""


class Theme(NamedTuple):
    """Colours; the page's own (`twin/pages/map.css`), so that both can stand side by side."""

    ground: str
    sunk: str
    ink: str
    muted: str
    line: str
    limit: str
    series: tuple[str, ...]
    """for single rows, told apart without red and green; each also bears its name"""


LIGHT = Theme("#ffffff", "#eaf0f3", "#11202b", "#536572", "#d5dfe6", "#c4262e", ("#0b7389", "#c96a00", "#6b4fb0", "#7a7400"))
DARK = Theme("#0b1116", "#161f27", "#e7eef3", "#96a8b5", "#2b3a45", "#ff6f6f", ("#4cc3d9", "#ffb45a", "#b9a2ff", "#d6cf5a"))


class Sheet:
    """A figure whose parts are placed by inches from its upper left corner."""

    section_in = 0.5
    """height of a section's title"""

    def __init__(self, height_in: float, theme: Theme) -> None:
        """An empty sheet; drawn by Agg, without a display or pyplot's global state."""
        self.figure = Figure(figsize=(WIDTH_IN, height_in), facecolor=theme.ground)
        FigureCanvasAgg(self.figure)
        self.theme, self.height_in = theme, height_in

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """Return axes in the theme's colours, without a frame."""
        box = (left / WIDTH_IN, 1.0 - (top + height) / self.height_in, width / WIDTH_IN, height / self.height_in)
        ax = self.figure.add_axes(box, facecolor="none", **options)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.tick_params(colors=self.theme.line, labelcolor=self.theme.muted, labelsize=8.5, length=3)
        return ax

    def plain(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes whose units are inches, y downwards, without ticks."""
        ax = self.axes(left, top, width, height)
        ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        return ax

    def text(self, left: float, top: float, words: str, size: float, **options: Any) -> None:
        """Write `words` with their middle at `top`."""
        options = {"color": self.theme.ink, "va": "center", "ha": "left"} | options
        self.figure.text(left / WIDTH_IN, 1.0 - top / self.height_in, words, fontsize=size, **options)

    def section(self, top: float, words: str, note: str) -> float:
        """Write a section's title and a remark beside it; return where the section begins."""
        self.text(EDGE_IN, top + 0.24, words, 12.5, weight="bold")
        self.text(EDGE_IN + width_in(words, 12.5, "bold") + 0.2, top + 0.245, note, 10, color=self.theme.muted)
        return top + self.section_in

    def bar(self, left: float, top: float, width: float, height: float, stops: Sequence[str], norm: Normalize) -> None:
        """Draw a colour scale with few ticks; upright when it is higher than wide."""
        ax, upright = self.axes(left, top, width, height), height > width
        ticks = MaxNLocator(3 if upright else 5, steps=[1, 2, 5, 10])
        shown = Colorbar(
            ax, ScalarMappable(norm, scale(stops)), orientation="vertical" if upright else "horizontal", ticks=ticks
        )
        shown.outline.set_visible(False)
        shown.minorticks_off()
        ax.tick_params(colors=self.theme.line, labelcolor=self.theme.muted, labelsize=8.5, length=2)


def scale(stops: Sequence[str]) -> Colormap:
    """Return the colours between `stops` as a scale from 0 to 1."""
    return LinearSegmentedColormap.from_list("scale", list(stops))


def boxes(shape: NDArray[np.float64], **colours: Any) -> PolyCollection:
    """Return rectangles from [N, 4] x, y, width, height; without edges unless asked for."""
    x, y, w, h = shape.T
    corners = np.stack([np.stack([x, x + w, x + w, x], axis=1), np.stack([y, y, y + h, y + h], axis=1)], axis=2)
    return PolyCollection(list(corners), **({"edgecolors": "none"} | colours))


@lru_cache(maxsize=4096)
def width_in(words: str, size: float, weight: str = "normal") -> float:
    """How wide `words` are at `size` points, in inches."""
    if not words.strip():
        return 0.0
    path = TextPath((0, 0), words, size=size, prop=FontProperties(weight=weight))
    return float(path.get_extents().width) / 72.0


def fitting(words: str, size: float, room_in: float, weight: str = "normal") -> str:
    """Return `words`, cut with an ellipsis where they are wider than `room_in`."""
    if width_in(words, size, weight) <= room_in:
        return words
    while words and width_in(words + "…", size, weight) > room_in:
        words = words[:-1]
    return words.rstrip() + "…"


class Label(NamedTuple):
    """An event on its lane, in inches from the left of the time axis."""

    lane: int
    from_in: float
    until_in: float
    text_in: float
    words: str


def lanes(spans: Sequence[tuple[float, float, str]], room_in: float, size: float, most: int) -> list[Label]:
    """Place spans (from, until in inches, words) on at most `most` lanes; what finds no place is left out.

    No words overlap, nor are they crossed by the line that goes down from the beginning of a span on a higher lane.
    Words stand right of their span's beginning, or left of it where the sheet ends.
    """
    words_end, span_end = [0.0] * most, [0.0] * most
    placed: list[Label] = []
    for start, end, words in sorted(spans):
        words = fitting(words, size, room_in / 2 - 0.2)
        width = width_in(words, size)
        text = start + 0.08 if start + 0.08 + width <= room_in else start - 0.08 - width
        left = min(start, text)
        for lane in range(most):
            if span_end[lane] <= left and all(crossed <= left for crossed in words_end[lane:]):
                words_end[lane] = max(start, text + width) + 0.12
                span_end[lane] = max(end, words_end[lane])
                placed.append(Label(lane, start, end, text, words))
                break
    return placed


def apart(wanted: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Return places near `wanted` (rising), at least `step` apart, within [low, high] as far as they fit."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + step if places else low))
    ceiling = high
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - step
    return places
