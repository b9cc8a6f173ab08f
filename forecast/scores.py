"""How good forecasts were: the keys of a backtest's report, per model, horizon and series."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import msgspec
import numpy as np

from forecast.grids import DAY_S, Floats, Ints, day_steps


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one horizon on one series. NaN-free: a figure that cannot be had is None."""

    model: str
    horizon: str
    """as asked, e.g. 15m"""
    series: str
    points: int
    """forecasts that were scored"""
    mase: float | None
    """mean absolute error of the median path / in-sample mean absolute error of the daily seasonal-naive"""
    pinball_99: float | None
    """pinball loss of P99, in the same unit as mase"""
    coverage_90: float | None
    """share inside [P5, P95]"""
    coverage_98: float | None
    """share inside [P1, P99]"""
    below_99: float | None
    """share at or below P99"""
    vs_persistence: float | None
    """mean absolute error / that of persistence on the same points"""
    vs_seasonal: float | None
    """the same against the seasonal-naive"""
    persistence_mase: float | None = None
    """of persistence, on the same points"""
    seasonal_mase: float | None = None
    """of the seasonal-naive, on the same points"""
    banded: int = 0
    """forecasts that had a band: coverage and pinball are over these"""


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one horizon over all series. MASE: mean over the series; ratios: mean over series / mean over series."""

    model: str
    horizon: str
    series: int
    """series with a MASE"""
    points: int
    mase: float | None
    vs_persistence: float | None
    vs_seasonal: float | None
    pinball_99: float | None
    """mean over the series, in the unit of mase"""
    coverage_90: float | None
    """over all points"""
    coverage_98: float | None
    below_99: float | None
    worst_series: str
    """the series with the smallest share below P99; empty where none had a band"""
    worst_below_99: float | None


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One quantile level of one model at one horizon, over all series. Of a quantile of level p at most p of the outcomes lie
    below and at least p at or below; the two differ where outcomes are the bound itself, as of a load that is zero."""

    model: str
    horizon: str
    level: float
    below: float | None
    at_or_below: float | None
    share: float | None
    """what lies between the two and nearest to the level: the level itself where the quantile keeps its word"""
    points: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """One model's forecasts whose outcome fell on one day (UTC), all series."""

    model: str
    horizon: str
    day: date
    points: int
    coverage_90: float
    vs_persistence: float | None
    """sum of absolute errors, each over its series' MASE scale, as a ratio to persistence's"""
    worst_series: str
    worst_coverage_90: float
    """of that series on that day"""


def seasonal_scale(values: Floats, step_s: int) -> Floats:
    """Return [S] the mean absolute change from one day to the next in `values` [S, T] (MASE's scale; Hyndman and Koehler 2006);
    NaN where less than a day and a step is known or nothing changes."""
    day = day_steps(step_s)
    if values.shape[1] <= day:
        return np.full(len(values), np.nan)
    change = np.abs(values[:, day:] - values[:, :-day])
    count = (~np.isnan(change)).sum(axis=1)
    mean = np.where(count > 0, np.nansum(change, axis=1) / np.maximum(count, 1), np.nan)
    return np.where(mean > 0, mean, np.nan)


def pinball(actual: Floats, quantile: Floats, level: float) -> Floats:
    """Return the pinball loss of a quantile forecast, elementwise."""
    below = actual - quantile
    return np.maximum(level * below, (level - 1.0) * below)


def score(
    model: str,
    horizon: str,
    series: str,
    *,
    actual: Floats,
    path: Floats,
    quantiles: Floats,
    levels: Sequence[float],
    scale: float,
    persistence: Floats,
    seasonal: Floats,
) -> Score:
    """Score one series: `actual`, `path` and the naive paths [N]; `quantiles` [N, L] (NaN where there was no band)."""
    known = ~np.isnan(actual) & ~np.isnan(path)
    banded = known & ~np.isnan(quantiles).any(axis=1)
    at = {level: quantiles[:, i] for i, level in enumerate(levels)}
    losses = pinball(actual, at[0.99], 0.99) / scale
    return Score(
        model=model,
        horizon=horizon,
        series=series,
        points=int(known.sum()),
        mase=_mean(np.abs(actual - path) / scale, known),
        pinball_99=_mean(losses, banded),
        coverage_90=_mean(((actual >= at[0.05]) & (actual <= at[0.95])).astype(np.float64), banded),
        coverage_98=_mean(((actual >= at[0.01]) & (actual <= at[0.99])).astype(np.float64), banded),
        below_99=_mean((actual <= at[0.99]).astype(np.float64), banded),
        vs_persistence=_ratio(actual, path, persistence, known),
        vs_seasonal=_ratio(actual, path, seasonal, known),
        persistence_mase=_mean(np.abs(actual - persistence) / scale, known & ~np.isnan(persistence)),
        seasonal_mase=_mean(np.abs(actual - seasonal) / scale, known & ~np.isnan(seasonal)),
        banded=int(banded.sum()),
    )


def overall(scores: Sequence[Score]) -> tuple[Overall, ...]:
    """Return one figure per model and horizon, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for one in scores:
        groups.setdefault((one.model, one.horizon), []).append(one)
    return tuple(_overall(group) for group in groups.values())


def reliability(model: str, horizon: str, actual: Floats, quantiles: Floats, levels: Sequence[float]) -> list[Level]:
    """Return, per level, the share of `actual` [N, S] below its quantile [N, S, L], and at or below it."""
    banded = ~np.isnan(actual) & ~np.isnan(quantiles).any(axis=2)
    came, said = actual[banded], quantiles[banded]
    out = []
    for i, level in enumerate(levels):
        low = float((came < said[:, i]).mean()) if came.size else None
        high = float((came <= said[:, i]).mean()) if came.size else None
        share = None if low is None or high is None else min(max(level, low), high)
        out.append(
            Level(model=model, horizon=horizon, level=level, below=low, at_or_below=high, share=share, points=int(came.size))
        )
    return out


def days(
    model: str,
    horizon: str,
    names: Sequence[str],
    *,
    valid_ts: Ints,
    actual: Floats,
    path: Floats,
    persistence: Floats,
    low: Floats,
    high: Floats,
    scale: Floats,
) -> list[Day]:
    """Return one row per day of `valid_ts` [N] (s, END of the interval forecast), least coverage first.

    `low`, `high`: P5 and P95; all [N, S] but `scale` [S].
    """
    banded = ~np.isnan(actual) & ~np.isnan(low) & ~np.isnan(high) & ~np.isnan(path)
    inside = (actual >= low) & (actual <= high)
    mine, naive = np.abs(actual - path) / scale, np.abs(actual - persistence) / scale
    day = (valid_ts - 1) // DAY_S  # an interval that ends at midnight belongs to the day before
    out = []
    for number in np.unique(day).tolist():
        on = banded & (day == number)[:, None]
        if not on.any():
            continue
        count = on.sum(axis=0)
        covered = np.where(count > 0, (inside & on).sum(axis=0) / np.maximum(count, 1), np.inf)
        worst = int(np.argmin(covered))
        both = on & ~np.isnan(naive)
        bottom = float(naive[both].sum())
        out.append(
            Day(
                model=model,
                horizon=horizon,
                day=datetime.fromtimestamp(number * DAY_S, UTC).date(),
                points=int(on.sum()),
                coverage_90=float(inside[on].mean()),
                vs_persistence=float(mine[both].sum()) / bottom if bottom > 0 else None,
                worst_series=names[worst],
                worst_coverage_90=float(covered[worst]),
            )
        )
    return sorted(out, key=lambda one: (one.coverage_90, one.day))


def opposite(levels: Sequence[float], i: int) -> int:
    """Return the index of the level as far above the median as level `i` is below it; of the highest where there is none."""
    near = min(range(len(levels)), key=lambda j: abs(levels[j] - (1 - levels[i])))
    return near if levels[near] > 0.5 else len(levels) - 1


def _overall(group: Sequence[Score]) -> Overall:
    banded = [s for s in group if s.banded and s.below_99 is not None]
    worst = min(banded, key=lambda s: s.below_99 or 0.0, default=None)
    scaled = [s for s in group if s.mase is not None]
    return Overall(
        model=group[0].model,
        horizon=group[0].horizon,
        series=len(scaled),
        points=sum(s.points for s in group),
        mase=_plain([s.mase for s in scaled]),
        vs_persistence=_of_means([(s.mase, s.persistence_mase) for s in scaled]),
        vs_seasonal=_of_means([(s.mase, s.seasonal_mase) for s in scaled]),
        pinball_99=_plain([s.pinball_99 for s in group]),
        coverage_90=_pooled([(s.coverage_90, s.banded) for s in banded]),
        coverage_98=_pooled([(s.coverage_98, s.banded) for s in banded]),
        below_99=_pooled([(s.below_99, s.banded) for s in banded]),
        worst_series=worst.series if worst else "",
        worst_below_99=worst.below_99 if worst else None,
    )


def _plain(values: Sequence[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else None


def _of_means(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    bottom = sum(b for _, b in both)
    return sum(a for a, _ in both) / bottom if bottom > 0 else None


def _pooled(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    there = [(share, n) for share, n in pairs if share is not None]
    points = sum(n for _, n in there)
    return sum(share * n for share, n in there) / points if points else None


def _mean(values: Floats, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float | None:
    if not known.any():
        return None
    mean = float(np.mean(values[known]))
    return mean if np.isfinite(mean) else None


def _ratio(actual: Floats, path: Floats, naive: Floats, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float | None:
    both = known & ~np.isnan(naive)
    if not both.any():
        return None
    bottom = float(np.mean(np.abs(actual - naive)[both]))
    return float(np.mean(np.abs(actual - path)[both])) / bottom if bottom > 0 else None
