"""The power chain: forecast load of each endpoint -> a rising curve -> row (or server) power, and what the curve leaves.

    power[t] = base + sum_e curve_e(load_e[t]) + rest[t]
    power[t+h] - power[t] = a_h (G[t+h] - G[t]) + b_h (G[t] - G's last hour) + c_h rest[t] + d_h (rest[t] - rest's last hour)

G = base + curves at the loads: up to now as they were counted, after it as they are FORECAST at the origin, by an own model
that is learnt from the loads' past; or as the batch brings them. Curves are sums of min(load, knot) with weights that are not
negative: rising and bending down, as power does where batches fill. What serves no endpoint is the base and its drift the
rest. a_h .. d_h are learnt per horizon from what would have been forecast, over all series of the class together, shrunk to
persistence: a poor load forecast is followed the less.

Learnt and judged on a row's own power: bands come from the row's JOINT errors, as of every other model (P99s of servers do not
add). Loads come as covariates of the batch, `load/ENDPOINT`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from contracts.ports import Batch, Fitted, Forecaster
from forecast.grids import Floats, Ints, carried, clipped, day_steps, filled, observed, recent, restricted, rows_of
from forecast.models.ridge import Ridge

PREFIX = "load/"
KNOTS_S = (300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, 86_400)
BENDS = (0.5, 0.85)
"""quantiles of an endpoint's load at which its curve may bend"""
HOUR_S = 3_600
MOST_ROWS = 2_000
"""moments that the curves are learnt from; more are thinned out"""
ORIGINS = 240
"""moments from which the loads are forecast again, to learn what such forecasts are worth"""
TERMS = 4
PRIOR = 20.0
"""weight of persistence, in points"""


@dataclass(frozen=True)
class ChainFitted:
    """Curves and what follows from them. S series, E endpoints."""

    names: tuple[str, ...]
    endpoints: tuple[str, ...]
    loads: Fitted | None
    """forecasts the loads; None = there were none"""
    bends: Floats
    """[E, len(BENDS)] requests/s"""
    weights: Floats
    """[S, 1 + E (1 + len(BENDS))] W, and W per request/s"""
    knots: Ints
    """[K] steps"""
    follow: Floats
    """[K, TERMS] a, b, c, d"""

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]; NaN for a series that was not fitted, and where the batch has no loads or no power of the last
        two days."""
        out = np.full((len(batch.names), steps), np.nan)
        past = load_batch(batch, self.endpoints)
        if self.loads is None or past is None or not len(batch.ts):
            return out
        day = day_steps(batch.step_s)
        row = rows_of(self.names, batch)
        ok = (row >= 0) & (observed(recent(batch, 2 * day).values) > 0)
        ahead = _brought(batch, self.endpoints, steps)
        ahead = self.loads.predict(past, steps) if ahead is None else ahead
        hour = max(1, HOUR_S // batch.step_s)
        near = filled(past.values[:, -2 * day :])[:, -hour:]
        weights, power = self.weights[row[ok]], carried(batch.values[ok, -2 * day :])[:, -hour:]
        curve, later = weights @ _basis(near, self.bends), weights @ _basis(ahead, self.bends)
        at = np.interp(np.arange(1, steps + 1), self.knots, np.arange(len(self.knots)))
        low = np.minimum(at.astype(np.int64), max(0, len(self.knots) - 2))
        share = (at - low)[:, None]
        beta = self.follow[low] * (1 - share) + self.follow[np.minimum(low + 1, len(self.knots) - 1)] * share
        now = _now(curve, power)
        change = beta[:, 0] * (later - curve[:, -1:]) + now @ beta[:, 1:].T
        out[ok] = power[:, -1:] + change
        return clipped(out, batch)


class Chain:
    """Row power from the loads of what stands there."""

    name = "chain"
    min_points = 288

    def __init__(self, loads: Forecaster | None = None) -> None:
        """`loads` forecasts the endpoints' loads (default: ridge)."""
        self._loads = Ridge() if loads is None else loads

    def fit(self, batch: Batch) -> ChainFitted:
        """Learn curves and the worth of load forecasts from the batch's power and its covariates `load/ENDPOINT`."""
        past = load_batch(batch)
        endpoints = () if past is None else past.names
        nothing = ChainFitted(
            batch.names, endpoints, None, np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, np.int64), np.zeros((0, 0))
        )
        if past is None or observed(past.values).max(initial=0) < self._loads.min_points:
            return nothing
        bends = np.nan_to_num(np.nanquantile(past.values, BENDS, axis=1).T)
        weights = _curves(batch.values, _basis(past.values, bends))
        knots = np.array(
            [k // batch.step_s for k in KNOTS_S if k % batch.step_s == 0 and k // batch.step_s < len(batch.ts) // 3]
        )
        if not len(knots):
            return nothing
        fitted = ChainFitted(
            batch.names, endpoints, self._loads.fit(past), bends, weights, knots, np.zeros((len(knots), TERMS))
        )
        return replace(fitted, follow=_worth(fitted, batch, past))


def with_loads(power: Batch, loads: Batch, ahead: Floats | None = None) -> Batch:
    """Return `power` with the loads as covariates: those of its times, and [E, H] forecasts of the steps after where given.

    The loads' grid must have the same step; times that it lacks are gaps.
    """
    at = np.searchsorted(loads.ts, power.ts)
    there = (at < len(loads.ts)) & (loads.ts[np.minimum(at, len(loads.ts) - 1)] == power.ts)
    own = np.where(there, loads.values[:, np.minimum(at, len(loads.ts) - 1)], np.nan)
    own = own if ahead is None else np.concatenate([own, ahead], axis=1)
    return replace(
        power, covariates={**power.covariates, **{PREFIX + name: row for name, row in zip(loads.names, own, strict=True)}}
    )


def load_batch(batch: Batch, endpoints: Sequence[str] | None = None) -> Batch | None:
    """Return the loads up to now that the batch brings as covariates; None where there are none, or one of `endpoints` is
    missing."""
    names = (
        tuple(sorted(n.removeprefix(PREFIX) for n in batch.covariates if n.startswith(PREFIX)))
        if endpoints is None
        else tuple(endpoints)
    )
    if not names or any(PREFIX + name not in batch.covariates for name in names):
        return None
    values = np.stack([batch.covariates[PREFIX + name][: len(batch.ts)] for name in names])
    return Batch(target="load", step_s=batch.step_s, ts=batch.ts, names=names, values=values)


def _brought(batch: Batch, endpoints: Sequence[str], steps: int) -> Floats | None:
    """Return [E, steps] the loads ahead that somebody has forecast; None where they do not reach so far."""
    ahead = [batch.covariates[PREFIX + name][len(batch.ts) : len(batch.ts) + steps] for name in endpoints]
    return np.stack(ahead) if all(len(a) == steps and np.isfinite(a).all() for a in ahead) else None


def _basis(loads: Floats, bends: Floats) -> Floats:
    """Return [1 + E (1 + B), T]: one, each load, and each load up to its bends."""
    parts = [np.ones((1, loads.shape[1])), loads, *(np.minimum(loads, bend[:, None]) for bend in bends.T)]
    return np.concatenate(parts)


def _curves(power: Floats, basis: Floats) -> Floats:
    """Return [S, F] weights, none negative: least squares on thinned moments."""
    stride = max(1, -(-power.shape[1] // MOST_ROWS))
    x, y = basis[:, ::stride], power[:, ::stride]
    size = np.maximum(np.sqrt(np.nanmean(np.square(x), axis=1)), 1e-9)
    out = np.zeros((len(power), len(basis)))
    for s, row in enumerate(y):
        use = np.isfinite(row) & np.isfinite(x).all(axis=0)
        if use.sum() < len(basis):
            out[s, 0] = np.nanmean(row) if np.isfinite(row).any() else 0.0
            continue
        own = x[:, use] / size[:, None]
        root = np.linalg.cholesky(own @ own.T + 1e-6 * use.sum() * np.eye(len(basis)))
        out[s] = nnls(root.T, np.linalg.solve(root, own @ row[use]))[0] / size
    return out


def _now(curve: Floats, power: Floats) -> Floats:
    """Return [S, TERMS - 1] what is known now, from the last hour's curve and power [S, T]."""
    rest = power - curve
    return np.stack([curve[:, -1] - curve.mean(axis=1), rest[:, -1], rest[:, -1] - rest.mean(axis=1)], axis=1)


def _worth(fitted: ChainFitted, batch: Batch, past: Batch) -> Floats:
    """Return [K, TERMS]: the change of power from many origins, regressed on what the chain would have said there."""
    day, hour = day_steps(batch.step_s), max(1, HOUR_S // batch.step_s)
    power, counted = carried(batch.values), filled(past.values)
    curve = fitted.weights @ _basis(counted, fitted.bends)
    size = np.maximum(np.nanstd(np.diff(power, axis=1), axis=1), 1e-9)[:, None]
    first, last = min(2 * day, len(batch.ts) // 2), len(batch.ts) - int(fitted.knots[0]) - 1
    origins = np.unique(np.linspace(first, max(first, last), ORIGINS).astype(np.int64))
    x: list[list[Floats]] = [[] for _ in fitted.knots]
    y: list[list[Floats]] = [[] for _ in fitted.knots]
    for origin in origins:
        said = (
            fitted.loads.predict(restricted(past, int(origin)), int(fitted.knots[-1])) if fitted.loads is not None else counted
        )
        later = fitted.weights @ _basis(said[:, fitted.knots - 1], fitted.bends)
        near = slice(origin + 1 - hour, origin + 1)
        now = _now(curve[:, near], power[:, near]) / size
        for k, knot in enumerate(fitted.knots):
            if origin + knot >= len(batch.ts):
                continue
            came = (batch.values[:, origin + knot] - power[:, origin]) / size[:, 0]
            terms = np.concatenate([(later[:, k : k + 1] - curve[:, origin : origin + 1]) / size, now], axis=1)
            good = np.isfinite(came) & np.isfinite(terms).all(axis=1)
            x[k].append(terms[good])
            y[k].append(came[good])
    return np.stack([_regressed(np.concatenate(a), np.concatenate(b)) for a, b in zip(x, y, strict=True)])


def _regressed(x: Floats, y: Floats) -> Floats:
    scale = np.maximum(np.square(x).mean(axis=0), 1e-12) if len(x) else np.ones(TERMS)
    return np.asarray(np.linalg.solve(x.T @ x + PRIOR * np.diag(scale), x.T @ y))
