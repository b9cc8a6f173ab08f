"""Boosted trees (LightGBM), one model per horizon for all series of the class together: what one series shows seldom, many show
often.

Everything that a tree sees is free of a series' own unit: changes until now over its lags, its means and its last days at the
horizon's time of day, divided by its present volatility (half the mean absolute step of the last day, half that of the last
hour); how that volatility stands, how its steps follow one another, how often it rests at zero; the time of day. What is learnt
is the change until the horizon in the same unit, by absolute error: the answer is a median, which for a bursty client is often
"back to rest", where squares chase bursts.

Loads go in as log1p. Needs OpenMP on the system (Debian: libgomp1); training is deterministic and on one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from contracts.errors import ConfigError
from contracts.ports import Batch
from forecast.grids import (
    COUNTED,
    DAY_S,
    Floats,
    Ints,
    carried,
    clipped,
    day_steps,
    fourier,
    observed,
    recent,
    restricted,
    rows_of,
)
from forecast.models.innovations import curves, harmonics_of, season_terms, transformed

KNOTS_S = (300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
"""few beyond an hour: trees earn most up to there"""
LAGS = (1, 2, 3, 5, 8, 11, 17)
MEANS = (3, 6, 12, 36, 144)
"""windows in steps; the last lags and means reach over three hours to a day, as the step is"""
DAYS = 3
ROUNDS = 100
MOST_ROWS = 20_000
"""per horizon; more are thinned out, series first"""
MOST_SERIES = 512
MOST_CHANGE = 30.0
"""volatilities; a farther change is learnt as this one"""
PARAMS: Mapping[str, Any] = {
    "objective": "l1",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "verbose": -1,
    "num_threads": 1,
    "seed": 1,
    "deterministic": True,
    "force_col_wise": True,
    "max_bin": 127,
}


@dataclass(frozen=True)
class BoostedFitted:
    """One booster per knot (steps ahead); a series that was not there at the fit is forecast without a curve of its own."""

    knots: Ints
    boosters: tuple[Any, ...]
    names: tuple[str, ...]
    harmonics: tuple[int, int]
    curve: Floats
    """[N, Fourier terms] of the series that were there at the fit"""

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]; NaN for a series with nothing observed in the last two days, or where nothing could be learnt."""
        return np.asarray(self.paths(batch, [len(batch.ts) - 1], steps)[0], dtype=np.float64)

    def paths(self, batch: Batch, origins: Sequence[int], steps: int) -> Floats:
        """Return [O, S, steps]: `predict` at each origin (a column) as if nothing after it were known."""
        day = day_steps(batch.step_s)
        log = batch.target in COUNTED
        series = len(batch.names)
        out = np.full((len(origins), series, steps), np.nan)
        if not series or not len(batch.ts):
            return out
        row = rows_of(self.names, batch)
        curve = np.full((series, self.curve.shape[1]), np.nan)
        curve[row >= 0] = self.curve[row[row >= 0]]
        pasts = [_past(recent(restricted(batch, o), _reach(day)), log, self.harmonics, curve) for o in origins]
        ends = [np.array([past.values.shape[1] - 1]) for past in pasts]
        level = np.stack([past.values[:, -1] for past in pasts])
        spread = np.stack([past.spread(end)[:, 0] for past, end in zip(pasts, ends, strict=True)])
        change = np.zeros((len(self.knots), len(origins), series))
        for k, (h, booster) in enumerate(zip(self.knots, self.boosters, strict=True)):
            rows = np.concatenate([_columns(past, end, int(h))[:, 0] for past, end in zip(pasts, ends, strict=True)])
            change[k] = booster.predict(rows, num_threads=1).reshape(len(origins), series)
        between = np.stack([np.interp(np.arange(1, steps + 1), [0, *self.knots], row) for row in np.eye(len(self.knots) + 1)])
        path = level[:, :, None] + np.einsum("kos,kh->osh", change, between[1:]) * spread[:, :, None]
        path = clipped(np.expm1(path) if log else path, batch)
        heard = np.stack([observed(past.raw[:, -2 * day :]) > 0 for past in pasts])
        known = heard & ((spread == 0.0) | bool(self.boosters))  # what has not moved stays, with or without anything learnt
        return np.where(known[:, :, None], path, np.nan)


@dataclass(frozen=True, kw_only=True)
class Boosted:
    """Gradient-boosted trees over all series of the class."""

    name: str = "boosted"
    min_points: int = 288
    rounds: int = ROUNDS

    def fit(self, batch: Batch) -> BoostedFitted:
        """Learn from all series with at least `min_points`. Raises ConfigError where LightGBM cannot be loaded."""
        try:
            import lightgbm
        except OSError as error:
            raise ConfigError(f"boosted: LightGBM cannot be loaded: {error}; install OpenMP (Debian: libgomp1)") from None
        rows = np.flatnonzero(observed(batch.values) >= self.min_points)
        rows = np.array(sorted(rows, key=lambda s: batch.names[s]), dtype=np.int64)  # the order of the series must not matter
        log, harmonics = batch.target in COUNTED, harmonics_of(batch)
        curve = curves(transformed(batch.values[rows], log), batch, harmonics)
        names = tuple(batch.names[s] for s in rows)
        some = slice(None, None, -(-max(1, len(rows)) // MOST_SERIES))
        past = _past(replace(batch, names=names[some], values=batch.values[rows[some]]), log, harmonics, curve[some])
        knots, boosters = [], []
        for h in np.unique([max(1, k // batch.step_s) for k in KNOTS_S]) if len(rows) else ():
            x, y = _examples(past, int(h))
            if len(y) >= self.min_points:
                data = lightgbm.Dataset(x, y, params=dict(PARAMS))
                boosters.append(lightgbm.train(dict(PARAMS), data, num_boost_round=self.rounds))
                knots.append(h)
        at = np.array(knots, dtype=np.int64)
        return BoostedFitted(knots=at, boosters=tuple(boosters), names=names, harmonics=harmonics, curve=curve)


@dataclass(frozen=True)
class _Past:
    """A batch's values, transformed, gaps carried (NaN before the first), and the running sums that features are made from."""

    ts: Ints
    step_s: int
    raw: Floats
    values: Floats
    harmonics: tuple[int, int]
    curve: Floats
    """[S, Fourier terms]; NaN for a series without"""
    sums: Mapping[str, Floats]

    def lag(self, at: Ints, steps: int | Ints) -> Floats:
        """Return [S, len(at)] the value `steps` before `at`; NaN before the history."""
        return np.where(at - steps >= 0, self.values[:, np.maximum(at - steps, 0)], np.nan)

    def mean(self, name: str, at: Ints, steps: int) -> Floats:
        """Return [S, len(at)] the mean of one of the sums over `steps` columns that end at `at`; NaN where nothing is known."""
        low = np.maximum(at + 1 - steps, 0)
        count = self.sums["known"][:, at + 1] - self.sums["known"][:, low]
        total = self.sums[name][:, at + 1] - self.sums[name][:, low]
        return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)

    def spread(self, at: Ints) -> Floats:
        """Return [S, len(at)] the volatility; 0 where nothing moved."""
        day, hour = day_steps(self.step_s), max(1, 3_600 // self.step_s)
        return np.nan_to_num(0.5 * self.mean("step", at, day) + 0.5 * self.mean("step", at, hour))


def _reach(day: int) -> int:
    return (DAYS + 1) * day + 1


def _past(batch: Batch, log: bool, harmonics: tuple[int, int], curve: Floats) -> _Past:
    values = carried(transformed(batch.values, log))
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    change = np.diff(filled, axis=1, prepend=filled[:, :1]) * (known & np.roll(known, 1, axis=1))
    before = np.concatenate([np.zeros((len(change), 1)), change[:, :-1]], axis=1) if change.shape[1] else change
    parts = {
        "known": known,
        "value": filled,
        "step": np.abs(change),
        "square": change * change,
        "follow": change * before,
        "rest": known & (filled <= 0.0),
    }
    zero = np.zeros((len(values), 1))
    sums = {name: np.concatenate([zero, np.cumsum(part, axis=1)], axis=1) for name, part in parts.items()}
    return _Past(ts=batch.ts, step_s=batch.step_s, raw=batch.values, values=values, harmonics=harmonics, curve=curve, sums=sums)


def _columns(past: _Past, at: Ints, h: int) -> Floats:
    """Return the features [S, len(at), F] at the columns `at` for `h` steps ahead; rounded: last digits decide nothing."""
    day = day_steps(past.step_s)
    now, spread = past.lag(at, 0), past.spread(at)
    back = -(-h // day) * day
    days = [past.lag(at, back + day * k - h) for k in range(DAYS)]
    moved = [then - past.lag(at, back + day * k) for k, then in enumerate(days)]
    usual = np.maximum(np.minimum(days[0], days[1]), np.minimum(np.maximum(days[0], days[1]), days[2]))  # the median of three
    changes = [now - past.lag(at, lag) for lag in LAGS]
    changes += [now - past.mean("value", at, width) for width in MEANS]
    turns = season_terms(past.ts[at] + h * past.step_s, past.harmonics) - season_terms(past.ts[at], past.harmonics)
    changes += [*moved, *(then - now for then in days), usual - now, past.curve @ turns.T]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = [np.where(spread > 0, np.clip(part / spread, -1e3, 1e3), 0.0) for part in changes]
        square = past.mean("square", at, day // 2)
        kind = [np.where(square > 0, past.mean("follow", at, day // 2) / square, 0.0), past.mean("rest", at, day)]
        kind.append(np.where(spread > 0, past.mean("step", at, day) / spread, 0.0))
    clock = fourier(past.ts[at] + h * past.step_s, DAY_S, 2).T
    columns = [*scaled, *kind, *(np.broadcast_to(part, now.shape) for part in clock)]
    return np.round(np.stack(columns, axis=2), 4)


def _examples(past: _Past, h: int) -> tuple[Floats, Floats]:
    """Return what was known [N, F] and the change that followed [N], over all series, thinned out to MOST_ROWS."""
    series, columns = past.raw.shape
    stride = max(1, -(-series * columns // MOST_ROWS))
    at = np.arange(min(day_steps(past.step_s), columns // 4), columns - h, stride, dtype=np.int64)
    if not len(at):
        return np.zeros((0, 1)), np.zeros(0)
    spread = past.spread(at)
    usable = ~np.isnan(past.raw[:, at]) & ~np.isnan(past.raw[:, at + h]) & (spread > 0)
    change = (past.values[:, at + h] - past.values[:, at])[usable] / spread[usable]
    return _columns(past, at, h)[usable], np.asarray(np.clip(change, -MOST_CHANGE, MOST_CHANGE).round(4), dtype=np.float64)
