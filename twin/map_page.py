"""The twin's map as one page: a single HTML file that carries its data and code and loads nothing from anywhere."""

import base64
import html as markup
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.map import COOL, HEAT, POWER, Floats, Frames, elapsed, headline, summary
from twin.map_recorder import coarser

PAGES = Path(__file__).parent / "pages"
SCRIPTS = ("map_data.js", "map_floor.js", "map_power.js", "map.js")
MOST_VALUES = 300_000
"""servers times frames that a page carries: 8 bytes of text each, so 2.4 MB; a longer run gets coarser frames"""


def html(f: Frames) -> str:
    """Return the page of a run. It works from a file, offline, in dark and light, by keyboard and for a screen reader."""
    shown = coarser(f, max(2, MOST_VALUES // len(f.servers)))
    # No "<" in the data: no name in it can end the script that holds it.
    data = json.dumps(_data(shown), ensure_ascii=True, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "title": markup.escape(f"{f.site}: {headline(f)}"),
        "style": _text("map.css"),
        "script": "\n".join(_text(name) for name in SCRIPTS),
        "data": data,
    }
    return re.sub(r"\{(title|style|script|data)\}", lambda found: parts[found[1]], _text("map.html"))


def _text(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _data(f: Frames) -> dict[str, Any]:
    """What the page knows; numbers over time are quantised: .1 degC, 1 W a server, 10 W a row."""
    s, words = summary(f), headline(f)
    run_s = f.until_s - float(f.t_s[0])
    each_s = run_s / float(f.samples.sum()) * float(f.samples.max())
    rows = f"{len(f.rows):,} row" + ("" if len(f.rows) == 1 else "s")
    return {
        "site": f.site,
        "headline": words[0].upper() + words[1:],
        "said": f"{len(f.servers):,} servers in {rows} · temperatures: the highest within {elapsed(each_s)}",
        "rows": f.rows,
        "servers": f.servers,
        "row_of": f.row_of.tolist(),
        "rack_of": f.rack_of,
        "slot_of": f.slot_of.tolist(),
        "slowdown_c": f.slowdown_c.tolist(),
        "t_s": f.t_s.tolist(),
        "until_s": f.until_s,
        "worst": s.worst,
        "hottest": s.hottest,
        "events": [(a, b if np.isfinite(b) else None, said) for a, b, said in f.events if a < f.until_s],
        "gpu_c": packed(f.hottest_gpu_c, 0.1),
        "inlet_c": packed(f.inlet_c, 0.1),
        "server_w": packed(f.server_w, 1.0),
        "slowed": _base64(np.packbits(f.slowed)),
        "row_w": packed(f.row_w, 10.0),
        "row_max_w": packed(f.row_max_w, 10.0),
        "row_limit_w": packed(f.row_limit_w, 10.0),
        "full_w": f.row_limit_w.max(axis=0).tolist(),
        "over": f.over_share.tolist(),
        "scales": {
            "gpu": _scale(HEAT, f.hottest_gpu_c, 5.0, float(f.slowdown_c.max())),
            "inlet": _scale(COOL, f.inlet_c, 1.0),
            "power": _scale(POWER, f.server_w, 100.0),
        },
    }


def packed(value: Floats, unit: float) -> dict[str, Any]:
    """Return `value` as base + unit * a 16 bit integer, little-endian in base64; a wide range gets a coarser unit."""
    base = float(np.floor(value.min() / unit) * unit)
    while (value.max() - base) / unit > 65_534:
        unit *= 2.0
    return {"base": base, "unit": unit, "data": _base64(np.rint((value - base) / unit).astype("<u2"))}


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _scale(stops: tuple[str, ...], value: Floats, step: float, high: float = -np.inf) -> dict[str, Any]:
    """The colours' ends: all but the lowest thousandth of the values lies between, on whole steps below."""
    low = float(np.floor(np.quantile(value, 0.001) / step) * step)
    return {"stops": stops, "low": low, "high": max(high, float(value.max()), low + step)}
