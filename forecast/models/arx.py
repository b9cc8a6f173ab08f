"""ARX: one linear regression per horizon on the newest readings and on inputs from outside, batched over series in numpy.

    y[t+h] - y[t] = c + r (y[t] - mean) + sum_k d_k (y[t] - y[t,k]) + sum_i (a_i u_i[t] + b_i (u_i[t+h] - u_i[t])) + day(t+h)

u_i are the batch's covariates (outside temperature, the site's load): known up to now, assumed after it. There are two
regressions: one for a batch that brings the inputs' future, and one without the b_i for a batch that does not (its `day` then
stands for the usual course of the inputs). Without covariates it is an autoregression. y[t,k] are the step before, and the
means over the last half hour and hour, which a sensor in whole degrees spoils less than its single readings. Direct per horizon
(no recursion), learnt at a few horizons and interpolated between them, so that an error in one step does not feed the next.

Ordinary least squares, with a prior of a few points that holds persistence where there is nothing to learn. Two variants:
- robust (`arx_robust`): Huber's weights (Huber 1964, k = 1.345, as statsmodels' RLM), so that a past fault does not bend normal
  days;
- instruments: rounding is an error in y[t] on both sides of the equation and draws r towards -1, so that time constants come
  out short. Then y[t] is instrumented by its mean over half an hour, half an hour earlier (exactly identified two-stage least
  squares). For a time constant (`tau_s`), not for a better forecast: the best guess from a noisy reading is the least squares
  one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import DAY_S, Floats, Ints, carried, clipped, day_steps, filled, fourier, observed, recent, rows_of, span_s
from forecast.models.innovations import bounds, transformed

KNOTS_S = (300, 600, 900, 1_800, 3_600, 7_200, 10_800, 18_000, 28_800, 43_200, 57_600, 72_000, 86_400)
MEANS_S = (1_800, 3_600)
HARMONICS = {"load": 4}
"""of the day, per target (others: 2). A load's day is its own;
a temperature's comes from the inputs, and more terms cost 3 % at 1 h"""
MOST_DAYS = 14
MOST_ROWS = 1_000
"""rows of history per horizon; more are thinned out"""
CHUNK = 256
"""series at a time: bounds the memory at thousands of series"""
PRIOR = 2.0
"""weight of persistence, in points: least squares but for constant series and inputs that move together"""
HUBER = 1.345
MAD = 0.6745
"""median of the absolute value of a standard normal"""
ROUNDS = 8
"""of reweighting; statsmodels' RLM stops after about as many"""


@dataclass(frozen=True, kw_only=True)
class ArxFitted:
    """Coefficients [S, K, P] at `knots` [K] steps, of the columns: 1, the series, its means, inputs, day; in scaled units
    (centre, spread [S])."""

    names: tuple[str, ...]
    log: bool
    inputs: tuple[str, ...]
    """covariates that were there at the fit, sorted"""
    input_centre: Floats
    """[S, I]"""
    input_spread: Floats
    """[S, I]; 0 = it never moved and is not used"""
    centre: Floats
    spread: Floats
    harmonics: int
    differences: bool
    """whether the step before and the means of the last hour are among the columns"""
    knots: Ints
    foreseen: Floats
    """for a batch with the future of all inputs"""
    blind: Floats
    """for a batch without"""
    low: Floats
    high: Floats

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]; NaN for a series that was not fitted or has nothing observed in the last two days.

        A covariate of the fit that the batch lacks counts as usual (its mean).
        """
        day = day_steps(batch.step_s)
        out = np.full((len(batch.names), steps), np.nan)
        if not self.names or not len(batch.ts):
            return out
        row = rows_of(self.names, batch)
        ok = (row >= 0) & (observed(recent(batch, 2 * day).values) > 0)
        chosen = np.flatnonzero(ok)
        ahead = np.arange(1, steps + 1)
        for low in range(0, len(chosen), CHUNK):
            some = chosen[low : low + CHUNK]
            out[some] = self._part(batch, some, row[some], ahead)
        return clipped(out, batch)

    def _part(self, batch: Batch, some: Ints, row: Ints, ahead: Ints) -> Floats:
        day = day_steps(batch.step_s)
        values = carried(transformed(batch.values[some, -2 * day :], self.log))
        scaled = _scaled(values, self.centre[row, None], self.spread[row, None])
        now = len(batch.ts) - 1
        known = all(name in batch.covariates and batch.covariates[name].shape[-1] > now + 1 for name in self.inputs)
        beta = np.einsum("hk,skp->shp", _between(self.knots, len(ahead)), (self.foreseen if known else self.blind)[row])
        last = np.array([values.shape[1] - 1])
        own = _own(scaled, last, _widths(batch.step_s), self.differences)[:, 0]
        inputs = _inputs(batch, self.inputs, some, now + len(ahead) + 1)
        inputs = _scaled(inputs, self.input_centre[row, :, None], self.input_spread[row, :, None])
        columns = [np.ones((len(some), len(ahead), 1)), np.repeat(own[:, None], len(ahead), axis=1)]
        columns += _driven(inputs, np.full(len(ahead), now), ahead)
        terms = fourier(batch.ts[-1] + batch.step_s * ahead, DAY_S, self.harmonics)
        columns.append(np.repeat(terms[None], len(some), axis=0))
        change = np.einsum("shp,shp->sh", np.concatenate(columns, axis=2), beta)
        path = np.clip(values[:, -1:] + change * self.spread[row, None], self.low[row, None], self.high[row, None])
        return np.asarray(np.expm1(path) if self.log else path, dtype=np.float64)

    def tau_s(self, step_s: int) -> Floats:
        """Return [S] the time constant in seconds that the shortest horizon's regression implies, exp(-h / tau) = 1 + r; NaN
        where the series does not return to its inputs. Honest for sensors in whole degrees only with instruments."""
        keeps = 1.0 + self.foreseen[:, 0, 1] if len(self.knots) else np.full(len(self.names), np.nan)
        inside = (keeps > 0) & (keeps < 1)
        return np.where(inside, -self.knots[:1] * step_s / np.log(np.where(inside, keeps, 0.5)), np.nan)


@dataclass(frozen=True, kw_only=True)
class Arx:
    """Direct regression with exogenous inputs; see the module for the variants."""

    name: str = "arx"
    min_points: int = 96
    robust: bool = False
    instruments: bool = False
    prior: float = PRIOR

    def fit(self, batch: Batch) -> ArxFitted:
        """Learn from the newest two weeks of the batch; passes over series with fewer than `min_points` there."""
        log = batch.target == "load"
        columns = len(batch.ts)
        batch = _newest(batch, MOST_DAYS * day_steps(batch.step_s))
        rows = np.flatnonzero(observed(batch.values) >= self.min_points)
        inputs = tuple(sorted(batch.covariates))
        longest = max(batch.step_s, span_s(batch) // 3)
        knots = np.unique([max(1, k // batch.step_s) for k in KNOTS_S if k <= longest]).astype(np.int64)
        harmonics = HARMONICS.get(batch.target, 2) if span_s(batch) >= 2 * DAY_S else 0
        size = 2 + (1 + len(MEANS_S)) * (not self.instruments) + 2 * len(inputs) + 2 * harmonics
        foreseen, blind = np.zeros((len(rows), len(knots), size)), np.zeros((len(rows), len(knots), size))
        scales = np.zeros((len(rows), 2, 1 + len(inputs)))
        for low in range(0, len(rows) if columns else 0, CHUNK):
            some = rows[low : low + CHUNK]
            data = _prepared(batch, some, inputs, log)
            scales[low : low + CHUNK] = data.scales
            for k, h in enumerate(knots):
                part = self._regress(data, int(h), harmonics)
                foreseen[low : low + CHUNK, k], blind[low : low + CHUNK, k] = part
        least, most = bounds(transformed(batch.values[rows], log))
        return ArxFitted(
            names=tuple(batch.names[s] for s in rows),
            log=log,
            inputs=inputs,
            input_centre=scales[:, 0, 1:],
            input_spread=scales[:, 1, 1:],
            centre=scales[:, 0, 0],
            spread=scales[:, 1, 0],
            harmonics=harmonics,
            differences=not self.instruments,
            knots=knots,
            foreseen=foreseen,
            blind=blind,
            low=least,
            high=most,
        )

    def _regress(self, data: "_Prepared", h: int, harmonics: int) -> tuple[Floats, Floats]:
        """Return the coefficients [S, P] for `h` steps ahead, with and without the inputs' change until then."""
        widths = _widths(data.step_s)
        first, last = max(widths) * 2 - 1, data.scaled.shape[1] - h
        at = np.arange(first, last, -(-max(1, last - first) // MOST_ROWS), dtype=np.int64)
        own = _own(data.scaled, at, widths, not self.instruments)
        driven = _driven(data.inputs, at, np.full(len(at), h))
        ones = np.ones((len(own), len(at), 1))
        terms = np.repeat(fourier(data.ts[at + h], DAY_S, harmonics)[None], len(own), axis=0)
        x = np.concatenate([ones, own, *driven, terms], axis=2)
        z = x
        if self.instruments:
            z = x.copy()
            z[:, :, 1] = _mean(data.scaled, at - widths[0], widths[0])
        goal = data.scaled[:, at + h] - data.scaled[:, at]
        weight = (data.seen[:, at] & data.seen[:, at + h]).astype(np.float64)
        changes = 1 + own.shape[2] + np.arange(1, len(driven), 2)
        foreseen = self._estimate(x, z, goal, weight)
        if not len(changes):
            return foreseen, foreseen
        stays = np.delete(np.arange(x.shape[2]), changes)
        blind = np.zeros_like(foreseen)
        blind[:, stays] = self._estimate(x[:, :, stays], z[:, :, stays], goal, weight)
        return foreseen, blind

    def _estimate(self, x: Floats, z: Floats, goal: Floats, weight: Floats) -> Floats:
        beta = _solve(x, z, goal, weight, self.prior)
        for _ in range(ROUNDS if self.robust else 0):
            off = np.abs(goal - (x @ beta[:, :, None])[:, :, 0])
            scale = np.array([np.median(o[w > 0]) if (w > 0).any() else 0.0 for o, w in zip(off, weight, strict=True)]) / MAD
            most = HUBER * scale[:, None]
            gentle = np.where(most > 0, most / np.maximum(off, np.maximum(most, 1e-12)), 1.0)
            beta = _solve(x, z, goal, weight * gentle, self.prior)
        return beta


def robust_arx() -> Arx:
    """Return the variant that a past fault does not bend."""
    return Arx(name="arx_robust", robust=True)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    step_s: int
    ts: Ints
    scaled: Floats
    """[S, T] gaps filled"""
    seen: NDArray[np.bool_]
    inputs: Floats
    """[S, I, T]"""
    scales: Floats
    """[S, 2, 1 + I] centre and spread of the series and of its inputs"""


def _prepared(batch: Batch, some: Ints, names: Sequence[str], log: bool) -> _Prepared:
    values = transformed(batch.values[some], log)
    inputs = _inputs(batch, names, some, len(batch.ts))
    centre, spread = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
    spread = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(centre)), spread, 0.0)
    mid, wide = inputs.mean(axis=2), inputs.std(axis=2)
    wide = np.where(wide > 1e-9 * np.maximum(1.0, np.abs(mid)), wide, 0.0)
    return _Prepared(
        step_s=batch.step_s,
        ts=batch.ts,
        scaled=_scaled(filled(values), centre[:, None], spread[:, None]),
        seen=~np.isnan(values),
        inputs=_scaled(inputs, mid[:, :, None], wide[:, :, None]),
        scales=np.stack([np.column_stack([centre, mid]), np.column_stack([spread, wide])], axis=1),
    )


def _newest(batch: Batch, steps: int) -> Batch:
    """Return the newest `steps` columns with their covariates, without the assumed future."""
    end = len(batch.ts)
    covariates = {name: values[..., max(0, end - steps) : end] for name, values in batch.covariates.items()}
    return replace(recent(batch, steps), covariates=covariates)


def _inputs(batch: Batch, names: Sequence[str], some: Ints, columns: int) -> Floats:
    """Return the named covariates [S, I, columns] of the series `some`: gaps carried, the last value held to the end, a
    covariate that is not there NaN."""
    out = np.full((len(some), len(names), columns), np.nan)
    given: Mapping[str, Floats] = batch.covariates
    for i, name in enumerate(names):
        known = np.atleast_2d(given[name])[:, :columns] if name in given else np.zeros((1, 0))
        if not known.shape[1]:
            continue
        whole = filled(known)
        whole = np.concatenate([whole, np.repeat(whole[:, -1:], columns - whole.shape[1], axis=1)], axis=1)
        out[:, i] = whole[some] if len(whole) > 1 else whole
    return out if len(batch.ts) == 0 or columns > len(batch.ts) else np.nan_to_num(out)


def _scaled(values: Floats, centre: Floats, spread: Floats) -> Floats:
    """Return values in spreads from their centre; 0 where they never moved or are not known."""
    return np.nan_to_num((values - centre) / np.where(spread > 0, spread, 1.0)) * (spread > 0)


def _widths(step_s: int) -> list[int]:
    return [max(1, seconds // step_s) for seconds in MEANS_S]


def _mean(values: Floats, at: Ints, width: int) -> Floats:
    """Return [S, len(at)] the mean over the `width` columns that end at `at`."""
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    low = np.maximum(at + 1 - width, 0)
    return np.asarray((sums[:, at + 1] - sums[:, low]) / np.maximum(at + 1 - low, 1), dtype=np.float64)


def _own(scaled: Floats, at: Ints, widths: Sequence[int], differences: bool) -> Floats:
    """Return [S, len(at), 1 or 4] the series now, and now minus the step before and minus its means."""
    now = scaled[:, at]
    if not differences:
        return now[:, :, None]
    before = scaled[:, np.maximum(at - 1, 0)]
    return np.stack([now, now - before, *(now - _mean(scaled, at, width) for width in widths)], axis=2)


def _driven(inputs: Floats, at: Ints, ahead: Ints) -> list[Floats]:
    """Return the inputs' columns: each one's value at `at`, and its change until `ahead` steps later; [S, len(at), 1] each."""
    now, then = inputs[:, :, at], inputs[:, :, at + ahead]
    return [part[:, i, :, None] for i in range(inputs.shape[1]) for part in (now, then - now)]


def _solve(x: Floats, z: Floats, goal: Floats, weight: Floats, prior: float) -> Floats:
    """Return [S, P] from the weighted moment conditions z'(goal - x beta) = prior beta."""
    weighted = (z * weight[:, :, None]).transpose(0, 2, 1)
    size = x.shape[2]
    gram = weighted @ x + (prior + 1e-6 * np.maximum(weight.sum(axis=1), 1.0))[:, None, None] * np.eye(size)
    return np.linalg.solve(gram, weighted @ goal[:, :, None])[:, :, 0]


def _between(knots: Ints, steps: int) -> Floats:
    """Return weights [steps, K] that interpolate linearly between the knots and hold the outermost."""
    ahead = np.arange(1, steps + 1)
    return np.stack([np.interp(ahead, knots, np.eye(len(knots))[k]) for k in range(len(knots))], axis=1)
