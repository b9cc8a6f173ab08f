"""The lower half of the twin's picture, over one time axis: events, strips of temperature and power, power against limits."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from twin.map import COOL, HEAT, POWER, Floats, Frames, Ints, percent, summary
from twin.map_sheet import (
    EDGE_IN,
    LEFT_IN,
    MARK,
    RIGHT_IN,
    WIDTH_IN,
    Label,
    Sheet,
    apart,
    boxes,
    fitting,
    lanes,
    scale,
    width_in,
)

LANE_IN, POWER_IN, GAP_IN = 0.24, 2.1, 0.14
TIME_IN = WIDTH_IN - 2 * EDGE_IN - LEFT_IN - RIGHT_IN
TIME_AT_IN, NOTES_AT_IN = EDGE_IN + LEFT_IN, EDGE_IN + LEFT_IN + TIME_IN + 0.15
EVENT_LANES, RACK_LANES = 5, 40
"""events that find no place on so many lanes are left out; more racks than these are drawn by row"""
WORST = "worst moment, drawn above"
NAMED = 4
"""rows that get a colour and a name in the power chart"""


class Lanes(NamedTuple):
    """What a strip shows a line for: racks where these are few, else rows."""

    what: str
    names: list[str]
    of: Ints
    """[S]"""
    ends: list[int]
    """lanes that begin a new row"""

    def highest(self, value: Floats) -> Floats:
        """[T, S] -> [T, lanes]."""
        return np.stack([value[:, self.of == k].max(axis=1) for k in range(len(self.names))], axis=1)

    def sum(self, value: Floats) -> Floats:
        """[T, S] -> [T, lanes]."""
        return np.stack([value[:, self.of == k].sum(axis=1) for k in range(len(self.names))], axis=1)


def lanes_of(f: Frames) -> Lanes:
    """Return the racks in their rows' order; the rows that have servers where there are more than RACK_LANES racks."""
    place = list(zip(f.row_of.tolist(), f.rack_of, strict=True))
    racks = {rack: k for k, rack in enumerate(dict.fromkeys(sorted(place, key=lambda rack: rack[0])))}
    if len(racks) <= RACK_LANES:
        rows = [r for r, _ in racks]
        ends = [k for k in range(1, len(rows)) if rows[k] != rows[k - 1]]
        return Lanes("rack", [name for _, name in racks], np.array([racks[rack] for rack in place]), ends)
    present = np.unique(f.row_of)
    return Lanes("row", [f.rows[r] for r in present], np.searchsorted(present, f.row_of), [])


class OverTime:
    """The parts below the floor; `height_in` is known before they are drawn."""

    def __init__(self, f: Frames) -> None:
        """Place the events and choose the lanes."""
        self.f, self.lanes = f, lanes_of(f)
        self.worst_s = float(f.t_s[summary(f).worst])
        self.edges = np.append(f.t_s, f.until_s)
        start, end = float(self.edges[0]), f.until_s
        inch = TIME_IN / (end - start)
        spans = [(max(a, start), min(b, end), words) for a, b, words in f.events if a < end and b > start]
        spans.append((self.worst_s, self.worst_s, WORST))
        self.labels = _placed([((a - start) * inch, (b - start) * inch, w) for a, b, w in spans])
        self.left_out = len(spans) - len(self.labels)
        self.events_in = LANE_IN * (1 + max(label.lane for label in self.labels))
        self.strip_in = float(np.clip(len(self.lanes.names) * 0.09, 0.6, 3.4))
        self.height_in = Sheet.section_in - 0.1 + self.events_in + 3 * (self.strip_in + GAP_IN) + 0.2 + POWER_IN

    def draw(self, sheet: Sheet, top: float, heat: Normalize) -> None:
        """Draw from `top` (inches) on; `heat` is the floor's own range."""
        f, of = self.f, self.lanes
        slowed = of.highest(f.slowed.astype(np.float64)) > 0
        note = "dark lines on the hottest GPU: slowed by heat" if slowed.any() else "no server slowed by heat"
        if self.left_out:
            note += f"; {self.left_out} events without a name: no room"
        top = sheet.section(top, "The whole run", note) - 0.1
        self._draw_events(sheet, top)
        top += self.events_in
        inlet, power = of.highest(f.inlet_c), of.sum(f.server_w) / 1e3
        self._mark(self._strip(sheet, top, "Hottest GPU, °C", of.highest(f.hottest_gpu_c), HEAT, heat), slowed)
        top += self.strip_in + GAP_IN
        self._strip(sheet, top, "Hottest inlet, °C", inlet, COOL, _range(inlet))
        top += self.strip_in + GAP_IN
        self._strip(sheet, top, "Power, kW", power, POWER, _range(power))
        self._power(sheet, top + self.strip_in + GAP_IN + 0.2)

    def _draw_events(self, sheet: Sheet, top: float) -> None:
        theme = sheet.theme
        ax = sheet.plain(TIME_AT_IN, top, TIME_IN, self.events_in)
        for label in self.labels:
            y = label.lane * LANE_IN + LANE_IN / 2
            box = np.array([[label.from_in, y - 0.095, label.until_in - label.from_in, 0.19]])
            ax.add_collection(boxes(box, facecolors=theme.sunk))
            ax.plot([label.from_in] * 2, [y - 0.095, self.events_in], color=theme.ink, lw=1, clip_on=False)
            ax.text(label.text_in, y + 0.008, label.words, size=9.5, color=theme.ink, va="center")

    def _strip(self, sheet: Sheet, top: float, words: str, value: Floats, stops: tuple[str, ...], norm: Normalize) -> Axes:
        high, names = self.strip_in, self.lanes.names
        sheet.text(EDGE_IN, top + 0.17, words, 10.5, weight="bold")
        sheet.text(EDGE_IN, top + 0.37, f"by {self.lanes.what}", 9.5, color=sheet.theme.muted)
        ax = sheet.axes(TIME_AT_IN, top + 0.06, TIME_IN, high)
        ax.pcolormesh(self.edges, np.arange(len(names) + 1) - 0.5, value.T, cmap=scale(stops), norm=norm, rasterized=True)
        ax.set(xlim=(self.edges[0], self.edges[-1]), ylim=(len(names) - 0.5, -0.5), xticks=[])
        ticks = list(range(0, len(names), int(np.ceil(0.135 * len(names) / high))))
        ax.set_yticks(ticks, [fitting(names[k], 8, 0.62) for k in ticks], size=8)
        ax.tick_params(axis="y", length=0, pad=5)
        for k in self.lanes.ends:
            ax.axhline(k - 0.5, color=sheet.theme.ground, lw=2)
        self._across(sheet, ax)
        sheet.bar(NOTES_AT_IN, top + 0.06, 0.13, high, stops, norm)
        return ax

    def _mark(self, ax: Axes, slowed: NDArray[np.bool_]) -> None:
        """Underline where and when a server was slowed: [T, lanes]."""
        lines = [((self.edges[i], k + 0.28), (self.edges[i + 1], k + 0.28)) for i, k in np.argwhere(slowed).tolist()]
        thick = min(2.0, self.strip_in / len(self.lanes.names) * 18)
        ax.add_collection(LineCollection(lines, colors=MARK, linewidths=thick, capstyle="butt"))

    def _across(self, sheet: Sheet, ax: Axes) -> None:
        """Beginnings and ends of the named events, dotted, and the worst moment."""
        ground, ink = sheet.theme.ground, sheet.theme.ink
        start, end = float(self.edges[0]), float(self.edges[-1])
        events = [label for label in self.labels if label.words != WORST]
        ends = {start + inch / TIME_IN * (end - start) for label in events for inch in (label.from_in, label.until_in)}
        for t in sorted(t for t in ends if start < t < end):
            ax.axvline(t, color=ground, lw=1.8, alpha=0.6)
            ax.axvline(t, color=ink, lw=0.9, ls=(0, (2, 2)))
        ax.axvline(self.worst_s, color=ground, lw=3, alpha=0.7)
        ax.axvline(self.worst_s, color=ink, lw=1.3)

    def _power(self, sheet: Sheet, top: float) -> None:
        f, theme = self.f, sheet.theme
        sheet.text(EDGE_IN, top + 0.12, "Row power,", 10.5, weight="bold")
        sheet.text(EDGE_IN, top + 0.32, "% of its limit", 10.5, weight="bold")
        ax = sheet.axes(TIME_AT_IN, top, TIME_IN, POWER_IN)
        share = 100.0 * f.row_w / f.row_limit_w
        steps = np.concatenate([share, share[-1:]])  # the last frame has an end, too
        order = np.argsort(-(f.row_max_w / f.row_limit_w).max(axis=0), kind="stable").tolist()
        named = {r: theme.series[k] for k, r in enumerate(order[:NAMED])}
        fullest = np.maximum(steps.max(axis=1), 100.0)
        ax.fill_between(self.edges, 100.0, fullest, step="post", color=theme.limit, alpha=0.25, lw=0)
        for r in order[::-1]:
            ax.step(self.edges, steps[:, r], where="post", color=named.get(r, theme.line), lw=1.6 if r in named else 0.8)
        ax.axhline(100.0, color=theme.limit, lw=1.4)
        low, high = min(98.0, float(share.min())), max(102.0, float(share.max()))
        ax.set(xlim=(self.edges[0], self.edges[-1]), ylim=(low - 0.06 * (high - low), high + 0.06 * (high - low)))
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.grid(axis="y", color=theme.line, lw=0.6)
        ax.set_axisbelow(True)
        self._across(sheet, ax)
        _time_ticks(ax, theme.muted)
        by_end = sorted(named, key=lambda r: -share[-1, r])
        floor, ceiling = ax.get_ylim()
        wanted = [top + (ceiling - float(share[-1, r])) / (ceiling - floor) * POWER_IN for r in by_end]
        for r, y in zip(by_end, apart(wanted, 0.42, top + 0.12, top + POWER_IN - 0.12), strict=True):
            self._name(sheet, y, r, named[r])

    def _name(self, sheet: Sheet, top: float, r: int, colour: str) -> None:
        """Right of a line's end: the row, its highest power, and for how much of the run it was over its limit."""
        f, theme = self.f, sheet.theme
        over, peak = float(f.over_share[r]), float((f.row_max_w[:, r] / f.row_limit_w[:, r]).max())
        name = fitting(f.rows[r], 9.5, 1.1, "bold")
        sheet.text(NOTES_AT_IN, top - 0.085, name, 9.5, color=colour, weight="bold")
        sheet.text(NOTES_AT_IN + width_in(name, 9.5, "bold") + 0.1, top - 0.085, f"peak {100 * peak:.0f} %", 9.5)
        says = f"over its limit {percent(over)} of the time" if over else "never over its limit"
        sheet.text(NOTES_AT_IN, top + 0.085, says, 9, color=theme.limit if over else theme.muted)


def _placed(spans: list[tuple[float, float, str]]) -> list[Label]:
    """Place the events and, whatever else is left out, the worst moment, which is the last of `spans`."""
    *events, worst = spans
    while True:
        placed = lanes([*events, worst], TIME_IN, 9.5, EVENT_LANES)
        if any(label.words == worst[2] for label in placed) or not events:
            return placed
        events.remove(max(span for span in events if span[0] <= worst[0]))


def _time_ticks(ax: Axes, colour: str) -> None:
    low, high = ax.get_xlim()
    length = high - low
    unit, name = (60.0, "minutes") if length <= 3 * 3600 else (3600.0, "hours") if length <= 3 * 86400 else (86400.0, "days")
    places = MaxNLocator(12, steps=[1, 1.5, 2, 3, 5, 6, 10]).tick_values(low / unit, high / unit)
    ticks = [t for t in places if low <= t * unit <= high]
    ax.set_xticks([t * unit for t in ticks], [f"{t:g}" for t in ticks], size=9)
    ax.set_xlabel(f"{name} since the run began", size=9.5, color=colour)


def _range(value: Floats) -> Normalize:
    return Normalize(float(np.floor(value.min())), float(np.floor(value.max())) + 1.0)
