"""Which forecasts of a backtest are worth a picture: a typical, the best and the worst series, and the worst days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from coldaisle.forecast_pictures import Fan
from contracts.forecasts import LEVELS, UNITS
from forecast.backtest import Result
from forecast.backtest_report import Report, judged, worst_days
from forecast.grids import DAY_S
from forecast.scores import Day
from forecast.voices import CHAMPION

Floats = NDArray[np.float64]
LEAST_PAST_S = 6 * 3_600


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A fan with its words."""

    title: str
    said: str
    fan: Fan


def fans(result: Result) -> list[Shown]:
    """Return one fan of a typical, the best and the worst series, each from its origin of median error; fewer of few series.

    Series are ranked by the champion's MASE, the mean over the horizons; those without a MASE are left out.
    """
    ranked = _ranked(result.report)
    if not ranked:
        return []
    picks = {len(ranked) // 2: "typical", 0: "best", len(ranked) - 1: "worst"} if len(ranked) > 2 else dict(_few(len(ranked)))
    found = [(word, ranked[i], _fan(result, ranked[i][0])) for i, word in picks.items()]
    return [
        Shown(
            title=f"{series} ({word})" if word else series,
            said=f"MASE {mase:.2f}, mean over the horizons; the forecast of {_time(at)}, of median error",
            fan=fan,
        )
        for word, (series, mase), made in found
        if made is not None
        for fan, at in [made]
    ]


def worst(result: Result) -> list[tuple[Day, Shown]]:
    """Return the worst day of each horizon, with what was said that far ahead of its worst series over the day."""
    out = []
    for horizon, knot in result.plan.horizons.items():
        for day in worst_days(result.report, horizon, 1):
            said = (
                f"{day.coverage_90:.0%} of {day.points:,} outcomes inside the 90 % band, of {day.worst_series} "
                f"{day.worst_coverage_90:.0%}; what had been said {horizon} ahead"
            )
            title = f"{horizon} ahead, {day.day}: {day.worst_series}"
            out.append((day, Shown(title=title, said=said, fan=_of_day(result, day, knot))))
    return out


def _ranked(report: Report) -> list[tuple[str, float]]:
    by_series: dict[str, list[float]] = {}
    for one in report.scores:
        if one.model == CHAMPION and one.mase is not None:
            by_series.setdefault(one.series, []).append(one.mase)
    return sorted(((name, float(np.mean(m))) for name, m in by_series.items()), key=lambda pair: pair[1])


def _few(count: int) -> Sequence[tuple[int, str]]:
    return [(0, "")] if count == 1 else [(0, "better"), (1, "worse")]


def _fan(result: Result, series: str) -> tuple[Fan, int] | None:
    """Return the fan of a series from its origin of median error, and that origin's time; None where no origin had a band."""
    rolled, batch = result.rolled, result.rolled.batch
    s, past = batch.names.index(series), rolled.pasts[CHAMPION]
    banded = ~np.isnan(result.quantiles[CHAMPION][:, :, s, 0])
    count = np.where(np.isnan(past.errors[:, :, s]), 0, banded).sum(axis=1)
    if not count.max(initial=0):
        return None
    full = np.flatnonzero(count == count.max())
    error = np.nansum(np.where(banded, np.abs(past.errors[:, :, s]), np.nan)[full], axis=1)
    o = int(full[np.argsort(error)[len(full) // 2]])
    column, knots = int(past.origins[o]), past.knots[banded[o]]
    values = result.quantiles[CHAMPION][o, banded[o], s]
    since = max(0, column + 1 - max(int(knots[-1]), LEAST_PAST_S // batch.step_s))
    until = min(column + int(knots[-1]) + 1, len(batch.ts))
    zero = int(batch.ts[column])
    now = batch.values[s, column]
    if not np.isnan(now):
        knots, values = np.concatenate([[0], knots]), np.concatenate([np.full((1, len(LEVELS)), now), values])
    fan = Fan(
        axis=f"from {_time(zero)}",
        unit=unit_of(batch.target),
        levels=LEVELS,
        at_s=knots * float(batch.step_s),
        values=values,
        past_s=(batch.ts[since : column + 1] - zero).astype(np.float64),
        past=batch.values[s, since : column + 1],
        came_s=(batch.ts[column + 1 : until] - zero).astype(np.float64),
        came=batch.values[s, column + 1 : until],
    )
    return fan, zero


def _of_day(result: Result, day: Day, knot: int) -> Fan:
    batch = result.rolled.batch
    s, own = batch.names.index(day.worst_series), judged(result.rolled, result.quantiles[CHAMPION], knot)
    begin = int(datetime(day.day.year, day.day.month, day.day.day, tzinfo=UTC).timestamp())
    on = (own.valid_ts > begin) & (own.valid_ts <= begin + DAY_S) & ~np.isnan(own.quantiles[:, s, 0])
    came = (batch.ts > begin) & (batch.ts <= begin + DAY_S)
    empty = np.empty(0)
    return Fan(
        axis=f"of {day.day} UTC",
        unit=unit_of(batch.target),
        levels=LEVELS,
        at_s=(own.valid_ts[on] - begin).astype(np.float64),
        values=own.quantiles[on, s],
        past_s=empty,
        past=empty,
        came_s=(batch.ts[came] - begin).astype(np.float64),
        came=batch.values[s, came],
    )


def unit_of(target: str) -> str:
    """Return the unit in which a target's values are."""
    return next((unit for name, unit in UNITS.items() if name == target), "")


def _time(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"
