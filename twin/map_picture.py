"""The twin's map as one picture: the floor at the worst moment above, the whole run below.

matplotlib comes in with this module: import it where the picture is asked for."""

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from twin.map import HEAT, Frames, elapsed, headline, summary
from twin.map_floor import Floor, floor
from twin.map_sheet import DARK, EDGE_IN, LIGHT, MARK, WIDTH_IN, Sheet, boxes, fitting, scale, width_in
from twin.map_time import OverTime

DPI = 150
HEAD_IN, FOOT_IN = 1.15, 0.7
INNER_IN = WIDTH_IN - 2 * EDGE_IN
GAUGE_TOP = 1.15
"""share of its limit up to which a row's gauge goes"""


def png(f: Frames, *, dark: bool = False) -> bytes:
    """Return the picture of a run as PNG, 2,400 pixels wide; its height follows the number of rows."""
    out = BytesIO()
    figure(f, dark=dark).savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def figure(f: Frames, *, dark: bool = False) -> Figure:
    """Return the picture as a figure of matplotlib, on an Agg canvas."""
    plan, run, head = floor(f, INNER_IN), OverTime(f), Sheet.section_in
    sheet = Sheet(HEAD_IN + head + plan.height_in + 0.1 + run.height_in + FOOT_IN, DARK if dark else LIGHT)
    low_c = 5.0 * float(np.floor(np.quantile(f.hottest_gpu_c, 0.001) / 5.0))
    heat = Normalize(low_c, max(float(f.slowdown_c.max()), float(f.hottest_gpu_c.max())))
    _head(sheet, f)
    _floor(sheet, f, plan, heat)
    run.draw(sheet, HEAD_IN + head + plan.height_in + 0.1, heat)
    return sheet.figure


def _head(sheet: Sheet, f: Frames) -> None:
    words, size = headline(f), 21.0
    while size > 14 and width_in(words, size, "bold") > 0.98 * INNER_IN:
        size -= 0.5
    words = fitting(words[0].upper() + words[1:], size, INNER_IN, "bold")
    sheet.text(EDGE_IN, 0.46, words, size, weight="bold")
    run_s = f.until_s - float(f.t_s[0])
    each_s = run_s / float(f.samples.sum()) * float(f.samples.max())
    rows = f"{len(f.rows):,} row" + ("" if len(f.rows) == 1 else "s")
    said = f"{f.site} · {len(f.servers):,} servers in {rows} · {elapsed(run_s)} · "
    said += f"temperatures: the highest within {elapsed(each_s)}"
    sheet.text(EDGE_IN, 0.86, fitting(said, 11, INNER_IN), 11, color=sheet.theme.muted)


def _floor(sheet: Sheet, f: Frames, plan: Floor, heat: Normalize) -> None:
    t = summary(f).worst
    value, slowed = f.hottest_gpu_c[t], f.slowed[t]
    many = f"{int(slowed.sum()):,} slowed" if slowed.any() else "none slowed"
    at = elapsed(float(f.t_s[t]))
    top = sheet.section(HEAD_IN, f"Hottest GPU of each server at {at}, the worst moment", f"{many}; slot 0 at the bottom")
    _legend(sheet, top - 0.27, f, heat)
    ax = sheet.plain(EDGE_IN, top, INNER_IN, plan.height_in)
    colours = scale(HEAT)(heat(value))
    ax.add_collection(boxes(plan.cells, facecolors=colours))
    if slowed.any():
        inset = min(0.022, float(plan.cells[0, 3]) * 0.16)
        ring = plan.cells[slowed] + (inset, inset, -2 * inset, -2 * inset)
        ax.add_collection(boxes(ring, facecolors="none", edgecolors=MARK, linewidths=inset * 95))
    if plan.cell_size:
        for (x, y, w, h), c, colour in zip(plan.cells, value, colours, strict=True):
            ink = "#ffffff" if float(colour[:3] @ (0.3, 0.59, 0.11)) < 0.5 else "#11202b"
            ax.text(x + w / 2, y + h / 2 + 0.01, f"{c:.0f}", size=plan.cell_size, color=ink, ha="center", va="center")
    for x, y, name in plan.racks:
        ax.text(x, y, name, size=8, color=sheet.theme.muted, ha="center", va="center")
    for r in range(len(f.rows)):
        _row_label(sheet, ax, f, plan, r, t)


def _row_label(sheet: Sheet, ax: Axes, f: Frames, plan: Floor, r: int, t: int) -> None:
    """Name, power and limit of row `r` in frame `t`, and both as a bar with the limit as its tick."""
    theme, size, width = sheet.theme, plan.label_size, plan.label_in - 0.25
    x, y, _, h = plan.bands[r]
    power_w, limit_w = float(f.row_max_w[t, r]), float(f.row_limit_w[t, r])
    says = f"{power_w / 1e3:,.0f} of {limit_w / 1e3:,.0f} kW"
    colour = theme.limit if power_w > limit_w else theme.ink
    middle = y + h / 2
    if plan.two_lines:
        name = fitting(f.rows[r], size + 3, width, "bold")
        ax.text(x, middle - 0.26, name, size=size + 3, weight="bold", color=theme.ink, va="center")
        ax.text(x, middle, says, size=size, color=colour, va="center")
        bar_y, bar_h = middle + 0.18, 0.09
    else:
        name = fitting(f.rows[r], size, width - width_in(says, size) - 0.12, "bold")
        ax.text(x, middle - 0.05, name, size=size, weight="bold", color=theme.ink, va="center")
        ax.text(x + width, middle - 0.05, says, size=size, color=colour, va="center", ha="right")
        bar_y, bar_h = middle + 0.055, 0.045
    full = width / GAUGE_TOP
    share = min(power_w / limit_w, GAUGE_TOP)
    bars = [(x, full), (x, full * min(share, 1.0)), (x + full, full * max(share - 1.0, 0.0))]
    shape = np.array([(left, bar_y, wide, bar_h) for left, wide in bars])
    ax.add_collection(boxes(shape, facecolors=[theme.sunk, theme.series[0], theme.limit]))
    ax.plot([x + full] * 2, [bar_y - 0.03, bar_y + bar_h + 0.03], color=theme.ink, lw=1.2)


def _legend(sheet: Sheet, top: float, f: Frames, heat: Normalize) -> None:
    left = WIDTH_IN - EDGE_IN - 3.4
    sheet.bar(left, top - 0.07, 3.4, 0.13, HEAT, heat)
    low, high = float(f.slowdown_c.min()), float(f.slowdown_c.max())
    says = f"slowed by heat, from {low:g}" + (f" or {high:g}" if high > low else "") + " °C on"
    left -= 0.25 + width_in(says, 10)
    sheet.text(left, top, says, 10, color=sheet.theme.muted)
    ax = sheet.plain(left - 0.36, top - 0.08, 0.3, 0.16)
    ax.add_collection(boxes(np.array([[0.0, 0.0, 0.3, 0.16]]), facecolors=HEAT[-1]))
    ax.add_collection(boxes(np.array([[0.022, 0.022, 0.256, 0.116]]), facecolors="none", edgecolors=MARK, linewidths=2))
