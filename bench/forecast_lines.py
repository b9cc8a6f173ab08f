"""The lines of the report: a figure with its interval beside what must be reached.

A bar counts as met when the 90 % interval does not exclude it; the point stands beside it.
"""

from collections.abc import Mapping, Sequence
from math import inf, isnan
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from bench.forecast_peers import AHEAD_S, on_grid
from bench.forecast_scores import (
    Forecast,
    Scored,
    by_day,
    by_series,
    coverage,
    mase_ratio,
    naive,
    ours,
    pinball_ratio,
    yesterday,
)
from bench.forecast_sets import Judged
from forecast.grids import DAY_S, Floats
from forecast.intervals import Interval

MIN_15, HOUR, DAY = 1_200, 3_600, DAY_S
"""on 10 min series the 15 min horizon is the second step"""
WITHIN_HOUR = (600, 1_200, 1_800, 3_600)
HORIZONS_S = (*WITHIN_HOUR, DAY)
NAIVE = {"persistence": naive, "seasonal-naive": yesterday}


class Range(NamedTuple):
    """What a figure must lie in."""

    least: float
    most: float

    def holds(self, found: Interval) -> bool:
        """Whether the interval reaches into the range; nothing scored = no."""
        return bool(not isnan(found.value) and found.lo <= self.most and found.hi >= self.least)


def at_most(value: float) -> Range:
    return Range(-inf, value)


def at_least(value: float) -> Range:
    return Range(value, inf)


def around(value: float, slack: float) -> Range:
    return Range(round(value - slack, 4), round(value + slack, 4))


def line(what: str, on: str, found: Interval, bar: Range | None, goal: Range | None, **more: Any) -> dict[str, Any]:
    """Return one line of the report; `met` by the interval, `point_met` by the figure alone."""
    out: dict[str, Any] = {"what": what, "set": on, **rounded(found), **more}
    if bar is not None:
        out |= {
            "bar": _ends(bar),
            "met": bar.holds(found),
            "point_met": bar.holds(found._replace(lo=found.value, hi=found.value)),
        }
    if goal is not None:
        out |= {"goal": _ends(goal), "goal_met": goal.holds(found)}
    return out


def rounded(found: Interval) -> dict[str, Any]:
    """Return the interval for JSON; null where there was nothing to score."""
    ends = {key: None if isnan(v) else round(float(v), 4) for key, v in zip(("value", "lo", "hi"), found[:3], strict=True)}
    return {**ends, "pairs": found.pairs}


def _ends(wanted: Range) -> list[float | None]:
    return [None if abs(end) == inf else end for end in wanted]


def loads(level: Scored, mixed: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return the lines on real loads: against the naive ones, pinball, coverage."""
    large = level.of(["m-large"])
    text = "mixed" if len(mixed) > 1 else "mixed (without twin rows)"
    out = [
        line("15 min / persistence", "model level", _ratio([level], MIN_15, naive), at_most(0.96), at_most(0.90)),
        line("1 h / persistence", "model level", _ratio([level], HOUR, naive), at_most(0.94), at_most(0.85)),
        line("24 h / seasonal-naive", "m-large", _ratio([large], DAY, yesterday), at_most(0.93), at_most(0.85)),
        line("15 min / persistence", text, _ratio(mixed, MIN_15, naive, True), None, None),
        line("1 h / persistence", text, _ratio(mixed, HOUR, naive, True), None, None),
        line(
            "15 min P99 pinball / Gaussian persistence",
            text,
            pinball_ratio(mixed, MIN_15, 0.99, series_too=True),
            at_most(0.80),
            at_most(0.70),
        ),
        line(
            "15 min P99 pinball / Gaussian persistence",
            "model level",
            pinball_ratio([level], MIN_15, 0.99, series_too=False),
            at_most(0.92),
            at_most(0.85),
        ),
        line("1 h P99 pinball / Gaussian persistence", text, pinball_ratio(mixed, HOUR, 0.99, series_too=True), None, None),
    ]
    for sets, on in ((mixed, text), ([level], "model level")):
        out += covered(sets, on)
    return out


def rows(one: Scored) -> list[dict[str, Any]]:
    """Return the lines on the twin's row power, 5 min means."""
    on = "row power, twin"
    out = [
        line(f"{s // 60} min / persistence", on, _ratio([one], s, naive, True), at_most(0.75), at_most(0.6))
        for s in (900, HOUR)
    ]
    out.append(line("24 h / seasonal-naive", on, _ratio([one], DAY, yesterday, True), None, None))
    return out + covered([one], on)


def maxima(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines on the highest row power within 45 s, from `studies.row_maxima`: how often it is exceeded."""
    out = []
    for one in records:
        if one["window_s"] == 45 and one["beyond"] in (0.001, 0.0001):
            found = Interval(one["observed"], one["low"], one["high"], one["windows"])
            bar = Range(0.5e-3, 2e-3) if one["forecaster"] == "ours" and one["beyond"] == 0.001 else None
            out.append(
                line(f"row maximum over 45 s beyond {one['beyond']:g}, {one['forecaster']}", one["kind"], found, bar, None)
            )
            out[-1] |= {name: float(f"{end:.3g}") for name, end in zip(("value", "lo", "hi"), found[:3], strict=True)}
    return out


def horizons(given: Judged) -> tuple[int, ...]:
    """Return the horizons at which a set is issued: on 5 min series 15 min too."""
    return tuple(sorted({*HORIZONS_S, *((900,) if 900 % given.batch.step_s == 0 else ())}))


def _ratio(sets: Sequence[Scored], seconds: int, against: Forecast, series_too: bool = False) -> Interval:
    return mase_ratio(sets, seconds, ours, against, series_too=series_too)


def covered(sets: Sequence[Scored], on: str) -> list[dict[str, Any]]:
    """Return the lines of coverage: up to 1 h together and each horizon, 24 h, worst series and day."""
    many = len(sets[0].given.batch.names) > 4
    out = []
    for low, high, name, near, far in ((0.05, 0.95, "90 %", 0.015, 0.03), (0.01, 0.99, "98 %", 0.01, 0.03)):
        share = high - low
        found = coverage(sets, WITHIN_HOUR, low, high, series_too=many)
        out.append(line(f"coverage {name} up to 1 h", on, found, around(share, near), around(share, near / 2)))
        each = {s // 60: coverage(sets, [s], low, high, series_too=many) for s in WITHIN_HOUR}
        out += [line(f"coverage {name} at {minutes} min", on, one, None, None) for minutes, one in each.items()]
        found = coverage(sets, [DAY], low, high, series_too=many)
        out.append(line(f"coverage {name} at 24 h", on, found, around(share, far), around(share, far / 2)))
    for s, name in ((MIN_15, "15 min"), (HOUR, "1 h")):
        series = by_series(sets, s, 0.0, 0.99)
        worst = min(series, key=lambda key: (series[key].value, key))
        out.append(line(f"worst series below P99, {name}", on, series[worst], at_least(0.98), at_least(0.985), series=worst))
        days = by_day(sets, s, 0.05, 0.95)
        if days:
            day = min(days, key=lambda key: days[key])
            out.append({"what": f"worst day, coverage 90 % at {name}", "set": on, "value": round(days[day], 4), "day": day})
    return out


def naive_wins(sets: Mapping[str, Sequence[Scored]]) -> list[dict[str, Any]]:
    """Return every case in which a naive forecast was better: whole sets and single series."""
    out = []
    for on, some in sets.items():
        each: list[tuple[str, Sequence[Scored]]] = [("all", some)]
        each += [(name, [one.of([name])]) for one in some for name in one.given.batch.names]
        for series, chosen in each:
            for s in (MIN_15, HOUR, DAY):
                for name, against in NAIVE.items():
                    found = _ratio(chosen, s, against)
                    if found.value > 1:
                        out.append({"set": on, "series": series, "horizon_s": s, "naive": name, **rounded(found)})
    return out


def peers(mixed: Sequence[Scored], answers: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Return ours and both naive ones against each peer, on the pairs that the peer has answered."""
    bars = {"AutoTheta": (at_most(0.95), at_most(0.85)), "Prophet": (at_most(0.60), at_most(0.50))}
    out = []
    for peer, found in answers.items():
        for seconds, text in zip(AHEAD_S, ("15 min", "1 h", "24 h"), strict=True):
            tables = [on_grid(found, one.given, one.issued.origins, seconds // one.given.batch.step_s) for one in mixed]
            series = sum(int((~np.isnan(table)).any(axis=0).sum()) for table in tables)
            bar, goal = bars.get(peer, (None, None)) if seconds == MIN_15 else (None, None)
            for name, top in (("ours", ours), *NAIVE.items()):
                ratio = mase_ratio(mixed, seconds, top, _fixed(mixed, tables), series_too=True)
                ends = (bar, goal) if name == "ours" else (None, None)
                out.append(line(f"{text}: {name} / {peer}", "mixed", ratio, *ends, series=series))
    return out


def _fixed(sets: Sequence[Scored], tables: Sequence[Floats]) -> Forecast:
    of = {one.given.name: table for one, table in zip(sets, tables, strict=True)}
    return lambda one, _seconds: of[one.given.name]
