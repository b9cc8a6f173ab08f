"""Pictures of forecasts, by matplotlib: it comes in with this module, so import it where a picture is asked for.

Everything is drawn in the colours of LIGHT; `inline` turns them into the page's own: its pictures follow its theme.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from forecast.scores import opposite

Floats = NDArray[np.float64]

LIGHT = {
    "card": "#ffffff",
    "ink": "#11202b",
    "muted": "#536572",
    "line": "#d5dfe6",
    "accent": "#0b7389",
    "bad": "#c4262e",
    "second": "#c96a00",
    "third": "#6b4fb0",
    "fourth": "#7a7400",
}
"""CSS variable of the page -> colour; told apart without red and green"""
HORIZONS = (("accent", "o"), ("second", "s"), ("third", "^"), ("fourth", "D"), ("muted", "v"))
"""colour and mark of the horizons, in their order"""
WIDTH_IN = 4.6
DPI = 200
FONT: dict[Any, Any] = {"font.size": 10.5, "svg.fonttype": "none", "svg.hashsalt": "coldaisle", "axes.unicode_minus": True}
HOUR_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Fan:
    """Quantiles over time, what was known before and what came. Times in seconds from a zero that `axis` names."""

    axis: str
    unit: str
    levels: tuple[float, ...]
    at_s: Floats
    """[N]"""
    values: Floats
    """[N, L]"""
    past_s: Floats
    past: Floats
    came_s: Floats
    came: Floats
    """empty where the future has not come"""


def fan_figure(fan: Fan, height_in: float = 3.1) -> Figure:
    """Return a fan chart: P1 to P99, P5 to P95, P25 to P75, the median, and the readings."""
    figure, ax = _sheet(height_in)
    middle = fan.levels.index(0.5)
    for i in range(middle):
        low, high = fan.values[:, i], fan.values[:, opposite(fan.levels, i)]
        ax.fill_between(fan.at_s, low, high, color=LIGHT["accent"], alpha=0.16, linewidth=0)
    ax.plot(fan.at_s, fan.values[:, middle], color=LIGHT["accent"], linewidth=1.6, label="median and bands")
    if len(fan.past):
        ax.plot(fan.past_s, fan.past, color=LIGHT["ink"], linewidth=1.1, label="measured")
        ax.axvline(0.0, color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (2, 3)))
    if len(fan.came):
        ax.plot(fan.came_s, fan.came, color=LIGHT["ink"], linewidth=0, marker=".", markersize=3.2, label="what came")
    _cut(ax, fan)
    _hours(ax, fan.axis)
    ax.set_ylabel(fan.unit)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}"))
    _legend(ax)
    return figure


def reliability_figure(horizons: Sequence[str], levels: Sequence[float], shares: Sequence[Sequence[float | None]]) -> Figure:
    """Return observed against promised shares on logit axes, a line per horizon; on the diagonal a forecast keeps its word."""
    figure, ax = _sheet(3.9)
    ends = (min(levels) / 3, 1 - (1 - max(levels)) / 3)
    ax.plot(levels, levels, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), label="as promised")
    for (colour, mark), horizon, share in zip(_cycle(len(horizons)), horizons, shares, strict=True):
        there = [(level, s) for level, s in zip(levels, share, strict=True) if s is not None]
        if there:
            at, seen = zip(*there, strict=True)
            ax.plot(at, np.clip(seen, *ends), color=LIGHT[colour], marker=mark, markersize=4.5, linewidth=1.3, label=horizon)
    for axis, scale, limits in ((ax.xaxis, ax.set_xscale, ax.set_xlim), (ax.yaxis, ax.set_yscale, ax.set_ylim)):
        scale("logit")
        limits(*ends)
        axis.set_major_locator(FixedLocator(list(levels)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda p, _: f"{100 * p:g}"))
    ax.set_xlabel("quantile, %")
    ax.set_ylabel("outcomes at or below it, %")
    _legend(ax, "upper left", columns=1)
    return figure


def skill_figure(
    models: Sequence[str], horizons: Sequence[str], ratios: Sequence[Sequence[float | None]], against: str
) -> Figure:
    """Return each model's error over that of `against`, a row per model and a mark per horizon; left of 1 is better."""
    figure, ax = _sheet(1.15 + 0.24 * len(models))
    most = 2.0
    rows = np.arange(len(models))[::-1]
    for (colour, mark), horizon, ratio in zip(_cycle(len(horizons)), horizons, ratios, strict=True):
        x = np.array([np.nan if r is None else r for r in ratio])
        ax.plot(
            np.where(x <= most, x, np.nan), rows, color=LIGHT[colour], marker=mark, markersize=5, linewidth=0, label=horizon
        )
        far = x > most
        ax.plot(np.full(int(far.sum()), most), rows[far], color=LIGHT[colour], marker=">", markersize=7, linewidth=0)
    ax.axvline(1.0, color=LIGHT["ink"], linewidth=1.0)
    ax.grid(visible=True, axis="y", color=LIGHT["line"], linewidth=0.6)
    ax.set_yticks(rows, models)
    ax.tick_params(axis="y", labelcolor=LIGHT["ink"])
    for name, label in zip(models, ax.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if name == "champion" else "normal")
    ax.set_ylim(-0.7, len(models) - 0.3)
    ax.set_xlim(None, most + 0.06)
    ax.set_xlabel(f"error / that of {against}")
    _legend(ax, columns=len(horizons))
    return figure


def inline(figure: Figure, name: str, said: str) -> str:
    """Return the figure as SVG for a page: colours as the page's variables, ids its own, `said` for who cannot see it."""
    out = StringIO()
    with mpl.rc_context(FONT):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", rf'<svg viewBox="\1" role="img" aria-label="{said}">', text, count=1
    )
    text = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text).replace("xlink:href", "href")
    text = re.sub(r"font: ((?:bold |\d+ )?[\d.]+px) [^;\"]*", r"font: \1 var(--font)", text)
    for variable, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{variable})")
    return text


def saved(figure: Figure, file: Path) -> None:
    """Write the figure as .png or .svg."""
    with mpl.rc_context(FONT):
        figure.savefig(file, dpi=DPI, metadata={"Date": None} if file.suffix == ".svg" else None)


def _sheet(height_in: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(FONT):
        figure = Figure(figsize=(WIDTH_IN, height_in), facecolor=LIGHT["card"], layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot(facecolor="none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(LIGHT["line"])
    ax.tick_params(colors=LIGHT["muted"], length=3)
    ax.xaxis.label.set_color(LIGHT["muted"])
    ax.yaxis.label.set_color(LIGHT["muted"])
    ax.grid(visible=True, color=LIGHT["line"], linewidth=0.5)
    ax.set_axisbelow(True)
    return figure, ax


def _legend(ax: Axes, where: str = "outside", columns: int = 3) -> None:
    box = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0)} if where == "outside" else {"loc": where}
    legend = ax.legend(frameon=False, fontsize=9, ncols=columns, handlelength=1.4, columnspacing=1.2, borderpad=0.2, **box)
    for text in legend.get_texts():
        text.set_color(LIGHT["muted"])


def _cut(ax: Axes, fan: Fan) -> None:
    """Leave the widest band out of sight where it would press all else to the ground, and say how far it goes."""
    inner = fan.values[:, 1:-1] if len(fan.levels) > 4 else fan.values
    seen = np.concatenate([inner.ravel(), fan.past, fan.came])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    margin = 0.25 * (high - low or abs(high) or 1.0)
    least, most = float(fan.values.min()), float(fan.values.max())
    said = []
    if most > high + 2 * margin:
        ax.set_ylim(top=high + margin)
        said.append(f"up to {most:,.4g}")
    if least < low - 2 * margin:
        ax.set_ylim(bottom=low - margin)
        said.append(f"down to {least:,.4g}")
    if said:
        text = f"widest band {', '.join(said)}"
        ax.text(0.02, 0.97, text, transform=ax.transAxes, va="top", fontsize=9, color=LIGHT["muted"])


def _hours(ax: Axes, label: str) -> None:
    """Put ticks on whole hours, or on minutes where the axis is short."""
    low, high = ax.get_xlim()
    span_h = (high - low) / HOUR_S
    if span_h <= 3:
        unit_s, steps, name = 60.0, [1, 1.5, 2, 3, 5, 6, 10], "min"
    else:
        unit_s, steps, name = HOUR_S, [1, 1.2, 1.5, 2, 3, 4, 6, 8, 10], "h"
    ticks = MaxNLocator(nbins=7, steps=steps, integer=True).tick_values(low / unit_s, high / unit_s)
    ax.xaxis.set_major_locator(FixedLocator([t * unit_s for t in ticks if low <= t * unit_s <= high]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit_s:g}"))
    ax.set_xlabel(f"{name} {label}")


def _cycle(count: int) -> list[tuple[str, str]]:
    return [HORIZONS[i % len(HORIZONS)] for i in range(count)]
