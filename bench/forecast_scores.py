"""From forecasts and outcomes to the figures of issue 5, each with a moving-block bootstrap interval.

A MASE ratio is the mean over series divided by the mean over series. The scale is the series' mean absolute change from one day
to the next before its scored part. Blocks are 6 h up to an hour ahead, 24 h at a day ahead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.forecast_ours import Issued
from bench.forecast_sets import Judged
from forecast.grids import DAY_S, Floats, carried
from forecast.intervals import Interval, mean, mean_ratio
from forecast.scores import pinball

HOUR_S = 3_600
SHORT_BLOCK_S, LONG_BLOCK_S = 6 * HOUR_S, DAY_S


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A judged set with what was issued for it. Arrays are [O, S] at one horizon; NaN = no pair."""

    given: Judged
    issued: Issued
    chosen: tuple[int, ...] | None = None
    """positions of the series that count; None = all"""

    def of(self, names: Sequence[str]) -> "Scored":
        """Return the same for some of the series."""
        where = tuple(self.given.batch.names.index(name) for name in names)
        return Scored(given=self.given, issued=self.issued, chosen=where)

    @cached_property
    def scale(self) -> Floats:
        """[S] mean absolute change from a day to the next before the scored part; one step's where that is not known."""
        day = DAY_S // self.given.batch.step_s
        out = np.full(len(self.given.batch.names), np.nan)
        for s, (begin, first) in enumerate(zip(self.given.begins, self.given.first, strict=True)):
            past = self.given.batch.values[s, begin : first + 1]
            for lag in (day, 1):
                change = np.abs(past[lag:] - past[:-lag])
                if np.isnan(out[s]) and (~np.isnan(change)).any() and np.nanmean(change) > 0:
                    out[s] = np.nanmean(change)
        return out

    @cached_property
    def known(self) -> Floats:
        """[S, T] the newest value at each moment."""
        return carried(self.given.batch.values)

    def actual(self, seconds: int) -> Floats:
        """What came; NaN where the origin or the outcome lies outside the series' scored part, or is a gap."""
        step, origins = self._steps(seconds), self.issued.origins[:, None]
        ahead = origins + step
        inside = (origins >= self.given.first) & (ahead < self.given.ends)
        columns = self.given.batch.values.shape[1]
        values = self.given.batch.values.T[np.minimum(ahead[:, 0], columns - 1)]
        return np.where(inside, values, np.nan)

    def persistence(self, seconds: int) -> Floats:  # noqa: ARG002 - one signature for all naive forecasts
        """The last known value."""
        return self.known.T[self.issued.origins]

    def seasonal(self, seconds: int) -> Floats:
        """The value at the same time a day before."""
        day = DAY_S // self.given.batch.step_s
        back = self.issued.origins + self._steps(seconds)
        back = np.where(back > self.issued.origins, back - day, back)
        return np.where((back >= 0)[:, None], self.known.T[np.maximum(back, 0)], np.nan)

    def quantile(self, seconds: int, level: float) -> Floats:
        """Ours."""
        return self.issued.values[:, :, int(np.flatnonzero(self.issued.seconds == seconds)[0]), self.issued.levels.index(level)]

    def gaussian(self, seconds: int, level: float) -> Floats:
        """Persistence with a normal band: the deviation of its errors over all that was known a day's begin before."""
        step, day = self._steps(seconds), DAY_S // self.given.batch.step_s
        values, origins = self.given.batch.values, self.issued.origins
        change = values[:, step:] - values[:, :-step]
        out = np.empty((len(origins), len(values)))
        for begin in range(int(origins[0]), int(origins[-1]) + 1, day):
            sd = np.array(
                [np.nanstd(row[: begin + 1 - step]) if (~np.isnan(row[: begin + 1 - step])).any() else np.nan for row in change]
            )
            today = (origins >= begin) & (origins < begin + day)
            out[today] = np.maximum(self.known.T[origins[today]] + NormalDist().inv_cdf(level) * sd, 0.0)
        return out

    def _steps(self, seconds: int) -> int:
        return seconds // self.given.batch.step_s

    def parts(self, table: Floats) -> list[Floats]:
        """Split [O, S] into one array per chosen series, over its own scored origins."""
        where = range(table.shape[1]) if self.chosen is None else self.chosen
        origins = self.issued.origins
        return [table[(origins >= self.given.first[s]) & (origins < self.given.ends[s]), s] for s in where]

    def block(self, seconds: int) -> int:
        """Origins in a block of the bootstrap."""
        stride = int(np.diff(self.issued.origins).min()) * self.given.batch.step_s if len(self.issued.origins) > 1 else 1
        return max(1, (SHORT_BLOCK_S if seconds <= HOUR_S else LONG_BLOCK_S) // stride)


Forecast = Callable[[Scored, int], Floats]


def ours(one: Scored, seconds: int) -> Floats:
    """The issued median."""
    return one.quantile(seconds, 0.5)


def naive(one: Scored, seconds: int) -> Floats:
    """Persistence."""
    return one.persistence(seconds)


def yesterday(one: Scored, seconds: int) -> Floats:
    """Seasonal-naive."""
    return one.seasonal(seconds)


def mase_ratio(sets: Sequence[Scored], seconds: int, top: Forecast, bottom: Forecast, *, series_too: bool) -> Interval:
    """Return the MASE of `top` as a ratio to that of `bottom` over all series of the sets, on the pairs that both forecast."""
    above, below = [], []
    for one in sets:
        actual = one.actual(seconds)
        above += one.parts(np.abs(actual - top(one, seconds)) / one.scale)
        below += one.parts(np.abs(actual - bottom(one, seconds)) / one.scale)
    return mean_ratio(above, below, sets[0].block(seconds), series_too=series_too)


def pinball_ratio(sets: Sequence[Scored], seconds: int, level: float, *, series_too: bool) -> Interval:
    """Return the scaled pinball loss of our upper quantile as a ratio to Gaussian persistence's."""
    above, below = [], []
    for one in sets:
        actual = one.actual(seconds)
        above += one.parts(pinball(actual, one.quantile(seconds, level), level) / one.scale)
        below += one.parts(pinball(actual, one.gaussian(seconds, level), level) / one.scale)
    return mean_ratio(above, below, sets[0].block(seconds), series_too=series_too)


def hits(one: Scored, seconds: int, low: float, high: float) -> Floats:
    """Return [O, S] 1 where the outcome lies between two quantiles (0 = no lower end), 0 where not, NaN = no pair."""
    actual, top = one.actual(seconds), one.quantile(seconds, high)
    bottom = one.quantile(seconds, low) if low > 0 else np.full_like(top, -np.inf)
    return np.where(np.isnan(actual) | np.isnan(top), np.nan, (actual >= bottom) & (actual <= top))


def coverage(sets: Sequence[Scored], horizons_s: Sequence[int], low: float, high: float, *, series_too: bool) -> Interval:
    """Return the share of outcomes inside, over all pairs; a pair's value is its mean over the horizons."""
    values: list[Floats] = []
    for one in sets:
        each = np.stack([hits(one, s, low, high) for s in horizons_s])
        count = (~np.isnan(each)).sum(axis=0)
        values += one.parts(np.where(count > 0, np.nansum(each, axis=0) / np.maximum(count, 1), np.nan))
    return mean(values, sets[0].block(max(horizons_s)), series_too=series_too)


def by_series(sets: Sequence[Scored], seconds: int, low: float, high: float) -> dict[str, Interval]:
    """Return the coverage of each series alone."""
    out = {}
    for one in sets:
        names = one.given.batch.names if one.chosen is None else [one.given.batch.names[s] for s in one.chosen]
        for name, values in zip(names, one.parts(hits(one, seconds, low, high)), strict=True):
            out[name] = mean([values], one.block(seconds))
    return out


def by_day(sets: Sequence[Scored], seconds: int, low: float, high: float) -> dict[str, float]:
    """Return the coverage of each whole day over all series: set/day -> share. A day counts from the scored part's begin."""
    out = {}
    for one in sets:
        table = hits(one, seconds, low, high)
        if one.chosen is not None:
            table = table[:, list(one.chosen)]
        day = (one.issued.origins - one.issued.origins[0]) * one.given.batch.step_s // DAY_S
        for d in np.unique(day):
            values = table[day == d]
            if (~np.isnan(values)).sum() >= 100:
                out[f"{one.given.name}/{d}"] = float(np.nanmean(values))
    return out


def seen(table: Floats) -> NDArray[np.bool_]:
    """Return where there is a value."""
    return ~np.isnan(table)


def columns_of(one: Scored, horizons_s: Sequence[int]) -> dict[str, list[Any]]:
    """Return the raw samples as columns of a long table: one row per (horizon, origin, series) with an outcome."""
    out: dict[str, list[Any]] = {}
    for s in horizons_s:
        actual = one.actual(s)
        o, series = np.nonzero(seen(actual))
        columns = {
            "row": series.astype(np.int64),
            "ts_s": one.given.batch.ts[one.issued.origins[o]],
            "horizon_s": np.full(len(o), s, dtype=np.int64),
            "actual": actual[o, series],
            "persistence": one.persistence(s)[o, series],
            "seasonal": one.seasonal(s)[o, series],
            "gaussian_p99": one.gaussian(s, 0.99)[o, series],
        }
        columns |= {f"p{100 * level:g}": one.quantile(s, level)[o, series] for level in one.issued.levels}
        for name, values in columns.items():
            out.setdefault(name, []).append(values)
    return out
