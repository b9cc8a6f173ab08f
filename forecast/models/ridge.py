"""Ridge: a seasonal curve, and on what it leaves one linear regression per horizon, batched over all series in numpy.

1. The curve: Fourier terms of the day (and of the week from two weeks on), one ridge regression per series.
2. The change until horizon h: direct regression on the curve's change until then, on what the curve leaves (the remainder r)
   now, on r now minus r 1, 2, 5 and 11 steps ago and minus its mean over 12 steps, and on yesterday's change of r over the same
   time of day. Coefficients are learnt at a few horizons, shrunk to those of all series together and those to persistence
   along the curve; between the learnt horizons they are interpolated.

Loads are regressed as log1p: they are positive and their spread grows with their level.

Thousands of series go through in chunks, in the precision of the batch's values (float32 halves time and memory); in large
classes each series brings fewer rows to the regression and leans the more on all together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import (
    COUNTED,
    DAY_S,
    WEEK_S,
    Floats,
    Ints,
    carried,
    clipped,
    day_steps,
    fourier,
    future,
    observed,
    recent,
    rows_of,
    span_s,
)

LAGS = (1, 2, 5, 11)
MEAN_STEPS = 12
FEATURES = len(LAGS) + 4
KNOTS_S = (300, 600, 900, 1_800, 2_700, 3_600, 7_200, 10_800, 21_600, 43_200, 64_800, 86_400)
PSEUDO = 200.0
"""weight of the coefficients of all series together, in points"""
ALONG = 3.0
"""weight of persistence along the curve against the points of all series together"""
STIFF = 0.005
"""weight of a flat curve, in days and per squared harmonic: a few days must not be traced"""
MOST_ROWS = 2_000
"""rows of history per horizon and series; more are thinned out"""
MOST_POINTS = 1_000_000
"""rows per horizon of all series; a class of more than 500 thins each one's further. On ServeGen's clients (development part)
100 to 200 rows a series moved the errors by -6 to +5 %, on even series by less than .5 %"""
CHUNK = 128
"""series at a time: 28 days of 300 s in float32 are 4 MB"""


@dataclass(frozen=True)
class RidgeFitted:
    """Coefficients per series: `season` [S, F], `direct` [S, K, FEATURES] at `knots` [K] steps."""

    names: tuple[str, ...]
    log: bool
    harmonics: tuple[int, int]
    season: Floats
    knots: Ints
    direct: Floats

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]; NaN for a series that was not fitted or has nothing observed in the last two days."""
        day = day_steps(batch.step_s)
        tail = recent(batch, 2 * day + max(LAGS) + 1)
        row = rows_of(self.names, batch)
        ok = (row >= 0) & (observed(tail.values) > 0)
        out = np.full((len(row), steps), np.nan)
        if not ok.any():
            return out
        ahead, past = _terms(future(batch, steps), self.harmonics), _terms(tail.ts, self.harmonics)
        chosen = np.flatnonzero(ok)
        for low in range(0, len(chosen), CHUNK):
            some = chosen[low : low + CHUNK]
            own = row[some]
            rest, curve = _rest(_transformed(tail.values[some], self.log), past, self.season[own])
            change = self._change(own, rest, self.season[own] @ ahead.T - curve[:, -1:], day)
            out[some] = (curve + rest)[:, -1:] + change
        out = np.expm1(out) if self.log else out
        return clipped(out, batch)

    def _change(self, own: Ints, rest: Floats, along: Floats, day: int) -> Floats:
        """Return [S, steps] the change until each step; `along` [S, steps]: that of the curve."""
        between = _between(self.knots, along.shape[1]).T
        beta = self.direct[own]
        now = _now(rest, np.array([rest.shape[1] - 1]))[:, :, 0]
        change = np.einsum("skf,sf->sk", beta[:, :, 2:], now) @ between
        change += (beta[:, :, 0] @ between) * along + (beta[:, :, 1] @ between) * _yesterday(rest, along.shape[1], day)
        return np.asarray(change, dtype=np.float64)


class Ridge:
    """Seasonal curve + direct ridge per horizon."""

    name = "ridge"
    min_points = 48

    def fit(self, batch: Batch) -> RidgeFitted:
        """Learn from the batch. Series with fewer than `min_points` lean on the others (shrinkage) or on nothing."""
        day = day_steps(batch.step_s)
        log = batch.target in COUNTED
        harmonics = (6 if span_s(batch) >= 2 * DAY_S else 0, 3 if span_s(batch) >= 2 * WEEK_S else 0)
        knots = np.unique([max(1, k // batch.step_s) for k in KNOTS_S if k <= max(batch.step_s, span_s(batch) // 3)])
        terms = _terms(batch.ts, harmonics).astype(batch.values.dtype)
        stiffness = _stiffness(harmonics, day)
        season = np.zeros((len(batch.names), terms.shape[1]))
        gram, right = _no_moments(len(batch.names), len(knots))
        at = _rows(len(batch.names), len(batch.ts))
        for low in range(0, len(season), CHUNK):
            some = slice(low, low + CHUNK)
            values = _transformed(batch.values[some], log)
            season[some] = _season(values, terms, 7 * day, stiffness)
            rest, curve = _rest(values, terms, season[some])
            gram[some], right[some] = _moments(rest, curve, ~np.isnan(values), at, knots, day)
        direct = _shrunk(gram, right)
        known = observed(batch.values) > 0
        names = tuple(name for name, ok in zip(batch.names, known, strict=True) if ok)
        return RidgeFitted(
            names=names,
            log=log,
            harmonics=harmonics,
            season=season[known],
            knots=knots,
            direct=direct[known],
        )


def _transformed(values: Floats, log: bool) -> Floats:
    return np.log1p(np.maximum(values, 0.0)) if log else values


def _terms(ts: Ints, harmonics: tuple[int, int]) -> Floats:
    """Return [T, F]: a constant, the day's and the week's Fourier terms."""
    return np.concatenate([np.ones((len(ts), 1)), fourier(ts, DAY_S, harmonics[0]), fourier(ts, WEEK_S, harmonics[1])], axis=1)


def _stiffness(harmonics: tuple[int, int], day: int) -> Floats:
    """Return [F, F] the weight of a flat curve; the constant is not shrunk."""
    stiff = STIFF * day * np.concatenate([np.tile(np.arange(1, h + 1), 2) for h in harmonics]) ** 2
    return np.diag(np.concatenate([[1e-9], stiff]))


def _season(values: Floats, terms: Floats, week: int, stiffness: Floats) -> Floats:
    """Return the curve's coefficients [S, F]: ridge regression over the observed points of `values` [S, T].

    The terms repeat every `week` columns, so that values and counts are summed over the weeks first. The mean is taken off
    before, so that a constant series is met exactly.
    """
    seen = ~np.isnan(values)
    count = seen.sum(axis=1)
    level = np.where(seen, values, 0.0).sum(axis=1, dtype=np.float64) / np.maximum(count, 1)
    above = np.where(seen, values - level[:, None].astype(values.dtype), 0.0)
    short = terms[:week]
    right = (_folded(above, week) @ short).astype(np.float64)
    gram = np.broadcast_to(terms.T.astype(np.float64) @ terms, (len(values), *stiffness.shape)).copy()
    gappy = np.flatnonzero(count < values.shape[1])
    if gappy.size:
        i, j = np.triu_indices(terms.shape[1])
        missing = _folded(~seen[gappy], week).astype(values.dtype) @ (short[:, i] * short[:, j])
        gram[gappy[:, None], i, j] -= missing
        gram[gappy[:, None], j, i] = gram[gappy[:, None], i, j]
    out = np.linalg.solve(gram + stiffness, right[:, :, None])[:, :, 0]
    out[:, 0] += level
    return np.where(count[:, None] > 0, out, 0.0)


def _folded(values: NDArray[Any], period: int) -> NDArray[Any]:
    """Return [S, period] the sums over the columns a whole number of periods apart; a shorter history as it is."""
    if values.shape[1] <= period:
        return values
    out = values[:, :period].astype(np.int64 if values.dtype == np.bool_ else values.dtype)
    for first in range(period, values.shape[1], period):
        part = values[:, first : first + period]
        out[:, : part.shape[1]] += part
    return out


def _rest(values: Floats, terms: Floats, season: Floats) -> tuple[Floats, Floats]:
    """Return what the curve leaves [S, T], gaps carried forward, 0 before the first point; and the curve itself."""
    curve = season.astype(values.dtype) @ terms.T.astype(values.dtype)
    rest = carried(values - curve)
    return np.nan_to_num(rest, copy=False), curve


def _now(rest: Floats, at: Ints) -> Floats:
    """Return the features [S, FEATURES - 2, len(at)] that are known at the columns `at`."""
    sums = np.zeros((len(rest), rest.shape[1] + 1))
    np.cumsum(rest, axis=1, out=sums[:, 1:])
    low = np.maximum(at + 1 - MEAN_STEPS, 0)
    here = rest[:, at]
    mean = (sums[:, at + 1] - sums[:, low]) / (at + 1 - low)
    return np.stack([here, *(here - rest[:, np.maximum(at - lag, 0)] for lag in LAGS), here - mean], axis=1)


def _yesterday(rest: Floats, steps: int, day: int) -> Floats:
    """Return [S, steps] the remainder's change a whole number of days ago, from now's to each step's time of day; 0 where the
    batch does not reach back."""
    ahead = np.arange(1, steps + 1)
    back = -(-ahead // day) * day
    now = rest.shape[1] - 1
    return _moved(rest, now + ahead - back, now - back)


def _moved(rest: Floats, to: Ints, since: Ints) -> Floats:
    change = rest[:, np.maximum(to, 0)] - rest[:, np.maximum(since, 0)]
    return np.where(since >= 0, change, 0.0)


def _rows(series: int, columns: int) -> Ints:
    """Return the columns that a regression over `series` series of `columns` uses as origins."""
    most = min(MOST_ROWS, max(MOST_POINTS // max(series, 1), 1))
    return np.arange(min(max(LAGS), max(columns - 1, 0)), columns, max(1, -(-columns // most)), dtype=np.int64)


def _no_moments(series: int, knots: int) -> tuple[Floats, Floats]:
    return np.zeros((series, knots, FEATURES, FEATURES)), np.zeros((series, knots, FEATURES))


def _moments(rest: Floats, curve: Floats, seen: NDArray[np.bool_], at: Ints, knots: Ints, day: int) -> tuple[Floats, Floats]:
    """Return x'x [S, K, FEATURES, FEATURES] and x'y [S, K, FEATURES] of the regression per horizon over the origins `at`.

    Each series is scaled by the spread of what is regressed, so that the pooled coefficients are of one kind.
    """
    gram, right = _no_moments(len(rest), len(knots))
    common, curve_now, rest_now, seen_now = _now(rest, at), curve[:, at], rest[:, at], seen[:, at]
    square = np.square(rest_now)
    for k, h in enumerate(knots):
        n = int(np.count_nonzero(at + h < rest.shape[1]))
        if not n:
            continue
        now, back = at[:n], -(-h // day) * day
        x = np.empty((len(rest), FEATURES, n), dtype=rest.dtype)
        x[:, 0] = curve[:, now + h] - curve_now[:, :n]
        x[:, 1] = _moved(rest, now + h - back, now - back)
        x[:, 2:] = common[:, :, :n]
        weight = (seen_now[:, :n] & seen[:, now + h]).astype(rest.dtype)
        goal = rest[:, now + h] - rest_now[:, :n] + x[:, 0]
        power = (weight * square[:, :n]).sum(axis=1) / np.maximum(weight.sum(axis=1), 1)
        weight /= np.where(power > 0, power, 1.0)[:, None]
        weighted = x * weight[:, None]
        gram[:, k] = weighted @ x.transpose(0, 2, 1)
        right[:, k] = (weighted @ goal[:, :, None])[:, :, 0]
    return gram, right


def _shrunk(gram: Floats, right: Floats) -> Floats:
    """Return the coefficients [S, K, FEATURES], shrunk to those of all series together, and those to persistence along the
    curve."""
    along, prior = np.eye(FEATURES)[0], PSEUDO * np.eye(FEATURES)
    pooled = np.linalg.solve(gram.sum(axis=0) + ALONG * np.eye(FEATURES), (right.sum(axis=0) + ALONG * along)[:, :, None])
    out = np.empty_like(right)
    for low in range(0, len(out), CHUNK):
        some = slice(low, low + CHUNK)
        out[some] = np.linalg.solve(gram[some] + prior, right[some, :, :, None] + PSEUDO * pooled)[:, :, :, 0]
    return out


def _between(knots: Ints, steps: int) -> Floats:
    """Return weights [steps, K] that interpolate linearly between the knots and hold the outermost."""
    ahead = np.arange(1, steps + 1)
    return np.stack([np.interp(ahead, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
