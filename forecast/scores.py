"""How good forecasts were: the keys of a backtest's report, per model, horizon and series."""

from collections.abc import Sequence

import msgspec
import numpy as np

from forecast.grids import Floats, day_steps


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
    )


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
