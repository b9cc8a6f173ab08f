"""Ridge: a seasonal curve, and on what it leaves one linear regression per horizon, batched over all series in numpy.

1. The curve: Fourier terms of the day (and of the week from two weeks on), one ridge regression per series.
2. The change until horizon h: direct regression on the curve's change until then, on what the curve leaves (the remainder r)
   now, on r now minus r 1, 2, 5 and 11 steps ago and minus its mean over 12 steps, and on yesterday's change of r over the same
   time of day. Coefficients are learnt at a few horizons, shrunk to those of all series together and those to persistence
   along the curve; between the learnt horizons they are interpolated.

Loads are regressed as log1p: they are positive and their spread grows with their level.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import (
    DAY_S,
    WEEK_S,
    Floats,
    Ints,
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
"""rows of history per horizon; more are thinned out"""


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
        row = np.where(ok, row, 0)
        rest, curve = _rest(tail, self.log, self.harmonics, self.season[row])
        ahead = self.season[row] @ _terms(future(batch, steps), self.harmonics).T
        beta = _between(self.knots, steps) @ self.direct[row]
        last = rest.shape[1] - 1
        now = _now(rest, np.array([last]))[:, 0, :]
        change = (beta[:, :, 2:] @ now[:, :, None])[:, :, 0]
        change += beta[:, :, 0] * (ahead - curve[:, -1:]) + beta[:, :, 1] * _yesterday(rest, steps, day)
        out = (curve + rest)[:, -1:] + change
        out = np.expm1(out) if self.log else out
        return np.where(ok[:, None], clipped(out, batch), np.nan)


class Ridge:
    """Seasonal curve + direct ridge per horizon."""

    name = "ridge"
    min_points = 48

    def fit(self, batch: Batch) -> RidgeFitted:
        """Learn from the batch. Series with fewer than `min_points` lean on the others (shrinkage) or on nothing."""
        day = day_steps(batch.step_s)
        log = batch.target == "load"
        harmonics = (6 if span_s(batch) >= 2 * DAY_S else 0, 3 if span_s(batch) >= 2 * WEEK_S else 0)
        season = _season(batch, log, harmonics)
        rest, curve = _rest(batch, log, harmonics, season)
        knots = np.unique([max(1, k // batch.step_s) for k in KNOTS_S if k <= max(batch.step_s, span_s(batch) // 3)])
        direct = _direct(rest, curve, ~np.isnan(batch.values), knots.astype(np.int64), day)
        known = observed(batch.values) > 0
        names = tuple(name for name, ok in zip(batch.names, known, strict=True) if ok)
        return RidgeFitted(
            names=names,
            log=log,
            harmonics=harmonics,
            season=season[known],
            knots=knots.astype(np.int64),
            direct=direct[known],
        )


def _transformed(values: Floats, log: bool) -> Floats:
    return np.log1p(np.maximum(values, 0.0)) if log else values


def _terms(ts: Ints, harmonics: tuple[int, int]) -> Floats:
    """Return [T, F]: a constant, the day's and the week's Fourier terms."""
    return np.concatenate([np.ones((len(ts), 1)), fourier(ts, DAY_S, harmonics[0]), fourier(ts, WEEK_S, harmonics[1])], axis=1)


def _season(batch: Batch, log: bool, harmonics: tuple[int, int]) -> Floats:
    """Return the curve's coefficients [S, F]: ridge regression over the observed points; the constant is not shrunk."""
    terms = _terms(batch.ts, harmonics)
    values = _transformed(batch.values, log)
    stiff = STIFF * day_steps(batch.step_s) * np.concatenate([np.tile(np.arange(1, h + 1), 2) for h in harmonics]) ** 2
    ridge = np.diag(np.concatenate([[1e-9], stiff]))
    whole = terms.T @ terms
    out = np.zeros((len(batch.names), terms.shape[1]))
    for s, row in enumerate(values):
        seen = ~np.isnan(row)
        if not seen.any():
            continue
        level = float(np.mean(row[seen]))  # taken off first, so that a constant series is met exactly
        part = terms[seen]
        gram = whole if seen.all() else part.T @ part
        out[s] = np.linalg.solve(gram + ridge, part.T @ (row[seen] - level))
        out[s, 0] += level
    return out


def _rest(batch: Batch, log: bool, harmonics: tuple[int, int], season: Floats) -> tuple[Floats, Floats]:
    """Return what the curve leaves [S, T], gaps carried forward, 0 before the first point; and the curve itself."""
    curve = season @ _terms(batch.ts, harmonics).T
    rest = _transformed(batch.values, log) - curve
    gap = np.isnan(rest)
    seen = np.maximum.accumulate(np.where(gap, -1, np.arange(rest.shape[1])), axis=1)
    out = np.take_along_axis(rest, np.maximum(seen, 0), axis=1)
    return np.where(seen < 0, 0.0, out), curve


def _now(rest: Floats, at: Ints) -> Floats:
    """Return the features [S, len(at), FEATURES - 2] that are known at the columns `at`."""
    sums = np.concatenate([np.zeros((len(rest), 1)), np.cumsum(rest, axis=1)], axis=1)
    low = np.maximum(at + 1 - MEAN_STEPS, 0)
    here = rest[:, at]
    mean = (sums[:, at + 1] - sums[:, low]) / (at + 1 - low)
    return np.stack([here, *(here - rest[:, np.maximum(at - lag, 0)] for lag in LAGS), here - mean], axis=2)


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


def _direct(rest: Floats, curve: Floats, seen: NDArray[np.bool_], knots: Ints, day: int) -> Floats:
    """Return the coefficients [S, K, FEATURES] of the regression per horizon, shrunk to those of all series together.

    Each series is scaled by the spread of what is regressed, so that the pooled coefficients are of one kind.
    """
    series, columns = rest.shape
    out = np.zeros((series, len(knots), FEATURES))
    at = np.arange(min(max(LAGS), columns - 1), columns, -(-columns // MOST_ROWS))
    common = _now(rest, at)
    along = np.eye(FEATURES)[0]
    for k, h in enumerate(knots):
        usable = at + h < columns
        now = at[usable]
        if not now.size:
            continue
        back = -(-h // day) * day
        own = (curve[:, now + h] - curve[:, now], _moved(rest, now + h - back, now - back))
        x = np.concatenate([np.stack(own, axis=2), common[:, usable]], axis=2)
        weight = (seen[:, now] & seen[:, now + h]).astype(np.float64)
        goal = (rest + curve)[:, now + h] - (rest + curve)[:, now]
        power = (weight * np.square(rest[:, now])).sum(axis=1) / np.maximum(weight.sum(axis=1), 1)
        weight /= np.where(power > 0, power, 1.0)[:, None]
        weighted = (x * weight[:, :, None]).transpose(0, 2, 1)
        gram, right = weighted @ x, (weighted @ goal[:, :, None])[:, :, 0]
        pooled = np.linalg.solve(gram.sum(axis=0) + ALONG * np.eye(FEATURES), right.sum(axis=0) + ALONG * along)
        prior = PSEUDO * np.eye(FEATURES)
        out[:, k] = np.linalg.solve(gram + prior, (right + PSEUDO * pooled)[:, :, None])[:, :, 0]
    return out


def _between(knots: Ints, steps: int) -> Floats:
    """Return weights [steps, K] that interpolate linearly between the knots and hold the outermost."""
    ahead = np.arange(1, steps + 1)
    return np.stack([np.interp(ahead, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
